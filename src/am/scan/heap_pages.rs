//! Pages of the table, asked for before the rows of a scan are.

#[cfg(any(test, feature = "pg_test"))]
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

use omen_core::key::Tid;
use omen_core::tree::{BitmapLookahead, LOOKAHEAD_PAGES, Lookahead, Scan};
use pgrx::pg_sys;

use super::Descriptor;
use crate::am::heap::is_heap;
use crate::storage::{Pin, pages_of, prefetch_row, prefetch_tuple, request_page};

/// What tests see and do of it.
#[cfg(any(test, feature = "pg_test"))]
pub(crate) mod seen {
    use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

    /// Pages that this process has asked for.
    pub static ASKED: AtomicUsize = AtomicUsize::new(0);
    /// Those of them that had to be read.
    pub static READ: AtomicUsize = AtomicUsize::new(0);
    /// Nanoseconds that pass whenever the clock is looked at; 0: it is the real one.
    pub static TICK: AtomicU64 = AtomicU64::new(0);
    /// Asks for a page that no table has, which is an ERROR.
    pub static FAIL: AtomicBool = AtomicBool::new(false);
}

/// What a scan has asked for.
#[derive(Default)]
pub(super) struct HeapPages {
    pub lookahead: Lookahead,
    /// What was asked for last and is in shared buffers: there, and the line pointer.
    found: [Option<Place>; LOOKAHEAD_PAGES],
    /// `effective_io_concurrency` of the table's tablespace, looked up once.
    most_reads: Option<usize>,
    length: Length,
    of_bitmap: BitmapLookahead,
}

impl HeapPages {
    /// A scan begins; with `wanted`, of rows of the table and not of entries alone, and
    /// with `all`, most likely of all that there are.
    pub fn restart(&mut self, wanted: bool, all: bool) {
        self.lookahead.restart(all);
        if !wanted || self.most_reads == Some(0) {
            self.lookahead.stop();
        }
        self.found[0] = None;
    }

    /// Asks for the pages of the rows to come, and the processor for what they have
    /// that was asked for before. Not at all if `effective_io_concurrency` is 0.
    ///
    /// # Safety
    /// The scan's table is open, or NULL.
    pub unsafe fn look<const V: usize>(
        &mut self,
        descriptor: &Descriptor,
        scan: &Scan<Pin, V>,
        forward: bool,
    ) {
        let heap = descriptor.heapRelation;
        // SAFETY: the caller's promise.
        let look_up = || unsafe { most_reads(heap) };
        let most_reads = *self.most_reads.get_or_insert_with(look_up);
        if most_reads == 0 {
            self.lookahead.stop();
            return;
        }
        for (buffer, offset) in self.found.iter_mut().map_while(Option::take) {
            // SAFETY: the number came from the buffer manager.
            unsafe { prefetch_tuple(buffer, offset) };
        }
        let mut found = self.found.iter_mut();
        let mut length = self.length.begin();
        let ask = |tid: Tid| {
            // SAFETY: the table is open. There is a guard below.
            let (place, reads) = unsafe { request(heap, &mut length, tid) };
            if place.is_some()
                && let Some(slot) = found.next()
            {
                *slot = place;
            }
            reads
        };
        let rows = scan.coming(forward).iter().copied();
        // SAFETY: what is here when an ERROR is raised needs no drop.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                if forward {
                    self.lookahead.look(true, most_reads, now, rows, ask);
                } else {
                    self.lookahead.look(false, most_reads, now, rows.rev(), ask);
                }
            });
        }
        self.length = length;
    }

    /// Another bitmap begins.
    pub fn restart_bitmap(&mut self) {
        self.of_bitmap.restart();
    }

    /// Rows are added to the bitmap.
    pub fn note_for_bitmap(&mut self, rows: &[Tid]) {
        if self.most_reads != Some(0) {
            self.of_bitmap.note(rows);
        }
    }

    /// The bitmap is whole: asks for its pages. Not at all if `effective_io_concurrency`
    /// is 0.
    ///
    /// # Safety
    /// The scan's index is open, and its table, which the descriptor of such a scan does
    /// not have.
    pub unsafe fn look_for_bitmap(&mut self, descriptor: &Descriptor) {
        if !self.of_bitmap.is_due() {
            return;
        }
        let no_lock = pg_sys::NoLock.cast_signed();
        // SAFETY: the caller's promise; who has it open has locked it.
        unsafe {
            let heap =
                pg_sys::table_open((*(*descriptor.indexRelation).rd_index).indrelid, no_lock);
            let most_reads = *self.most_reads.get_or_insert_with(|| most_reads(heap));
            if most_reads > 0 {
                let mut length = self.length.begin();
                let mut asked = [None; LOOKAHEAD_PAGES];
                let mut slots = 0;
                let ask = |tid: Tid| {
                    let (place, reads) = request(heap, &mut length, tid);
                    if place.is_some() {
                        let slot = &mut asked[slots % LOOKAHEAD_PAGES];
                        slots += 1;
                        prefetch_place(core::mem::replace(slot, place));
                    }
                    reads
                };
                // What is here when an ERROR is raised needs no drop.
                pg_sys::ffi::pg_guard_ffi_boundary(|| {
                    self.of_bitmap.ask(most_reads.min(LOOKAHEAD_PAGES), ask);
                });
                asked.into_iter().for_each(|place| prefetch_place(place));
                self.length = length;
            }
            pg_sys::table_close(heap, no_lock);
        }
    }
}

/// The buffer that a row is in, and its line pointer.
type Place = (pg_sys::Buffer, u16);

/// Pages that a table has at least: the lock of a scan keeps it from shrinking.
#[derive(Clone, Copy, Default)]
struct Length {
    blocks: pg_sys::BlockNumber,
    counted: bool,
}

impl Length {
    /// As it is at the beginning of a look, in which it is asked for once.
    fn begin(self) -> Self {
        Self {
            counted: false,
            ..self
        }
    }
}

/// Asks for the page of a row, and the processor for what is looked at first of it.
/// Where it is, if it is in a shared buffer, and whether it is read from now on.
///
/// # Safety
/// The table is open. An ERROR is raised by `longjmp`: there has to be a guard, and
/// nothing within it that needs a drop.
#[inline]
unsafe fn request(heap: pg_sys::Relation, length: &mut Length, tid: Tid) -> (Option<Place>, bool) {
    let (block, offset) = ((tid >> 16) as pg_sys::BlockNumber, tid as u16);
    // A damaged index may point behind the table's end.
    if block >= length.blocks && !core::mem::replace(&mut length.counted, true) {
        // SAFETY: the caller's promise.
        length.blocks = unsafe { pages_of(heap) };
    }
    if block >= length.blocks {
        return (None, false);
    }
    #[cfg(any(test, feature = "pg_test"))]
    let block = if seen::FAIL.load(Ordering::Relaxed) {
        pg_sys::InvalidBlockNumber - 1
    } else {
        block
    };
    // SAFETY: as above.
    let (buffer, reads) = unsafe { request_page(heap, block) };
    if let Some(buffer) = buffer {
        // SAFETY: the number came from the buffer manager.
        unsafe { prefetch_row(buffer, offset) };
    }
    #[cfg(any(test, feature = "pg_test"))]
    {
        seen::ASKED.fetch_add(1, Ordering::Relaxed);
        seen::READ.fetch_add(usize::from(reads), Ordering::Relaxed);
    }
    (buffer.map(|buffer| (buffer, offset)), reads)
}

/// Asks the processor for a row whose line pointer it has been asked for.
///
/// # Safety
/// The number of the buffer came from the buffer manager.
#[inline]
unsafe fn prefetch_place(place: Option<Place>) {
    if let Some((buffer, offset)) = place {
        // SAFETY: the caller's promise.
        unsafe { prefetch_tuple(buffer, offset) };
    }
}

/// Pages of a table that may be read at once; 0 if none is to be asked for.
///
/// # Safety
/// `heap` is open, or NULL.
unsafe fn most_reads(heap: pg_sys::Relation) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        if heap.is_null() || !is_heap(heap) {
            return 0;
        }
        let reads = pg_sys::get_tablespace_io_concurrency((*(*heap).rd_rel).reltablespace);
        usize::try_from(reads).unwrap_or(0)
    }
}

/// Nanoseconds since the process began to ask.
fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    #[cfg(any(test, feature = "pg_test"))]
    {
        static TICKS: AtomicU64 = AtomicU64::new(0);
        let tick = seen::TICK.load(Ordering::Relaxed);
        if tick != 0 {
            return TICKS.fetch_add(tick, Ordering::Relaxed);
        }
    }
    let elapsed = BEGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
