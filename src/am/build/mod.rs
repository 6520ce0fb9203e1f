//! Building an index: scan the table (`collect`), sort (`sort`, `merge`), write
//! pages in order (`load`), log them. In parallel: `parallel`, `worker`.

mod collect;
mod entry;
mod load;
mod merge;
mod packed;
mod parallel;
mod sort;
mod worker;

use core::ffi::{CStr, c_char};

use omen_core::tree::{BulkLoader, BulkOptions, BulkResult};
use omen_core::{Error, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use self::collect::Collector;
use self::load::load;
use self::parallel::Team;
use super::options::Options;
use super::state::{forget, key_type, ordering, ordering_code};
use super::{batch, by_lanes};
use crate::storage::{EmptyFork, NewFork, in_index, index_name};

pub(crate) use self::collect::scan_snapshot;

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

/// Scans, sorts and loads, with the help of workers if the planner wants them.
/// Returns the rows scanned and what was built.
///
/// # Safety
/// As for `ambuild`; `index` has `V` lanes.
unsafe fn build<const V: usize>(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> (f64, BulkResult) {
    // SAFETY: the caller's promise. What reads from the workers is gone when they
    // are ended.
    unsafe {
        let workers = parallel::wanted(heap, index, info);
        let mut team = if workers > 0 {
            in_index(index, Team::launch(heap, index, info, workers))
        } else {
            None
        };
        let built = scan_and_load::<V>(heap, index, info, team.as_mut());
        if let Some(team) = team {
            match built {
                Ok(_) => team.end(),
                Err(Error::Stopped) => team.failed(),
                // The end of the transaction is that of the workers.
                Err(_) => {}
            }
        }
        let (heap_tuples, built, fork) = in_index(index, built);
        fork.log();
        (heap_tuples, built)
    }
}

/// # Safety
/// As for [`build`].
unsafe fn scan_and_load<const V: usize>(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    mut team: Option<&mut Team>,
) -> Result<(f64, BulkResult, NewFork)> {
    let shares = team.as_ref().map_or(1, |team| team.participants());
    // SAFETY: the caller's promise.
    unsafe {
        let mut collector = Collector::<V>::new(index, shares);
        enter(Phase::Scan);
        let mut heap_tuples = match &team {
            Some(team) => team.scan(heap, index, info, &mut collector),
            None => collector.scan(heap, index, info, core::ptr::null_mut(), true),
        };
        enter(Phase::Sort);
        let mut sorted = collector.sort()?;
        if let Some(team) = &mut team {
            heap_tuples += team.join(&mut sorted, info)?;
        }
        let (built, fork) = load(sorted, NewFork::new(index), bulk_options(index))?;
        Ok((heap_tuples, built, fork))
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
