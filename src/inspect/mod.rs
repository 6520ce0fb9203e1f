//! SQL functions that show what is in an index, and whether it is sound.

mod check;
mod stats;
mod table;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::am::{batch, is_omen};
use crate::storage::{index_name, is_other_temp};

/// Raises an ERROR unless the relation is an omen index with pages that this
/// session can read. Entries of this session's that wait are on them then.
///
/// # Safety
/// `rel` is open and locked, and no page of it.
unsafe fn check_readable(rel: pg_sys::Relation, function: &'static str) {
    let fail = |code, message: String| {
        ErrorReport::new(code, message, function).report(PgLogLevel::ERROR);
    };
    // SAFETY: the caller's promise; `rd_index` is set for an index.
    unsafe {
        let name = index_name(rel);
        if !is_omen(rel) {
            fail(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("relation \"{name}\" is not an omen index"),
            );
        }
        if is_other_temp(rel) {
            fail(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "cannot access temporary tables of other sessions".to_owned(),
            );
        }
        if !(*(*rel).rd_index).indisvalid {
            fail(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("index \"{name}\" is not valid"),
            );
        }
        batch::settle(rel);
    }
}
