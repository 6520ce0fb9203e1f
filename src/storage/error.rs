//! Errors of the core as errors of PostgreSQL.

use omen_core::Error;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::held;
use super::relation::index_name;

/// What is left to do with a damaged index.
pub const HINT: &str = "Please REINDEX it.";

/// Raises `error` as an ERROR that names the index. Called when all guards of
/// the operation are gone.
///
/// # Safety
/// `index` is an open index.
unsafe fn raise(index: pg_sys::Relation, error: Error) -> ! {
    // SAFETY: the caller's promise.
    let name = unsafe { index_name(index) };
    let function = "omen";
    let report = match error {
        Error::Corrupt { block, what } => ErrorReport::new(
            PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
            format!("index \"{name}\" is damaged at block {block}: {what}"),
            function,
        )
        .set_hint(HINT),
        Error::Version { found } => ErrorReport::new(
            PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
            format!("index \"{name}\" has format version {found}, which is not supported"),
            function,
        )
        .set_hint(HINT),
        Error::OutOfMemory { bytes } => ErrorReport::new(
            PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            "out of memory",
            function,
        )
        .set_detail(format!(
            "Failed on request of size {bytes} for index \"{name}\"."
        )),
        Error::Full | Error::Stopped => ErrorReport::new(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("index \"{name}\": {error}"),
            function,
        ),
    };
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return");
}

/// The value of a result of the core, or an ERROR that names the index.
///
/// # Safety
/// As for [`raise`].
#[inline]
pub unsafe fn in_index<T>(index: pg_sys::Relation, result: omen_core::Result<T>) -> T {
    held::must_be_none("an operation ends with a lock");
    match result {
        Ok(value) => value,
        // SAFETY: the caller's promise.
        Err(error) => unsafe { raise(index, error) },
    }
}
