//! Prepared statements of pgbench from one, four and eight clients: lookups and
//! inserts of one row per transaction.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::bench::datasets::{Arrival, DataSet};
use crate::bench::lab::{Lab, Subject};
use crate::bench::method::{BOTH, Method};
use crate::bench::results::TPS;
use crate::measure::{Scan, require_explained};

pub const READ_GROUP: &str = "clients";
pub const INSERT_GROUP: &str = "rows";

const CLIENTS: [usize; 3] = [1, 4, 8];
/// Of each client in one repetition: about half a second. Fewer would measure what a
/// new session has to load.
const TRANSACTIONS: u64 = 5_000;

/// `SELECT` of an existing row of keys 1, 2, 3, ...
pub fn lookups(lab: &mut Lab, set: &DataSet, methods: &[Method]) -> Result<()> {
    let methods: Vec<Method> = methods
        .iter()
        .copied()
        .filter(|method| *method != Method::Brin)
        .collect();
    for method in &methods {
        let explain = "RESET ALL; EXPLAIN (COSTS OFF) SELECT payload FROM {t} WHERE k = 1";
        require_explained(&mut lab.client, explain, Scan::Index, &method.target())?;
    }
    let rows = lab.rows;
    let script = |method: Method| {
        let table = method.target().table;
        format!("\\set k random(1, {rows})\nSELECT payload FROM {table} WHERE k = :k;\n")
    };
    for clients in CLIENTS {
        let rates = lab.repeat_often(&methods, |lab, round, method| {
            rate(lab, &script(method), clients, round)
        })?;
        let subject = Subject {
            group: READ_GROUP,
            data_set: set.name,
            workload: &format!("pgbench, lookup by key, clients: {clients}"),
            unit: TPS,
            settings: "prepared, a thread of pgbench for each client",
            equal: None,
        };
        lab.record(&subject, &Lab::summaries(&methods, rates, 1.0));
    }
    Ok(())
}

/// `INSERT` of one row, each committed, appended or with a random key.
pub fn inserts(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let kind = match set.arrival {
        Arrival::Appended => "appended",
        Arrival::Random => "random key",
    };
    let first = lab.rows * 16;
    for method in BOTH {
        let table = method.target().table;
        lab.client.batch_execute(&format!(
            "DROP SEQUENCE IF EXISTS {table}_tail; CREATE SEQUENCE {table}_tail START {first}"
        ))?;
    }
    lab.client.batch_execute("CHECKPOINT")?;
    let script = |method: Method| {
        let table = method.target().table;
        match set.arrival {
            Arrival::Appended => {
                format!("INSERT INTO {table} VALUES (nextval('{table}_tail'), 0);\n")
            }
            Arrival::Random => format!(
                "\\set k random(0, 9223372036854775806)\nINSERT INTO {table} VALUES (:k, 0);\n"
            ),
        }
    };
    for clients in CLIENTS {
        let rates = lab.repeat_often(&BOTH, |lab, round, method| {
            rate(lab, &script(method), clients, round)
        })?;
        let equal = lab.indexes_whole()?;
        let subject = Subject {
            group: INSERT_GROUP,
            data_set: set.name,
            workload: &format!("INSERT of one row, {kind}, clients: {clients}"),
            unit: TPS,
            settings: "prepared, a thread of pgbench for each client, fsync = off",
            equal: Some(equal),
        };
        lab.record(&subject, &Lab::summaries(&BOTH, rates, 1.0));
    }
    let workload = format!("index size after INSERTs of one row, {kind}");
    crate::bench::build::sizes(lab, set.name, &workload, &BOTH)
}

/// Transactions per second of `script`, connecting not counted. The random numbers are
/// others in each round, and for each number of clients.
fn rate(lab: &mut Lab, script: &str, clients: usize, round: usize) -> Result<f64> {
    let file = lab.cluster.dir().join("script.sql");
    fs::write(&file, script)?;
    let mut pgbench = lab.cluster.pgbench();
    pgbench
        .arg("--protocol=prepared")
        .arg(format!("--random-seed={}", 1000 * clients + round))
        .arg(format!("--client={clients}"))
        // With a thread for several clients, it depends on where the system puts it how
        // fast they are.
        .arg(format!("--jobs={clients}"))
        .arg("--file")
        .arg(&file);
    let transactions = lab.scale.loops(TRANSACTIONS);
    pgbench.arg(format!("--transactions={transactions}"));
    let output = pgbench
        .arg("postgres")
        .output()
        .context("cannot run pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    tps(&text).with_context(|| format!("pgbench says no tps: {text}"))
}

fn tps(output: &str) -> Option<f64> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::tps;

    #[test]
    fn the_rate_is_read_from_pgbenchs_output() {
        let output = "latency average = 0.1 ms\ntps = 8123.5 (without initial connection time)\n";
        assert_eq!(tps(output), Some(8123.5));
        assert_eq!(tps("nothing"), None);
    }
}
