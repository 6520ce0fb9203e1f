//! Scans in both directions over a list of intervals.
//!
//! A scan's position is what it has covered: the entries of the batch in hand
//! are all entries of one stretch of the key space, as they were under one
//! lock hold, and going on means to ask for the stretch behind it or before
//! it. No slot or page is remembered but as a hint, so pages may be split,
//! merged and recycled under a running scan.

mod batch;
mod bitmap_lookahead;
mod killed;
mod lookahead;
mod shared;

pub use batch::Batch;
pub use bitmap_lookahead::BitmapLookahead;
pub(super) use killed::KnownDead;
pub use lookahead::{LOOKAHEAD_PAGES, Lookahead};
pub use shared::{Reached, Turns};

use super::Tree;
use super::descend::{Arrival, Promise, Target, arrive, fences};
use super::interval::{Interval, earlier};
use crate::error::Result;
use crate::key::{Block, INVALID_BLOCK, Pos, Tid};
use crate::page::{self, Header, LeafView, delta_capacity};
use crate::planted;
use crate::store::{PageGuard, PageStore};
use killed::{Killed, Writing};

/// Entries of the first batch of a scan: what a point lookup or an ordered
/// query with a small limit needs.
const FIRST_BATCH: usize = 32;
/// Entries of the first batch between two bounds: what lies between them is wanted,
/// most likely.
const FIRST_BETWEEN: usize = 128;
/// Entries of a batch at most.
const MAX_BATCH: usize = 1024;

/// A place in a scan to come back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark<const V: usize> {
    serial: u64,
    interval: usize,
    at: isize,
    entry: Option<Pos<V>>,
}

/// A leaf as it was when it was read: a hint.
#[derive(Clone, Copy, Debug)]
struct Page<const V: usize> {
    block: Block,
    low: Pos<V>,
    high: Option<Pos<V>>,
    right: Block,
    writing: Writing,
}

/// A scan. `P` is the store's pin.
pub struct Scan<P, const V: usize> {
    batch: Batch<V>,
    /// Index of the current entry: -1 before the batch, its length behind it.
    at: isize,
    interval: usize,
    covered: Option<Interval<V>>,
    page: Option<Page<V>>,
    pin: Option<P>,
    /// Only TIDs are wanted: the keys of the batch have no meaning, nor has its order.
    tids_only: bool,
    want: usize,
    serial: u64,
    /// The scan has run past its last entry, in this direction (forwards?).
    ended: Option<bool>,
    /// What this process has claimed of a scan that is shared, ascending.
    claim: Vec<Interval<V>>,
    killed: Killed<V>,
}

impl<P, const V: usize> Default for Scan<P, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P, const V: usize> Scan<P, V> {
    /// A scan that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            batch: Batch::EMPTY,
            at: -1,
            interval: 0,
            covered: None,
            page: None,
            pin: None,
            tids_only: false,
            want: FIRST_BATCH,
            serial: 0,
            ended: None,
            claim: Vec::new(),
            killed: Killed::NONE,
        }
    }

    /// Starts over. The page read last stays known as a hint, and what was found
    /// dead.
    pub fn restart(&mut self) {
        self.batch.clear();
        self.at = -1;
        self.interval = 0;
        self.covered = None;
        self.pin = None;
        self.ended = None;
        self.tids_only = false;
        self.want = FIRST_BATCH;
        self.serial += 1;
        self.claim.clear();
    }

    /// Releases the pin, if any.
    #[cfg(test)]
    pub fn unpin(&mut self) {
        self.pin = None;
    }

    /// Forgets which page was read last.
    pub fn forget_page(&mut self) {
        self.page = None;
    }

    /// The entry that the scan stands on.
    #[must_use]
    pub fn current(&self) -> Option<Pos<V>> {
        usize::try_from(self.at)
            .ok()
            .and_then(|at| self.batch.get(at))
    }

    /// The batch in hand: entries in scan order forwards, among them the current one.
    #[inline]
    #[must_use]
    pub fn batch(&self) -> &Batch<V> {
        &self.batch
    }

    /// Remembers the place of the current entry.
    #[must_use]
    pub fn mark(&self) -> Mark<V> {
        Mark {
            serial: self.serial,
            interval: self.interval,
            at: self.at,
            entry: self.current(),
        }
    }

    /// Goes to the next entry of `intervals` (ascending, disjoint), forwards or
    /// backwards. `None`: there is none, and a step in the other direction
    /// finds the last one again. With `keep_pin`, the entry's page stays pinned
    /// until the scan moves to another batch.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::OutOfMemory`], what reading pages can raise.
    /// No pin is kept then, and the scan has to be restarted.
    pub fn next<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        forward: bool,
        keep_pin: bool,
    ) -> Result<Option<Pos<V>>> {
        if let Some(pos) = self.step(forward) {
            return Ok(Some(pos));
        }
        self.next_batch(tree, intervals, forward, keep_pin)
    }

    /// The heap TIDs of some more entries of `intervals`, in any order, until there are
    /// none: for who wants all of them, and no keys. Such a scan does nothing else until
    /// it starts over.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub fn next_tids<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
    ) -> Result<&[Tid]> {
        self.tids_only = true;
        self.want = self.want.max(FIRST_BETWEEN);
        self.next_batch(tree, intervals, true, false)?;
        Ok(self.batch.tids())
    }

    /// Moves to the next entry of the batch in hand; `None`, without a move: it
    /// ends here, and [`Scan::next`] knows more.
    #[inline]
    pub fn step(&mut self, forward: bool) -> Option<Pos<V>> {
        let to = if forward { self.at + 1 } else { self.at - 1 };
        let pos = self.batch.get(usize::try_from(to).ok()?)?;
        self.at = to;
        Some(pos)
    }

    /// The place in the batch in hand of the entry that a step forwards would move to,
    /// or the batch's length.
    #[inline]
    #[must_use]
    pub fn ahead(&self) -> usize {
        (self.at + 1).cast_unsigned()
    }

    /// As so many times [`Scan::step`] forwards, for who has looked [`Scan::ahead`] and
    /// found as many entries.
    #[inline]
    pub fn step_ahead(&mut self, steps: usize) {
        let most = self.batch.len().saturating_sub(self.ahead());
        debug_assert!(steps <= most, "a step out of the batch");
        self.at += steps.min(most).cast_signed();
    }

    /// The rows of the entries that steps would move to, as far as they are in the batch
    /// in hand: forwards from the first on, backwards from the last.
    #[inline]
    #[must_use]
    pub fn coming(&self, forward: bool) -> &[Tid] {
        let tids = self.batch.tids();
        let coming = if forward {
            usize::try_from(self.at + 1).map(|from| tids.get(from..))
        } else {
            usize::try_from(self.at).map(|to| tids.get(..to))
        };
        coming.ok().flatten().unwrap_or_default()
    }

    /// Ends a scan forwards that has taken the last step, where that is certain
    /// without a look at a page. False: [`Scan::next`] knows more.
    #[inline(never)]
    pub fn end(&mut self, intervals: &[Interval<V>]) -> bool {
        let Some((last, before)) = intervals.split_last() else {
            return false;
        };
        let all = |covered: Interval<V>| covered.hi == last.hi || planted::is("ends_early");
        let ends = self.interval == before.len() && self.covered.is_some_and(all);
        if ends {
            self.restart();
            self.ended = Some(true);
        }
        ends
    }

    /// Moves to the first entry of the next batch that has any.
    fn next_batch<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        forward: bool,
        keep_pin: bool,
    ) -> Result<Option<Pos<V>>> {
        while let Some(wanted) = self.wanted(intervals, forward) {
            self.fetch(tree, wanted, forward, keep_pin)?;
            if !self.batch.is_empty() {
                self.at = if forward {
                    0
                } else {
                    self.batch.len().cast_signed() - 1
                };
                return Ok(self.current());
            }
            tree.store().breathe()?;
        }
        // Behind the end nothing is held: a step back reads the page again.
        self.restart();
        self.ended = Some(forward);
        Ok(None)
    }

    /// The stretch that has not been visited in this direction, and moves to
    /// its interval.
    fn wanted(&mut self, intervals: &[Interval<V>], forward: bool) -> Option<Interval<V>> {
        if self
            .ended
            .replace(forward)
            .is_some_and(|ended| ended == forward || planted::is("no_way_back"))
        {
            return None;
        }
        self.ended = None;
        let Some(covered) = self.covered else {
            self.interval = if forward {
                0
            } else {
                intervals.len().wrapping_sub(1)
            };
            return intervals.get(self.interval).copied();
        };
        let interval = intervals.get(self.interval)?;
        if forward {
            if covered.hi != interval.hi {
                let lo = covered.hi?;
                return Some(Interval {
                    lo,
                    hi: interval.hi,
                });
            }
            let next = intervals.get(self.interval + 1)?;
            self.interval += 1;
            Some(*next)
        } else {
            if covered.lo != interval.lo {
                return Some(Interval {
                    lo: interval.lo,
                    hi: Some(covered.lo),
                });
            }
            let next = intervals.get(self.interval.wrapping_sub(1))?;
            self.interval -= 1;
            Some(*next)
        }
    }

    /// Goes back to a mark in the batch in hand. False, without a move: it is not of
    /// this batch, and [`Scan::restore`] knows the way.
    #[inline]
    pub fn step_back(&mut self, mark: &Mark<V>) -> bool {
        let here = mark.serial == self.serial;
        if here {
            self.at = mark.at;
        }
        here
    }

    /// Goes back to a mark.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub fn restore<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        mark: &Mark<V>,
        keep_pin: bool,
    ) -> Result<()> {
        if self.step_back(mark) {
            return Ok(());
        }
        let Some(entry) = mark.entry else {
            self.restart();
            return Ok(());
        };
        self.interval = mark.interval;
        self.ended = None;
        let hi = intervals
            .get(mark.interval)
            .and_then(|interval| interval.hi);
        let lo = if planted::is("mark_behind_entry") {
            entry.next()
        } else {
            entry
        };
        self.fetch(tree, Interval { lo, hi }, true, keep_pin)?;
        // The marked entry may be gone; then the place is in front of the next.
        self.at = if self.batch.get(0) == Some(entry) {
            0
        } else {
            -1
        };
        Ok(())
    }

    /// Reads the entries at the near end of a stretch: those of one page, or
    /// fewer if they are many.
    fn fetch<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        wanted: Interval<V>,
        forward: bool,
        keep_pin: bool,
    ) -> Result<()> {
        if self.want == FIRST_BATCH && wanted.is_between() {
            self.want = FIRST_BETWEEN;
        }
        let room = self.want + delta_capacity(tree.store().page_size());
        self.batch.clear();
        self.batch.reserve(room)?;
        self.pin = None;
        self.serial += 1;
        if wanted.hi.is_some_and(|hi| hi <= wanted.lo) {
            // Nothing to look for; below the least position there is no page.
            self.covered = Some(wanted);
            return Ok(());
        }
        let target = if forward {
            Target::At(wanted.lo)
        } else {
            Target::Below(wanted.hi)
        };
        let (guard, header) = self.locate(tree, &target)?;
        let leaf = LeafView::<V>::parse(&guard, guard.block(), header)?;
        let (low, high) = self.remember(&guard, &header);
        if self.reads_all(&wanted, forward, low, high) {
            guard.expect_reads();
        }
        let covered = if forward {
            let end = earlier(wanted.hi, high);
            let hi = self.collect_forward(&leaf, wanted.lo, end)?;
            Interval { lo: wanted.lo, hi }
        } else {
            let start = wanted.lo.max(low);
            let lo = self.collect_backward(&leaf, start, wanted.hi)?;
            Interval { lo, hi: wanted.hi }
        };
        // On a damaged page the entry taken last may be anywhere: no scan may go
        // in circles for that.
        let moved = if forward {
            covered.hi.is_none_or(|hi| wanted.lo < hi)
        } else {
            wanted.hi.is_none_or(|hi| covered.lo < hi)
        };
        if !moved {
            return Err(leaf.corrupt("entries are out of order"));
        }
        let router = tree.router().borrow();
        let dead = router.known_dead.of(guard.block(), Writing::of(&header));
        if !dead.is_empty() {
            self.batch.remove(|tid| dead.binary_search(&tid).is_ok());
        }
        self.merge_delta(&leaf, &covered, dead);
        drop(router);
        self.covered = Some(covered);
        if keep_pin && !self.batch.is_empty() && !planted::is("pin_dropped") {
            self.pin = Some(guard.into_pin());
        }
        self.want = (self.want * 4).min(MAX_BATCH);
        Ok(())
    }

    /// Whether all of the page that is read now, from `low` to `high`, will be read for a
    /// stretch, or what is left of it by a scan that has just turned out to be long.
    fn reads_all(
        &self,
        wanted: &Interval<V>,
        forward: bool,
        low: Pos<V>,
        high: Option<Pos<V>>,
    ) -> bool {
        let from_low = wanted.lo <= low;
        let to_high = wanted
            .hi
            .is_none_or(|hi| high.is_some_and(|high| high <= hi));
        let (begins, ends) = if forward {
            (from_low, to_high)
        } else {
            (to_high, from_low)
        };
        let is_long = self.want > FIRST_BETWEEN && !self.tids_only;
        is_long && ends && (begins || self.want < MAX_BATCH)
    }

    /// Remembers the leaf that is read now, and returns its fences.
    fn remember(&mut self, guard: &impl PageGuard, header: &Header) -> (Pos<V>, Option<Pos<V>>) {
        let (low, high) = fences::<V>(guard, header);
        self.page = Some(Page {
            block: guard.block(),
            low,
            high,
            right: header.right,
            writing: Writing::of(header),
        });
        (low, high)
    }

    /// Locks the page for the near end of a stretch: the page read last or its
    /// neighbour if that is it, else as any descent.
    fn locate<S: PageStore<Pin = P>>(
        &self,
        tree: &Tree<'_, S, V>,
        target: &Target<V>,
    ) -> Result<(S::Shared, Header)> {
        // A step to another page asks the router, which knows both fences.
        let routed = tree.router().borrow().is_loaded();
        let hint = self.page.and_then(|page| {
            let low = Some(page.low);
            let inside = match *target {
                Target::At(pos) => page.low <= pos && page.high.is_none_or(|high| pos < high),
                Target::Below(Some(end)) => {
                    page.low < end && page.high.is_none_or(|high| end <= high)
                }
                Target::Below(None) => page.high.is_none(),
            };
            match *target {
                _ if inside => Some((page.block, Promise { low, end: None })),
                Target::At(pos) if page.high == Some(pos) && !routed => Some((
                    page.right,
                    Promise {
                        low: page.high,
                        end: None,
                    },
                )),
                _ => None,
            }
        });
        if let Some((block, promise)) = hint
            && block != INVALID_BLOCK
            && let Some(guard) = tree.store().read(block)?
        {
            let header = page::header(&guard, block)?;
            if arrive(&guard, &header, 0, target, &promise) == Arrival::Owns {
                return Ok((guard, header));
            }
        }
        tree.find_leaf(target, &|block| tree.store().read(block))
    }
}
