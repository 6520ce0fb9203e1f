//! VACUUM: removing entries of dead rows, and giving pages back.

use core::ffi::c_void;

use omen_core::key::Tid;
use omen_core::tree::{DeadRows, DeleteStats, Scavenged, Tree};
use omen_core::{Block, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::options::Options;
use super::state::{key_type, state_of, with_scratch};
use super::tuple::pointer_of;
use super::{batch, by_lanes};
use crate::storage::{PgStore, in_index};

/// Sleeps if VACUUM is to be slow, and acts on a cancel request. Called
/// outside of all locks.
fn pause() -> Result<()> {
    // SAFETY: no lock is held that an ERROR would leave behind.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
    }
    Ok(())
}

/// The result to add to: what the call before has returned, or a new one.
///
/// # Safety
/// `stats` is NULL or valid.
unsafe fn result_of(
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    if !stats.is_null() {
        return stats;
    }
    // SAFETY: all zero is a valid result.
    unsafe { pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()).cast() }
}

/// Who says which rows are dead.
struct Callback {
    callback: pg_sys::IndexBulkDeleteCallback,
    state: *mut c_void,
}

impl DeadRows for Callback {
    fn ask(&mut self, tids: &[Tid], dead: &mut [bool]) {
        let Some(callback) = self.callback else {
            dead.fill(false);
            return;
        };
        // The callback of a concurrent build may raise an ERROR.
        // SAFETY: it may be called during the whole of `ambulkdelete`, and what is
        // here when it raises an ERROR needs no drop.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                for (tid, dead) in tids.iter().zip(dead) {
                    let mut pointer = pointer_of(*tid);
                    *dead = callback(&raw mut pointer, self.state);
                }
            });
        }
    }
}

/// `ambulkdelete`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the callback's contract: the index is open and locked, and
    // `callback` may be called with its state during this call.
    unsafe {
        let index = (*info).index;
        batch::settle(index);
        let lanes = key_type(index).lanes();
        let mut rows = Callback {
            callback,
            state: callback_state,
        };
        let deleted = by_lanes!(lanes, delete(info, &mut rows));
        let result = result_of(stats);
        (*result).tuples_removed += deleted.removed as f64;
        (*result).num_index_tuples = deleted.remaining as f64;
        (*result).estimated_count = false;
        (*result).pages_newly_deleted += deleted.freed;
        result
    }
}

/// # Safety
/// As for `ambulkdelete`; the index has `V` lanes.
unsafe fn delete<const V: usize>(
    info: *mut pg_sys::IndexVacuumInfo,
    rows: &mut dyn DeadRows,
) -> DeleteStats {
    // SAFETY: the caller's promise.
    unsafe {
        let index = (*info).index;
        let state = state_of::<V>(index);
        let store = PgStore::new(index, &state.known).with_strategy((*info).strategy);
        let tree = Tree::new(&store, &state.router);
        let mut stats = DeleteStats::default();
        let deleted =
            with_scratch(|scratch| tree.bulk_delete(rows, scratch, &mut pause, &mut stats));
        in_index(index, deleted);
        if stats.freed > 0 {
            // Freed pages are to be found before the next phase of the VACUUM.
            pg_sys::IndexFreeSpaceMapVacuum(index);
        }
        stats
    }
}

/// `amvacuumcleanup`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the callback's contract.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        let index = (*info).index;
        let lanes = key_type(index).lanes();
        let found: Scavenged = by_lanes!(lanes, clean_up(info));
        pg_sys::IndexFreeSpaceMapVacuum(index);
        let result = result_of(stats);
        let free: Block = found.free;
        (*result).num_pages = found.pages;
        (*result).pages_deleted = free;
        (*result).pages_free = free;
        (*result).estimated_count = false;
        (*result).num_index_tuples = found.entries as f64;
        // Entries inserted during the walk may have been counted while their
        // rows were not, as in btvacuumcleanup.
        if !(*info).estimated_count {
            let rows = (*info).num_heap_tuples;
            (*result).num_index_tuples = (*result).num_index_tuples.min(rows);
        }
        result
    }
}

/// # Safety
/// As for `amvacuumcleanup`; the index has `V` lanes.
unsafe fn clean_up<const V: usize>(info: *mut pg_sys::IndexVacuumInfo) -> Scavenged {
    // SAFETY: the caller's promise.
    unsafe {
        let index = (*info).index;
        let state = state_of::<V>(index);
        let store = PgStore::new(index, &state.known).with_strategy((*info).strategy);
        let tree = Tree::new(&store, &state.router);
        let choice = Options::of(index).model;
        let found = tree.scavenge(&mut pause).and_then(|found| {
            // The pages just found can take the model then.
            pg_sys::IndexFreeSpaceMapVacuum(index);
            tree.refresh_model(choice, found.leaves)?;
            Ok(found)
        });
        in_index(index, found)
    }
}
