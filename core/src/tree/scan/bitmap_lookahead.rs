//! Which pages of the table are asked for ahead of a bitmap scan.
//!
//! The executor goes through a bitmap when it is whole, page by page, and waits for each
//! page that the processor does not have in its cache. Whoever fills the bitmap knows the
//! pages before, and can ask for all of them at once, if they are no more than the cache
//! has room for. Where some have to be read it is left to the executor, which asks the
//! operating system for pages ahead itself.

use crate::key::Tid;

/// Pages that are asked for, for one bitmap: with a few lines of each, a third of a
/// megabyte. What is evicted before it is wanted costs more than it gains.
const MAX_PAGES: usize = 1024;
/// Bits that say which, by the lowest bits of the pages' numbers. A page whose bit another
/// one has set is not asked for.
const KNOWN: usize = 16 * MAX_PAGES;
/// Pages that are too few to be asked for.
const FEW_PAGES: usize = 3;
/// Reads, as a share of the pages asked for, from which on bitmaps are passed.
const MANY_READS: usize = 8;
/// Bitmaps that are passed at most after one with many reads.
const MAX_PASSED: u16 = 255;

/// The pages of a bitmap.
#[derive(Debug, Default)]
pub struct BitmapLookahead {
    /// Empty until there is something to remember.
    known: Vec<u64>,
    /// The first row on each page.
    rows: Vec<Tid>,
    /// Nothing is asked for, for this bitmap.
    off: bool,
    /// Bitmaps still to be passed, and how many were to be the last time.
    left: u16,
    passed: u16,
}

impl BitmapLookahead {
    /// Another bitmap begins.
    pub fn restart(&mut self) {
        self.forget();
        self.off = self.left > 0;
        self.left = self.left.saturating_sub(1);
    }

    /// Notes rows of the bitmap. If they are on too many pages, none is asked for.
    pub fn note(&mut self, rows: &[Tid]) {
        let few = self.rows.is_empty() && rows.len() <= FEW_PAGES;
        if self.off || few {
            return;
        }
        if self.known.is_empty() {
            let bits = self.known.try_reserve_exact(KNOWN / 64);
            if bits.and(self.rows.try_reserve_exact(MAX_PAGES)).is_err() {
                self.off = true;
                return;
            }
            self.known.resize(KNOWN / 64, 0);
        }
        for tid in rows {
            let (word, bit) = (&mut self.known[word_of(*tid)], 1 << ((tid >> 16) % 64));
            if *word & bit != 0 {
                continue;
            }
            *word |= bit;
            if self.rows.len() == MAX_PAGES {
                self.forget();
                self.off = true;
                return;
            }
            self.rows.push(*tid);
        }
    }

    /// Whether there is something to ask for.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.rows.len() > FEW_PAGES
    }

    /// The bitmap is whole. `ask` is called for a row on each page, and says whether the
    /// page has to be read: after `most_reads` of them it is called no more, and, unless
    /// they are few of the pages, not for some of the next bitmaps.
    pub fn ask(&mut self, most_reads: usize, mut ask: impl FnMut(Tid) -> bool) {
        let (mut asked, mut reads) = (0, 0);
        for tid in &self.rows {
            asked += 1;
            reads += usize::from(ask(*tid));
            if reads >= most_reads.max(1) {
                if reads * MANY_READS >= asked {
                    self.passed = (2 * self.passed + 1).min(MAX_PASSED);
                    self.left = self.passed;
                    return;
                }
                break;
            }
        }
        self.passed /= 2;
    }

    fn forget(&mut self) {
        if self.rows.len() < KNOWN / 64 / 8 {
            for tid in &self.rows {
                self.known[word_of(*tid)] = 0;
            }
        } else {
            self.known.fill(0);
        }
        self.rows.clear();
    }
}

/// Where the bit of a row's page is.
fn word_of(tid: Tid) -> usize {
    (tid >> 16) as usize % KNOWN / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of which each is on a page of its own.
    fn scattered(n: u64) -> Vec<Tid> {
        (0..n)
            .map(|i| (i * 7919 % KNOWN as u64) << 16 | 1)
            .collect()
    }

    /// The pages that are asked for, of a bitmap that gets `rows` by batches.
    fn bitmap(lookahead: &mut BitmapLookahead, rows: &[Tid], reads: bool) -> Vec<u64> {
        lookahead.restart();
        for batch in rows.chunks(1000) {
            lookahead.note(batch);
        }
        let mut asked = Vec::new();
        if lookahead.is_due() {
            lookahead.ask(2, |tid| {
                asked.push(tid >> 16);
                reads
            });
        }
        asked
    }

    #[test]
    fn each_page_is_asked_for_once() {
        let mut rows = scattered(1000);
        rows.extend_from_within(..);
        let pages: Vec<u64> = rows[..1000].iter().map(|tid| tid >> 16).collect();
        let mut lookahead = BitmapLookahead::default();
        for _ in 0..3 {
            assert_eq!(bitmap(&mut lookahead, &rows, false), pages);
        }
    }

    #[test]
    fn pages_are_asked_for_if_they_fit() {
        let mut lookahead = BitmapLookahead::default();
        for (rows, pages) in [
            (MAX_PAGES, MAX_PAGES),
            (MAX_PAGES + 1, 0),
            (10, 10),
            (20_000, 0),
        ] {
            let asked = bitmap(&mut lookahead, &scattered(rows as u64), false);
            assert_eq!(asked.len(), pages, "{rows} rows");
        }
        // Many rows on few pages.
        let rows: Vec<Tid> = (0..100_000u64)
            .map(|i| (i / 100) << 16 | (i % 100 + 1))
            .collect();
        assert_eq!(bitmap(&mut lookahead, &rows, false).len(), 1000);
    }

    #[test]
    fn few_pages_are_not_asked_for() {
        let mut lookahead = BitmapLookahead::default();
        let one_page: Vec<Tid> = (1..300).map(|i| 7 << 16 | i).collect();
        assert!(bitmap(&mut lookahead, &one_page, false).is_empty());
        for (rows, pages) in [(0, 0), (1, 0), (3, 0), (4, 4)] {
            let asked = bitmap(&mut lookahead, &scattered(rows), false);
            assert_eq!(asked.len(), pages, "{rows} rows");
        }
    }

    #[test]
    fn bitmaps_are_passed_while_pages_have_to_be_read() {
        let rows = scattered(100);
        let mut lookahead = BitmapLookahead::default();
        let looks = |lookahead: &mut BitmapLookahead, reads| -> Vec<usize> {
            (0..1000)
                .map(|_| bitmap(lookahead, &rows, reads).len())
                .collect()
        };
        let asked = looks(&mut lookahead, true);
        assert_eq!(asked[..4], [2, 0, 2, 0]);
        assert!(asked.iter().all(|asked| [0, 2].contains(asked)));
        let tried = asked.iter().filter(|asked| **asked > 0).count();
        assert!((8..=12).contains(&tried), "{tried} looks");
        // In memory again, all are looked at after the first that is tried.
        let asked = looks(&mut lookahead, false);
        assert!(asked.iter().all(|asked| [0, 100].contains(asked)));
        let first = asked.iter().position(|asked| *asked > 0);
        assert!(first.is_some_and(|first| first <= usize::from(MAX_PASSED)));
        let tried = asked.iter().filter(|asked| **asked > 0).count();
        assert!(first.is_some_and(|first| tried == 1000 - first));
        // One page of fifty that has to be read ends one bitmap's look, and no other's.
        for _ in 0..10 {
            let mut asked = 0;
            lookahead.restart();
            lookahead.note(&rows);
            lookahead.ask(1, |_| {
                asked += 1;
                asked == 50
            });
            assert_eq!(asked, 50);
        }
        // Nor do fewer reads than are allowed.
        for _ in 0..10 {
            let mut asked = 0;
            lookahead.restart();
            lookahead.note(&rows[..5]);
            lookahead.ask(2, |_| {
                asked += 1;
                asked == 1
            });
            assert_eq!(asked, 5);
        }
        // And one bitmap with such pages does not stop it for long.
        assert_eq!(bitmap(&mut lookahead, &rows, true).len(), 2);
        assert_eq!(bitmap(&mut lookahead, &rows, true).len(), 0);
        assert_eq!(bitmap(&mut lookahead, &rows, false).len(), 100);
    }
}
