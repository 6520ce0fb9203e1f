//! Builds: time, WAL, memory of the backend, and the size of what is built.

use anyhow::Result;

use crate::bench::datasets::DataSet;
use crate::bench::lab::{BASE, Lab, Subject};
use crate::bench::memory::Sampler;
use crate::bench::method::{BOTH, Method};
use crate::bench::results::Summary;
use crate::keys::{index_bytes, prewarm};
use crate::measure::{Target, interleave, run};
use crate::workloads::as_f64;

pub const GROUP: &str = "build";

/// One build.
struct Built {
    seconds: f64,
    wal: f64,
    /// Peak of the backend's own memory, bytes.
    memory: f64,
}

/// Builds the indexes of `methods` by one process, several times, and leaves them there.
pub fn serial(lab: &mut Lab, set: &DataSet, methods: &[Method]) -> Result<()> {
    // A build needs no warm-up: it reads the table once, which is in memory.
    let built = interleave(methods, 0, lab.scale.repetitions, |_, method| {
        build(lab, *method, "SET max_parallel_maintenance_workers = 0")
    })?;
    let equal = contents_agree(lab)?;
    let entries = |value: fn(&Built) -> f64| -> Vec<(Method, Summary)> {
        let each = methods.iter().zip(&built);
        each.map(|(method, built)| (*method, Summary::of(built.iter().map(value))))
            .collect()
    };
    let rows = as_f64(lab.rows);
    let per_row = |entries: Vec<(Method, Summary)>| -> Vec<(Method, Summary)> {
        let each = entries.into_iter();
        each.map(|(method, summary)| (method, summary.times(1.0 / rows)))
            .collect()
    };
    for (workload, unit, entries) in [
        ("build, 1 process", "s", entries(|built| built.seconds)),
        ("build, WAL", "B/row", per_row(entries(|built| built.wal))),
        (
            "build, memory",
            "MB",
            entries(|built| built.memory / 1048576.0),
        ),
    ] {
        let subject = Subject {
            group: GROUP,
            data_set: set.name,
            workload,
            unit,
            settings: "max_parallel_maintenance_workers = 0",
            equal: Some(equal),
        };
        lab.record(&subject, &entries);
    }
    sizes(lab, set.name, "index size after build", methods)
}

/// Builds with one parallel worker.
pub fn parallel(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let settings = "SET max_parallel_maintenance_workers = 1; SET min_parallel_table_scan_size = 0";
    let built = interleave(&BOTH, 0, lab.scale.repetitions, |_, method| {
        build(lab, *method, settings)
    })?;
    let entries: Vec<(Method, Summary)> = BOTH
        .into_iter()
        .zip(built)
        .map(|(method, built)| (method, Summary::of(built.iter().map(|b| b.seconds))))
        .collect();
    let equal = contents_agree(lab)?;
    let subject = Subject {
        group: GROUP,
        data_set: set.name,
        workload: "build, 1 worker allowed",
        unit: "s",
        settings,
        equal: Some(equal),
    };
    lab.record(&subject, &entries);
    Ok(())
}

/// Records bytes per row of each index that there is.
pub fn sizes(lab: &mut Lab, data_set: &str, workload: &str, methods: &[Method]) -> Result<()> {
    let mut entries = Vec::new();
    for method in methods.iter().filter(|method| **method != Method::Plain) {
        let Target { table, index } = method.target();
        let rows = crate::keys::count(&mut lab.client, table)?;
        let bytes = as_f64(index_bytes(&mut lab.client, index)?);
        entries.push((*method, Summary::exact(bytes / as_f64(rows))));
    }
    let subject = Subject {
        group: "size",
        data_set,
        workload,
        unit: "B/row",
        settings: "default fillfactor",
        equal: None,
    };
    lab.record(&subject, &entries);
    Ok(())
}

/// Builds one index in a session of its own.
fn build(lab: &mut Lab, method: Method, settings: &str) -> Result<Built> {
    let target = method.target();
    let mut session = lab.cluster.connect()?;
    session.batch_execute(settings)?;
    session.batch_execute(&format!(
        "DROP INDEX IF EXISTS {}; CHECKPOINT",
        target.index
    ))?;
    let sampler = Sampler::of_session(&mut session)?;
    let wal = lab.wal()?;
    let (took, _) = run(&mut session, &lab.index_sql(method), &target)?;
    Ok(Built {
        seconds: took.as_secs_f64(),
        wal: lab.wal()? - wal,
        memory: as_f64(sampler.peak()),
    })
}

/// Brings tables and indexes into memory and compares btree's and the candidate's contents.
fn contents_agree(lab: &mut Lab) -> Result<bool> {
    prewarm(&mut lab.client, &BOTH.map(Method::target))?;
    lab.indexes_hold(BASE)
}
