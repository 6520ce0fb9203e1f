//! The first statement of a session that inserts into an omen index: the library is
//! loaded in the middle of it, so that no hook has seen it begin.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;

use pgrx::pg_sys;

use super::bulk::{copies, inserts_in_bulk, may_wait};
use super::{ARMED, FIRST_COMMAND, Flag, settle_all};

/// Whether the library was loaded, and no hook was called since then.
static UNSEEN: Flag = Flag::off();

thread_local! {
    /// The memory context in which a statement runs that was adopted; NULL: none does.
    static ADOPTED: Cell<pg_sys::MemoryContext> = const { Cell::new(ptr::null_mut()) };
}

/// The library has been loaded.
pub(super) fn is_loaded() {
    UNSEEN.set(true);
}

/// A hook is called: what begins from here on is seen.
#[inline]
pub(super) fn is_seen() {
    UNSEEN.set(false);
}

/// The transaction is over.
pub(super) fn forget() {
    ADOPTED.set(ptr::null_mut());
}

/// Lets the entries of the statement that goes on wait, if the library was loaded
/// since it began and it inserts in bulk. Returns whether they may.
///
/// # Safety
/// Called by `aminsert`: ERRORs can be raised.
#[inline]
pub(in crate::am) unsafe fn adopts() -> bool {
    // SAFETY: the caller's promise.
    UNSEEN.get() && unsafe { adopt() }
}

/// # Safety
/// As for [`adopts`].
#[cold]
unsafe fn adopt() -> bool {
    UNSEEN.set(false);
    // SAFETY: the caller's promise. The callback lives as long as the context.
    unsafe {
        if !may_wait() || !runs_in_bulk() {
            return false;
        }
        let context = pg_sys::CurrentMemoryContext;
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback: *mut pg_sys::MemoryContextCallback =
            pg_sys::MemoryContextAllocZero(context, size).cast();
        (*callback).func = Some(on_end_of);
        (*callback).arg = context.cast();
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
        // Its rows are of the command that its snapshot does not see.
        let command = if pg_sys::ActiveSnapshotSet() {
            (*pg_sys::GetActiveSnapshot()).curcid
        } else {
            0
        };
        FIRST_COMMAND.fetch_min(command, Ordering::Relaxed);
        ADOPTED.set(context);
    }
    ARMED.set(true);
    true
}

/// The memory of a statement that was adopted goes: it has ended, with or without an
/// ERROR. What waits is inserted before anything looks for it, and at the commit.
unsafe extern "C-unwind" fn on_end_of(context: *mut c_void) {
    if ADOPTED.get() == context.cast() {
        ADOPTED.set(ptr::null_mut());
        ARMED.set(false);
    }
}

/// Whether the row is one of the statement that the client has sent, and that inserts
/// in bulk: not of one that a function or trigger runs.
///
/// # Safety
/// As for [`adopts`].
unsafe fn runs_in_bulk() -> bool {
    // SAFETY: the portal that is active is valid, as are its statements.
    unsafe {
        let Some(portal) = pg_sys::ActivePortal.as_ref() else {
            return false;
        };
        // COPY inserts in the portal's context, INSERT in that of its executor, and all
        // that they call in others.
        let context = pg_sys::CurrentMemoryContext;
        if context != portal.portalContext && (*context).parent != portal.portalContext {
            return false;
        }
        let Some(statements) = portal.stmts.as_ref().filter(|list| list.length == 1) else {
            return false;
        };
        let plan = (*statements.elements)
            .ptr_value
            .cast::<pg_sys::PlannedStmt>();
        match (*plan).commandType {
            pg_sys::CmdType::CMD_INSERT => inserts_in_bulk(plan),
            pg_sys::CmdType::CMD_UTILITY => copies(plan),
            _ => false,
        }
    }
}

/// Whether a query is the one that was adopted. No hook tells the end of COPY.
///
/// # Safety
/// The query is valid.
#[inline]
pub(super) unsafe fn runs(query: *const pg_sys::QueryDesc) -> bool {
    let adopted = ADOPTED.get();
    // SAFETY: the caller's promise.
    !adopted.is_null() && unsafe { (*(*query).estate).es_query_cxt == adopted }
}

/// All rows of the query that was adopted are inserted.
///
/// # Safety
/// ERRORs can be raised.
pub(super) unsafe fn end() {
    ADOPTED.set(ptr::null_mut());
    ARMED.set(false);
    // SAFETY: the caller's promise.
    unsafe { settle_all() };
    // Nothing waited before it.
    FIRST_COMMAND.store(u32::MAX, Ordering::Relaxed);
}
