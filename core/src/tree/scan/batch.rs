//! The entries of a stretch of one leaf, as a batch.

use super::{FIRST_BETWEEN, Scan};
use crate::error::{Error, Result};
use crate::key::{Pos, Tid};
use crate::page::{BlockView, Columns, LeafView, MAX_DELTA};
use crate::planted;
use crate::tree::interval::Interval;

/// Entries in order, column by column.
pub struct Batch<const V: usize> {
    /// Each as long as there is room; what is behind `len` has no meaning.
    ranks: Vec<u64>,
    vals: [Vec<u64>; V],
    tids: Vec<Tid>,
    len: usize,
}

impl<const V: usize> Batch<V> {
    pub(super) const EMPTY: Self = Self {
        ranks: Vec::new(),
        vals: [const { Vec::new() }; V],
        tids: Vec::new(),
        len: 0,
    };

    /// Entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The null ranks of the entries, ascending.
    #[must_use]
    pub fn ranks(&self) -> &[u64] {
        self.ranks.get(..self.len).unwrap_or_default()
    }

    /// The values of a lane. Empty for one that there is not.
    #[must_use]
    pub fn vals(&self, lane: usize) -> &[u64] {
        let vals = self.vals.get(lane).and_then(|vals| vals.get(..self.len));
        vals.unwrap_or_default()
    }

    /// The heap TIDs of the entries.
    #[must_use]
    pub fn tids(&self) -> &[Tid] {
        self.tids.get(..self.len).unwrap_or_default()
    }

    /// The entry at `i`.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Pos<V>> {
        (i < self.len).then(|| Pos {
            rank: self.ranks[i],
            vals: core::array::from_fn(|lane| self.vals[lane][i]),
            tid: self.tids[i],
        })
    }

    pub(super) fn last(&self) -> Option<Pos<V>> {
        self.get(self.len.wrapping_sub(1))
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes room for as many entries. What is added beyond is lost, so there has to
    /// be enough.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn reserve(&mut self, room: usize) -> Result<()> {
        if room <= self.tids.len() {
            return Ok(());
        }
        let columns = self
            .vals
            .iter_mut()
            .chain([&mut self.ranks, &mut self.tids]);
        for column in columns {
            // One that grew before memory was short may be longer.
            let more = room.saturating_sub(column.len());
            column
                .try_reserve_exact(more)
                .map_err(|_| Error::OutOfMemory {
                    bytes: more * size_of::<u64>(),
                })?;
            column.resize(column.len() + more, 0);
        }
        Ok(())
    }

    fn set(&mut self, i: usize, pos: &Pos<V>) {
        self.ranks[i] = pos.rank;
        for (vals, val) in self.vals.iter_mut().zip(pos.vals) {
            vals[i] = val;
        }
        self.tids[i] = pos.tid;
    }

    #[inline]
    fn push(&mut self, pos: &Pos<V>) {
        debug_assert!(self.len < self.tids.len(), "no room in the batch");
        if self.len < self.tids.len() {
            self.set(self.len, pos);
            self.len += 1;
        }
    }

    /// Adds the TIDs at `from..to` of a block, without those that are gone.
    fn add_tids(&mut self, view: &BlockView<'_, V>, from: usize, to: usize) {
        let start = self.len;
        let end = (start + (to - from)).min(self.tids.len());
        view.decode_tids(from, &mut self.tids[start..end]);
        self.len = end;
        if view.has_survivor_bitmap() && !planted::is("dead_tid_returned") {
            self.len = start;
            for i in (start..end).filter(|i| view.survives(from + i - start)) {
                self.tids[self.len] = self.tids[i];
                self.len += 1;
            }
        }
    }

    /// Adds the entries at `from..to` of a block, without those that are gone.
    fn add(&mut self, view: &BlockView<'_, V>, from: usize, to: usize) {
        let start = self.len;
        let end = (start + (to - from)).min(self.tids.len());
        view.decode_into(
            from,
            Columns {
                ranks: &mut self.ranks[start..end],
                vals: self.vals.each_mut().map(|vals| &mut vals[start..end]),
                tids: &mut self.tids[start..end],
            },
        );
        self.len = end;
        if view.has_survivor_bitmap() {
            self.len = start;
            for i in (start..end).filter(|i| view.survives(from + i - start)) {
                self.move_to(self.len, i);
                self.len += 1;
            }
        }
    }

    /// Takes out the entries of rows that `gone` names.
    pub(super) fn remove(&mut self, gone: impl Fn(Tid) -> bool) {
        let all = self.len;
        let Some(first) = self.tids().iter().position(|tid| gone(*tid)) else {
            return;
        };
        self.len = first;
        for i in first + 1..all {
            if !gone(self.tids[i]) {
                self.move_to(self.len, i);
                self.len += 1;
            }
        }
    }

    /// Copies the entry at `from` to `to`.
    fn move_to(&mut self, to: usize, from: usize) {
        self.ranks[to] = self.ranks[from];
        for vals in &mut self.vals {
            vals[to] = vals[from];
        }
        self.tids[to] = self.tids[from];
    }

    /// As [`Self::add`], the last entry first.
    fn add_backward(&mut self, view: &BlockView<'_, V>, from: usize, to: usize) {
        let start = self.len;
        self.add(view, from, to);
        self.reverse(start);
    }

    /// Turns the order of the entries from `start` on round.
    fn reverse(&mut self, start: usize) {
        let columns = self
            .vals
            .iter_mut()
            .chain([&mut self.ranks, &mut self.tids]);
        for column in columns {
            column[start..self.len].reverse();
        }
    }

    /// Merges the last entries, from `sorted` on and in any order, into those before.
    fn merge(&mut self, sorted: usize) {
        let mut left = self.len - sorted;
        let mut fresh = [Pos::MIN; MAX_DELTA];
        for (i, pos) in fresh[..left].iter_mut().enumerate() {
            *pos = self.get(sorted + i).unwrap_or(Pos::MIN);
        }
        fresh[..left].sort_unstable();
        let mut old = sorted;
        for at in (0..self.len).rev() {
            if left == 0 {
                break;
            }
            if old > 0 && self.get(old - 1) > Some(fresh[left - 1]) {
                old -= 1;
                self.move_to(at, old);
            } else {
                left -= 1;
                self.set(at, &fresh[left]);
            }
        }
    }
}

impl<P, const V: usize> Scan<P, V> {
    /// Takes the first entries of blocks in `from..end`. Returns up to where
    /// the batch covers the page: `end`, or behind the last entry taken.
    pub(super) fn collect_forward(
        &mut self,
        leaf: &LeafView<'_, V>,
        from: Pos<V>,
        end: Option<Pos<V>>,
    ) -> Result<Option<Pos<V>>> {
        if leaf.blocks() == 0 {
            return Ok(end);
        }
        let first = leaf.find(&from);
        // One key: most keys have one entry.
        let point = from.tid == 0 && end == Some(from.key_end());
        for index in first..leaf.blocks() {
            let behind = index + 1 == leaf.blocks();
            if index > first
                && end.is_some_and(|end| end <= leaf.dir(index).map_or(end, |d| d.first))
            {
                break;
            }
            let view = leaf.view(index)?;
            let (mut at, mut to) = (0, view.len());
            if point && index == first {
                (at, to) = view.equal_range(&from);
                if to == at + 1 {
                    if view.survives(at) || planted::is("dead_entry_returned") {
                        let tid = view.tid(at);
                        self.batch.push(&Pos { tid, ..from });
                    }
                    at = to;
                }
            } else {
                if index == first {
                    at = view.lower_bound(&from);
                }
                if let Some(end) = end
                    && (behind || leaf.dir(index + 1)?.first > end)
                {
                    to = view.lower_bound(&end);
                }
            }
            while at < to {
                let some = to.min(at + (self.want - self.batch.len()));
                if self.tids_only {
                    self.batch.add_tids(&view, at, some);
                } else {
                    self.batch.add(&view, at, some);
                }
                at = some;
                if self.batch.len() >= self.want && (at < to || !behind) {
                    return Ok(Some(view.pos(at - 1).next()));
                }
            }
        }
        Ok(end)
    }

    /// As [`Scan::collect_forward`], from the other end.
    pub(super) fn collect_backward(
        &mut self,
        leaf: &LeafView<'_, V>,
        start: Pos<V>,
        end: Option<Pos<V>>,
    ) -> Result<Pos<V>> {
        if leaf.blocks() == 0 {
            return Ok(start);
        }
        let mut index = match end {
            Some(end) => leaf.find(&end),
            None => leaf.blocks() - 1,
        };
        let mut cut = None;
        let mut nearest = true;
        'blocks: loop {
            let first = leaf.dir(index)?.first;
            let view = leaf.view(index)?;
            let mut to = match end {
                Some(end) if nearest => {
                    let to = view.lower_bound(&end);
                    let skip = planted::is("backward_skips_bound") && self.want <= FIRST_BETWEEN;
                    to.saturating_sub(usize::from(skip))
                }
                _ => view.len(),
            };
            nearest = false;
            let from = if first >= start {
                0
            } else {
                view.lower_bound(&start)
            };
            while to > from {
                let some = self.want - self.batch.len();
                let at = to.saturating_sub(some).max(from);
                self.batch.add_backward(&view, at, to);
                to = at;
                if self.batch.len() >= self.want && (to > from || (index > 0 && first > start)) {
                    cut = self.batch.last();
                    break 'blocks;
                }
            }
            if index == 0 || first <= start {
                break;
            }
            index -= 1;
        }
        self.batch.reverse(0);
        Ok(cut.unwrap_or(start))
    }

    /// Merges the delta area's entries of the covered stretch into the batch, but for
    /// those of `dead` rows (ascending).
    pub(super) fn merge_delta(
        &mut self,
        leaf: &LeafView<'_, V>,
        covered: &Interval<V>,
        dead: &[Tid],
    ) {
        let sorted = self.batch.len();
        for index in 0..leaf.delta_len() {
            let pos = leaf.delta(index);
            let inside = covered.lo <= pos && covered.hi.is_none_or(|hi| pos < hi);
            // The room was reserved before the page was locked.
            if inside && dead.binary_search(&pos.tid).is_err() {
                self.batch.push(&pos);
            }
        }
        if self.batch.len() > sorted && !self.tids_only {
            self.batch.merge(sorted);
        }
    }
}
