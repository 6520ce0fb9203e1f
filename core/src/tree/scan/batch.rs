//! The entries of a stretch of one leaf, as a batch.

use super::{FIRST_BATCH, Scan};
use crate::codec::MAX_VALUES;
use crate::error::Result;
use crate::key::Pos;
use crate::page::{BlockView, LeafView};
use crate::planted;
use crate::tree::interval::Interval;

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
                        self.batch.push(Pos { tid, ..from });
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
                let some = (self.want - self.batch.len()).min(MAX_VALUES);
                let count = view.decode(at, to.min(at + some), &mut self.columns);
                self.take(&view, at, count);
                at += count.max(1);
                if self.batch.len() >= self.want
                    && (at < to || !behind)
                    && let Some(last) = self.batch.last()
                {
                    return Ok(Some(last.next()));
                }
            }
        }
        Ok(end)
    }

    /// Adds the entries that were decoded from `at` on, without those that are gone.
    fn take(&mut self, view: &BlockView<'_, V>, at: usize, count: usize) {
        let decoded = self.columns.entries(count);
        if view.has_survivor_bitmap() {
            let left = decoded.enumerate().filter(|(i, _)| view.survives(at + i));
            self.batch.extend(left.map(|(_, pos)| pos));
        } else {
            self.batch.extend(decoded);
        }
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
                    let skip = planted::is("backward_skips_bound") && self.want == FIRST_BATCH;
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
                let some = (self.want - self.batch.len()).min(MAX_VALUES);
                let at = to.saturating_sub(some).max(from);
                let count = view.decode(at, to, &mut self.columns);
                for i in (0..count).rev() {
                    if view.survives(at + i) {
                        self.batch.push(self.columns.pos(i));
                    }
                }
                to = at;
                if self.batch.len() >= self.want && (to > from || (index > 0 && first > start)) {
                    cut = self.batch.last().copied();
                    break 'blocks;
                }
            }
            if index == 0 || first <= start {
                break;
            }
            index -= 1;
        }
        self.batch.reverse();
        Ok(cut.unwrap_or(start))
    }

    /// Merges the delta area's entries of the covered stretch into the batch.
    pub(super) fn merge_delta(&mut self, leaf: &LeafView<'_, V>, covered: &Interval<V>) {
        let sorted = self.batch.len();
        for index in 0..leaf.delta_len() {
            let pos = leaf.delta(index);
            let inside = covered.lo <= pos && covered.hi.is_none_or(|hi| pos < hi);
            // The capacity was reserved before the page was locked.
            if inside && self.batch.len() < self.batch.capacity() {
                self.batch.push(pos);
            }
        }
        let mut fresh = self.batch.len() - sorted;
        if fresh == 0 {
            return;
        }
        let mut delta = [Pos::MIN; 64];
        if fresh > delta.len() {
            self.batch.sort_unstable();
            return;
        }
        delta[..fresh].copy_from_slice(&self.batch[sorted..]);
        delta[..fresh].sort_unstable();
        let mut old = sorted;
        for at in (0..sorted + fresh).rev() {
            if fresh == 0 {
                break;
            }
            if old > 0 && self.batch[old - 1] > delta[fresh - 1] {
                old -= 1;
                self.batch[at] = self.batch[old];
            } else {
                fresh -= 1;
                self.batch[at] = delta[fresh];
            }
        }
    }
}
