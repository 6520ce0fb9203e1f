//! Inserting an entry.

use omen_core::planted;
use omen_core::tree::{InsertOptions, Tree};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::heap::HeapLiveness;
use super::options::Options;
use super::state::{key_type, state_of, with_scratch};
use super::tuple::tid_of;
use super::{batch, by_lanes};
use crate::storage::{PgStore, in_index};

/// `aminsert`. The index is not unique: the result says nothing.
#[pg_guard]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    heap_tid: pg_sys::ItemPointer,
    heap: pg_sys::Relation,
    check_unique: pg_sys::IndexUniqueCheck::Type,
    _index_unchanged: bool,
    info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: the callback's contract: both relations are open and locked, and
    // there is one value, of the key's type. PostgreSQL knows its nest level.
    unsafe {
        if planted::is("savepoint_not_indexed") && pg_sys::GetCurrentTransactionNestLevel() > 2 {
            return false;
        }
        let lanes = key_type(index).lanes();
        // Others look for the entries of a constraint before the commit.
        let may_wait = (batch::is_armed() || batch::adopts())
            && check_unique == pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
            && (*info).ii_ExclusionOps.is_null();
        by_lanes!(
            lanes,
            insert(index, *values, *isnull, heap_tid, heap, may_wait)
        );
    }
    false
}

/// # Safety
/// As for `aminsert`; `index` has `V` lanes.
unsafe fn insert<const V: usize>(
    index: pg_sys::Relation,
    value: pg_sys::Datum,
    is_null: bool,
    heap_tid: pg_sys::ItemPointer,
    heap: pg_sys::Relation,
    may_wait: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let state = state_of::<V>(index);
        let pos = state.codec.encode(value, is_null, tid_of(&*heap_tid));
        if may_wait && batch::keep(index, heap, pos) {
            return;
        }
        let store = PgStore::new(index, &state.known);
        let tree = Tree::new(&store, &state.router);
        let options = InsertOptions {
            fillfactor: Options::of(index).fillfactor,
        };
        let mut liveness = HeapLiveness::new(heap);
        let inserted = with_scratch(|scratch| tree.insert(pos, options, scratch, &mut liveness))
            .and_then(|()| state.warn_of_damage(&store));
        in_index(index, inserted);
    }
}
