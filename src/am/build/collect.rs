//! Scanning a table for the entries of an index.

use core::ffi::c_void;

use omen_core::Result;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::load::{Counts, Sorted};
use super::sort::Sorter;
use crate::am::state::{key_type, ordering};
use crate::am::tuple::tid_of;
use crate::storage::{in_index, index_name};
use crate::types::KeyCodec;

/// Part of the memory for NULLs; the rest is for values.
const NULL_SHARE: usize = 8;

/// What the scan of the table collects.
pub(super) struct Collector<const V: usize> {
    codec: KeyCodec<V>,
    values: Sorter<V>,
    /// NULLs have no lanes: only their TIDs differ.
    nulls: Sorter<0>,
}

impl<const V: usize> Collector<V> {
    /// A collector that takes one of `shares` equal shares of
    /// `maintenance_work_mem`.
    ///
    /// # Safety
    /// `index` is an open omen index of `V` lanes.
    pub unsafe fn new(index: pg_sys::Relation, shares: usize) -> Self {
        // SAFETY: the caller's promise.
        let (key_type, ordering, kilobytes) = unsafe {
            let kilobytes = pg_sys::maintenance_work_mem;
            (key_type(index), ordering(index), kilobytes)
        };
        let kilobytes = usize::try_from(kilobytes).unwrap_or(0);
        let bytes = kilobytes.saturating_mul(1024) / shares.max(1);
        Self {
            codec: KeyCodec { key_type, ordering },
            values: Sorter::new(bytes - bytes / NULL_SHARE),
            nulls: Sorter::new(bytes / NULL_SHARE),
        }
    }

    /// Collects from the whole table, or from this process' part of a parallel
    /// scan, which ends here. Returns the rows seen.
    ///
    /// # Safety
    /// As for `ambuild`; `parallel` is NULL or such a scan of the table.
    pub unsafe fn scan(
        &mut self,
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        info: *mut pg_sys::IndexInfo,
        parallel: pg_sys::TableScanDesc,
        progress: bool,
    ) -> f64 {
        let state = (&raw mut *self).cast();
        let callback = Some(on_row::<V> as _);
        // SAFETY: the caller's promise; the callback gets the collector it expects.
        unsafe { scan_rows(heap, index, info, parallel, progress, callback, state) }
    }

    /// Puts the entries in order.
    pub fn sort(self) -> Result<Sorted<V>> {
        let (values, nulls) = (self.values.count(), self.nulls.count());
        Ok(Sorted {
            codec: self.codec,
            counts: Counts { values, nulls },
            values: self.values.finish()?,
            nulls: self.nulls.finish()?,
        })
    }

    /// # Safety
    /// `datum` is NULL or a value of the key's type.
    unsafe fn add(&mut self, datum: pg_sys::Datum, is_null: bool, tid: u64) -> Result<()> {
        if is_null {
            return self.nulls.add(([], tid));
        }
        // SAFETY: the caller's promise.
        let pos = unsafe { self.codec.encode(datum, false, tid) };
        self.values.add((pos.vals, tid))
    }
}

/// Called for every row of the table that is to be indexed.
#[pg_guard]
unsafe extern "C-unwind" fn on_row<const V: usize>(
    index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _tuple_is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: `state` is the collector that `build` passed on, which is used
    // by nobody else during the scan; there is one value, of the key's type.
    unsafe {
        let collector = &mut *state.cast::<Collector<V>>();
        let added = collector.add(*values, *isnull, tid_of(&*tid));
        in_index(index, added);
    }
}

/// Passes the rows that `snapshot` sees to `callback`.
///
/// # Safety
/// As for `ambuild`; the snapshot is registered, and `state` is what `callback`
/// expects.
pub(crate) unsafe fn scan_snapshot(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    snapshot: pg_sys::Snapshot,
    callback: pg_sys::IndexBuildCallback,
    state: *mut c_void,
) {
    // `table_beginscan_strat`, an inline function too.
    use pg_sys::ScanOptions::{SO_ALLOW_PAGEMODE, SO_ALLOW_STRAT, SO_ALLOW_SYNC, SO_TYPE_SEQSCAN};
    let flags = SO_TYPE_SEQSCAN | SO_ALLOW_PAGEMODE | SO_ALLOW_STRAT | SO_ALLOW_SYNC;
    let none = core::ptr::null_mut();
    // SAFETY: the caller's promise. The scan is ended by the function it is
    // passed to.
    unsafe {
        let Some(begin) = (*(*heap).rd_tableam).scan_begin else {
            error!("table \"{}\" cannot be scanned", index_name(heap));
        };
        let scan = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            begin(heap, snapshot, 0, none, core::ptr::null_mut(), flags)
        });
        scan_rows(heap, index, info, scan, false, callback, state);
    }
}

/// `table_index_build_scan`, an inline function of PostgreSQL. Returns the rows
/// seen.
///
/// # Safety
/// As for [`scan_snapshot`]; `table_scan` is NULL or a scan of the table, which
/// ends here.
unsafe fn scan_rows(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    table_scan: pg_sys::TableScanDesc,
    progress: bool,
    callback: pg_sys::IndexBuildCallback,
    state: *mut c_void,
) -> f64 {
    // SAFETY: the caller's promise. An ERROR of the scan is caught at this
    // boundary, and unwinds from here.
    unsafe {
        let Some(scan) = (*(*heap).rd_tableam).index_build_range_scan else {
            error!("table \"{}\" cannot be scanned", index_name(heap));
        };
        let (sync, any_visible) = (true, false);
        let all = pg_sys::InvalidBlockNumber;
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            scan(
                heap,
                index,
                info,
                sync,
                any_visible,
                progress,
                0,
                all,
                callback,
                state,
                table_scan,
            )
        })
    }
}
