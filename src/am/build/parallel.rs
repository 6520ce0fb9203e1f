//! Parallel builds, the leader's part: it launches workers, scans and sorts along
//! with them, and merges what they send while it writes the tree. As btree's
//! (`nbtsort.c`), but sorted entries come through queues instead of files.

use core::ffi::{CStr, c_int, c_void};

use omen_core::{Error, Result, planted};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::collect::Collector;
use super::entry::with_room;
use super::load::{Counts, Sorted};
use crate::storage::{Receiver, index_name};

/// Keys of the parts of the shared memory.
pub(super) mod key {
    pub const SHARED: u64 = 1;
    pub const SCAN: u64 = 2;
    pub const QUEUES: u64 = 3;
    pub const QUERY: u64 = 4;
    pub const WAL: u64 = 5;
    pub const BUFFERS: u64 = 6;
}

/// Bytes of the queue of a worker: some tens of messages, so that a worker which
/// sorts what it has spilled is rarely waited for.
pub(super) const QUEUE: usize = 1 << 20;

/// What the leader tells its workers.
#[repr(C)]
pub(super) struct Shared {
    pub heap: pg_sys::Oid,
    pub index: pg_sys::Oid,
    pub concurrent: bool,
    /// Among how many processes memory is shared out, the leader being one.
    pub participants: u32,
}

/// What a worker reports when it has scanned and sorted its part.
#[derive(Clone, Copy)]
pub(super) struct Report {
    pub heap_tuples: f64,
    pub broken_hot_chain: bool,
    pub counts: Counts,
}

impl Report {
    pub fn to_bytes(self) -> [u8; 32] {
        let words = [
            self.heap_tuples.to_bits(),
            u64::from(self.broken_hot_chain),
            self.counts.values,
            self.counts.nulls,
        ];
        let mut bytes = [0; 32];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([tuples, broken, values, nulls], []) = bytes.as_chunks() else {
            return None;
        };
        Some(Self {
            heap_tuples: f64::from_bits(u64::from_ne_bytes(*tuples)),
            broken_hot_chain: u64::from_ne_bytes(*broken) != 0,
            counts: Counts {
                values: u64::from_ne_bytes(*values),
                nulls: u64::from_ne_bytes(*nulls),
            },
        })
    }
}

/// The text of the statement with its end, or nothing.
///
/// # Safety
/// The statement is still going on when the result is used.
unsafe fn query() -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe {
        let query = pg_sys::debug_query_string;
        if query.is_null() {
            return &[];
        }
        CStr::from_ptr(query).to_bytes_with_nul()
    }
}

/// Workers to ask for, 0 for a serial build. PostgreSQL 17 and later have asked
/// the planner themselves; before, they do so for btree alone.
///
/// # Safety
/// As for `ambuild`.
pub(super) unsafe fn wanted(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> c_int {
    // SAFETY: the caller's promise. Who builds an index has locked it and its table.
    unsafe {
        if cfg!(any(feature = "pg14", feature = "pg15", feature = "pg16")) {
            // A table that was just truncated has no rows to share.
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            let empty = pg_sys::RelationGetNumberOfBlocksInFork(heap, fork) == 0;
            if empty || pg_sys::IsInParallelMode() {
                return 0;
            }
            (*info).ii_ParallelWorkers =
                pg_sys::plan_create_index_workers((*heap).rd_id, (*index).rd_id);
        }
        (*info).ii_ParallelWorkers
    }
}

/// The workers of a build and their leader, which is this process.
pub(super) struct Team {
    context: *mut pg_sys::ParallelContext,
    scan: pg_sys::ParallelTableScanDesc,
    /// What a concurrent build sees; NULL for others.
    snapshot: pg_sys::Snapshot,
    receivers: Vec<Receiver>,
    wal: *mut pg_sys::WalUsage,
    buffers: *mut pg_sys::BufferUsage,
}

impl Team {
    /// Launches up to `workers` workers. `None` if there are none to be had.
    ///
    /// # Safety
    /// As for `ambuild`; `workers` is above 0. The transaction does not go on
    /// before [`Team::end`], but to abort.
    pub unsafe fn launch(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        info: *mut pg_sys::IndexInfo,
        workers: c_int,
    ) -> Result<Option<Self>> {
        // SAFETY: the caller's promise. The context is made in parallel mode.
        unsafe {
            pg_sys::EnterParallelMode();
            let (library, function) = (c"$libdir/omendb_index", c"omen_build_worker");
            let context =
                pg_sys::CreateParallelContext(library.as_ptr(), function.as_ptr(), workers);
            let snapshot = if (*info).ii_Concurrent {
                pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot())
            } else {
                core::ptr::null_mut()
            };
            let mut team = Self {
                context,
                scan: core::ptr::null_mut(),
                snapshot,
                receivers: Vec::new(),
                wal: core::ptr::null_mut(),
                buffers: core::ptr::null_mut(),
            };
            team.share(heap, index)?;
            if !(*context).seg.is_null() {
                pg_sys::LaunchParallelWorkers(context);
            }
            let launched = (*context).nworkers_launched;
            if launched == 0 {
                team.end();
                return Ok(None);
            }
            team.receivers.truncate(launched as usize);
            for (number, receiver) in team.receivers.iter_mut().enumerate() {
                receiver.expect((*(*context).worker.add(number)).bgwhandle);
            }
            debug1!(
                "building index \"{}\" with {launched} parallel workers",
                index_name(index)
            );
            Ok(Some(team))
        }
    }

    /// Makes the shared memory, unless there is none to be had.
    ///
    /// # Safety
    /// As for [`Team::launch`], with a context that has just been created.
    unsafe fn share(&mut self, heap: pg_sys::Relation, index: pg_sys::Relation) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            let context = self.context;
            let workers = (*context).nworkers as usize;
            let snapshot = if self.snapshot.is_null() {
                &raw mut pg_sys::SnapshotAnyData
            } else {
                self.snapshot
            };
            let query = query();
            let scan = pg_sys::table_parallelscan_estimate(heap, snapshot);
            let sizes = [
                (key::SHARED, size_of::<Shared>()),
                (key::SCAN, scan),
                (key::QUEUES, workers * QUEUE),
                (key::WAL, workers * size_of::<pg_sys::WalUsage>()),
                (key::BUFFERS, workers * size_of::<pg_sys::BufferUsage>()),
                (key::QUERY, query.len()),
            ];
            for (_, bytes) in sizes {
                let estimator = &mut (*context).estimator;
                // shm_toc_allocate rounds up to a multiple of 32.
                estimator.space_for_chunks += bytes.next_multiple_of(64);
                estimator.number_of_keys += 1;
            }
            pg_sys::InitializeParallelDSM(context);
            if (*context).seg.is_null() {
                return Ok(());
            }
            let parts = sizes.map(|(key, bytes)| self.part(key, bytes));
            let [shared, scan, queues, wal, buffers, text] = parts;
            shared.cast::<Shared>().write(Shared {
                heap: (*heap).rd_id,
                index: (*index).rd_id,
                concurrent: !self.snapshot.is_null(),
                participants: (*context).nworkers.cast_unsigned() + 1,
            });
            (self.scan, self.wal, self.buffers) = (scan.cast(), wal.cast(), buffers.cast());
            pg_sys::table_parallelscan_initialize(heap, self.scan, snapshot);
            if !query.is_empty() {
                text.copy_from_nonoverlapping(query.as_ptr().cast(), query.len());
            }
            self.make_queues(queues, workers)
        }
    }

    /// # Safety
    /// There is room for one queue of each of the workers at `queues`, in the shared
    /// memory.
    unsafe fn make_queues(&mut self, queues: *mut c_void, workers: usize) -> Result<()> {
        self.receivers = with_room(workers)?;
        for number in 0..workers {
            // SAFETY: the caller's promise.
            let receiver = unsafe {
                let queue = queues.byte_add(number * QUEUE);
                Receiver::create(queue, QUEUE, (*self.context).seg)
            };
            self.receivers.push(receiver);
        }
        Ok(())
    }

    /// A part of the shared memory; NULL for one of no bytes, which workers do not
    /// find.
    ///
    /// # Safety
    /// The shared memory is there, and the part was estimated.
    unsafe fn part(&self, key: u64, bytes: usize) -> *mut c_void {
        if bytes == 0 {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe {
            let toc = (*self.context).toc;
            let part = pg_sys::shm_toc_allocate(toc, bytes);
            pg_sys::shm_toc_insert(toc, key, part);
            part
        }
    }

    /// Processes that share the memory: the workers and the leader.
    pub fn participants(&self) -> usize {
        self.receivers.len() + 1
    }

    /// The leader's part of the scan. Returns the rows seen.
    ///
    /// # Safety
    /// As for `ambuild`.
    pub unsafe fn scan<const V: usize>(
        &self,
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        info: *mut pg_sys::IndexInfo,
        collector: &mut Collector<V>,
    ) -> f64 {
        // SAFETY: the caller's promise.
        unsafe {
            let scan = pg_sys::table_beginscan_parallel(heap, self.scan);
            collector.scan(heap, index, info, scan, true)
        }
    }

    /// Waits until all workers have sorted what they have, and adds that. Returns
    /// the rows that they have seen.
    ///
    /// # Errors
    /// [`Error::Stopped`] if a worker has ended before its time.
    ///
    /// # Safety
    /// As for `ambuild`.
    pub unsafe fn join<const V: usize>(
        &mut self,
        sorted: &mut Sorted<V>,
        info: *mut pg_sys::IndexInfo,
    ) -> Result<f64> {
        let mut heap_tuples = 0.0;
        // SAFETY: the caller's promise. Workers that could not start are noticed
        // here.
        unsafe { pg_sys::WaitForParallelWorkersToAttach(self.context) };
        for receiver in &mut self.receivers {
            let report = Report::from_bytes(receiver.receive()?).ok_or(Error::Stopped)?;
            heap_tuples += report.heap_tuples;
            let broken = report.broken_hot_chain && !planted::is("broken_chain_overlooked");
            // SAFETY: the caller's promise.
            unsafe { (*info).ii_BrokenHotChain |= broken };
            sorted.add_worker(*receiver, report.counts)?;
        }
        Ok(heap_tuples)
    }

    /// Raises the ERROR of the worker that has ended before its time.
    ///
    /// # Safety
    /// Nothing that reads from the workers is used any more.
    pub unsafe fn failed(self) -> ! {
        // SAFETY: the caller's promise. Who still sends is told to end.
        unsafe {
            for receiver in self.receivers {
                receiver.detach();
            }
            pg_sys::WaitForParallelWorkersToFinish(self.context);
        }
        error!("a parallel worker has ended before its time");
    }

    /// Waits for the workers to end, and leaves parallel mode.
    ///
    /// # Safety
    /// As for [`Team::failed`]; the workers have sent all they have.
    pub unsafe fn end(self) {
        // SAFETY: the caller's promise. Workers that have ended have written what
        // they used.
        unsafe {
            let context = self.context;
            pg_sys::WaitForParallelWorkersToFinish(context);
            for number in 0..(*context).nworkers_launched as usize {
                pg_sys::InstrAccumParallelQuery(self.buffers.add(number), self.wal.add(number));
            }
            if !self.snapshot.is_null() {
                pg_sys::UnregisterSnapshot(self.snapshot);
            }
            pg_sys::DestroyParallelContext(context);
            pg_sys::ExitParallelMode();
        }
    }
}
