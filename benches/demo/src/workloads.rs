//! The measurements on one indexed column.

use anyhow::{Context, Result};
use postgres::Client;

use crate::data::Case;
use crate::inserts::PLAIN;
use crate::measure::{BTREE, CANDIDATE, Query, Scan, Target, compare, median, run, same};
use crate::progress::stage;
use crate::report::Row;

const PROBES: u64 = 200_000;
const RANGES: u64 = 10_000;
const LARGE_RANGES: u64 = 5;
/// On small tables there are more large ranges, for a time that can be measured.
const MIN_ROWS_READ: u64 = 250_000;
const TOP_N_QUERIES: u64 = 20_000;
/// Keeps lookups of keys with many rows each, and ranges over them, short.
const MAX_ROWS_READ: u64 = 2_000_000;
/// Settings under which every query is planned as the index scan to be measured.
pub(crate) const PLANNER: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;
    SET enable_material = off; SET enable_memoize = off;";

/// One column under measurement.
pub struct Bench<'a> {
    pub(crate) client: &'a mut Client,
    pub(crate) case: &'a Case,
    method: &'a str,
    pub(crate) reps: usize,
    pub(crate) rows: u64,
    /// Rows that have the key of a random row, on average; at least 1.
    per_key: u64,
    results: Vec<Row>,
}

impl<'a> Bench<'a> {
    /// Copies the base table once for each index method (and once without index),
    /// and draws the keys to look for.
    pub fn prepare(
        client: &'a mut Client,
        case: &'a Case,
        method: &'a str,
        reps: usize,
    ) -> Result<Self> {
        let (table, column) = (case.table, case.column);
        stage(&format!("{}: copying the table", case.name));
        let mut copies = vec![BTREE, CANDIDATE];
        if case.growth.is_some() {
            copies.push(PLAIN);
        }
        client.batch_execute("RESET ALL")?;
        for Target { table: copy, .. } in copies {
            client.batch_execute(&format!(
                "DROP TABLE IF EXISTS {copy}; CREATE TABLE {copy} AS SELECT * FROM {table}"
            ))?;
            client.batch_execute(&format!("VACUUM (ANALYZE) {copy}"))?;
        }
        // A random row's key has more rows than the average key.
        let counts = client.query_one(
            &format!(
                "SELECT sum(n)::bigint, round(sum(n * n) / sum(n))::bigint
                 FROM (SELECT count(*) AS n FROM {table} GROUP BY {column}) AS keys"
            ),
            &[],
        )?;
        let rows = u64::try_from(counts.get::<_, i64>(0))?;
        let per_key = u64::try_from(counts.get::<_, i64>(1))?.max(1);
        let mut bench = Self {
            client,
            case,
            method,
            reps,
            rows,
            per_key,
            results: Vec::new(),
        };
        bench.draw_keys()?;
        Ok(bench)
    }

    /// All workloads; inserts come last, because they change the tables.
    pub fn all(mut self) -> Result<Vec<Row>> {
        self.draw_ranges()?;
        self.build(self.reps.min(3))?;
        self.size()?;
        self.point_lookups(true)?;
        self.ranges()?;
        self.top_n()?;
        self.inserts()?;
        Ok(self.results)
    }

    /// Build, size and index-only lookups.
    pub fn sizes(mut self) -> Result<Vec<Row>> {
        self.build(self.reps.min(3))?;
        self.size()?;
        self.point_lookups(false)?;
        Ok(self.results)
    }

    /// Tables of existing keys, the same in every run.
    fn draw_keys(&mut self) -> Result<()> {
        let Case { table, column, .. } = self.case;
        let probes = (MAX_ROWS_READ / self.per_key)
            .clamp(100, PROBES)
            .min(self.rows);
        self.client.batch_execute(&format!(
            "SELECT setseed(0.1);
             DROP TABLE IF EXISTS starts;
             CREATE TABLE starts AS SELECT {column} AS k FROM {table}
                ORDER BY random() LIMIT {PROBES};
             DROP TABLE IF EXISTS probes;
             CREATE TABLE probes AS SELECT k FROM starts LIMIT {probes};"
        ))?;
        self.client
            .batch_execute("ANALYZE starts; ANALYZE probes")?;
        Ok(())
    }

    /// Tables of ranges that begin at the keys of random rows.
    fn draw_ranges(&mut self) -> Result<()> {
        let Case { table, column, .. } = self.case;
        let large = (self.rows / 100).max(100);
        let small = 100;
        let large_ranges = (MIN_ROWS_READ / large).clamp(LARGE_RANGES, RANGES);
        let ranges = (MAX_ROWS_READ / (small + self.per_key)).clamp(50, RANGES);
        for (name, length, count) in [("ranges", small, ranges), ("large", large, large_ranges)] {
            self.client.batch_execute(&format!(
                "DROP TABLE IF EXISTS {name};
                 CREATE TABLE {name} AS SELECT lo, hi
                    FROM (SELECT {column} AS lo,
                                 lead({column}, {length} - 1) OVER (ORDER BY {column}) AS hi
                          FROM {table}) AS s
                    WHERE hi IS NOT NULL ORDER BY random() LIMIT {count};"
            ))?;
        }
        self.client.batch_execute("ANALYZE ranges; ANALYZE large")?;
        Ok(())
    }

    fn build(&mut self, reps: usize) -> Result<()> {
        stage(&format!("{}: building both indexes", self.case.name));
        let column = self.case.column;
        let methods = [(&BTREE, "btree"), (&CANDIDATE, self.method)];
        let mut seconds = [Vec::new(), Vec::new()];
        self.client.batch_execute("CHECKPOINT")?;
        for rep in 0..reps {
            for turn in 0..2 {
                let which = (rep + turn) % 2;
                let (target, method) = methods[which];
                let index = target.index;
                self.client
                    .batch_execute(&format!("DROP INDEX IF EXISTS {index}"))?;
                let create = format!("CREATE INDEX {index} ON {{t}} USING {method} ({column})");
                let (took, _) = run(self.client, &create, target)?;
                seconds[which].push(took.as_secs_f64());
            }
        }
        self.client.batch_execute(PLANNER)?;
        self.prewarm()?;
        let equal = self.indexes_agree_with(self.case.table)?;
        let [mut btree, mut candidate] = seconds;
        let times = (median(&mut btree), median(&mut candidate));
        self.push("build", self.rows, "s", times, Some(equal));
        Ok(())
    }

    /// Brings tables and indexes into shared buffers where pg_prewarm is there to do it.
    fn prewarm(&mut self) -> Result<()> {
        let there = self.client.query_one(
            "SELECT count(*) FROM pg_extension WHERE extname = 'pg_prewarm'",
            &[],
        )?;
        if there.get::<_, i64>(0) == 1 {
            for Target { table, index } in [BTREE, CANDIDATE] {
                self.client.batch_execute(&format!(
                    "SELECT pg_prewarm('{table}'), pg_prewarm('{index}')"
                ))?;
            }
        }
        Ok(())
    }

    fn size(&mut self) -> Result<()> {
        let mut bytes = [0.0; 2];
        for (bytes, target) in bytes.iter_mut().zip([BTREE, CANDIDATE]) {
            let size = self.client.query_one(
                "SELECT pg_relation_size($1::text::regclass)",
                &[&target.index],
            )?;
            *bytes = as_f64(u64::try_from(size.get::<_, i64>(0))?) / as_f64(self.rows);
        }
        self.push("index size", self.rows, "B/entry", bytes.into(), None);
        Ok(())
    }

    fn point_lookups(&mut self, with_heap: bool) -> Result<()> {
        stage(&format!("{}: point lookups", self.case.name));
        let Case {
            column, payload, ..
        } = self.case;
        let from = format!("FROM probes AS p JOIN {{t}} AS t ON t.{column} = p.k");
        let probes = self.count("probes")?;
        let rows = match self.per_key {
            1 => String::new(),
            many => format!(" (about {many} rows each)"),
        };
        self.query(
            &format!("point lookup, index-only{rows}"),
            probes,
            Query {
                scan: Scan::IndexOnly,
                timed: format!("SELECT count(t.{column}) {from}"),
                check: format!(
                    "SELECT count(*), sum(hash_record_extended(ROW(t.{column}), 0)) {from}"
                ),
            },
        )?;
        if with_heap {
            self.query(
                &format!("point lookup, with heap{rows}"),
                probes,
                Query {
                    scan: Scan::Index,
                    timed: format!("SELECT count(t.{payload}) {from}"),
                    check: format!("SELECT count(*), sum(hash_record_extended(t, 0)) {from}"),
                },
            )?;
        }
        if self.per_key > 1 {
            let starts = self.count("starts")?;
            let exists = format!(
                "FROM starts AS p
                 WHERE EXISTS (SELECT FROM {{t}} AS t WHERE t.{column} = p.k)"
            );
            self.query(
                "does a key exist, index-only",
                starts,
                Query {
                    scan: Scan::IndexOnly,
                    timed: format!("SELECT count(*) {exists}"),
                    check: format!("SELECT count(*), sum(hash_record_extended(p, 0)) {exists}"),
                },
            )?;
        }
        Ok(())
    }

    fn ranges(&mut self) -> Result<()> {
        stage(&format!("{}: range scans", self.case.name));
        let Case {
            column, payload, ..
        } = self.case;
        for (ranges, name) in [("ranges", "range of 100 rows"), ("large", "range of 1 %")] {
            let from =
                format!("FROM {ranges} AS r JOIN {{t}} AS t ON t.{column} BETWEEN r.lo AND r.hi");
            let count = self.count(ranges)?;
            self.query(
                &format!("{name}, index-only"),
                count,
                Query {
                    scan: Scan::IndexOnly,
                    timed: format!("SELECT count(t.{column}) {from}"),
                    check: format!(
                        "SELECT count(*), sum(hash_record_extended(ROW(t.{column}), 0)) {from}"
                    ),
                },
            )?;
            self.query(
                &format!("{name}, with heap"),
                count,
                Query {
                    scan: Scan::Index,
                    timed: format!("SELECT count(t.{payload}) {from}"),
                    check: format!("SELECT count(*), sum(hash_record_extended(t, 0)) {from}"),
                },
            )?;
        }
        Ok(())
    }

    fn top_n(&mut self) -> Result<()> {
        stage(&format!("{}: ordered top-N", self.case.name));
        let column = self.case.column;
        let queries = self.count("starts")?.min(TOP_N_QUERIES);
        for (direction, bound, scan) in [
            ("ASC", ">=", Scan::IndexOnly),
            ("DESC", "<=", Scan::IndexOnlyBackward),
        ] {
            let from = |columns: &str| {
                format!(
                    "FROM (SELECT k FROM starts LIMIT {queries}) AS p,
                     LATERAL (SELECT {columns}
                        FROM (SELECT t.{column} AS k FROM {{t}} AS t
                              WHERE t.{column} {bound} p.k
                              ORDER BY t.{column} {direction} LIMIT 10) AS top) AS x"
                )
            };
            self.query(
                &format!("ORDER BY {direction} LIMIT 10, index-only"),
                queries,
                Query {
                    scan,
                    timed: format!("SELECT count(x.k) {}", from("k")),
                    check: format!(
                        "SELECT count(*), sum(hash_array_extended(x.list, 0)) {}",
                        from("array_agg(k) AS list")
                    ),
                },
            )?;
        }
        Ok(())
    }

    /// Times `query` on both tables; the values are microseconds per `each`.
    fn query(&mut self, workload: &str, each: u64, query: Query) -> Result<()> {
        let outcome = compare(self.client, &query, self.reps)
            .with_context(|| format!("{}: {workload}", self.case.name))?;
        let per_query = 1e6 / as_f64(each);
        let times = (outcome.btree * per_query, outcome.candidate * per_query);
        self.push(
            workload,
            outcome.count,
            "\u{b5}s",
            times,
            Some(outcome.equal),
        );
        Ok(())
    }

    /// Whether both indexes, read from end to end, are in order and hold what a
    /// sequential scan of `table` finds.
    pub(crate) fn indexes_agree_with(&mut self, table: &str) -> Result<bool> {
        let column = self.case.column;
        let hash = format!("count(*), sum(hash_record_extended(ROW({column}), 0))");
        let expected = run(
            self.client,
            &format!("SELECT {hash}, 0 AS disorder FROM {table}"),
            &BTREE,
        )?;
        let ordered = format!(
            "SELECT {hash}, count(*) FILTER (WHERE {column} < before) AS disorder
             FROM (SELECT {column}, lag({column}) OVER (ORDER BY {column}) AS before
                   FROM {{t}}) AS s"
        );
        let mut equal = true;
        for target in [&BTREE, &CANDIDATE] {
            equal &= same(&expected.1, &run(self.client, &ordered, target)?.1);
        }
        Ok(equal)
    }

    pub(crate) fn push(
        &mut self,
        workload: &str,
        rows: u64,
        unit: &'static str,
        (btree, candidate): (f64, f64),
        answers_equal: Option<bool>,
    ) {
        self.results.push(Row {
            data_set: self.case.name.clone(),
            workload: workload.to_owned(),
            rows,
            unit,
            btree,
            candidate,
            ratio: ratio(btree, candidate),
            answers_equal,
        });
    }

    fn count(&mut self, table: &str) -> Result<u64> {
        let count = self
            .client
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])?;
        Ok(u64::try_from(count.get::<_, i64>(0))?)
    }
}

/// How many times better the candidate is; nothing where a share is not measurable.
fn ratio(btree: f64, candidate: f64) -> Option<f64> {
    (btree > 0.0 && candidate > 0.0).then(|| btree / candidate)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of rows stay below 2^53"
)]
pub(crate) fn as_f64(rows: u64) -> f64 {
    rows as f64
}
