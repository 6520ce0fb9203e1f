//! The entries that wait for one index.

use omen_core::key::Pos;
use omen_core::store::PageStore;
use omen_core::tree::{InsertOptions, Tree};
use pgrx::pg_sys::{self, SubTransactionId};
use pgrx::prelude::*;

use super::AnyWaiting;
use crate::am::heap::HeapLiveness;
use crate::am::options::Options;
use crate::am::sort::sort;
use crate::am::state::{state_of, with_scratch};
use crate::storage::{PgStore, file_number, in_index, index_name};

/// Called for each row, and raises no ERROR: bound without pgrx's guard against
/// `longjmp`.
mod direct {
    use pgrx::pg_sys;
    unsafe extern "C" {
        pub fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
    }
}

/// Entries in a row that one subtransaction has made.
#[derive(Clone, Copy, Debug)]
struct Run {
    of: SubTransactionId,
    len: usize,
}

/// The entries that wait for one index of `V` lanes, as they came.
pub(super) struct Waiting<const V: usize> {
    index: pg_sys::Oid,
    heap: pg_sys::Oid,
    /// The index's file.
    file: u32,
    entries: Vec<Pos<V>>,
    runs: Vec<Run>,
}

impl<const V: usize> Waiting<V> {
    /// Nothing yet. The lock on the index stays to the end of the transaction: COPY
    /// gives its own back before the entries are inserted, and nobody may move the
    /// index to another file in between.
    ///
    /// # Safety
    /// Both relations are open. ERRORs can be raised.
    pub unsafe fn of(index: pg_sys::Relation, heap: pg_sys::Relation) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            pg_sys::LockRelationOid((*index).rd_id, pg_sys::RowExclusiveLock.cast_signed());
            Self {
                index: (*index).rd_id,
                heap: (*heap).rd_id,
                file: file_number(index),
                entries: Vec::new(),
                runs: Vec::new(),
            }
        }
    }

    /// Adds an entry, and returns how many bytes more that takes; `None`, with
    /// nothing added: there is no memory.
    #[inline]
    pub fn push(&mut self, pos: Pos<V>) -> Option<usize> {
        let before = self.entries.capacity();
        if self.entries.len() == before {
            self.entries.try_reserve(1).ok()?;
        }
        // SAFETY: a transaction is going on.
        let of = unsafe { direct::GetCurrentSubTransactionId() };
        match self.runs.last_mut() {
            Some(run) if run.of == of => run.len += 1,
            _ => {
                self.runs.try_reserve(1).ok()?;
                self.runs.push(Run { of, len: 1 });
            }
        }
        self.entries.push(pos);
        Some((self.entries.capacity() - before) * size_of::<Pos<V>>())
    }

    /// Takes the first `n` entries, all of the first run, out.
    fn remove_first(&mut self, n: usize) {
        self.entries.drain(..n);
        if let Some(run) = self.runs.first_mut() {
            run.len -= n;
            if run.len == 0 {
                self.runs.remove(0);
            }
        }
    }

    /// Inserts the entries, which are of this index and table.
    ///
    /// # Safety
    /// Both are open and locked.
    unsafe fn insert_into(&mut self, index: pg_sys::Relation, heap: pg_sys::Relation) {
        while let Some(run) = self.runs.first().copied() {
            let mut progress = Progress {
                waiting: self,
                done: 0,
            };
            // SAFETY: the caller's promise.
            unsafe { progress.insert(run.len, index, heap) };
        }
    }
}

/// How many entries of the first run are in the index. They are taken out when it
/// is dropped, after an ERROR too.
struct Progress<'a, const V: usize> {
    waiting: &'a mut Waiting<V>,
    done: usize,
}

impl<const V: usize> Progress<'_, V> {
    /// Inserts the first `len` entries.
    ///
    /// # Safety
    /// Both relations are open and locked.
    unsafe fn insert(&mut self, len: usize, index: pg_sys::Relation, heap: pg_sys::Relation) {
        let Some(entries) = self.waiting.entries.get_mut(..len) else {
            return;
        };
        sort(entries);
        // SAFETY: the caller's promise.
        unsafe {
            let state = state_of::<V>(index);
            let store = PgStore::new(index, &state.known);
            let tree = Tree::new(&store, &state.router);
            let options = InsertOptions {
                fillfactor: Options::of(index).fillfactor,
            };
            let mut liveness = HeapLiveness::new(heap);
            let inserted = with_scratch(|scratch| {
                while let Some(rest) = entries.get(self.done..).filter(|rest| !rest.is_empty()) {
                    self.done += tree.insert_some(rest, options, scratch, &mut liveness)?;
                    store.breathe()?;
                }
                state.warn_of_damage(&store)
            });
            in_index(index, inserted);
        }
    }
}

impl<const V: usize> Drop for Progress<'_, V> {
    fn drop(&mut self) {
        self.waiting.remove_first(self.done);
    }
}

impl<const V: usize> AnyWaiting for Waiting<V> {
    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Pos<V>>()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    unsafe fn insert(&mut self) {
        let mode = pg_sys::RowExclusiveLock.cast_signed();
        // SAFETY: the statement has the table locked, so that the index is there. An
        // ERROR gives the relations back.
        unsafe {
            let index = pg_sys::index_open(self.index, mode);
            if file_number(index) != self.file {
                // Who builds it anew calls `forget`.
                error!("omen: index \"{}\" has another file", index_name(index));
            }
            let heap = pg_sys::table_open(self.heap, mode);
            self.insert_into(index, heap);
            pg_sys::table_close(heap, mode);
            pg_sys::index_close(index, mode);
        }
    }

    fn retag(&mut self, from: SubTransactionId, to: SubTransactionId) {
        for run in self.runs.iter_mut().filter(|run| run.of == from) {
            run.of = to;
        }
    }

    fn discard(&mut self, of: SubTransactionId) {
        let (mut kept, mut at) = (0, 0);
        for run in &self.runs {
            if run.of != of {
                self.entries.copy_within(at..at + run.len, kept);
                kept += run.len;
            }
            at += run.len;
        }
        self.entries.truncate(kept);
        self.runs.retain(|run| run.of != of);
    }
}
