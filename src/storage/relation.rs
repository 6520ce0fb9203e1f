//! What the relation cache says of an index, by PostgreSQL version.

use core::ffi::CStr;

use pgrx::pg_sys;

/// The name of a relation, without its schema.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn index_name(rel: pg_sys::Relation) -> String {
    // SAFETY: an open relation has its pg_class row.
    let name = unsafe { CStr::from_ptr((*(*rel).rd_rel).relname.data.as_ptr()) };
    name.to_string_lossy().into_owned()
}

/// The number of the relation's file: another one means another index.
///
/// # Safety
/// `rel` is an open relation.
#[inline]
pub unsafe fn file_number(rel: pg_sys::Relation) -> u32 {
    // SAFETY: the caller's promise.
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    let number = unsafe { (*rel).rd_node.relNode };
    // SAFETY: the caller's promise.
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    let number = unsafe { (*rel).rd_locator.relNumber };
    u32::from(number)
}

/// `RelationNeedsWAL`.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn needs_wal(rel: pg_sys::Relation) -> bool {
    const INVALID: pg_sys::SubTransactionId = 0;
    // SAFETY: the caller's promise; wal_level does not change under a server.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let first_file = (*rel).rd_firstRelfilenodeSubid;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let first_file = (*rel).rd_firstRelfilelocatorSubid;
        let logged = pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32;
        let permanent = (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
        permanent && (logged || ((*rel).rd_createSubid == INVALID && first_file == INVALID))
    }
}

/// `RELATION_IS_LOCAL`: nobody else can see the relation.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn is_local(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*rel).rd_islocaltemp || (*rel).rd_createSubid != 0 }
}

/// Whether a relation is empty after a crash.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn is_unlogged(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED }
}

/// `RELATION_IS_OTHER_TEMP`: a temporary relation of another session, whose
/// pages are in that session's memory.
///
/// # Safety
/// `rel` is an open relation.
pub unsafe fn is_other_temp(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*(*rel).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP
            && !(*rel).rd_islocaltemp
    }
}
