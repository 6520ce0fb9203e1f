//! The keys that queries look for: tables of existing keys, the same in every run.

use anyhow::Result;
use postgres::Client;

use crate::measure::{BTREE, CANDIDATE, Target, run, same};

/// Keys to look for, usually.
pub const PROBES: u64 = 200_000;
const RANGES: u64 = 10_000;
const LARGE_RANGES: u64 = 5;
/// On small tables there are more large ranges, for a time that can be measured.
const MIN_ROWS_READ: u64 = 250_000;
/// Rows read for each key that is drawn at most. It keeps lookups of keys with many
/// rows each, and ranges over them, short.
const MAX_ROWS_READ: u64 = 10;
/// Settings under which every query is planned as the index scan to be measured.
pub const PLANNER: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;
    SET enable_material = off; SET enable_memoize = off;";

/// A column of a table, and what is known of its keys.
pub struct Column<'a> {
    pub table: &'a str,
    pub name: &'a str,
    pub rows: u64,
    /// Rows that have the key of a random row, on average; at least 1.
    pub per_key: u64,
    /// How many keys are drawn at most.
    pub most: u64,
}

impl<'a> Column<'a> {
    /// Counts rows and keys of column `name` of `table`.
    pub fn of(client: &mut Client, table: &'a str, name: &'a str) -> Result<Self> {
        // A random row's key has more rows than the average key.
        let counts = client.query_one(
            &format!(
                "SELECT sum(n)::bigint, round(sum(n * n) / sum(n))::bigint
                 FROM (SELECT count(*) AS n FROM {table} GROUP BY {name}) AS keys"
            ),
            &[],
        )?;
        Ok(Self {
            table,
            name,
            rows: u64::try_from(counts.get::<_, i64>(0))?,
            per_key: u64::try_from(counts.get::<_, i64>(1))?.max(1),
            most: PROBES,
        })
    }

    /// Tables `starts` and `probes`, column `k`: keys of random rows. There are
    /// fewer in `probes` where each of them has many rows.
    pub fn draw_probes(&self, client: &mut Client) -> Result<()> {
        let Self {
            table, name, most, ..
        } = self;
        let probes = (MAX_ROWS_READ * most / self.per_key)
            .clamp(100, *most)
            .min(self.rows);
        client.batch_execute(&format!(
            "SELECT setseed(0.1);
             DROP TABLE IF EXISTS starts;
             CREATE TABLE starts AS SELECT {name} AS k FROM {table}
                ORDER BY random() LIMIT {most};
             DROP TABLE IF EXISTS probes;
             CREATE TABLE probes AS SELECT k FROM starts LIMIT {probes};"
        ))?;
        Ok(client.batch_execute("ANALYZE starts; ANALYZE probes")?)
    }

    /// Tables `ranges` (100 rows each) and `large` (1 % each), columns `lo` and
    /// `hi`: ranges that begin at the keys of random rows.
    pub fn draw_ranges(&self, client: &mut Client) -> Result<()> {
        let Self { table, name, .. } = self;
        let most_rows = MAX_ROWS_READ * self.most;
        let large = (self.rows / 100).max(100);
        let small = 100;
        let large_ranges = (MIN_ROWS_READ.min(most_rows) / large).clamp(LARGE_RANGES, RANGES);
        let ranges = (most_rows / (small + self.per_key)).clamp(50, RANGES);
        for (into, length, count) in [("ranges", small, ranges), ("large", large, large_ranges)] {
            client.batch_execute(&format!(
                "DROP TABLE IF EXISTS {into};
                 CREATE TABLE {into} AS SELECT lo, hi
                    FROM (SELECT {name} AS lo,
                                 lead({name}, {length} - 1) OVER (ORDER BY {name}) AS hi
                          FROM {table}) AS s
                    WHERE hi IS NOT NULL ORDER BY random() LIMIT {count};"
            ))?;
        }
        Ok(client.batch_execute("ANALYZE ranges; ANALYZE large")?)
    }
}

/// Whether the index on `column` of each of `indexed`, read from end to end, is in
/// order and holds what a sequential scan of table `reference` finds.
pub fn indexes_agree(
    client: &mut Client,
    column: &str,
    indexed: &[Target],
    reference: &str,
) -> Result<bool> {
    let hash = format!("count(*), sum(hash_record_extended(ROW({column}), 0))");
    let expected = run(
        client,
        &format!("RESET ALL; SELECT {hash}, 0 AS disorder FROM {reference}"),
        &BTREE,
    )?;
    let ordered = format!(
        "SELECT {hash}, count(*) FILTER (WHERE {column} < before) AS disorder
         FROM (SELECT {column}, lag({column}) OVER (ORDER BY {column}) AS before
               FROM {{t}}) AS s"
    );
    client.batch_execute(PLANNER)?;
    let mut equal = true;
    for target in indexed {
        equal &= same(&expected.1, &run(client, &ordered, target)?.1);
    }
    Ok(equal)
}

pub fn count(client: &mut Client, table: &str) -> Result<u64> {
    let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[])?;
    Ok(u64::try_from(count.get::<_, i64>(0))?)
}

/// `DROP TABLE` and `CREATE TABLE AS` for each of `copies`, vacuumed and analysed.
pub fn copy_table(client: &mut Client, table: &str, copies: &[Target]) -> Result<()> {
    for Target { table: copy, .. } in copies {
        client.batch_execute(&format!(
            "DROP TABLE IF EXISTS {copy}; CREATE TABLE {copy} AS SELECT * FROM {table}"
        ))?;
        client.batch_execute(&format!("VACUUM (ANALYZE) {copy}"))?;
    }
    Ok(())
}

/// Bytes of the main fork of `index`.
pub fn index_bytes(client: &mut Client, index: &str) -> Result<u64> {
    let size = client.query_one("SELECT pg_relation_size($1::text::regclass)", &[&index])?;
    Ok(u64::try_from(size.get::<_, i64>(0))?)
}

/// Brings tables and indexes into shared buffers where pg_prewarm is there to do it.
pub fn prewarm(client: &mut Client, targets: &[Target]) -> Result<()> {
    let there = count(client, "pg_extension WHERE extname = 'pg_prewarm'")?;
    if there == 1 {
        for Target { table, index } in targets {
            client.batch_execute(&format!(
                "SELECT pg_prewarm('{table}'), pg_prewarm('{index}')"
            ))?;
        }
    }
    Ok(())
}

/// The tables that the demo compares.
pub const BOTH: [Target; 2] = [BTREE, CANDIDATE];
