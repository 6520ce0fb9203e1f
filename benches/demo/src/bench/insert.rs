//! Bulk inserts, by INSERT ... SELECT and by COPY: time and WAL.
//!
//! The index share is the difference to the same statement on a table without index,
//! in the same round. The checkpoint is before the first round, which does not count:
//! so the full images of pages that are touched for the first time are not in it.

use std::path::Path;

use anyhow::Result;

use crate::bench::datasets::{Arrival, DataSet};
use crate::bench::lab::{Lab, Subject};
use crate::bench::method::{BOTH, Method, WITH_PLAIN};
use crate::bench::results::{Summary, shares};
use crate::measure::run;
use crate::workloads::as_f64;

pub const GROUP: &str = "insert";

/// Rows per statement at least, less on small tables. On large ones a hundredth, so
/// that the warm-up touches nearly every leaf.
const BATCH: u64 = 100_000;

/// A part of a cost.
type Part = fn(&Cost) -> f64;

/// What one statement took.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    wal: f64,
}

/// Appends or inserts at random, as the data set's keys arrive, into the tables with
/// and without index.
pub fn bulk(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let batches = (lab.scale.warm_ups + lab.scale.repetitions) as u64;
    let size = BATCH
        .max(lab.rows / 100)
        .min(lab.rows / (4 * batches))
        .max(1);
    let kind = match set.arrival {
        Arrival::Appended => "append",
        Arrival::Random => "random insert",
    };
    draw(lab, set, 2 * batches, size)?;
    let file = lab.cluster.dir().join("data/batch.copy");
    for (first, statement, name) in [
        (
            0,
            "INSERT INTO {t} SELECT * FROM batch".to_owned(),
            "INSERT",
        ),
        (
            batches,
            format!("COPY {{t}} FROM '{}'", file.display()),
            "COPY",
        ),
    ] {
        let costs = insert(lab, first, &statement, &file)?;
        let equal = lab.indexes_hold(Method::Plain.target().table)?;
        record(
            lab,
            set,
            &format!("bulk {kind}, {name}"),
            size,
            &costs,
            equal,
        );
    }
    crate::bench::build::sizes(
        lab,
        set.name,
        &format!("index size after bulk {kind}"),
        &BOTH,
    )
}

/// Table `further`: the rows to insert, numbered by batch, in order of arrival.
fn draw(lab: &mut Lab, set: &DataSet, batches: u64, size: u64) -> Result<()> {
    let sql = set.further(lab.rows, batches * size);
    Ok(lab.client.batch_execute(&format!(
        "RESET ALL;
         SELECT setseed(0.7);
         DROP TABLE IF EXISTS further;
         CREATE TABLE further AS
            SELECT f.*, (row_number() OVER () - 1) / {size} AS batch FROM ({sql}) AS f;
         CREATE INDEX ON further USING brin (batch);"
    ))?)
}

fn insert(lab: &mut Lab, first: u64, statement: &str, file: &Path) -> Result<Vec<Vec<Cost>>> {
    lab.client.batch_execute("CHECKPOINT")?;
    let mut loaded = None;
    lab.repeat(&WITH_PLAIN, |lab, round, method| {
        let batch = first + round as u64;
        if loaded.replace(batch) != Some(batch) {
            lab.client.batch_execute(&format!(
                "DROP TABLE IF EXISTS batch;
                 CREATE TABLE batch AS SELECT k, payload FROM further WHERE batch = {batch};
                 ANALYZE batch;
                 COPY batch TO '{}'",
                file.display()
            ))?;
        }
        let wal = lab.wal()?;
        let (took, _) = run(&mut lab.client, statement, &method.target())?;
        Ok(Cost {
            seconds: took.as_secs_f64(),
            wal: lab.wal()? - wal,
        })
    })
}

fn record(
    lab: &mut Lab,
    set: &DataSet,
    workload: &str,
    size: u64,
    costs: &[Vec<Cost>],
    equal: bool,
) {
    let per_row = 1.0 / as_f64(size);
    let of = |which: usize, value: Part| -> Vec<f64> { costs[which].iter().map(value).collect() };
    let settings = format!("{size} rows per statement; CHECKPOINT before the warm-up alone");
    let mut put = |suffix: &str, unit, entries: &[(Method, Summary)]| {
        let subject = Subject {
            group: GROUP,
            data_set: set.name,
            workload: &format!("{workload}{suffix}"),
            unit,
            settings: &settings,
            equal: Some(equal),
        };
        lab.record(&subject, entries);
    };
    let values: [(&str, &str, Part, f64); 2] = [
        ("", "\u{b5}s/row", |cost| cost.seconds, 1e6),
        (", WAL", "B/row", |cost| cost.wal, 1.0),
    ];
    for (what, unit, value, factor) in values {
        let factor = factor * per_row;
        let plain = of(2, value);
        let whole: Vec<(Method, Summary)> = WITH_PLAIN
            .into_iter()
            .enumerate()
            .map(|(which, method)| (method, Summary::of(of(which, value)).times(factor)))
            .collect();
        let share: Vec<(Method, Summary)> = BOTH
            .into_iter()
            .enumerate()
            .map(|(which, method)| (method, shares(&of(which, value), &plain).times(factor)))
            .collect();
        put(what, unit, &whole);
        put(&format!("{what}, index share"), unit, &share);
    }
}

/// Doubles the tables by rows with random keys, and records the sizes after it.
pub fn grow(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let rows = lab.rows;
    let sql = crate::bench::datasets::ids(rows);
    let largest = "(SELECT greatest(1, max(k)) FROM base)";
    for method in BOTH {
        let table = method.target().table;
        lab.client.batch_execute(&format!(
            "SELECT setseed(0.3); INSERT INTO {table} SELECT k % {largest}, payload FROM ({sql}) AS s"
        ))?;
    }
    let equal = lab.indexes_whole()?;
    let recorded = lab.results.len();
    crate::bench::build::sizes(lab, set.name, "index size after 100 % random growth", &BOTH)?;
    for result in &mut lab.results[recorded..] {
        result.answers_equal = Some(equal);
    }
    Ok(())
}
