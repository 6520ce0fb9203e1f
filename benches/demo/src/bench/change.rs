//! Updates, deletes and VACUUM.

use anyhow::{Result, ensure};

use crate::bench::datasets::DataSet;
use crate::bench::lab::{Lab, Subject};
use crate::bench::method::{BOTH, Method, WITH_PLAIN, planner};
use crate::bench::results::{Summary, shares};
use crate::measure::{Scan, Target, require_explained, run};
use crate::workloads::as_f64;

pub const GROUP: &str = "change";

const UPDATED_TABLE: u64 = 1_000_000;

/// Updates a tenth of a table, with and without a change of the indexed column.
pub fn updates(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let select = format!("SELECT * FROM base LIMIT {UPDATED_TABLE}");
    lab.fill(&select, 50, &BOTH)?;
    let updated = lab.rows / 10;
    lab.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS probes;
         CREATE TABLE probes AS SELECT k FROM t_btree ORDER BY random() LIMIT {updated};
         ANALYZE probes"
    ))?;
    for (workload, assignment, hot) in [
        (
            "update of another column, HOT",
            "payload = payload + 1",
            true,
        ),
        // The same rows are found again: what is changed back is what is probed.
        ("update of the indexed column", "k = -t.k", false),
    ] {
        update(lab, set, workload, assignment, hot, updated)?;
    }
    crate::bench::build::sizes(lab, set.name, "index size after updates of 10 %", &BOTH)
}

fn update(
    lab: &mut Lab,
    set: &DataSet,
    workload: &str,
    assignment: &str,
    hot: bool,
    updated: u64,
) -> Result<()> {
    let sql = format!("UPDATE {{t}} AS t SET {assignment} FROM probes AS p WHERE t.k = p.k");
    let settings = planner(Scan::Index);
    let mut last = None;
    let seconds = lab.repeat(&BOTH, |lab, round, method| {
        let target = method.target();
        if !hot && last.replace(round).is_some_and(|last| last != round) {
            lab.client
                .batch_execute("UPDATE probes SET k = -k; ANALYZE probes")?;
        }
        lab.client
            .batch_execute(&format!("VACUUM {}", target.table))?;
        lab.client.batch_execute(&settings)?;
        let explain = format!("EXPLAIN (COSTS OFF) {sql}");
        require_explained(&mut lab.client, &explain, Scan::Index, &target)?;
        lab.client.batch_execute("BEGIN")?;
        let before = updates_counted(lab, &target)?;
        let (took, _) = run(&mut lab.client, &sql, &target)?;
        let after = updates_counted(lab, &target)?;
        lab.client.batch_execute("COMMIT")?;
        let [hot_ones, all] = [after[0] - before[0], after[1] - before[1]];
        ensure!(
            u64::try_from(all)? == updated && (hot_ones * 10 > all * 9) == hot,
            "{workload}: {all} rows were updated, {hot_ones} of them HOT"
        );
        Ok(took.as_secs_f64())
    })?;
    let equal = lab.indexes_hold(Method::Btree.target().table)?;
    let subject = Subject {
        group: GROUP,
        data_set: set.name,
        workload,
        unit: "\u{b5}s/row",
        settings: "a tenth of the rows, fillfactor of the table 50, VACUUM before",
        equal: Some(equal),
    };
    lab.record(
        &subject,
        &Lab::summaries(&BOTH, seconds, 1e6 / as_f64(updated)),
    );
    Ok(())
}

/// HOT updates and all updates that this session has counted and not yet reported.
fn updates_counted(lab: &mut Lab, target: &Target) -> Result<[i64; 2]> {
    let row = lab.client.query_one(
        "SELECT pg_stat_get_xact_tuples_hot_updated($1::text::regclass),
                pg_stat_get_xact_tuples_updated($1::text::regclass)",
        &[&target.table],
    )?;
    Ok([row.get(0), row.get(1)])
}

/// What deleting and the VACUUM after it took, seconds.
struct Cost {
    delete: f64,
    vacuum: f64,
}

/// Deletes another random tenth of the rows each time, and vacuums.
pub fn delete_and_vacuum(lab: &mut Lab, set: &DataSet) -> Result<()> {
    lab.copy_base(&WITH_PLAIN)?;
    lab.create_indexes(&BOTH)?;
    let costs = lab.repeat(&WITH_PLAIN, |lab, round, method| {
        let target = method.target();
        // Each turn writes full images of the pages it changes, and has no checkpoint in it.
        lab.client.batch_execute("CHECKPOINT")?;
        let delete = format!("DELETE FROM {{t}} WHERE hashint8(k) & 1023 BETWEEN {round} * 102 AND {round} * 102 + 101");
        let (deleted, _) = run(&mut lab.client, &delete, &target)?;
        let vacuum = "VACUUM (INDEX_CLEANUP ON, PARALLEL 0) {t}";
        let (vacuumed, _) = run(&mut lab.client, vacuum, &target)?;
        Ok(Cost {
            delete: deleted.as_secs_f64(),
            vacuum: vacuumed.as_secs_f64(),
        })
    })?;
    let equal = lab.indexes_hold(Method::Plain.target().table)?;
    let of = |which: usize, value: fn(&Cost) -> f64| -> Vec<f64> {
        costs[which].iter().map(value).collect()
    };
    let whole = |value: fn(&Cost) -> f64| -> Vec<(Method, Summary)> {
        let each = WITH_PLAIN.into_iter().enumerate();
        each.map(|(which, method)| (method, Summary::of(of(which, value))))
            .collect()
    };
    let vacuum: fn(&Cost) -> f64 = |cost| cost.vacuum;
    let share: Vec<(Method, Summary)> = BOTH
        .into_iter()
        .enumerate()
        .map(|(which, method)| (method, shares(&of(which, vacuum), &of(2, vacuum))))
        .collect();
    for (workload, entries) in [
        ("delete 10 %", whole(|cost| cost.delete)),
        ("VACUUM after it", whole(vacuum)),
        ("VACUUM after it, index share", share),
        (
            "delete 10 % and VACUUM",
            whole(|cost| cost.delete + cost.vacuum),
        ),
    ] {
        let subject = Subject {
            group: GROUP,
            data_set: set.name,
            workload,
            unit: "s",
            settings: "CHECKPOINT before each, no parallel workers",
            equal: Some(equal),
        };
        lab.record(&subject, &entries);
    }
    crate::bench::build::sizes(lab, set.name, "index size after deletes of 10 %", &BOTH)
}
