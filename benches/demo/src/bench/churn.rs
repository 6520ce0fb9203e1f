//! Tables whose rows die quickly, between two vacuums: a queue and a counter.
//!
//! Every cycle is a transaction of its own, in a procedure, and is followed by a read
//! whose time is summed up: a read has to get past the dead entries of all cycles.

use anyhow::Result;

use crate::bench::lab::{Lab, Subject};
use crate::bench::method::{BOTH, planner};
use crate::measure::{Scan, require_explained, run, same};
use crate::workloads::as_f64;

pub const GROUP: &str = "churn";

const QUEUE_CYCLES: u64 = 2_000;
const COUNTER_CYCLES: u64 = 1_000;

/// A table that is churned, and read after each cycle.
struct Churn {
    workload: &'static str,
    /// A SELECT of the rows it begins with.
    rows: &'static str,
    /// The statements of one cycle, number `i`.
    cycle: &'static str,
    read: &'static str,
    cycles: u64,
    /// An index beside the one measured, which makes updates of `payload` not HOT.
    second_index: bool,
}

pub fn all(lab: &mut Lab) -> Result<()> {
    measure(
        lab,
        &Churn {
            workload: "queue: poll ORDER BY k LIMIT 1",
            rows: "SELECT i AS k, 0 AS payload FROM generate_series(1::bigint, 10000) AS i",
            cycle: "INSERT INTO {t} SELECT max(k) + 1, 0 FROM {t};
                    DELETE FROM {t} WHERE k = (SELECT k FROM {t} ORDER BY k LIMIT 1);",
            read: "SELECT k, payload FROM {t} AS t ORDER BY k LIMIT 1",
            cycles: QUEUE_CYCLES,
            second_index: false,
        },
    )?;
    measure(
        lab,
        &Churn {
            workload: "counter row: read by key",
            rows: "SELECT i AS k, 0 AS payload FROM generate_series(1::bigint, 1000) AS i",
            cycle: "UPDATE {t} SET payload = payload + 1 WHERE k = 500;",
            read: "SELECT k, payload FROM {t} AS t WHERE k = 500",
            cycles: COUNTER_CYCLES,
            second_index: true,
        },
    )
}

fn measure(lab: &mut Lab, churn: &Churn) -> Result<()> {
    lab.fill(churn.rows, 100, &BOTH)?;
    let cycles = lab.scale.loops(churn.cycles);
    for method in BOTH {
        let table = method.target().table;
        if churn.second_index {
            lab.client
                .batch_execute(&format!("CREATE INDEX ON {table} (payload)"))?;
        }
        lab.client
            .batch_execute(&procedure(churn).replace("{t}", table))?;
    }
    let settings = planner(Scan::Index);
    let mut expected = None;
    let mut equal = true;
    let times = lab.repeat(&BOTH, |lab, round, method| {
        let target = method.target();
        lab.client
            .batch_execute(&format!("VACUUM {}", target.table))?;
        lab.client.batch_execute(&settings)?;
        let explain = format!("EXPLAIN (COSTS OFF) {}", churn.read);
        require_explained(&mut lab.client, &explain, Scan::Index, &target)?;
        let call = format!("CALL {{t}}_churn({cycles}, 0)");
        let (took, answer) = run(&mut lab.client, &call, &target)?;
        let reads: f64 = answer
            .first()
            .and_then(|row| row.first()?.as_deref()?.parse().ok())
            .unwrap_or_default();
        let answer = run(&mut lab.client, churn.read, &target)?.1;
        let (of, before) = expected.get_or_insert_with(|| (round, answer.clone()));
        if *of != round {
            expected = Some((round, answer));
        } else {
            equal &= same(before, &answer);
        }
        Ok([reads, took.as_secs_f64()])
    })?;
    equal &= lab.indexes_whole()?;
    let per_cycle = 1e6 / as_f64(cycles);
    for (which, workload) in [
        (0, churn.workload.to_owned()),
        (1, format!("{}, the whole cycle", churn.workload)),
    ] {
        let values: Vec<Vec<f64>> = times
            .iter()
            .map(|of| of.iter().map(|values| values[which]).collect())
            .collect();
        let subject = Subject {
            group: GROUP,
            data_set: "churn",
            workload: &workload,
            unit: "\u{b5}s",
            settings: &format!("{cycles} cycles between vacuums"),
            equal: Some(equal),
        };
        lab.record(&subject, &Lab::summaries(&BOTH, values, per_cycle));
    }
    Ok(())
}

/// `{t}_churn`, which returns the seconds of its reads.
fn procedure(churn: &Churn) -> String {
    let Churn { cycle, read, .. } = churn;
    let read = read.replacen("SELECT", "PERFORM", 1);
    format!(
        "CREATE OR REPLACE PROCEDURE {{t}}_churn(cycles int, INOUT reads float8)
         LANGUAGE plpgsql AS $$
         DECLARE begun timestamptz;
         BEGIN
             FOR i IN 1..cycles LOOP
                 {cycle}
                 COMMIT;
                 begun := clock_timestamp();
                 {read};
                 reads := reads + extract(epoch FROM clock_timestamp() - begun);
             END LOOP;
         END $$"
    )
}

#[cfg(test)]
mod tests {
    use super::{Churn, procedure};

    #[test]
    fn reads_are_performed_and_not_returned() {
        let churn = Churn {
            workload: "",
            rows: "",
            cycle: "DELETE FROM {t};",
            read: "SELECT k FROM {t} WHERE k = (SELECT 1)",
            cycles: 1,
            second_index: false,
        };
        let sql = procedure(&churn);
        assert!(sql.contains("PERFORM k FROM {t} WHERE k = (SELECT 1);"));
        assert!(sql.contains("DELETE FROM {t};"));
    }
}
