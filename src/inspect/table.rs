//! Comparing an index with its table, in both directions.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use omen_core::key::{Pos, Tid};
use omen_core::tree::{Interval, Scan, Tree};
use omen_core::{Block, Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::am::heap::{is_heap, line_pointer_flags};
use crate::am::tuple::{pointer_of, tid_of};
use crate::storage::{HINT, PgStore, Pin, in_index, index_name};
use crate::types::KeyCodec;

/// Versions of a row in one page at most: line pointers of a heap page.
const MAX_VERSIONS: usize = pg_sys::BLCKSZ as usize / 24;

/// The rows that entries point to.
pub(super) struct HeapRows<const V: usize> {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    codec: KeyCodec<V>,
    info: *mut pg_sys::IndexInfo,
    /// By which versions of a row are looked at: any; but expressions are not
    /// evaluated for versions that nobody sees any more, whose toasted values may
    /// be gone.
    snapshot: pg_sys::Snapshot,
    estate: *mut pg_sys::EState,
    slot: *mut pg_sys::TupleTableSlot,
    ring: pg_sys::BufferAccessStrategy,
    /// Indexes of a leaf's entries in the order of their rows.
    order: Vec<u32>,
    /// Pages of the table, as known so far.
    blocks: u32,
    versions: Vec<pg_sys::HeapTupleData>,
}

impl<const V: usize> HeapRows<V> {
    /// # Safety
    /// Table and index are open and locked until [`HeapRows::close`].
    pub unsafe fn open(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        codec: KeyCodec<V>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let slot = pg_sys::MakeSingleTupleTableSlot(
                (*heap).rd_att,
                &raw const pg_sys::TTSOpsBufferHeapTuple,
            );
            let info = pg_sys::BuildIndexInfo(index);
            let snapshot = if (*info).ii_Expressions.is_null() {
                &raw mut pg_sys::SnapshotAnyData
            } else {
                pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())
            };
            Self {
                heap,
                index,
                codec,
                info,
                snapshot,
                estate,
                slot,
                ring: pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD),
                order: Vec::new(),
                blocks: 0,
                versions: Vec::new(),
            }
        }
    }

    /// Raises an ERROR unless there is a row for every entry, which has its key.
    /// VACUUM cannot have taken the rows: the leaf is pinned. Recovery could, for
    /// it does not wait for pins: on a standby nothing is compared.
    pub fn compare(&mut self, block: Block, entries: &[Pos<V>]) -> Result<()> {
        // SAFETY: the table is open.
        if unsafe { !is_heap(self.heap) || pg_sys::RecoveryInProgress() } {
            return Ok(());
        }
        let mut order = core::mem::take(&mut self.order);
        order.clear();
        order
            .try_reserve(entries.len())
            .and_then(|()| self.versions.try_reserve(MAX_VERSIONS))
            .map_err(|_| Error::OutOfMemory {
                bytes: 4 * entries.len(),
            })?;
        order.extend(0..u32::try_from(entries.len()).unwrap_or(u32::MAX));
        let tid = |index: &u32| entries.get(*index as usize).map_or(0, |pos| pos.tid);
        order.sort_unstable_by_key(tid);
        for index in &order {
            if let Some(entry) = entries.get(*index as usize) {
                check_for_interrupts!();
                self.compare_entry(block, entry);
            }
        }
        self.order = order;
        Ok(())
    }

    /// Raises an ERROR unless some version of the entry's row has its key.
    fn compare_entry(&mut self, block: Block, entry: &Pos<V>) {
        let heap_block = (entry.tid >> 16) as u32;
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the table is open; the page exists, is pinned and locked while
        // it is read, and stays pinned while the versions are used: pruning
        // does not move them then.
        unsafe {
            if heap_block >= self.blocks {
                self.blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.heap, main);
            }
            if heap_block >= self.blocks {
                self.fail(block, entry.tid, "a page that the table does not have");
            }
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(self.heap, main, heap_block, mode, self.ring);
            let page = Pin::new(buffer).share(heap_block);
            let flags = line_pointer_flags(page.whole(), (entry.tid & 0xffff) as usize);
            if flags.is_none_or(|flags| flags == pg_sys::LP_UNUSED) {
                self.fail(block, entry.tid, "a row that does not exist");
            }
            self.load_versions(buffer, entry.tid);
            let _pin = omen_core::store::PageGuard::into_pin(page);
            let same = |version| self.has_key(version, buffer, entry);
            // Nothing is left of a row that is dead, and of one with expressions
            // there may be no version to look at.
            let nothing = self.versions.is_empty()
                && (flags == Some(pg_sys::LP_DEAD) || !(*self.info).ii_Expressions.is_null());
            let known = nothing || (0..self.versions.len()).any(same);
            self.clear_slot();
            if !known {
                self.fail(block, entry.tid, "a row that has another key");
            }
        }
    }

    /// Collects the versions of a row that are on its page.
    ///
    /// # Safety
    /// The buffer is pinned and locked, and has the row's page.
    unsafe fn load_versions(&mut self, buffer: pg_sys::Buffer, tid: Tid) {
        self.versions.clear();
        let mut at = pointer_of(tid);
        let mut first = true;
        while self.versions.len() < self.versions.capacity() {
            let mut tuple = MaybeUninit::<pg_sys::HeapTupleData>::zeroed();
            // SAFETY: the caller's promise; all zero is a valid tuple header.
            unsafe {
                let found = pg_sys::heap_hot_search_buffer(
                    &raw mut at,
                    self.heap,
                    buffer,
                    self.snapshot,
                    tuple.as_mut_ptr(),
                    core::ptr::null_mut(),
                    first,
                );
                if !found {
                    break;
                }
                self.versions.push(tuple.assume_init());
            }
            first = false;
        }
    }

    /// Whether a version of a row has the key of an entry.
    ///
    /// # Safety
    /// The buffer of the versions is pinned.
    unsafe fn has_key(&self, version: usize, buffer: pg_sys::Buffer, entry: &Pos<V>) -> bool {
        let Some(mut tuple) = self.versions.get(version).copied() else {
            return false;
        };
        const COLUMNS: usize = pg_sys::INDEX_MAX_KEYS as usize;
        let mut values = [pg_sys::Datum::from(0); COLUMNS];
        let mut isnull = [false; COLUMNS];
        // SAFETY: the caller's promise; slot, info and state are of this table
        // and index, which are open.
        unsafe {
            let context = if (*self.estate).es_per_tuple_exprcontext.is_null() {
                pg_sys::MakePerTupleExprContext(self.estate)
            } else {
                (*self.estate).es_per_tuple_exprcontext
            };
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            (*context).ecxt_scantuple = self.slot;
            pg_sys::ExecStoreBufferHeapTuple(&raw mut tuple, self.slot, buffer);
            pg_sys::FormIndexDatum(
                self.info,
                self.slot,
                self.estate,
                values.as_mut_ptr(),
                isnull.as_mut_ptr(),
            );
            let key = self.codec.encode(values[0], isnull[0], entry.tid);
            key == *entry
        }
    }

    /// `ExecClearTuple`, an inline function of PostgreSQL.
    unsafe fn clear_slot(&self) {
        // SAFETY: the slot is one of buffer heap tuples, whose method this is.
        unsafe {
            if let Some(clear) = (*(*self.slot).tts_ops).clear {
                pg_sys::ffi::pg_guard_ffi_boundary(|| clear(self.slot));
            }
        }
    }

    fn fail(&self, block: Block, tid: Tid, what: &str) -> ! {
        // SAFETY: both are open.
        let (index, heap) = unsafe { (index_name(self.index), index_name(self.heap)) };
        let detail = format!(
            "The entry points to tuple ({},{}) of table \"{heap}\".",
            tid >> 16,
            tid & 0xffff
        );
        damaged(
            format!("index \"{index}\" is damaged at block {block}: an entry points to {what}"),
            Some(detail),
        )
    }

    /// Frees what was opened.
    pub fn close(self) {
        // SAFETY: made by `open`.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
            if !(*self.info).ii_Expressions.is_null() {
                pg_sys::UnregisterSnapshot(self.snapshot);
            }
        }
    }
}

/// What a row of the table is looked up with.
struct Finder<'a, const V: usize> {
    heap: pg_sys::Relation,
    codec: &'a KeyCodec<V>,
    tree: &'a Tree<'a, PgStore<'a>, V>,
    scan: Scan<Pin, V>,
}

/// Raises an ERROR unless every visible row has its entry.
///
/// # Safety
/// Table and index are open and locked.
pub(super) unsafe fn find_rows<const V: usize>(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    codec: &KeyCodec<V>,
    tree: &Tree<'_, PgStore<'_>, V>,
) {
    let mut finder = Finder {
        heap,
        codec,
        tree,
        scan: Scan::new(),
    };
    // SAFETY: the caller's promise. The snapshot is as new as can be: an index
    // has entries for all rows that such a one can see.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let info = pg_sys::BuildIndexInfo(index);
        // As the first scan of CREATE INDEX CONCURRENTLY: by the snapshot.
        (*info).ii_Concurrent = true;
        (*info).ii_Unique = false;
        (*info).ii_ExclusionOps = core::ptr::null_mut();
        (*info).ii_ExclusionProcs = core::ptr::null_mut();
        let state = (&raw mut finder).cast();
        crate::am::build::scan_snapshot(heap, index, info, snapshot, Some(on_row::<V>), state);
        pg_sys::UnregisterSnapshot(snapshot);
    }
}

/// Called for every row that the snapshot sees.
#[pg_guard]
unsafe extern "C-unwind" fn on_row<const V: usize>(
    index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _tuple_is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: `state` is the finder of `find_rows`, which nobody else uses
    // during the scan; there is one value, of the key's type.
    unsafe {
        let finder = &mut *state.cast::<Finder<'_, V>>();
        let tid = tid_of(&*tid);
        let pos = finder.codec.encode(*values, *isnull, tid);
        let only = [Interval {
            lo: pos,
            hi: Some(pos.next()),
        }];
        finder.scan.restart();
        let found = finder.scan.next(finder.tree, &only, true, false);
        if in_index(index, found).is_none() {
            let (heap, index) = (index_name(finder.heap), index_name(index));
            let (block, offset) = (tid >> 16, tid & 0xffff);
            damaged(
                format!(
                    "heap tuple ({block},{offset}) from table \"{heap}\" lacks matching index \
                     tuple within index \"{index}\""
                ),
                None,
            );
        }
    }
}

/// Raises an ERROR.
fn damaged(message: String, detail: Option<String>) -> ! {
    let code = PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED;
    let mut report = ErrorReport::new(code, message, "omen_index_check");
    if let Some(detail) = detail {
        report = report.set_detail(detail);
    }
    report.set_hint(HINT).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return");
}
