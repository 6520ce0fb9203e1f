//! Building an index: scan the table, sort, write pages in order, log them.

use core::ffi::{CStr, c_char, c_void};

use omen_core::key::Pos;
use omen_core::tree::{BulkLoader, BulkOptions, BulkResult, PageSink};
use omen_core::{Error, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::options::Options;
use super::sort::Sorter;
use super::state::{forget, key_type, ordering, ordering_code};
use super::tuple::tid_of;
use super::{batch, by_lanes};
use crate::storage::{EmptyFork, NewFork, in_index, index_name};
use crate::types::KeyCodec;

/// Part of `maintenance_work_mem` for NULLs; the rest is for values.
const NULL_SHARE: usize = 8;
/// Entries loaded between two reports of progress.
const REPORT_EVERY: u64 = 1 << 14;

/// Phases of a build in `pg_stat_progress_create_index`.
#[derive(Clone, Copy)]
#[repr(i64)]
enum Phase {
    Scan = 2,
    Sort = 3,
    Load = 4,
    Train = 5,
}

fn report(parameter: u32, value: i64) {
    // SAFETY: only writes to this backend's status.
    unsafe { pg_sys::pgstat_progress_update_param(parameter.cast_signed(), value) };
}

fn enter(phase: Phase) {
    report(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, phase as i64);
}

/// `ambuildphasename`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut c_char {
    let name: &'static CStr = match phase {
        1 => c"initializing",
        2 => c"scanning table",
        3 => c"sorting",
        4 => c"loading entries",
        5 => c"training model",
        _ => return core::ptr::null_mut(),
    };
    name.as_ptr().cast_mut()
}

/// What the scan of the table collects.
struct Collector<const V: usize> {
    codec: KeyCodec<V>,
    values: Sorter<V>,
    /// NULLs have no lanes: only their TIDs differ.
    nulls: Sorter<0>,
}

impl<const V: usize> Collector<V> {
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

/// `ambuild`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn ambuild(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: the callback's contract: both relations are open, and nobody
    // else uses the index.
    unsafe {
        forget(index);
        batch::forget(index);
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        if pg_sys::RelationGetNumberOfBlocksInFork(index, fork) != 0 {
            error!("index \"{}\" already contains data", index_name(index));
        }
        check_class(index);
        let lanes = key_type(index).lanes();
        let (heap_tuples, built) = by_lanes!(lanes, build(heap, index, info));
        let result = pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>())
            .cast::<pg_sys::IndexBuildResult>();
        (*result).heap_tuples = heap_tuples;
        (*result).index_tuples = built.entries as f64;
        result
    }
}

/// Raises an ERROR if the index's operator class orders values otherwise than
/// btree's default class for the type does: the lanes of a key are in that
/// order, whatever functions a class names.
///
/// # Safety
/// `index` is open.
unsafe fn check_class(index: pg_sys::Relation) {
    // SAFETY: an index has one key column at least; the rest are look-ups in
    // the system catalogs.
    unsafe {
        let (family, key) = (*(*index).rd_opfamily, *(*index).rd_opcintype);
        let btree = pg_sys::BTREE_AM_OID;
        let model = pg_sys::get_opclass_family(pg_sys::GetDefaultOpClass(key, btree));
        for strategy in 1..=5 {
            let own = pg_sys::get_opfamily_member(family, key, key, strategy);
            let right = pg_sys::get_opfamily_member(model, key, key, strategy);
            if own != pg_sys::InvalidOid && own != right {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
                    format!(
                        "operator class of index \"{}\" does not order values as btree does",
                        index_name(index)
                    ),
                    "Use the default operator class of access method \"omen\" for the type."
                );
            }
        }
    }
}

/// Scans, sorts and loads. Returns the rows scanned and what was built.
///
/// # Safety
/// As for `ambuild`; `index` has `V` lanes.
unsafe fn build<const V: usize>(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> (f64, BulkResult) {
    // SAFETY: the caller's promise.
    unsafe {
        let key_type = key_type(index);
        let ordering = ordering(index);
        let kilobytes = usize::try_from(pg_sys::maintenance_work_mem).unwrap_or(0);
        let bytes = kilobytes.saturating_mul(1024);
        let mut collector = Collector::<V> {
            codec: KeyCodec { key_type, ordering },
            values: Sorter::new(bytes - bytes / NULL_SHARE),
            nulls: Sorter::new(bytes / NULL_SHARE),
        };
        enter(Phase::Scan);
        let state = (&raw mut collector).cast();
        let heap_tuples = scan_table(heap, index, info, Some(on_row::<V>), state);
        let loaded = load(collector, NewFork::new(index), bulk_options(index));
        let (built, fork) = in_index(index, loaded);
        fork.log();
        (heap_tuples, built)
    }
}

/// `table_index_build_scan`, an inline function of PostgreSQL.
///
/// # Safety
/// As for `ambuild`; `state` is what `callback` expects.
unsafe fn scan_table(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    callback: pg_sys::IndexBuildCallback,
    state: *mut c_void,
) -> f64 {
    let scan = core::ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { scan_rows(heap, index, info, scan, callback, state) }
}

/// The same with the rows that `snapshot` sees.
///
/// # Safety
/// As for [`scan_table`]; the snapshot is registered.
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
        scan_rows(heap, index, info, scan, callback, state);
    }
}

/// # Safety
/// As for [`scan_table`]; `scan` is NULL or a scan of the table, which ends here.
unsafe fn scan_rows(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    table_scan: pg_sys::TableScanDesc,
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
        let progress = table_scan.is_null();
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

/// # Safety
/// `index` is an open omen index.
unsafe fn bulk_options(index: pg_sys::Relation) -> BulkOptions {
    // SAFETY: the caller's promise.
    unsafe {
        let options = Options::of(index);
        BulkOptions {
            fillfactor: options.fillfactor,
            model: options.model,
            key_code: key_type(index).code(),
            ordering: ordering_code(ordering(index)),
        }
    }
}

/// Sorts what was collected and loads it into a new tree.
fn load<const V: usize, K: PageSink>(
    collector: Collector<V>,
    sink: K,
    options: BulkOptions,
) -> Result<(BulkResult, K)> {
    let Collector {
        codec,
        mut values,
        mut nulls,
    } = collector;
    enter(Phase::Sort);
    values.prepare()?;
    nulls.prepare()?;

    enter(Phase::Load);
    let total = values.count() + nulls.count();
    let reported = i64::try_from(total).unwrap_or(i64::MAX);
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, reported);
    let mut loader = BulkLoader::<K, V>::new(sink, options)?;
    let mut done: u64 = 0;
    let mut last = None;
    let mut push = |pos: Pos<V>| -> Result<()> {
        done += 1;
        if done.is_multiple_of(REPORT_EVERY) {
            let done = i64::try_from(done).unwrap_or(i64::MAX);
            report(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, done);
        }
        // The loader wants each entry once.
        if last.replace(pos) == Some(pos) {
            return Ok(());
        }
        loader.push(pos)
    };
    let rank = codec.ordering.value_rank();
    // SAFETY: a NULL's datum is not looked at.
    let null = unsafe { codec.encode(pg_sys::Datum::from(0), true, 0) };
    let (first, second) = if codec.ordering.nulls_first {
        (Some(nulls), None)
    } else {
        (None, Some(nulls))
    };
    if let Some(nulls) = first {
        nulls.drain(&mut |([], tid)| push(Pos { tid, ..null }))?;
    }
    values.drain(&mut |(vals, tid)| push(Pos { rank, vals, tid }))?;
    if let Some(nulls) = second {
        nulls.drain(&mut |([], tid)| push(Pos { tid, ..null }))?;
    }
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, reported);
    enter(Phase::Train);
    loader.finish_into_sink()
}

/// `ambuildempty`: the init fork of an unlogged index.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: the callback's contract: the index is open, and its init fork
    // is there and empty.
    unsafe {
        let lanes = key_type(index).lanes();
        let built: core::result::Result<(), Error> = by_lanes!(lanes, build_empty(index));
        in_index(index, built);
    }
}

/// # Safety
/// As for `ambuildempty`.
unsafe fn build_empty<const V: usize>(index: pg_sys::Relation) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let sink = EmptyFork::new(index);
        BulkLoader::<_, V>::new(sink, bulk_options(index))?.finish()?;
    }
    Ok(())
}
