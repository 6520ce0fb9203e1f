//! Parallel builds, the worker's part: it scans, sorts, and sends what it has to
//! the leader.

use omen_core::{Error, Result};
use pgrx::check_for_interrupts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::collect::Collector;
use super::entry::{Entry, bytes_of, collect, with_room};
use super::load::Target;
use super::merge::MESSAGE;
use super::parallel::{QUEUE, Report, Shared, key};
use crate::am::by_lanes;
use crate::am::state::key_type;
use crate::storage::{Sender, in_index};

/// What a worker does. PostgreSQL finds it by its name, and has taken over the
/// leader's transaction, snapshot and settings.
///
/// # Safety
/// Called by PostgreSQL in a parallel worker of a build's leader.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn omen_build_worker(
    segment: *mut pg_sys::dsm_segment,
    toc: *mut pg_sys::shm_toc,
) {
    // SAFETY: the leader has filled its parts of the shared memory.
    unsafe {
        pg_sys::debug_query_string = pg_sys::shm_toc_lookup(toc, key::QUERY, true).cast();
        let running = pg_sys::BackendState::STATE_RUNNING;
        pg_sys::pgstat_report_activity(running, pg_sys::debug_query_string);

        let shared = &*pg_sys::shm_toc_lookup(toc, key::SHARED, false).cast::<Shared>();
        // The locks that the leader has.
        let (heap_lock, index_lock) = if shared.concurrent {
            (pg_sys::ShareUpdateExclusiveLock, pg_sys::RowExclusiveLock)
        } else {
            (pg_sys::ShareLock, pg_sys::AccessExclusiveLock)
        };
        let (heap_lock, index_lock) = (heap_lock.cast_signed(), index_lock.cast_signed());
        let heap = pg_sys::table_open(shared.heap, heap_lock);
        let index = pg_sys::index_open(shared.index, index_lock);

        pg_sys::InstrStartParallelQuery();
        let lanes = key_type(index).lanes();
        let sent = by_lanes!(lanes, scan_and_send(shared, heap, index, segment, toc));
        // A leader that does not listen any more has its reasons.
        if sent != Err(Error::Stopped) {
            in_index(index, sent);
        }
        let number = pg_sys::ParallelWorkerNumber as usize;
        let buffers: *mut pg_sys::BufferUsage =
            pg_sys::shm_toc_lookup(toc, key::BUFFERS, false).cast();
        let wal: *mut pg_sys::WalUsage = pg_sys::shm_toc_lookup(toc, key::WAL, false).cast();
        pg_sys::InstrEndParallelQuery(buffers.add(number), wal.add(number));

        pg_sys::index_close(index, index_lock);
        pg_sys::table_close(heap, heap_lock);
    }
}

/// # Safety
/// As for [`omen_build_worker`]; the relations are open, and the index has `V`
/// lanes.
unsafe fn scan_and_send<const V: usize>(
    shared: &Shared,
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    segment: *mut pg_sys::dsm_segment,
    toc: *mut pg_sys::shm_toc,
) -> Result<()> {
    // SAFETY: the caller's promise. Each worker has the queue of its number.
    unsafe {
        let number = pg_sys::ParallelWorkerNumber as usize;
        let queues = pg_sys::shm_toc_lookup(toc, key::QUEUES, false);
        let queue = queues.byte_add(number * QUEUE).cast();
        let mut sender = Sender::attach(queue, segment);

        let info = pg_sys::BuildIndexInfo(index);
        (*info).ii_Concurrent = shared.concurrent;
        let scan = pg_sys::shm_toc_lookup(toc, key::SCAN, false).cast();
        let scan = pg_sys::table_beginscan_parallel(heap, scan);
        let mut collector = Collector::<V>::new(index, shared.participants as usize);
        let heap_tuples = collector.scan(heap, index, info, scan, false);
        let sorted = collector.sort()?;

        let report = Report {
            heap_tuples,
            broken_hot_chain: (*info).ii_BrokenHotChain,
            counts: sorted.counts,
        };
        sender.send(&report.to_bytes())?;
        let mut outbox = Outbox {
            sender,
            values: with_room(MESSAGE)?,
            nulls: with_room(MESSAGE)?,
        };
        sorted.drain(&mut outbox)?;
        outbox.finish()
    }
}

/// Entries on their way to the leader.
struct Outbox<const V: usize> {
    sender: Sender,
    /// Entries for the next message: values or NULLs.
    values: Vec<Entry<V>>,
    nulls: Vec<Entry<0>>,
}

impl<const V: usize> Outbox<V> {
    fn finish(mut self) -> Result<()> {
        send(&mut self.sender, &mut self.values)?;
        send(&mut self.sender, &mut self.nulls)
    }
}

impl<const V: usize> Target<V> for Outbox<V> {
    fn values(&mut self, entries: &[Entry<V>]) -> Result<()> {
        send(&mut self.sender, &mut self.nulls)?;
        let sender = &mut self.sender;
        collect(&mut self.values, MESSAGE, entries, |full| {
            send(sender, full)
        })
    }

    fn nulls(&mut self, entries: &[Entry<0>]) -> Result<()> {
        send(&mut self.sender, &mut self.values)?;
        let sender = &mut self.sender;
        collect(&mut self.nulls, MESSAGE, entries, |full| send(sender, full))
    }
}

/// Sends `waiting`, if there is anything.
fn send<const W: usize>(sender: &mut Sender, waiting: &mut Vec<Entry<W>>) -> Result<()> {
    check_for_interrupts!();
    if !waiting.is_empty() {
        sender.send(bytes_of(waiting))?;
        waiting.clear();
    }
    Ok(())
}
