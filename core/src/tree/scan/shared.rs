//! A scan that several processes share.
//!
//! They take turns at its position. Who has the turn claims the next stretch of
//! the key space, passes the turn on, and then scans what it has claimed as any
//! scan does. So each position belongs to one process, and it is read under one
//! lock hold, whatever splits and merges do to the pages meanwhile. Where a
//! stretch ends is a matter of balance alone: any position would do.

use super::{MAX_BATCH, Page, Scan, Target};
use crate::error::{Error, Result};
use crate::key::Pos;
use crate::page::LeafView;
use crate::planted;
use crate::store::{PageGuard, PageStore};
use crate::tree::Tree;
use crate::tree::interval::{Interval, earlier};

/// How far a shared scan has come: what of its intervals has been claimed, in
/// the direction that all who share it have.
#[derive(Clone, Copy, Debug)]
pub struct Reached<const V: usize> {
    /// Intervals that are claimed to their end.
    done: usize,
    /// Where the claimed part of the key space ends; `None`: there is none.
    at: Option<Pos<V>>,
    /// The leaf that was read last, by whomever.
    page: Option<Page<V>>,
}

impl<const V: usize> Reached<V> {
    /// Nothing is claimed.
    pub const START: Self = Self {
        done: 0,
        at: None,
        page: None,
    };

    /// The interval that is next in this direction, after `done` others.
    fn next_of(intervals: &[Interval<V>], done: usize, forward: bool) -> Option<&Interval<V>> {
        if forward {
            intervals.get(done)
        } else {
            intervals.iter().rev().nth(done)
        }
    }

    /// What is left of an interval.
    fn rest_of(&self, interval: &Interval<V>, forward: bool) -> Interval<V> {
        let &Interval { lo, hi } = interval;
        if forward {
            let lo = self.at.map_or(lo, |at| lo.max(at));
            Interval { lo, hi }
        } else {
            let hi = earlier(hi, self.at);
            Interval { lo, hi }
        }
    }
}

/// The turn of those who share a scan.
pub trait Turns<const V: usize> {
    /// Entries that are claimed at once, at most one leaf's: 1 or more.
    fn at_once(&self) -> usize {
        MAX_BATCH
    }

    /// Waits for the turn and takes it. Nothing is locked or pinned meanwhile.
    /// `None`: all is claimed, and nobody gets the turn.
    ///
    /// # Errors
    /// What waiting can raise.
    fn take(&self) -> Result<Option<Reached<V>>>;

    /// Passes the turn on. `None`: all is claimed. Does not wait, and may be
    /// called while an error unwinds.
    fn pass(&self, reached: Option<Reached<V>>);
}

/// The turn while it is ours. Dropped, it is passed on with what `reached` says
/// then: if a claim fails, that nothing was claimed.
struct Turn<'a, T: Turns<V>, const V: usize> {
    turns: &'a T,
    reached: Option<Reached<V>>,
}

impl<T: Turns<V>, const V: usize> Drop for Turn<'_, T, V> {
    fn drop(&mut self) {
        self.turns.pass(self.reached);
    }
}

/// The position of the entry `count` behind the first at or above `from`, if the
/// leaf's blocks have so many.
fn count_up<const V: usize>(
    leaf: &LeafView<'_, V>,
    from: &Pos<V>,
    mut count: usize,
) -> Result<Option<Pos<V>>> {
    let first = leaf.find(from);
    for index in first..leaf.blocks() {
        let view = leaf.view(index)?;
        let at = if index == first {
            view.lower_bound(from)
        } else {
            0
        };
        let there = view.len().saturating_sub(at);
        if count < there {
            return Ok(Some(view.pos(at + count)));
        }
        count -= there;
    }
    Ok(None)
}

/// The position of the entry `count` in front of the first at or above `end`, if
/// the leaf's blocks have so many.
fn count_down<const V: usize>(
    leaf: &LeafView<'_, V>,
    end: Option<&Pos<V>>,
    mut count: usize,
) -> Result<Option<Pos<V>>> {
    let last = end.map_or(leaf.blocks().saturating_sub(1), |end| leaf.find(end));
    for index in (0..leaf.blocks().min(last + 1)).rev() {
        let view = leaf.view(index)?;
        let there = match end {
            Some(end) if index == last => view.lower_bound(end),
            _ => view.len(),
        };
        if count <= there {
            return Ok(Some(view.pos(there - count)));
        }
        count -= there;
    }
    Ok(None)
}

impl<P, const V: usize> Scan<P, V> {
    /// As [`Scan::next`] for one of those who share the scan: goes to its next
    /// entry. All come to the same `intervals` and go in the same direction, from
    /// the first step to the last. The entries of each ascend, or descend.
    ///
    /// # Errors
    /// As [`Scan::next`], and what waiting for the turn can raise. What this
    /// process had claimed and not returned is lost to all.
    pub fn next_shared<S: PageStore<Pin = P>, T: Turns<V>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        forward: bool,
        keep_pin: bool,
        turns: &T,
    ) -> Result<Option<Pos<V>>> {
        if let Some(pos) = self.step(forward) {
            return Ok(Some(pos));
        }
        // It is no part of the scan while that goes on, and ends, in it.
        let mut claim = core::mem::take(&mut self.claim);
        let found = loop {
            let found = self.next_batch(tree, &claim, forward, keep_pin)?;
            if found.is_some() {
                break found;
            }
            tree.store().breathe()?;
            claim.clear();
            if !self.claim(tree, intervals, forward, turns, &mut claim)? {
                break None;
            }
        };
        self.claim = claim;
        Ok(found)
    }

    /// Takes the turn, and claims what is next. Returns whether there was anything.
    fn claim<S: PageStore<Pin = P>, T: Turns<V>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        forward: bool,
        turns: &T,
        claim: &mut Vec<Interval<V>>,
    ) -> Result<bool> {
        self.restart();
        let Some(before) = turns.take()? else {
            return Ok(false);
        };
        let mut turn = Turn {
            turns,
            reached: Some(before),
        };
        self.page = before.page.or(self.page);
        let count = turns.at_once();
        let after = self.hand_out(tree, intervals, before, forward, count, claim)?;
        if before.page.is_some() || !planted::is("turn_not_passed_on") {
            turn.reached = after;
        } else if let Some(reached) = &mut turn.reached {
            // Once, or the scan would never end.
            reached.page = self.page;
        }
        drop(turn);
        self.want = MAX_BATCH;
        Ok(!claim.is_empty())
    }

    /// Lists what is claimed next, and returns how far the scan has come then;
    /// `None`: to its end.
    fn hand_out<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        intervals: &[Interval<V>],
        before: Reached<V>,
        forward: bool,
        count: usize,
        claim: &mut Vec<Interval<V>>,
    ) -> Result<Option<Reached<V>>> {
        let mut done = before.done;
        let rest = loop {
            let Some(interval) = Reached::next_of(intervals, done, forward) else {
                return Ok(None);
            };
            let rest = before.rest_of(interval, forward);
            if !rest.is_empty() {
                break rest;
            }
            done += 1;
        };
        let stretch = self.stretch(tree, &rest, forward, count)?;
        while let Some(interval) = Reached::next_of(intervals, done, forward) {
            let part = interval.intersection(&stretch);
            if !part.is_empty() {
                let bytes = size_of::<Interval<V>>();
                claim
                    .try_reserve(1)
                    .map_err(|_| Error::OutOfMemory { bytes })?;
                claim.push(part);
            }
            let whole = if forward {
                part.hi == interval.hi
            } else {
                part.lo == interval.lo
            };
            if !whole {
                break;
            }
            done += 1;
        }
        if !forward {
            claim.reverse();
        }
        let page = self.page;
        let at = if forward {
            stretch.hi
        } else {
            Some(stretch.lo)
        };
        let more = at.and_then(|_| Reached::next_of(intervals, done, forward));
        Ok(more.map(|_| Reached { done, at, page }))
    }

    /// The stretch from the near end of `rest` on that is claimed at once: as far
    /// as the leaf there goes, or `count` of its entries. It may go on behind
    /// `rest`.
    fn stretch<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        rest: &Interval<V>,
        forward: bool,
        count: usize,
    ) -> Result<Interval<V>> {
        let target = if forward {
            Target::At(rest.lo)
        } else {
            Target::Below(rest.hi)
        };
        let (guard, header) = self.locate(tree, &target)?;
        let leaf = LeafView::<V>::parse(&guard, guard.block(), header)?;
        let (low, high) = self.remember(&guard, &header);
        let stretch = if forward {
            let hi = earlier(count_up(&leaf, &rest.lo, count)?, high);
            Interval { lo: rest.lo, hi }
        } else {
            let lo = count_down(&leaf, rest.hi.as_ref(), count)?;
            let lo = lo.map_or(low, |lo| lo.max(low));
            Interval { lo, hi: rest.hi }
        };
        // As for a batch: no scan may go in circles because of a damaged page.
        if stretch.is_empty() {
            return Err(leaf.corrupt("entries are out of order"));
        }
        Ok(stretch)
    }
}
