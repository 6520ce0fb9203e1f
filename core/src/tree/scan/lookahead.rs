//! Which pages of the table a scan asks for before it comes to their rows.
//!
//! Neighbours in the index may be far apart in the table: then each row is on a page
//! that the processor does not have in its cache, if the server has it at all. A scan
//! knows the rows to come, and one that asks for their pages ahead waits for many of
//! them at once. It asks for none that it has asked for lately, so that little is done
//! where the table is in order; for few at first where a query may want few rows; and
//! for none for a while where the operating system has them in memory, since asking
//! costs more than it gains then.

use crate::key::Tid;

/// Pages that are asked for at once, at most.
pub const LOOKAHEAD_PAGES: usize = 8;
/// Pages that the first look asks for, where a query may want few rows; the next twice
/// as many, and so on.
const FIRST_PAGES: usize = 2;
/// Rows that are looked at for that, at most.
const MAX_ROWS: usize = 64;
/// Pages that are remembered, by the lowest bits of their numbers.
const RECENT: usize = 16;
/// Reads that take less are those of a page that the operating system has in memory, in
/// nanoseconds: random reads of a disk take more, also many at a time.
const FAST_READ: u64 = 5_000;
/// Rows without a look where reads are fast, at first and at most.
const PAUSES: core::ops::RangeInclusive<usize> = 16..=1024;
/// No number of a page.
const NONE: u64 = u64::MAX;

/// How far a scan has looked ahead.
#[derive(Debug)]
pub struct Lookahead {
    /// Steps to the next look. `usize::MAX`: there is none.
    left: usize,
    /// What that was after the last look. A turn is seen when the next is due.
    interval: usize,
    /// Rows looked at, from the place of the last look on.
    ahead: usize,
    forward: bool,
    /// Pages to ask for next; more than [`LOOKAHEAD_PAGES`] if there was a look for as many.
    pages: usize,
    recent: [u64; RECENT],
    off: bool,
    /// No look before `left` steps, in another batch or scan neither.
    pausing: bool,
    /// Of the next pause.
    pause: usize,
    /// Reads that the last look has started, and its time in nanoseconds.
    reads: usize,
    since: u64,
    /// Nanoseconds for a row with a read, on average.
    time: Option<u64>,
}

impl Default for Lookahead {
    fn default() -> Self {
        Self {
            left: 0,
            interval: 0,
            ahead: 0,
            forward: true,
            pages: FIRST_PAGES,
            recent: [NONE; RECENT],
            off: false,
            pausing: false,
            pause: *PAUSES.start(),
            reads: 0,
            since: 0,
            time: None,
        }
    }
}

impl Lookahead {
    /// A scan begins; with `all`, most likely all of its rows are wanted.
    pub fn restart(&mut self, all: bool) {
        self.off = false;
        self.pages = if all {
            2 * LOOKAHEAD_PAGES
        } else {
            FIRST_PAGES
        };
        self.enter();
    }

    /// The scan has another batch: nothing of it was looked at.
    #[inline]
    pub fn enter(&mut self) {
        self.ahead = 0;
        self.interval = 0;
        if self.off {
            self.stop();
        } else if !self.pausing {
            self.left = 0;
        }
    }

    /// The scan does not look from now on.
    pub fn stop(&mut self) {
        self.off = true;
        self.pausing = false;
        self.left = usize::MAX;
    }

    /// Whether it is time to look.
    #[inline]
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.left == 0
    }

    /// To be called for steps that were taken.
    #[inline]
    pub fn step(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Steps to the next look.
    #[inline]
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Looks at the rows to come in a direction, the next one first, as far as they are
    /// known. `ask` is called for rows on pages that were not asked for lately, and says
    /// whether a page has to be read: after `most_reads` of them the rest waits for the
    /// next look. `now` is the time in nanoseconds, asked for where pages are read alone.
    /// If the rows since the last look took too little for reads of a disk, this look is
    /// left out, and the next ones are further and further apart.
    pub fn look(
        &mut self,
        forward: bool,
        most_reads: usize,
        now: impl Fn() -> u64,
        rows: impl Iterator<Item = Tid>,
        mut ask: impl FnMut(Tid) -> bool,
    ) {
        self.pausing = false;
        if self.reads > 0 {
            // What was read is not known, only what was asked for, and how many rows were
            // passed since.
            let rows = self.interval.clamp(1, self.reads) as u64;
            let time = now().saturating_sub(self.since) / rows;
            self.reads = 0;
            // Of many reads at once, a disk makes the first wait and not the others.
            let time = self.time.map_or(time, |last| last - last / 8 + time / 8);
            self.time = Some(time);
            if time < FAST_READ {
                self.time = None;
                self.ahead = 0;
                self.left = self.pause;
                self.pausing = true;
                self.pause = (self.pause * 2).min(*PAUSES.end());
                return;
            }
            self.pause = *PAUSES.start();
        }
        let turned = forward != self.forward;
        let begin = if turned {
            0
        } else {
            self.ahead.saturating_sub(self.interval)
        };
        let (mut end, mut pages, mut reads) = (begin, 0, 0);
        let mut last = NONE;
        for tid in rows.skip(begin).take(MAX_ROWS) {
            let page = tid >> 16;
            end += 1;
            if page == last {
                continue;
            }
            last = page;
            let recent = &mut self.recent[page as usize % RECENT];
            if *recent != page {
                *recent = page;
                pages += 1;
                reads += usize::from(ask(tid));
                if pages == self.pages.min(LOOKAHEAD_PAGES) || reads == most_reads {
                    break;
                }
            }
        }
        self.forward = forward;
        let starting = self.pages <= LOOKAHEAD_PAGES;
        if starting {
            self.pages *= 2;
        }
        self.reads = reads;
        if reads > 0 {
            self.since = now();
        } else if pages > 0 {
            self.pause = (self.pause / 2).max(*PAUSES.start());
        }
        self.ahead = end;
        // When the scan comes to what was asked for now; at first, when it has nearly gone
        // through that, since it may want no more.
        let near = if starting {
            end.saturating_sub(1)
        } else {
            begin
        };
        self.interval = near.max(1);
        // If there are no more rows in the batch, it need not look again.
        self.left = if end == begin {
            usize::MAX
        } else {
            self.interval
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nanoseconds for a row in memory.
    const ROW: u64 = 500;

    /// Takes `steps` over `rows`, and looks whenever that is due. `time` says what a step
    /// takes, and `ask` is told of the step before which a row's page is asked for.
    /// Returns the looks.
    fn go(
        lookahead: &mut Lookahead,
        rows: &[Tid],
        steps: usize,
        most_reads: usize,
        clock: &mut u64,
        time: impl Fn(usize) -> u64,
        mut ask: impl FnMut(usize, Tid) -> bool,
    ) -> usize {
        let mut looks = 0;
        for at in 0..steps {
            if lookahead.is_due() {
                let coming = rows[at..].iter().copied();
                lookahead.look(true, most_reads, || *clock, coming, |tid| ask(at, tid));
                looks += 1;
            }
            lookahead.step(1);
            *clock += time(at);
        }
        looks
    }

    /// A scan of all `rows`, where a read takes `read` nanoseconds, or nothing is read: for
    /// each row, before which step its page was asked for, if it was, the greatest number
    /// of pages in one look, and the looks.
    fn scan(
        rows: &[Tid],
        most_reads: usize,
        read: Option<u64>,
    ) -> (Vec<Option<usize>>, usize, usize) {
        let mut lookahead = Lookahead::default();
        lookahead.restart(true);
        let mut asked = vec![None; rows.len()];
        let mut of_look = vec![0; rows.len()];
        let ask = |at: usize, tid: Tid| {
            let row = (at..rows.len()).find(|row| rows[*row] == tid);
            let slot = row.map(|row| &mut asked[row]);
            let before = slot.map(|slot| slot.replace(at));
            assert_eq!(before, Some(None), "asked for twice, or behind it");
            of_look[at] += 1;
            read.is_some()
        };
        let time = |_| read.unwrap_or(ROW);
        let looks = go(
            &mut lookahead,
            rows,
            rows.len(),
            most_reads,
            &mut 0,
            time,
            ask,
        );
        (asked, of_look.into_iter().max().unwrap_or(0), looks)
    }

    /// Whether each row from `first` on was asked for so many rows ahead.
    fn each_ahead(
        asked: &[Option<usize>],
        first: usize,
        rows: core::ops::RangeInclusive<usize>,
    ) -> bool {
        let ahead = |(at, asked): (usize, &Option<usize>)| asked.map(|asked| at - asked);
        let mut aheads = asked.iter().enumerate().skip(first).map(ahead);
        aheads.all(|ahead| ahead.is_some_and(|ahead| rows.contains(&ahead)))
    }

    /// Rows of which each is on a page of its own.
    fn scattered(n: u64) -> Vec<Tid> {
        (0..n).map(|i| (i * 7919 % 100_003) << 16 | 1).collect()
    }

    #[test]
    fn scattered_rows_are_asked_for_a_look_ahead() {
        let (asked, most, looks) = scan(&scattered(1000), usize::MAX, None);
        assert_eq!(most, LOOKAHEAD_PAGES);
        let ahead = LOOKAHEAD_PAGES..=2 * LOOKAHEAD_PAGES;
        assert!(each_ahead(&asked, 2 * LOOKAHEAD_PAGES, ahead), "{asked:?}");
        assert!(looks <= 1000 / LOOKAHEAD_PAGES + 4, "{looks} looks");
    }

    #[test]
    fn a_query_of_few_rows_asks_for_few() {
        let rows = scattered(1000);
        for wanted in 1..20 {
            let mut lookahead = Lookahead::default();
            lookahead.restart(false);
            let mut asked = 0;
            let ask = |_, _| {
                asked += 1;
                false
            };
            let time = |_| ROW;
            go(&mut lookahead, &rows, wanted, usize::MAX, &mut 0, time, ask);
            let most = match wanted {
                1..=5 => 6,
                6..=13 => 14,
                _ => wanted + 2 * LOOKAHEAD_PAGES,
            };
            assert!(asked <= most, "{asked} for {wanted} rows");
        }
    }

    #[test]
    fn few_reads_at_a_time_are_few_rows_ahead() {
        let (asked, most, _) = scan(&scattered(300), 2, Some(20_000));
        assert_eq!(most, 2);
        assert!(each_ahead(&asked, 0, 0..=4), "{asked:?}");
    }

    #[test]
    fn one_read_at_a_time_is_one_row_ahead() {
        let (asked, most, _) = scan(&scattered(300), 1, Some(70_000));
        assert_eq!(most, 1);
        assert!(each_ahead(&asked, 0, 0..=2), "{asked:?}");
    }

    #[test]
    fn a_disk_that_answers_many_at_once_is_slow() {
        let rows = scattered(10_000);
        let mut lookahead = Lookahead::default();
        lookahead.restart(true);
        let mut asked = 0;
        let ask = |_, _| {
            asked += 1;
            true
        };
        // All that were asked for in two looks come with the first.
        let time = |at: usize| {
            if at.is_multiple_of(16) {
                200_000
            } else {
                1_000
            }
        };
        go(&mut lookahead, &rows, rows.len(), 8, &mut 0, time, ask);
        assert_eq!(asked, rows.len());
    }

    #[test]
    fn fast_reads_are_not_asked_for() {
        for most_reads in [1, 8] {
            let (asked, _, looks) = scan(&scattered(20_000), most_reads, Some(2_500));
            let asked = asked.iter().flatten().count();
            assert!(asked <= 30 * most_reads, "{asked} pages");
            assert!(looks <= 60, "{looks} looks");
        }
        // Nor in many scans of few rows each.
        let mut lookahead = Lookahead::default();
        let (mut asked, mut clock) = (0, 0);
        let mut ask = |_, _| {
            asked += 1;
            true
        };
        for rows in scattered(20_000).chunks(10) {
            lookahead.restart(true);
            go(&mut lookahead, rows, 10, 8, &mut clock, |_| 2_500, &mut ask);
        }
        assert!(asked < 250, "{asked} pages");
        // Where reads are slow again, or none are needed, all is asked for again.
        let rows = scattered(10_000);
        for (reads, row) in [(true, 70_000), (false, ROW)] {
            let mut asked = 0;
            let ask = |_, _| {
                asked += 1;
                reads
            };
            lookahead.restart(true);
            let steps = rows.len();
            go(&mut lookahead, &rows, steps, 8, &mut clock, |_| row, ask);
            assert!(asked > 8_900, "{asked} pages");
        }
    }

    #[test]
    fn rows_in_order_are_asked_for_once_a_page() {
        let rows: Vec<Tid> = (0..20_000u64)
            .map(|i| (i / 200) << 16 | (i % 200 + 1))
            .collect();
        let (asked, _, looks) = scan(&rows, usize::MAX, None);
        assert_eq!(asked.iter().flatten().count(), 100);
        assert!(looks <= 20_000 / (MAX_ROWS - 1), "{looks} looks");
        for (at, asked) in asked.iter().enumerate().skip(200) {
            assert!(asked.is_none_or(|asked| at - asked >= MAX_ROWS));
        }
    }

    #[test]
    fn a_turn_begins_anew() {
        let rows = scattered(100);
        let mut lookahead = Lookahead::default();
        lookahead.look(
            true,
            usize::MAX,
            || 0,
            rows[50..].iter().copied(),
            |_| false,
        );
        lookahead.step(1);
        let mut asked = Vec::new();
        let before = rows[..50].iter().rev().copied();
        lookahead.look(
            false,
            usize::MAX,
            || 0,
            before,
            |tid| {
                asked.push(tid);
                false
            },
        );
        let expected: Vec<Tid> = (46..50).rev().map(|at| rows[at]).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn one_that_is_off_is_never_due() {
        let mut lookahead = Lookahead::default();
        lookahead.stop();
        for _ in 0..1000 {
            assert!(!lookahead.is_due());
            lookahead.step(1);
            lookahead.enter();
        }
        lookahead.restart(false);
        assert!(lookahead.is_due());
        // Also one that was pausing.
        lookahead.look(true, 1, || 0, [1 << 16].into_iter(), |_| true);
        lookahead.look(true, 1, || 0, [2 << 16].into_iter(), |_| true);
        lookahead.stop();
        lookahead.enter();
        lookahead.step(100_000);
        assert!(!lookahead.is_due());
        lookahead.restart(false);
        assert!(lookahead.is_due());
    }

    proptest! {
        /// Each row's page is asked for before the scan comes to the row, or at it, unless
        /// that was done lately: since then no other page has taken its place.
        #[test]
        fn pages_are_asked_for_before_their_rows(
            pages in prop::collection::vec(0u64..40, 1..400),
            most_reads in 1usize..20,
            reads in any::<bool>(),
        ) {
            let rows: Vec<Tid> = pages.iter().zip(1..).map(|(page, i)| page << 16 | i).collect();
            let read = reads.then_some(70_000);
            let (asked, most, looks) = scan(&rows, most_reads, read);
            prop_assert!(most <= LOOKAHEAD_PAGES);
            prop_assert!(!reads || most <= most_reads);
            prop_assert!(looks <= rows.len());
            let mut recent = [NONE; RECENT];
            for (at, (row, asked)) in rows.iter().zip(&asked).enumerate() {
                let page = row >> 16;
                let known = &mut recent[page as usize % RECENT];
                prop_assert_eq!(asked.is_some(), *known != page, "row {}", at);
                *known = page;
            }
        }
    }
}
