//! The callbacks of scans.

use core::ffi::{c_int, c_void};

use omen_core::planted;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::ready::Ready;
use super::{AnyScan, Descriptor, OmenScan};
use crate::am::batch;
use crate::am::bitmap::Bitmap;
use crate::am::state::{key_type, state_of};
use crate::storage::abandon;

/// What `IndexScanDesc.opaque` points to: in PostgreSQL's memory, together
/// with the callback that runs when that memory dies. After an ERROR nobody
/// calls `amendscan`; then the callback frees the scan.
#[repr(C)]
struct Handle {
    callback: pg_sys::MemoryContextCallback,
    /// Rows of `scan`, which is not told of the steps.
    ready: Ready,
    scan: Option<Opened>,
}

impl Handle {
    /// The scan, which knows of all steps. It may do anything: nothing is ready.
    #[inline]
    fn opened(&mut self) -> Option<&mut Opened> {
        let steps = self.ready.steps();
        self.ready = Ready::NONE;
        let opened = self.scan.as_mut()?;
        if steps > 0 {
            opened.any().step_ahead(steps);
        }
        Some(opened)
    }

    /// Makes ready what the scan has.
    #[inline]
    fn make_ready(&mut self) {
        if let Some(Opened::One(opened)) = &self.scan {
            // SAFETY: who forms other tuples, or drops them, has got the scan from
            // `opened`, or nobody uses the handle any more.
            unsafe { self.ready.set(opened.ready()) };
        }
    }
}

/// A scan, by the lanes of its index.
enum Opened {
    One(Box<OmenScan<1>>),
    Two(Box<OmenScan<2>>),
}

impl Opened {
    fn any(&mut self) -> &mut dyn AnyScan {
        match self {
            Self::One(scan) => &mut **scan,
            Self::Two(scan) => &mut **scan,
        }
    }

    /// As [`OmenScan::is_look_due`].
    #[inline]
    fn is_look_due(&mut self, forward: bool) -> bool {
        match self {
            Self::One(opened) => opened.is_look_due(forward),
            Self::Two(opened) => opened.is_look_due(forward),
        }
    }

    /// As [`OmenScan::step`].
    #[inline]
    fn step(&mut self, scan: &mut Descriptor, forward: bool) -> Option<bool> {
        match self {
            Self::One(opened) => opened.step(scan, forward),
            Self::Two(opened) => opened.step(scan, forward),
        }
    }
}

/// Frees a scan whose memory context dies. Its pins have been released by the
/// resource owner, or by `amendscan`.
unsafe extern "C-unwind" fn on_context_reset(handle: *mut c_void) {
    // SAFETY: the handle is in the context, which is not freed yet.
    let scan = unsafe { (*handle.cast::<Handle>()).scan.take() };
    abandon(|| drop(scan));
}

/// The scan of a descriptor.
///
/// # Safety
/// `scan` comes from `ambeginscan`, and the result is used within one callback.
#[inline]
unsafe fn opened<'a>(scan: pg_sys::IndexScanDesc) -> (&'a mut Descriptor, &'a mut dyn AnyScan) {
    // SAFETY: the caller's promise.
    unsafe {
        let scan = &mut *scan;
        match (*scan.opaque.cast::<Handle>()).opened() {
            Some(opened) => (scan, opened.any()),
            None => error!("omen: the index scan has ended"),
        }
    }
}

/// `ambeginscan`.
#[pg_guard]
pub(in crate::am) unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    nkeys: c_int,
    norderbys: c_int,
) -> pg_sys::IndexScanDesc {
    // SAFETY: the callback's contract: the index is open and locked. The
    // handle is initialised before its callback is registered.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, nkeys, norderbys);
        let handle = pg_sys::palloc0(size_of::<Handle>()).cast::<Handle>();
        let opened = match key_type(index).lanes() {
            2 => Opened::Two(Box::new(OmenScan::new(state_of(index)))),
            _ => Opened::One(Box::new(OmenScan::new(state_of(index)))),
        };
        handle.write(Handle {
            callback: pg_sys::MemoryContextCallback {
                func: Some(on_context_reset),
                arg: handle.cast(),
                next: core::ptr::null_mut(),
            },
            ready: Ready::NONE,
            scan: Some(opened),
        });
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::MemoryContextRegisterResetCallback(context, &raw mut (*handle).callback);
        (*scan).opaque = handle.cast();
        (*scan).xs_itupdesc = (*index).rd_att;
        scan
    }
}

/// `amrescan`.
#[pg_guard]
pub(in crate::am) unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    _nkeys: c_int,
    _orderbys: pg_sys::ScanKey,
    _norderbys: c_int,
) {
    // SAFETY: the callback's contract; `keys` holds `numberOfKeys` keys, and
    // may be the descriptor's own array.
    unsafe {
        let (scan, opened) = opened(scan);
        batch::settle_for(scan);
        let count = usize::try_from(scan.numberOfKeys).unwrap_or(0);
        if count > 0 && !keys.is_null() {
            core::ptr::copy(keys, scan.keyData, count);
            if planted::is("one_key_too_many") {
                // Valgrind does not see a read whose value goes nowhere.
                core::hint::black_box(keys.add(count).cast::<u8>().read());
            }
        }
        opened.settle_killed(scan);
        opened.rescan(scan);
    }
}

/// `amgettuple`. Most rows are in memory, and take only what needs no frame: it would
/// be set up for every row.
pub(in crate::am) unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: the callback's contract; the descriptor comes from `ambeginscan`.
    unsafe {
        let forward = direction == pg_sys::ScanDirection::ForwardScanDirection;
        if forward
            && !batch::is_any_waiting()
            && !(*scan).kill_prior_tuple
            && let Some(tuple) = (*(*scan).opaque.cast::<Handle>()).ready.next()
        {
            // Who does not want the tuple does not look at it. All else is as for the
            // row before, which has come from the scan or the same way.
            (*scan).xs_itup = tuple.as_index_tuple();
            (*scan).xs_heaptid = tuple.tid();
            return true;
        }
        row_in_memory(scan, direction)
    }
}

/// What costs least after that. It has no guard, so nothing in it may raise an ERROR;
/// `look_ahead` and `next_row` have their own.
#[inline(never)]
unsafe extern "C-unwind" fn row_in_memory(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    let forward = direction == pg_sys::ScanDirection::ForwardScanDirection;
    let moves = forward || direction == pg_sys::ScanDirection::BackwardScanDirection;
    // SAFETY: the callback's contract; the descriptor comes from `ambeginscan`.
    unsafe {
        if moves
            && !batch::is_awaited((*scan).xs_snapshot)
            && let Some(opened) = (*(*scan).opaque.cast::<Handle>()).opened()
        {
            if opened.is_look_due(forward) {
                look_ahead(scan, forward);
            }
            let handle = &mut *(*scan).opaque.cast::<Handle>();
            if let Some(opened) = handle.opened()
                && let Some(row) = opened.step(&mut *scan, forward)
            {
                if forward {
                    handle.make_ready();
                }
                return row;
            }
        }
        next_row(scan, direction)
    }
}

/// Asks the buffer manager for the pages of rows to come.
#[inline(never)]
#[pg_guard]
unsafe extern "C-unwind" fn look_ahead(scan: pg_sys::IndexScanDesc, forward: bool) {
    // SAFETY: the callback's contract.
    unsafe {
        let (scan, opened) = opened(scan);
        opened.look_ahead(scan, forward);
    }
}

/// What needs pages.
#[inline(never)]
#[pg_guard]
unsafe extern "C-unwind" fn next_row(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: the callback's contract.
    unsafe {
        let (scan, opened) = opened(scan);
        batch::settle_for(scan);
        if direction == pg_sys::ScanDirection::NoMovementScanDirection {
            return opened.on_row();
        }
        opened.next(
            scan,
            direction == pg_sys::ScanDirection::ForwardScanDirection,
        )
    }
}

/// `amgetbitmap`.
#[pg_guard]
pub(in crate::am) unsafe extern "C-unwind" fn amgetbitmap(
    scan: pg_sys::IndexScanDesc,
    bitmap: *mut pg_sys::TIDBitmap,
) -> i64 {
    // SAFETY: the callback's contract.
    unsafe {
        let (scan, opened) = opened(scan);
        batch::settle_for(scan);
        opened.bitmap(scan, Bitmap::new(bitmap))
    }
}

/// `amendscan`.
#[pg_guard]
pub(in crate::am) unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the callback's contract. The handle itself stays until its
    // memory context dies: the callback cannot be taken back.
    unsafe {
        let handle = &mut *(*scan).opaque.cast::<Handle>();
        if let Some(opened) = handle.opened() {
            opened.any().settle_killed(&*scan);
        }
        drop(handle.scan.take());
    }
}

/// `ammarkpos`. Merge joins mark each row and often go back: as for
/// [`amgettuple`], what has no guard costs least.
pub(in crate::am) unsafe extern "C-unwind" fn ammarkpos(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the callback's contract; the descriptor comes from `ambeginscan`.
    let handle = unsafe { &mut *(*scan).opaque.cast::<Handle>() };
    let steps = handle.ready.steps();
    if let Some(opened) = &mut handle.scan {
        // What is ready stays so.
        opened.any().mark(steps);
    }
}

/// `amrestrpos`.
pub(in crate::am) unsafe extern "C-unwind" fn amrestrpos(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the callback's contract; the descriptor comes from `ambeginscan`.
    unsafe {
        let handle = &mut *(*scan).opaque.cast::<Handle>();
        if handle
            .opened()
            .is_some_and(|opened| opened.any().step_back())
        {
            handle.make_ready();
        } else {
            go_back(scan);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn go_back(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the callback's contract.
    unsafe {
        let (scan, opened) = opened(scan);
        opened.restore(scan);
    }
}
