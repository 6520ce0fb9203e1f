//! The handler: what the access method can do, and its callbacks. Differences
//! between versions of PostgreSQL in this table are here and nowhere else.

use core::ffi::c_int;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{build, cost, insert, options, parallel, scan, vacuum};
use crate::types;

// `index_am_handler` is a pseudo-type that pgrx cannot name.
#[pg_extern(sql = "
CREATE FUNCTION omen_handler(internal) RETURNS index_am_handler
    STRICT LANGUAGE c AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
COMMENT ON FUNCTION omen_handler(internal) IS 'omen index access method handler';
CREATE ACCESS METHOD omen TYPE INDEX HANDLER omen_handler;
COMMENT ON ACCESS METHOD omen IS 'omen learned index access method';
")]
fn omen_handler(_fcinfo: pg_sys::FunctionCallInfo) -> PgBox<pg_sys::IndexAmRoutine> {
    let tag = pg_sys::NodeTag::T_IndexAmRoutine;
    // SAFETY: the tag is that of the type. Fields not set here are 0, false or
    // None.
    let mut am = unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(tag) };
    am.amstrategies = 5;
    am.amsupport = 1;
    am.amoptsprocnum = 0;
    am.amcanorder = true;
    am.amcanbackward = true;
    am.amoptionalkey = true;
    am.amsearcharray = true;
    am.amsearchnulls = true;
    am.amclusterable = true;
    // SERIALIZABLE transactions lock the whole index.
    am.ampredlocks = false;
    am.amcanparallel = true;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        am.amcanbuildparallel = true;
    }
    am.amusemaintenanceworkmem = false;
    // The cleanup looks at every page, whether there was a bulk delete or not.
    am.amparallelvacuumoptions =
        (pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL | pg_sys::VACUUM_OPTION_PARALLEL_CLEANUP) as u8;
    am.amkeytype = pg_sys::InvalidOid;

    am.ambuild = Some(build::ambuild);
    am.ambuildempty = Some(build::ambuildempty);
    am.ambuildphasename = Some(build::ambuildphasename);
    am.aminsert = Some(insert::aminsert);
    am.ambulkdelete = Some(vacuum::ambulkdelete);
    am.amvacuumcleanup = Some(vacuum::amvacuumcleanup);
    am.amcanreturn = Some(amcanreturn);
    am.amcostestimate = Some(cost::amcostestimate);
    am.amoptions = Some(options::amoptions);
    am.amvalidate = Some(amvalidate);
    am.ambeginscan = Some(scan::ambeginscan);
    am.amrescan = Some(scan::amrescan);
    am.amgettuple = Some(scan::amgettuple);
    am.amgetbitmap = Some(scan::amgetbitmap);
    am.amendscan = Some(scan::amendscan);
    am.ammarkpos = Some(scan::ammarkpos);
    am.amrestrpos = Some(scan::amrestrpos);
    am.amestimateparallelscan = Some(parallel::amestimateparallelscan);
    am.aminitparallelscan = Some(parallel::aminitparallelscan);
    am.amparallelrescan = Some(parallel::amparallelrescan);

    #[cfg(feature = "pg18")]
    {
        am.amconsistentequality = true;
        am.amconsistentordering = true;
        am.amtranslatestrategy = Some(amtranslatestrategy);
        am.amtranslatecmptype = Some(amtranslatecmptype);
    }
    am.into_pg_boxed()
}

extension_sql_file!(
    "../../sql/opclasses.sql",
    name = "opclasses",
    requires = [omen_handler]
);

/// Whether a relation is an index of this access method.
///
/// # Safety
/// `rel` is an open relation.
pub(crate) unsafe fn is_omen(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise; `rd_indam` is set for indexes alone.
    unsafe {
        let is_index = (*(*rel).rd_rel).relkind as u8 == pg_sys::RELKIND_INDEX;
        let build = (*rel).rd_indam.as_ref().and_then(|am| am.ambuild);
        is_index
            && build.is_some_and(|build| build as usize == build::ambuild as *const () as usize)
    }
}

/// `amcanreturn`: the column can be returned, exactly. But on a standby redo
/// takes no cleanup locks, which index-only scans rely on to know that a row
/// which they have copied from a page is still there. Asked when a query is
/// planned, and recovery ends but once.
#[pg_guard]
unsafe extern "C-unwind" fn amcanreturn(_index: pg_sys::Relation, _column: c_int) -> bool {
    // SAFETY: reads shared memory.
    unsafe { !pg_sys::RecoveryInProgress() }
}

/// `amvalidate`.
#[pg_guard]
unsafe extern "C-unwind" fn amvalidate(opclass: pg_sys::Oid) -> bool {
    types::validate(opclass)
}

/// `amtranslatestrategy`: the strategies are btree's.
#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn amtranslatestrategy(
    strategy: pg_sys::StrategyNumber,
    _opfamily: pg_sys::Oid,
) -> pg_sys::CompareType::Type {
    match strategy {
        1 => pg_sys::CompareType::COMPARE_LT,
        2 => pg_sys::CompareType::COMPARE_LE,
        3 => pg_sys::CompareType::COMPARE_EQ,
        4 => pg_sys::CompareType::COMPARE_GE,
        5 => pg_sys::CompareType::COMPARE_GT,
        _ => pg_sys::CompareType::COMPARE_INVALID,
    }
}

/// `amtranslatecmptype`.
#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn amtranslatecmptype(
    compare: pg_sys::CompareType::Type,
    _opfamily: pg_sys::Oid,
) -> pg_sys::StrategyNumber {
    match compare {
        pg_sys::CompareType::COMPARE_LT => 1,
        pg_sys::CompareType::COMPARE_LE => 2,
        pg_sys::CompareType::COMPARE_EQ => 3,
        pg_sys::CompareType::COMPARE_GE => 4,
        pg_sys::CompareType::COMPARE_GT => 5,
        _ => 0,
    }
}
