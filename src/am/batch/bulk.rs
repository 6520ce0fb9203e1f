//! Which statements insert in bulk.

use omen_core::planted;
use pgrx::pg_sys;

use crate::am::options::insert_buffer;

/// Whether the entries of a statement of this session may wait at all. The check for
/// serialization conflicts has come before the entry, which a serializable reader
/// would not find then.
pub(super) fn may_wait() -> bool {
    // SAFETY: settings of the session and the transaction.
    let serializable = unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_SERIALIZABLE.cast_signed() };
    insert_buffer() > 0 && (!serializable || planted::is("serializable_waits"))
}

/// Whether a plan inserts in bulk, and nothing else: another part of it may insert
/// speculatively, which leaves dead rows whose TIDs are used again at once.
///
/// # Safety
/// The plan is NULL or valid.
pub(super) unsafe fn inserts_in_bulk(plan: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise; the node's tag says what it is.
    unsafe {
        let Some(plan) = plan.as_ref() else {
            return false;
        };
        let top = plan.planTree;
        if plan.hasModifyingCTE || top.is_null() || (*top).type_ != pg_sys::NodeTag::T_ModifyTable {
            return false;
        }
        let insert = &*top.cast::<pg_sys::ModifyTable>();
        let source = insert.plan.lefttree;
        // One row of values.
        let single = source.is_null()
            || ((*source).type_ == pg_sys::NodeTag::T_Result && (*source).lefttree.is_null());
        let plain = insert.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_NONE;
        (plain || planted::is("speculative_waits")) && !single
    }
}

/// Whether a utility statement is COPY FROM.
///
/// # Safety
/// The statement is valid.
pub(super) unsafe fn copies(statement: *const pg_sys::PlannedStmt) -> bool {
    // SAFETY: the caller's promise; the node's tag says what it is.
    unsafe {
        let node = (*statement).utilityStmt;
        (*node).type_ == pg_sys::NodeTag::T_CopyStmt && (*node.cast::<pg_sys::CopyStmt>()).is_from
    }
}
