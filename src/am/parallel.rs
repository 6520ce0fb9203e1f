//! Parallel scans: what those who share one have in common, in memory that all
//! of them see, and their turns at it.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use omen_core::Result;
use omen_core::tree::{Reached, Turns};
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::storage::must_be_none;

/// Nobody has the turn.
const FREE: u32 = 0;
/// Somebody has the turn.
const TAKEN: u32 = 1;

/// What does not depend on the index's lanes, which `aminitparallelscan` is not
/// told.
#[repr(C)]
struct Head {
    /// `FREE` or `TAKEN`.
    turn: AtomicU32,
    /// Whether `reached` says anything. Of who has the turn.
    begun: UnsafeCell<bool>,
    /// Those who wait for the turn.
    waiting: UnsafeCell<pg_sys::ConditionVariable>,
}

/// What all who share a scan see.
#[repr(C)]
struct SharedScan<const V: usize> {
    head: Head,
    /// How far the scan has come, once it has begun; `None`: to its end. Of who
    /// has the turn.
    reached: UnsafeCell<MaybeUninit<Option<Reached<V>>>>,
}

/// Bytes of shared memory, for any index.
const SIZE: usize = {
    let (one, two) = (size_of::<SharedScan<1>>(), size_of::<SharedScan<2>>());
    if one > two { one } else { two }
};

/// PostgreSQL aligns the memory to `MAXALIGN`.
const _: () = assert!(align_of::<SharedScan<1>>() <= 8 && align_of::<SharedScan<2>>() <= 8);

/// The access method's part of a parallel scan's memory.
///
/// # Safety
/// `scan` is that of a parallel scan.
unsafe fn memory_of(scan: *mut pg_sys::ParallelIndexScanDescData) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(feature = "pg18")]
        let offset = (*scan).ps_offset_am;
        #[cfg(not(feature = "pg18"))]
        let offset = (*scan).ps_offset;
        scan.byte_add(offset).cast()
    }
}

/// The part in a parallel scan of this process.
pub(super) struct Participant<const V: usize> {
    shared: *const SharedScan<V>,
}

impl<const V: usize> Participant<V> {
    /// `None`: the scan is not parallel.
    ///
    /// # Safety
    /// `scan` is a scan of an index of `V` lanes, and goes on as long as the
    /// result is used.
    #[inline]
    pub unsafe fn of(scan: &pg_sys::IndexScanDescData) -> Option<Self> {
        if scan.parallel_scan.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        let shared = unsafe { memory_of(scan.parallel_scan) }.cast();
        Some(Self { shared })
    }

    fn shared(&self) -> &SharedScan<V> {
        // SAFETY: aminitparallelscan has written the head, the rest may be unwritten.
        // What changes is atomic or in cells.
        unsafe { &*self.shared }
    }

    /// Leaves the turn to the next.
    fn give_up(&self) {
        let head = &self.shared().head;
        head.turn.store(FREE, Ordering::SeqCst);
        // Who has missed this has entered the list of those who wait by now.
        fence(Ordering::SeqCst);
        // SAFETY: the variable is initialised. This raises no error, and has
        // nothing to do with interrupts, so that it is allowed while an ERROR
        // unwinds.
        unsafe { pg_sys::ConditionVariableSignal(head.waiting.get()) };
    }
}

impl<const V: usize> Turns<V> for Participant<V> {
    fn take(&self) -> Result<Option<Reached<V>>> {
        must_be_none("waits for its turn in a parallel scan with a lock");
        let SharedScan { head, reached } = self.shared();
        let mut slept = false;
        while head
            .turn
            .compare_exchange(FREE, TAKEN, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            slept = true;
            // SAFETY: the variable is initialised. Returns at once the first time,
            // so that the turn is tried for again after this process has entered
            // the list. Checks for interrupts: whoever ends in its turn ends the
            // query, and that this wait.
            unsafe {
                pg_sys::ConditionVariableSleep(head.waiting.get(), pg_sys::PG_WAIT_EXTENSION);
            }
        }
        if slept {
            // SAFETY: as above.
            unsafe { pg_sys::ConditionVariableCancelSleep() };
        }
        // SAFETY: this process has the turn. What has begun was written.
        let reached = unsafe {
            let reached = &mut *reached.get();
            if !head.begun.get().replace(true) {
                reached.write(Some(Reached::START));
            }
            reached.assume_init()
        };
        if reached.is_none() {
            self.give_up();
        }
        Ok(reached)
    }

    fn pass(&self, reached: Option<Reached<V>>) {
        // SAFETY: this process has the turn.
        unsafe { (*self.shared().reached.get()).write(reached) };
        self.give_up();
    }
}

/// `amestimateparallelscan`.
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amestimateparallelscan() -> pg_sys::Size {
    SIZE
}

/// `amestimateparallelscan`.
#[cfg(feature = "pg17")]
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amestimateparallelscan(
    _nkeys: core::ffi::c_int,
    _norderbys: core::ffi::c_int,
) -> pg_sys::Size {
    SIZE
}

/// `amestimateparallelscan`.
#[cfg(feature = "pg18")]
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amestimateparallelscan(
    _index: pg_sys::Relation,
    _nkeys: core::ffi::c_int,
    _norderbys: core::ffi::c_int,
) -> pg_sys::Size {
    SIZE
}

/// `aminitparallelscan`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn aminitparallelscan(target: *mut c_void) {
    let head: *mut Head = target.cast();
    // SAFETY: the callback's contract: memory of the size asked for, which nobody
    // else knows yet.
    unsafe {
        (&raw mut (*head).turn).write(AtomicU32::new(FREE));
        (&raw mut (*head).begun).write(UnsafeCell::new(false));
        pg_sys::ConditionVariableInit((&raw mut (*head).waiting).cast());
    }
}

/// `amparallelrescan`: all who shared the scan have ended, but the leader.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amparallelrescan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the callback's contract: the scan is parallel, and nobody else is
    // in it.
    unsafe {
        let head: *mut Head = memory_of((*scan).parallel_scan).cast();
        (*head).turn.store(FREE, Ordering::SeqCst);
        (*head).begun.get().write(false);
    }
}
