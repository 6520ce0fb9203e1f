//! The server under measurement, and what has been measured so far.

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::bench::datasets::DataSet;
use crate::bench::method::{Ask, BOTH, Method, planner};
use crate::bench::results::{Measurement, Summary, Versions, times_better};
use crate::cluster::Cluster;
use crate::data::create;
use crate::keys::{Column, PROBES, copy_table, indexes_agree};
use crate::measure::{Query, Target, first_count, interleave, require_plan, run, same};
use crate::progress::stage;

/// The table that data sets are generated into.
pub const BASE: &str = "base";

/// Seconds that short measurements are repeated for, all methods together.
const LEAST_SECONDS: f64 = 2.0;
/// Times as many repetitions of short measurements at most.
const MORE: usize = 3;
/// Times as many repetitions of what is cut into short ones.
const OFTEN: usize = 12;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Rows per data set.
    pub rows: u64,
    pub repetitions: usize,
    pub warm_ups: usize,
    /// Fewer sizes, keys and repetitions.
    pub quick: bool,
    /// Answers, plans and sizes only: the times mean nothing.
    pub check: bool,
}

impl Scale {
    /// Keys to look for, where there are `usually` so many.
    fn most_keys(&self, usually: u64) -> u64 {
        match self {
            Self { check: true, .. } => usually / 200,
            Self { quick: true, .. } => usually / 4,
            _ => usually,
        }
    }

    /// Repetitions to add to `repetitions` that took `seconds` for each method: short
    /// ones are many, so that what disturbs a few does not move the median.
    fn more(&self, seconds: &[Vec<f64>]) -> usize {
        if self.quick || self.check {
            return 0;
        }
        let spent: f64 = seconds.iter().flatten().sum();
        let round = spent / self.repetitions.max(1) as f64;
        let wanted = (LEAST_SECONDS / round.max(1e-6)) as usize;
        wanted.clamp(self.repetitions, MORE * self.repetitions) - self.repetitions
    }

    /// Repetitions within one measurement, where there are `usually` so many.
    pub fn loops(&self, usually: u64) -> u64 {
        if self.check {
            (usually / 50).max(1)
        } else {
            usually
        }
    }
}

pub struct Lab {
    pub cluster: Cluster,
    pub client: Client,
    /// The access method beside btree.
    pub candidate: String,
    pub scale: Scale,
    /// Names of data sets and workloads to measure; empty for all.
    pub only: Vec<String>,
    pub versions: Versions,
    /// Rows of the tables that are measured at the moment.
    pub rows: u64,
    /// Rows of table `base` that have the key of a random row, on average.
    pub per_key: u64,
    /// A server setting that is not the usual one at the moment.
    pub note: String,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
    pub results: Vec<Measurement>,
}

/// What a measurement is of.
pub struct Subject<'a> {
    pub group: &'static str,
    pub data_set: &'a str,
    pub workload: &'a str,
    pub unit: &'static str,
    pub settings: &'a str,
    pub equal: Option<bool>,
}

/// A query to be timed.
pub struct Timed<'a> {
    pub group: &'static str,
    pub data_set: &'a str,
    pub workload: &'a str,
    pub query: Query,
    pub ask: Ask,
    /// Lookups, ranges or queries that one execution consists of.
    pub each: u64,
    /// SQL beside the planner settings of the scan.
    pub extra: &'a str,
}

impl Lab {
    /// Whether `ONLY` leaves `name` in, among the `names` of its kind.
    pub fn wants(&self, name: &str, names: &[&str]) -> bool {
        let named = |name: &&str| self.only.iter().any(|only| only == name);
        named(&name) || !names.iter().any(named)
    }

    /// Creates table `base`, and a copy of it without index for each of `methods`.
    pub fn load(&mut self, set: &DataSet, methods: &[Method]) -> Result<()> {
        self.client.batch_execute("RESET ALL")?;
        create(&mut self.client, BASE, &set.sql)?;
        self.client.batch_execute("VACUUM ANALYZE base")?;
        self.per_key = Column::of(&mut self.client, BASE, "k")?.per_key;
        self.copy_base(methods)
    }

    /// A copy of table `base` for each of `methods`, without index.
    pub fn copy_base(&mut self, methods: &[Method]) -> Result<()> {
        let targets: Vec<Target> = methods.iter().map(|method| method.target()).collect();
        self.client.batch_execute("RESET ALL")?;
        copy_table(&mut self.client, BASE, &targets)?;
        self.rows = crate::keys::count(&mut self.client, BASE)?;
        Ok(())
    }

    /// A vacuumed table of what `select` gives, with its index, for each of `methods`.
    pub fn fill(&mut self, select: &str, fillfactor: u8, methods: &[Method]) -> Result<()> {
        self.client.batch_execute("RESET ALL")?;
        for method in methods {
            let table = method.target().table;
            self.client.batch_execute(&format!(
                "DROP TABLE IF EXISTS {table};
                 CREATE TABLE {table} WITH (fillfactor = {fillfactor}) AS {select}"
            ))?;
            self.create_indexes(&[*method])?;
            self.client
                .batch_execute(&format!("VACUUM (ANALYZE) {table}"))?;
            self.rows = crate::keys::count(&mut self.client, table)?;
        }
        Ok(())
    }

    /// `CREATE INDEX` on column `k`.
    pub fn index_sql(&self, method: Method) -> String {
        let Target { table, index } = method.target();
        let method = method.name(&self.candidate);
        format!("CREATE INDEX {index} ON {table} USING {method} (k)")
    }

    /// Creates the index of each of `methods` that has one.
    pub fn create_indexes(&mut self, methods: &[Method]) -> Result<()> {
        for method in methods.iter().filter(|method| **method != Method::Plain) {
            let sql = self.index_sql(*method);
            self.client.batch_execute(&sql)?;
        }
        Ok(())
    }

    /// Draws keys of table `base`.
    pub fn draw_probes(&mut self) -> Result<()> {
        let column = self.column(BASE, self.rows);
        column.draw_probes(&mut self.client)
    }

    /// Draws ranges of table `base`.
    pub fn draw_ranges(&mut self) -> Result<()> {
        let column = self.column(BASE, self.rows);
        column.draw_ranges(&mut self.client)
    }

    /// Column `k` of `table`, which has `rows` rows of table `base`.
    pub fn column(&self, table: &'static str, rows: u64) -> Column<'static> {
        Column {
            table,
            name: "k",
            rows,
            per_key: self.per_key,
            most: self.scale.most_keys(PROBES),
        }
    }

    /// Does `one` for each method in turn, warm-up first.
    pub fn repeat<V>(
        &mut self,
        methods: &[Method],
        mut one: impl FnMut(&mut Self, usize, Method) -> Result<V>,
    ) -> Result<Vec<Vec<V>>> {
        let Scale {
            warm_ups,
            repetitions,
            ..
        } = self.scale;
        interleave(methods, warm_ups, repetitions, |round, method| {
            one(self, round, *method)
        })
    }

    /// As [`Self::repeat`], with many repetitions, for what can be cut into short ones:
    /// then all methods meet the same of what disturbs the machine.
    pub fn repeat_often<V>(
        &mut self,
        methods: &[Method],
        one: impl FnMut(&mut Self, usize, Method) -> Result<V>,
    ) -> Result<Vec<Vec<V>>> {
        let scale = self.scale;
        if !scale.quick && !scale.check {
            self.scale.repetitions *= OFTEN;
        }
        let values = self.repeat(methods, one);
        self.scale = scale;
        values
    }

    /// Compares the answers of all methods that can do the work, checks the plans and
    /// records microseconds per execution divided by `each`.
    pub fn time(&mut self, timed: &Timed<'_>, methods: &[Method]) -> Result<()> {
        self.try_time(timed, methods)
            .with_context(|| format!("{}: {}", timed.data_set, timed.workload))
    }

    fn try_time(&mut self, timed: &Timed<'_>, methods: &[Method]) -> Result<()> {
        let planned: Vec<(Method, Query)> = methods
            .iter()
            .filter_map(|method| {
                let scan = method.scan(timed.ask, timed.query.scan)?;
                let query = Query {
                    scan,
                    ..timed.query.clone()
                };
                Some((*method, query))
            })
            .collect();
        let mut expected = None;
        let mut equal = true;
        let mut workers = Vec::new();
        for (method, query) in &planned {
            let target = method.target();
            self.plan_as(query, timed.extra)?;
            let answer = run(&mut self.client, &query.check, &target)?.1;
            equal &= same(expected.get_or_insert_with(|| answer.clone()), &answer);
            let plan = require_plan(&mut self.client, query, &target)?;
            workers.push(workers_launched(&plan));
        }
        let mut count = None;
        let mut equal_count = true;
        let scale = self.scale;
        let mut time = |_, (method, query): &(Method, Query)| {
            self.plan_as(query, timed.extra)?;
            let (took, answer) = run(&mut self.client, &query.timed, &method.target())?;
            let answer = first_count(&answer)?;
            equal_count &= *count.get_or_insert(answer) == answer;
            Ok(took.as_secs_f64())
        };
        let mut seconds = interleave(&planned, scale.warm_ups, scale.repetitions, &mut time)?;
        let more = interleave(&planned, 0, scale.more(&seconds), &mut time)?;
        for (seconds, more) in seconds.iter_mut().zip(more) {
            seconds.extend(more);
        }
        let factor = 1e6 / crate::workloads::as_f64(timed.each.max(1));
        let entries: Vec<(Method, Summary)> = planned
            .iter()
            .zip(seconds)
            .map(|((method, _), times)| (*method, Summary::of(times).times(factor)))
            .collect();
        let subject = Subject {
            group: timed.group,
            data_set: timed.data_set,
            workload: timed.workload,
            unit: "\u{b5}s",
            settings: &format!("{} {}", planner(timed.query.scan), timed.extra),
            equal: Some(equal && equal_count),
        };
        let recorded = self.record(&subject, &entries);
        for (measurement, workers) in recorded.iter_mut().zip(workers) {
            measurement.workers = workers;
        }
        Ok(())
    }

    fn plan_as(&mut self, query: &Query, extra: &str) -> Result<()> {
        let sql = format!("{} {extra}", planner(query.scan));
        Ok(self.client.batch_execute(&sql)?)
    }

    /// Keeps what was measured for each method, with its ratio to btree.
    pub fn record(
        &mut self,
        subject: &Subject<'_>,
        entries: &[(Method, Summary)],
    ) -> &mut [Measurement] {
        let btree = entries
            .iter()
            .find(|(method, _)| *method == Method::Btree)
            .map(|(_, summary)| summary);
        let first = self.results.len();
        for (method, summary) in entries {
            self.results.push(Measurement {
                group: subject.group,
                data_set: subject.data_set.to_owned(),
                workload: subject.workload.to_owned(),
                method: method.name(&self.candidate).to_owned(),
                rows: self.rows,
                value: summary.median,
                unit: subject.unit,
                ratio_to_btree: btree.and_then(|btree| times_better(btree, summary, subject.unit)),
                min: summary.min,
                max: summary.max,
                repetitions: summary.values.len(),
                values: summary.values.clone(),
                workers: None,
                answers_equal: subject.equal,
                settings: format!("{} {}", self.note, subject.settings)
                    .trim()
                    .to_owned(),
                versions: self.versions.clone(),
            });
        }
        &mut self.results[first..]
    }

    /// Whether both indexes hold what the table of each holds; for tables that have
    /// been changed, and not necessarily in the same way.
    pub fn indexes_whole(&mut self) -> Result<bool> {
        let mut equal = true;
        for method in BOTH {
            let target = method.target();
            equal &= indexes_agree(&mut self.client, "k", &[target], target.table)?;
            self.client.batch_execute("RESET ALL")?;
        }
        Ok(equal)
    }

    /// Whether both indexes hold what table `reference` holds.
    pub fn indexes_hold(&mut self, reference: &str) -> Result<bool> {
        let targets = BOTH.map(Method::target);
        let equal = indexes_agree(&mut self.client, "k", &targets, reference)?;
        self.client.batch_execute("RESET ALL")?;
        Ok(equal)
    }

    /// Summaries of what `repeat` gave for `methods`, times `factor`.
    pub fn summaries(
        methods: &[Method],
        values: Vec<Vec<f64>>,
        factor: f64,
    ) -> Vec<(Method, Summary)> {
        let each = methods.iter().zip(values);
        each.map(|(method, values)| (*method, Summary::of(values).times(factor)))
            .collect()
    }

    /// Bytes of WAL so far.
    pub fn wal(&mut self) -> Result<f64> {
        let row = self
            .client
            .query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", &[])?;
        Ok(row.get(0))
    }

    /// Starts the server again with `settings`.
    pub fn restart(&mut self, settings: &[(&str, String)]) -> Result<()> {
        self.cluster.restart(settings)?;
        self.client = self.cluster.connect()?;
        Ok(())
    }

    /// Does `work`; whether it succeeded. A failure is kept for the end, so that it
    /// does not cost the results of all else.
    pub fn attempt(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<bool> {
        stage(what);
        let Err(error) = work(self) else {
            return Ok(true);
        };
        crate::interrupted::wait_if_set();
        let log = self.cluster.log_tail();
        eprintln!("FAILED: {what}: {error:#}\nthe server's log ends with:\n{log}");
        self.failures.push(format!("{what}: {error:#}"));
        self.client = self.cluster.connect()?;
        Ok(false)
    }

    /// Fails if an answer differed or something could not be measured.
    pub fn require_success(&self) -> Result<()> {
        let differing = self
            .results
            .iter()
            .filter(|result| result.answers_equal == Some(false))
            .map(|result| format!("answers differ: {}: {}", result.data_set, result.workload));
        let failures: Vec<String> = self.failures.iter().cloned().chain(differing).collect();
        ensure!(failures.is_empty(), "\n{}", failures.join("\n"));
        Ok(())
    }
}

/// `Workers Launched: n` of a plan, of all its nodes together.
fn workers_launched(plan: &str) -> Option<u64> {
    let launched = plan
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Workers Launched: "))
        .filter_map(|number| number.parse::<u64>().ok());
    Some(launched.sum())
}

#[cfg(test)]
mod tests {
    use super::workers_launched;

    #[test]
    fn workers_are_read_from_the_plan() {
        let plan = "Gather\n  Workers Planned: 2\n  Workers Launched: 1\n  -> Scan";
        assert_eq!(workers_launched(plan), Some(1));
        assert_eq!(workers_launched("Index Scan"), Some(0));
    }
}
