//! `omen_index_check`: whether an index is sound and agrees with its table.

use omen_core::key::Pos;
use omen_core::store::PageStore;
use omen_core::tree::{Tree, Witness, check, check_beside_writers};
use omen_core::{Block, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::check_readable;
use super::table::{HeapRows, find_rows};
use crate::am::by_lanes;
use crate::am::state::{key_type, state_of};
use crate::storage::{PgStore, in_index, index_name, is_unlogged};

/// Leaves between two reports of progress.
const REPORT_EVERY: u64 = 1000;

// Evaluates expressions and reads everything: for nobody by default, as amcheck.
#[pg_extern(sql = "
CREATE FUNCTION omen_index_check(
    index regclass,
    heapallindexed boolean DEFAULT false,
    \"full\" boolean DEFAULT false
) RETURNS void
    STRICT VOLATILE LANGUAGE c
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
COMMENT ON FUNCTION omen_index_check(regclass, boolean, boolean) IS
    'raises an error for the first fault of an omen index; compares it with its table; \
keeps writers out to check all of it at one time';
REVOKE EXECUTE ON FUNCTION omen_index_check(regclass, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION omen_check_all(
    heapallindexed boolean DEFAULT false,
    \"full\" boolean DEFAULT false,
    OUT index regclass,
    OUT fault text
) RETURNS SETOF record
    STRICT VOLATILE LANGUAGE plpgsql
    AS $$
DECLARE
    home pg_catalog.regnamespace;
    method pg_catalog.oid;
BEGIN
    SELECT e.extnamespace, a.oid INTO STRICT home, method
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d
            ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid OPERATOR(pg_catalog.=) e.oid
            AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_am'::pg_catalog.regclass
        JOIN pg_catalog.pg_am AS a ON a.oid OPERATOR(pg_catalog.=) d.objid
        WHERE e.extname OPERATOR(pg_catalog.=) 'omendb_index';
    FOR index IN
        SELECT c.oid
            FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_index AS i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
            WHERE c.relam OPERATOR(pg_catalog.=) method
                AND c.relkind OPERATOR(pg_catalog.=) 'i'
                AND i.indisvalid
                AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)
            ORDER BY c.oid
    LOOP
        fault := NULL;
        BEGIN
            EXECUTE pg_catalog.format('SELECT %s.omen_index_check($1, $2, $3)', home)
                USING index, heapallindexed, \"full\";
        EXCEPTION
            WHEN index_corrupted OR data_corrupted THEN
                fault := SQLERRM;
            -- Dropped meanwhile, or being built anew. Others that could not be
            -- checked, for a lock or on a standby, must not look sound.
            WHEN undefined_table OR object_not_in_prerequisite_state THEN
                IF EXISTS (
                    SELECT FROM pg_catalog.pg_index AS i
                        WHERE i.indexrelid OPERATOR(pg_catalog.=) index AND i.indisvalid)
                THEN
                    RAISE;
                END IF;
                CONTINUE;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION omen_check_all(boolean, boolean) IS
    'omen_index_check of all omen indexes of the database: the first fault of each, or NULL';
REVOKE EXECUTE ON FUNCTION omen_check_all(boolean, boolean) FROM PUBLIC;
")]
fn omen_index_check(index: pg_sys::Oid, heapallindexed: bool, full: bool) {
    let mode = if full {
        pg_sys::ShareLock
    } else {
        pg_sys::AccessShareLock
    };
    let mode = mode.cast_signed();
    // SAFETY: both relations stay open and locked in between. An ERROR leaves
    // locks, user and settings to the abort of the transaction.
    unsafe {
        // The table first, as everybody locks them.
        let heap_oid = pg_sys::IndexGetRelation(index, true);
        let heap = if heap_oid == pg_sys::InvalidOid {
            core::ptr::null_mut()
        } else {
            pg_sys::try_table_open(heap_oid, mode)
        };
        let owner = (!heap.is_null()).then(|| AsOwner::of(heap));
        let rel = pg_sys::try_relation_open(index, mode);
        if rel.is_null() {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("relation with OID {} does not exist", index.to_u32())
            );
        }
        check_readable(rel, "omen_index_check");
        if heap.is_null() || pg_sys::IndexGetRelation(index, true) != heap_oid {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!(
                    "could not open parent table of index \"{}\"",
                    index_name(rel)
                )
            );
        }
        if is_unlogged(rel) && pg_sys::RecoveryInProgress() {
            ereport!(
                PgLogLevel::DEBUG1,
                PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
                format!(
                    "cannot verify unlogged index \"{}\" during recovery, skipping",
                    index_name(rel)
                )
            );
        } else {
            let lanes = key_type(rel).lanes();
            by_lanes!(lanes, check_index(heap, rel, heapallindexed, full));
        }
        if let Some(owner) = owner {
            owner.restore();
        }
        pg_sys::relation_close(rel, mode);
        pg_sys::table_close(heap, mode);
    }
}

/// While functions of an index run: the table's owner, who may not change much,
/// and settings that end with it (`bt_index_check_internal` of amcheck).
struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
    settings: i32,
}

impl AsOwner {
    /// # Safety
    /// `heap` is open.
    unsafe fn of(heap: pg_sys::Relation) -> Self {
        let mut before = Self {
            user: pg_sys::InvalidOid,
            context: 0,
            settings: 0,
        };
        // SAFETY: the caller's promise.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut before.user, &raw mut before.context);
            let restricted = pg_sys::SECURITY_RESTRICTED_OPERATION.cast_signed();
            let owner = (*(*heap).rd_rel).relowner;
            pg_sys::SetUserIdAndSecContext(owner, before.context | restricted);
            before.settings = pg_sys::NewGUCNestLevel();
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            pg_sys::RestrictSearchPath();
        }
        before
    }

    fn restore(self) {
        // SAFETY: what `of` has found.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.settings);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Raises an ERROR for the first fault.
///
/// # Safety
/// Table and index are open and locked, and the index has `V` lanes.
unsafe fn check_index<const V: usize>(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    heapallindexed: bool,
    full: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let state = state_of::<V>(index);
        let ring = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD);
        let store = PgStore::new(index, &state.known).with_strategy(ring);
        let tree = Tree::new(&store, &state.router);
        let rows = heapallindexed.then(|| HeapRows::open(heap, index, state.codec));
        let mut leaves = Leaves {
            rows,
            seen: 0,
            name: index_name(index),
        };
        let report = if full {
            check(&tree, &mut leaves)
        } else {
            check_beside_writers(&tree, &mut leaves)
        };
        let report = in_index(index, report);
        debug1!(
            "index \"{}\": {} entries in {} leaves are sound",
            leaves.name,
            report.entries,
            report.leaves
        );
        if report.incomplete > 0 {
            debug1!(
                "index \"{}\": {} splits are not finished",
                leaves.name,
                report.incomplete
            );
        }
        if let Some(rows) = leaves.rows {
            rows.close();
            // Looked up at random: through all buffers, not a ring of a few.
            let store = PgStore::new(index, &state.known);
            find_rows(heap, index, &state.codec, &Tree::new(&store, &state.router));
        }
        in_index(index, store.breathe());
    }
}

/// What is done with every leaf.
struct Leaves<const V: usize> {
    rows: Option<HeapRows<V>>,
    seen: u64,
    name: String,
}

impl<const V: usize> Witness<V> for Leaves<V> {
    fn leaf(&mut self, block: Block, entries: &[Pos<V>]) -> Result<()> {
        self.seen += 1;
        if self.seen.is_multiple_of(REPORT_EVERY) {
            debug1!("index \"{}\": {} leaves are sound", self.name, self.seen);
        }
        match &mut self.rows {
            Some(rows) => rows.compare(block, entries),
            None => Ok(()),
        }
    }
}
