//! The measurements on one indexed column.

use anyhow::{Context, Result};
use postgres::Client;

use crate::data::Case;
use crate::inserts::PLAIN;
use crate::keys::{self, BOTH, Column};
use crate::measure::{BTREE, CANDIDATE, Query, Scan, compare, interleave, median, run};
use crate::progress::stage;
use crate::queries::Names;
use crate::report::Row;

const TOP_N_QUERIES: u64 = 20_000;

/// One column under measurement.
pub struct Bench<'a> {
    pub(crate) client: &'a mut Client,
    pub(crate) case: &'a Case,
    method: &'a str,
    pub(crate) reps: usize,
    pub(crate) column: Column<'a>,
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
        stage(&format!("{}: copying the table", case.name));
        let mut copies = BOTH.to_vec();
        if case.growth.is_some() {
            copies.push(PLAIN);
        }
        client.batch_execute("RESET ALL")?;
        keys::copy_table(client, case.table, &copies)?;
        let column = Column::of(client, case.table, case.column)?;
        column.draw_probes(client)?;
        Ok(Self {
            client,
            case,
            method,
            reps,
            column,
            results: Vec::new(),
        })
    }

    /// All workloads; inserts come last, because they change the tables.
    pub fn all(mut self) -> Result<Vec<Row>> {
        self.column.draw_ranges(self.client)?;
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

    fn build(&mut self, reps: usize) -> Result<()> {
        stage(&format!("{}: building both indexes", self.case.name));
        let column = self.case.column;
        let methods = [(BTREE, "btree"), (CANDIDATE, self.method)];
        self.client.batch_execute("CHECKPOINT")?;
        let mut seconds = interleave(&methods, 0, reps, |_, (target, method)| {
            let index = target.index;
            self.client
                .batch_execute(&format!("DROP INDEX IF EXISTS {index}"))?;
            let create = format!("CREATE INDEX {index} ON {{t}} USING {method} ({column})");
            let (took, _) = run(self.client, &create, target)?;
            Ok(took.as_secs_f64())
        })?;
        keys::prewarm(self.client, &BOTH)?;
        let equal = self.indexes_agree_with(self.case.table)?;
        let times = (median(&mut seconds[0]), median(&mut seconds[1]));
        self.push("build", self.column.rows, "s", times, Some(equal));
        Ok(())
    }

    fn size(&mut self) -> Result<()> {
        let mut bytes = [0.0; 2];
        for (bytes, target) in bytes.iter_mut().zip(BOTH) {
            *bytes =
                as_f64(keys::index_bytes(self.client, target.index)?) / as_f64(self.column.rows);
        }
        self.push(
            "index size",
            self.column.rows,
            "B/entry",
            bytes.into(),
            None,
        );
        Ok(())
    }

    fn point_lookups(&mut self, with_heap: bool) -> Result<()> {
        stage(&format!("{}: point lookups", self.case.name));
        let names = self.names();
        let probes = keys::count(self.client, "probes")?;
        let rows = match self.column.per_key {
            1 => String::new(),
            many => format!(" (about {many} rows each)"),
        };
        let workload = format!("point lookup, index-only{rows}");
        self.query(&workload, probes, names.point(Scan::IndexOnly))?;
        if with_heap {
            let workload = format!("point lookup, with heap{rows}");
            self.query(&workload, probes, names.point(Scan::Index))?;
        }
        if self.column.per_key > 1 {
            let starts = keys::count(self.client, "starts")?;
            self.query("does a key exist, index-only", starts, names.exists())?;
        }
        Ok(())
    }

    fn ranges(&mut self) -> Result<()> {
        stage(&format!("{}: range scans", self.case.name));
        let names = self.names();
        for (ranges, name) in [("ranges", "range of 100 rows"), ("large", "range of 1 %")] {
            let count = keys::count(self.client, ranges)?;
            for (scan, how) in [(Scan::IndexOnly, "index-only"), (Scan::Index, "with heap")] {
                let workload = format!("{name}, {how}");
                self.query(&workload, count, names.range(ranges, scan))?;
            }
        }
        Ok(())
    }

    fn top_n(&mut self) -> Result<()> {
        stage(&format!("{}: ordered top-N", self.case.name));
        let names = self.names();
        let queries = keys::count(self.client, "starts")?.min(TOP_N_QUERIES);
        for (descending, direction) in [(false, "ASC"), (true, "DESC")] {
            let workload = format!("ORDER BY {direction} LIMIT 10, index-only");
            self.query(&workload, queries, names.top_n(queries, descending))?;
        }
        Ok(())
    }

    fn names(&self) -> Names<'a> {
        Names {
            column: self.case.column,
            payload: self.case.payload,
        }
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

    /// Whether both indexes hold what a sequential scan of `table` finds.
    pub(crate) fn indexes_agree_with(&mut self, table: &str) -> Result<bool> {
        keys::indexes_agree(self.client, self.case.column, &BOTH, table)
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
}

/// How many times better the candidate is; nothing where a share is not measurable.
pub(crate) fn ratio(btree: f64, candidate: f64) -> Option<f64> {
    (btree > 0.0 && candidate > 0.0).then(|| btree / candidate)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of rows stay below 2^53"
)]
pub(crate) fn as_f64(rows: u64) -> f64 {
    rows as f64
}
