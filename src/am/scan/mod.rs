//! Scans: rows one by one in either direction, or all of them as a bitmap.

mod callbacks;
mod heap_pages;
mod map_pages;
mod ready;

use std::rc::Rc;

use omen_core::Result;
use omen_core::key::Pos;
use omen_core::store::PageStore;
use omen_core::tree::{Interval, Mark, Scan, Tree};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::am::bitmap::Bitmap;
use crate::am::kill;
use crate::am::parallel::Participant;
use crate::am::state::IndexState;
use crate::am::tuple::{BatchTuples, IntegerTuple, TupleBuffer, pointer_of};
use crate::storage::{PgStore, Pin, in_index};
use crate::types::ScanIntervals;
use heap_pages::HeapPages;
use map_pages::MapPages;

pub(super) use callbacks::{
    ambeginscan, amendscan, amgetbitmap, amgettuple, ammarkpos, amrescan, amrestrpos,
};
#[cfg(any(test, feature = "pg_test"))]
pub(super) use heap_pages::seen;

type Descriptor = pg_sys::IndexScanDescData;

/// What the callbacks do with a scan, whatever the lanes of its index.
trait AnyScan {
    /// Starts over with the conditions in `scan.keyData`.
    unsafe fn rescan(&mut self, scan: &mut Descriptor);
    /// Moves to the next row, and puts it into `scan`.
    unsafe fn next(&mut self, scan: &mut Descriptor, forward: bool) -> bool;
    /// Asks for the pages of rows to come.
    unsafe fn look_ahead(&mut self, scan: &Descriptor, forward: bool);
    /// Whether the scan stands on a row.
    fn on_row(&self) -> bool;
    /// Adds all rows to a bitmap, and returns their number.
    unsafe fn bitmap(&mut self, scan: &mut Descriptor, bitmap: Bitmap) -> i64;
    /// Remembers what was noted as dead, and drops it if it is much.
    unsafe fn settle_killed(&mut self, scan: &Descriptor);
    /// Moves over the next rows of the batch in hand. Cannot fail.
    fn step_ahead(&mut self, steps: usize);
    /// As [`Self::step_ahead`], and remembers the row that it comes to. Cannot fail.
    fn mark(&mut self, steps: usize);
    /// Goes back to the mark, if that needs nothing but the memory of the scan, and
    /// says whether it did. Cannot fail.
    fn step_back(&mut self) -> bool;
    /// Goes back to the mark, wherever it is.
    unsafe fn restore(&mut self, scan: &mut Descriptor);
}

/// A scan of an index of `V` lanes.
struct OmenScan<const V: usize> {
    state: Rc<IndexState<V>>,
    scan: Scan<Pin, V>,
    /// What the conditions are resolved into.
    resolved: ScanIntervals<V>,
    mark: Option<Mark<V>>,
    /// The first row has been asked for since the last rescan.
    started: bool,
    /// The page of the current row stays pinned, so that VACUUM cannot remove
    /// the row meanwhile: the snapshot alone does not protect it.
    keep_pin: bool,
    tuple: TupleBuffer,
    /// Of the batch in hand.
    tuples: BatchTuples,
    heap_pages: HeapPages,
    map_pages: MapPages,
    /// The place in the batch at which a step forwards has to look ahead first.
    look_at: usize,
    /// The place up to which steps have been counted for that.
    counted: usize,
}

impl<const V: usize> OmenScan<V> {
    fn new(state: Rc<IndexState<V>>) -> Self {
        Self {
            tuple: TupleBuffer::new(&state.codec),
            tuples: BatchTuples::new(&state.codec),
            state,
            scan: Scan::new(),
            resolved: ScanIntervals::default(),
            mark: None,
            started: false,
            keep_pin: false,
            heap_pages: HeapPages::default(),
            map_pages: MapPages::default(),
            look_at: 0,
            counted: 0,
        }
    }

    /// The store of a scan.
    ///
    /// # Safety
    /// The scan's index and snapshot are valid.
    #[inline]
    unsafe fn store<'a>(state: &'a IndexState<V>, scan: &Descriptor) -> PgStore<'a> {
        // SAFETY: the caller's promise.
        unsafe { PgStore::new(scan.indexRelation, &state.known).for_scan(scan.xs_snapshot) }
    }

    /// Decides what depends on fields that the executor sets after
    /// `ambeginscan`.
    #[cold]
    unsafe fn start(&mut self, scan: &mut Descriptor) {
        self.started = true;
        // SAFETY: the snapshot is valid during the scan.
        self.keep_pin = scan.xs_want_itup || unsafe { !is_mvcc(scan.xs_snapshot) };
        let first = self.resolved.intervals.first();
        let bounded = first.is_some_and(Interval::is_between);
        self.heap_pages.restart(!scan.xs_want_itup, bounded);
        // SAFETY: the index is open.
        unsafe { count_scan(scan) };
    }

    /// Puts the row of an entry into `scan`. True.
    #[inline]
    fn put(&mut self, scan: &mut Descriptor, pos: &Pos<V>) -> bool {
        scan.xs_heaptid = pointer_of(pos.tid);
        scan.xs_recheck = self.resolved.recheck;
        if scan.xs_want_itup {
            scan.xs_itup = self.tuple.form(&self.state.codec, pos);
        }
        true
    }

    /// Tells the lookahead of the steps that have been taken.
    #[inline]
    fn count_steps(&mut self) {
        let ahead = self.scan.ahead();
        let steps = ahead.saturating_sub(self.counted);
        self.heap_pages.lookahead.step(steps);
        self.counted = ahead;
    }

    /// Whether pages of rows to come are to be asked for before the next step.
    #[inline]
    fn is_look_due(&mut self, forward: bool) -> bool {
        self.count_steps();
        self.heap_pages.lookahead.is_due() && !self.scan.coming(forward).is_empty()
    }

    /// To be called before the batch is another; then `counted` has to be set.
    fn leave_batch(&mut self) {
        self.count_steps();
        self.tuples.clear();
        self.heap_pages.lookahead.enter();
    }

    /// The tuples of the next entries forwards that are formed, as far as they may be
    /// handed out without a look ahead.
    #[inline]
    fn ready(&self) -> &[IntegerTuple] {
        self.tuples.get(self.scan.ahead()..self.look_at)
    }

    /// As `next`, if that needs nothing but the memory of the scan, and notes before
    /// if the row that it stands on is dead to everybody. Cannot fail. `None`: it needs
    /// more.
    #[inline]
    fn step(&mut self, scan: &mut Descriptor, forward: bool) -> Option<bool> {
        if scan.kill_prior_tuple {
            self.scan.kill();
        }
        if let Some(pos) = self.scan.step(forward) {
            if forward {
                let left = self.heap_pages.lookahead.left();
                self.look_at = self.counted.saturating_add(left);
            } else {
                self.heap_pages.lookahead.step(1);
                self.counted = self.scan.ahead();
            }
            // A step in a batch is not the last, mostly.
            if forward {
                self.tuples.form(self.scan.batch(), self.scan.ahead());
            }
            return Some(self.put(scan, &pos));
        }
        // What a process has claimed of a parallel scan is not all.
        let alone = scan.parallel_scan.is_null();
        let ended = forward && alone && self.scan.end(&self.resolved.intervals);
        if ended {
            self.tuples.clear();
            self.map_pages.release();
        }
        ended.then_some(false)
    }

    /// Moves to the next entry; `part` is this process's in a parallel scan.
    #[inline]
    fn advance(
        &mut self,
        store: &PgStore<'_>,
        part: Option<&Participant<V>>,
        forward: bool,
    ) -> Result<Option<Pos<V>>> {
        self.leave_batch();
        let tree = Tree::new(store, &self.state.router);
        let intervals = &self.resolved.intervals;
        let found = match part {
            None => self.scan.next(&tree, intervals, forward, self.keep_pin),
            Some(part) => self
                .scan
                .next_shared(&tree, intervals, forward, self.keep_pin, part),
        };
        self.counted = self.scan.ahead();
        self.heap_pages.lookahead.step(1);
        found
    }
}

impl<const V: usize> AnyScan for OmenScan<V> {
    unsafe fn rescan(&mut self, scan: &mut Descriptor) {
        self.leave_batch();
        self.scan.restart();
        self.map_pages.release();
        self.counted = 0;
        self.mark = None;
        self.started = false;
        let count = usize::try_from(scan.numberOfKeys).unwrap_or(0);
        let keys = if count == 0 {
            &[]
        } else {
            // SAFETY: RelationGetIndexScan has made room for that many keys,
            // and amrescan has filled it.
            unsafe { core::slice::from_raw_parts(scan.keyData, count) }
        };
        // SAFETY: the keys are those that the executor gave to amrescan.
        unsafe { self.state.codec.resolve_into(keys, &mut self.resolved) };
    }

    #[inline]
    unsafe fn next(&mut self, scan: &mut Descriptor, forward: bool) -> bool {
        let first = !self.started;
        if first {
            // SAFETY: the caller's promise.
            unsafe { self.start(scan) };
        }
        let state = Rc::clone(&self.state);
        // SAFETY: the index is open, and the snapshot valid, during the scan.
        let store = unsafe { Self::store(&state, scan) };
        // SAFETY: the scan is of this index.
        let part = unsafe { Participant::of(scan) };
        let mut found = self.advance(&store, part.as_ref(), forward);
        if self.scan.killed() > 0 && self.scan.has_left_killed() && found.is_ok() {
            // SAFETY: as above.
            unsafe { self.settle_killed(scan) };
        }
        if first && found.is_ok() {
            found = state.warn_of_damage(&store).and(found);
        }
        match found {
            // A query that wants few rows has them with the first batch.
            Ok(Some(_)) if scan.xs_want_itup && !first => {
                let rows = self.scan.coming(forward);
                // SAFETY: the table is open during the scan, and no page is locked.
                unsafe { self.map_pages.hold(scan.heapRelation, rows, forward) };
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.map_pages.release(),
        }
        // SAFETY: the index is open.
        match unsafe { in_index(scan.indexRelation, found) } {
            Some(pos) => self.put(scan, &pos),
            None => false,
        }
    }

    unsafe fn look_ahead(&mut self, scan: &Descriptor, forward: bool) {
        // SAFETY: the table is open during the scan.
        unsafe { self.heap_pages.look(scan, &self.scan, forward) };
    }

    fn on_row(&self) -> bool {
        self.scan.current().is_some()
    }

    unsafe fn bitmap(&mut self, scan: &mut Descriptor, mut bitmap: Bitmap) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { self.start(scan) };
        let state = Rc::clone(&self.state);
        // SAFETY: the index is open, and the snapshot valid, during the scan.
        let store = unsafe { Self::store(&state, scan) };
        let recheck = self.resolved.recheck;
        self.heap_pages.restart_bitmap();
        let mut add_all = || -> Result<()> {
            // One process makes the bitmap.
            let tree = Tree::new(&store, &state.router);
            loop {
                let tids = self.scan.next_tids(&tree, &self.resolved.intervals)?;
                if tids.is_empty() {
                    break;
                }
                bitmap.add(tids, recheck);
                self.heap_pages.note_for_bitmap(tids);
                store.breathe()?;
            }
            // SAFETY: the executor has opened index and table.
            unsafe { self.heap_pages.look_for_bitmap(scan) };
            state.warn_of_damage(&store)
        };
        let added = add_all();
        // SAFETY: the index is open.
        unsafe { in_index(scan.indexRelation, added) };
        bitmap.added()
    }

    unsafe fn settle_killed(&mut self, scan: &Descriptor) {
        if self.scan.killed() == 0 {
            return;
        }
        let (index, heap) = (scan.indexRelation, scan.heapRelation);
        // SAFETY: both are open, to the end of the scan at least.
        unsafe {
            let dropped = kill::settle(&self.state, &mut self.scan, index, heap);
            in_index(index, dropped);
        }
    }

    fn step_ahead(&mut self, steps: usize) {
        self.scan.step_ahead(steps);
    }

    fn mark(&mut self, steps: usize) {
        self.scan.step_ahead(steps);
        self.mark = Some(self.scan.mark());
    }

    fn step_back(&mut self) -> bool {
        let mark = self.mark.as_ref();
        mark.is_some_and(|mark| self.scan.step_back(mark))
    }

    unsafe fn restore(&mut self, scan: &mut Descriptor) {
        let Some(mark) = self.mark else { return };
        if !scan.parallel_scan.is_null() {
            error!("omen: a parallel scan cannot go back to a mark");
        }
        let state = Rc::clone(&self.state);
        // SAFETY: the index is open, and the snapshot valid, during the scan.
        let store = unsafe { Self::store(&state, scan) };
        let tree = Tree::new(&store, &state.router);
        self.leave_batch();
        let restored = self
            .scan
            .restore(&tree, &self.resolved.intervals, &mark, self.keep_pin);
        self.counted = self.scan.ahead();
        // SAFETY: the index is open.
        unsafe { in_index(scan.indexRelation, restored) };
    }
}

/// `IsMVCCSnapshot`. A scan without a snapshot is not known to be safe.
///
/// # Safety
/// `snapshot` is NULL or valid.
unsafe fn is_mvcc(snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's promise.
    unsafe { snapshot.as_ref() }.is_some_and(|snapshot| {
        matches!(
            snapshot.snapshot_type,
            pg_sys::SnapshotType::SNAPSHOT_MVCC | pg_sys::SnapshotType::SNAPSHOT_HISTORIC_MVCC
        )
    })
}

/// `pgstat_count_index_scan`.
///
/// # Safety
/// The scan's index is open.
unsafe fn count_scan(scan: &mut Descriptor) {
    // SAFETY: the relation cache keeps the pointer right or NULL.
    unsafe {
        let index = scan.indexRelation;
        #[cfg(not(feature = "pg14"))]
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        if let Some(info) = (*index).pgstat_info.as_mut() {
            #[cfg(any(feature = "pg14", feature = "pg15"))]
            {
                info.t_counts.t_numscans += 1;
            }
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            {
                info.counts.numscans += 1;
            }
        }
        #[cfg(feature = "pg18")]
        if let Some(instrument) = scan.instrument.as_mut() {
            instrument.nsearches += 1;
        }
    }
}
