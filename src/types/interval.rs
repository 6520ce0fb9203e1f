//! Sets of positions as sorted, disjoint intervals.

use omen_core::planted;
use omen_core::tree::Interval;
use pgrx::prelude::*;

/// The positions that a scan has to visit.
#[derive(Clone, Debug, Default)]
pub struct ScanIntervals<const V: usize> {
    /// Sorted, disjoint and non-empty intervals, ascending in index order. No
    /// interval: no row satisfies the conditions.
    pub intervals: Vec<Interval<V>>,
    /// The intervals are a superset: the executor has to evaluate the
    /// conditions again for every row (`xs_recheck`).
    pub recheck: bool,
}

impl<const V: usize> ScanIntervals<V> {
    /// No condition yet: all positions.
    pub(super) fn reset(&mut self) {
        self.intervals.clear();
        self.recheck = false;
        reserve(&mut self.intervals, 1);
        self.intervals.push(Interval::ALL);
    }

    /// No row.
    pub(super) fn clear(&mut self) {
        self.intervals.clear();
        self.recheck = false;
    }

    /// Keeps what is in `interval` too.
    pub(super) fn clip(&mut self, interval: &Interval<V>) {
        self.intervals.retain_mut(|each| {
            *each = each.intersection(interval);
            !each.is_empty()
        });
    }

    /// Keeps what is in one of `others` too, which are sorted and disjoint.
    pub(super) fn clip_to_any(&mut self, others: Vec<Interval<V>>) {
        // Both lists are sorted: walk them side by side and advance the one
        // whose interval ends first. Each step adds at most one interval.
        let mut both = Vec::new();
        reserve(&mut both, self.intervals.len().saturating_add(others.len()));
        let mut mine = self.intervals.iter().peekable();
        let mut theirs = others.iter().peekable();
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            let common = a.intersection(b);
            if !common.is_empty() {
                both.push(common);
            }
            if a.hi.is_some_and(|hi| b.hi.is_none_or(|other| hi <= other)) {
                mine.next();
            } else {
                theirs.next();
            }
        }
        self.intervals = both;
    }
}

/// Sorts intervals and joins those that overlap.
pub(super) fn normalise<const V: usize>(intervals: &mut Vec<Interval<V>>) {
    intervals.retain(|interval| !interval.is_empty());
    intervals.sort_unstable_by_key(|interval| interval.lo);
    intervals.dedup_by(|later, earlier| {
        let overlap =
            earlier.hi.is_none_or(|hi| later.lo <= hi) && !planted::is("array_elements_twice");
        if overlap {
            *earlier = earlier.hull(later);
        }
        overlap
    });
}

/// Makes room for `additional` intervals; an ERROR if there is no memory.
/// Rust's own answer to a failed allocation would abort the server.
pub(super) fn reserve<const V: usize>(intervals: &mut Vec<Interval<V>>, additional: usize) {
    if intervals.try_reserve_exact(additional).is_err() {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            "out of memory",
            format!("Failed on {additional} intervals of an omen index scan.")
        );
    }
}
