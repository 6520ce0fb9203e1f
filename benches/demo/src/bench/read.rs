//! Read workloads.

use anyhow::Result;

use crate::bench::datasets::DataSet;
use crate::bench::lab::{BASE, Lab, Subject, Timed};
use crate::bench::method::{Ask, BOTH, Method};
use crate::bench::results::Summary;
use crate::keys::count;
use crate::measure::{Query, Scan, first_count, run};
use crate::queries::Names;

pub const GROUP: &str = "read";

const NAMES: Names<'static> = Names {
    column: "k",
    payload: "payload",
};
const TOP_N_QUERIES: u64 = 20_000;
/// Arrays, and keys in each, for `= ANY`.
const ARRAYS: u64 = 50;
const ARRAY: u64 = 1_000;
/// BRIN reads 128 pages for a range, so there are fewer where it takes part.
const BRIN_RANGES: u64 = 200;
const MIN_MAX: u64 = 5_000;

/// Random probes, which are measured on all data sets.
pub fn probes(
    lab: &mut Lab,
    group: &'static str,
    data_set: &str,
    suffix: &str,
    methods: &[Method],
) -> Result<()> {
    let each = count(&mut lab.client, "probes")?;
    for (workload, scan) in [
        ("random probe, index-only", Scan::IndexOnly),
        ("random probe, with heap", Scan::Index),
    ] {
        let timed = Timed {
            group,
            data_set,
            workload: &format!("{workload}{suffix}"),
            query: NAMES.point(scan),
            ask: Ask::Equal,
            each,
            extra: "",
        };
        lab.time(&timed, methods)?;
    }
    Ok(())
}

/// Everything else. `lab.column().draw_ranges()` has been called.
pub fn others(lab: &mut Lab, set: &DataSet, methods: &[Method]) -> Result<()> {
    ranges(lab, set, methods)?;
    let queries = count(&mut lab.client, "starts")?.min(TOP_N_QUERIES);
    let mut time = |workload, query, ask, each, extra| {
        let timed = Timed {
            group: GROUP,
            data_set: set.name,
            workload,
            query,
            ask,
            each,
            extra,
        };
        lab.time(&timed, methods)
    };
    for (workload, descending) in [
        ("ORDER BY LIMIT 10, ascending", false),
        ("ORDER BY LIMIT 10, descending", true),
    ] {
        time(
            workload,
            NAMES.top_n(queries, descending),
            Ask::Order,
            queries,
            "",
        )?;
    }
    any(lab, set, methods)?;
    merge_join(lab, set)?;
    counts(lab, set)?;
    min_max(lab, set)
}

/// Ways to read a range.
const WAYS: [(&str, Scan); 3] = [
    ("index-only", Scan::IndexOnly),
    ("with heap", Scan::Index),
    ("bitmap", Scan::Bitmap),
];

fn ranges(lab: &mut Lab, set: &DataSet, methods: &[Method]) -> Result<()> {
    for (length, ranges) in [("short", "ranges"), ("long", "large")] {
        for (how, scan) in WAYS {
            range(
                lab,
                set,
                &format!("{length} range, {how}"),
                ranges,
                scan,
                &BOTH,
            )?;
        }
        if methods.contains(&Method::Brin) {
            let few = format!("(SELECT * FROM {ranges} LIMIT {BRIN_RANGES})");
            let with_brin = [Method::Btree, Method::Candidate, Method::Brin];
            let workload = format!("{length} range, bitmap, beside BRIN");
            range(lab, set, &workload, &few, Scan::Bitmap, &with_brin)?;
        }
    }
    scans(lab, set)
}

/// The long ranges, each by a scan of its own: without what the join costs.
fn scans(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let rows = lab
        .client
        .query("SELECT lo::text, hi::text FROM large ORDER BY lo", &[])?;
    let large: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (how, scan) in WAYS {
        let timed = Timed {
            group: GROUP,
            data_set: set.name,
            workload: &format!("long range without a join, {how}"),
            query: NAMES.scans(&large, scan),
            ask: Ask::Range,
            each: u64::try_from(large.len())?,
            extra: "",
        };
        lab.time(&timed, &BOTH)?;
    }
    Ok(())
}

fn range(
    lab: &mut Lab,
    set: &DataSet,
    workload: &str,
    ranges: &str,
    scan: Scan,
    methods: &[Method],
) -> Result<()> {
    let timed = Timed {
        group: GROUP,
        data_set: set.name,
        workload,
        query: NAMES.range(ranges, scan),
        ask: Ask::Range,
        each: count(&mut lab.client, &format!("{ranges} AS r"))?,
        extra: "",
    };
    lab.time(&timed, methods)
}

fn any(lab: &mut Lab, set: &DataSet, methods: &[Method]) -> Result<()> {
    lab.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS arrays;
         CREATE TABLE arrays AS SELECT array_agg(k) AS a
            FROM (SELECT k, (row_number() OVER () - 1) / {ARRAY} AS n
                  FROM (SELECT k FROM starts LIMIT {ARRAYS} * {ARRAY}) AS s) AS s
            GROUP BY n;
         ANALYZE arrays"
    ))?;
    let each = count(&mut lab.client, "arrays")?;
    for (workload, scan) in [
        ("= ANY(1000 values), index-only", Scan::IndexOnly),
        ("= ANY(1000 values), bitmap", Scan::Bitmap),
    ] {
        // The hash index has no arrays but by bitmaps.
        let asked: Vec<Method> = methods
            .iter()
            .copied()
            .filter(|method| *method != Method::Hash || scan == Scan::Bitmap)
            .collect();
        let timed = Timed {
            group: GROUP,
            data_set: set.name,
            workload,
            query: NAMES.join(scan, "FROM arrays AS p JOIN {t} AS t ON t.k = ANY (p.a)"),
            ask: Ask::Equal,
            each,
            extra: "",
        };
        lab.time(&timed, &asked)?;
    }
    Ok(())
}

fn merge_join(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let timed = Timed {
        group: GROUP,
        data_set: set.name,
        workload: "merge join with itself",
        query: NAMES.join(Scan::MergeJoin, "FROM {t} AS s JOIN {t} AS t USING (k)"),
        ask: Ask::Order,
        each: 1,
        extra: "",
    };
    lab.time(&timed, &BOTH)
}

/// Counts the middle half of the keys, by one process and with two workers.
fn counts(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let ends = lab.client.query_one(
        &format!(
            "SELECT (percentile_disc(0.25) WITHIN GROUP (ORDER BY k))::text,
                    (percentile_disc(0.75) WITHIN GROUP (ORDER BY k))::text FROM {BASE}"
        ),
        &[],
    )?;
    let (low, high): (String, String) = (ends.get(0), ends.get(1));
    let from = format!("FROM {{t}} AS t WHERE t.k BETWEEN '{low}' AND '{high}'");
    for (workload, extra) in [
        ("count of half the table", ""),
        (
            "count of half the table, 2 workers",
            "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0;
             SET parallel_tuple_cost = 0; SET min_parallel_index_scan_size = 0;
             SET min_parallel_table_scan_size = 0;",
        ),
    ] {
        let timed = Timed {
            group: GROUP,
            data_set: set.name,
            workload,
            query: NAMES.join(Scan::IndexOnly, &from),
            ask: Ask::Range,
            each: 1,
            extra,
        };
        lab.time(&timed, &BOTH)?;
    }
    Ok(())
}

/// The least and the greatest key, by statements whose plan is kept.
fn min_max(lab: &mut Lab, set: &DataSet) -> Result<()> {
    let times = lab.scale.loops(MIN_MAX);
    let query = Query {
        scan: Scan::IndexOnly,
        timed: "SELECT 1, min(k), max(k) FROM {t} AS t".into(),
        check: "SELECT min(k), max(k) FROM {t} AS t".into(),
    };
    let timed = Timed {
        group: GROUP,
        data_set: set.name,
        workload: "MIN and MAX, with planning",
        query,
        ask: Ask::Order,
        each: 1,
        extra: "",
    };
    lab.time(&timed, &BOTH)?;
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{times} LOOP PERFORM min(k), max(k) FROM {{t}}; END LOOP; END $$"
    );
    let seconds = lab.repeat(&BOTH, |lab, _, method| {
        Ok(run(&mut lab.client, &sql, &method.target())?
            .0
            .as_secs_f64())
    })?;
    let factor = 1e6 / crate::workloads::as_f64(times);
    let entries = Lab::summaries(&BOTH, seconds, factor);
    let subject = Subject {
        group: GROUP,
        data_set: set.name,
        workload: "MIN and MAX",
        unit: "\u{b5}s",
        settings: "planned once",
        equal: None,
    };
    lab.record(&subject, &entries);
    Ok(())
}

/// A sequential scan of the table without index, for the sense of scale.
pub fn heap_scan(lab: &mut Lab, set: &DataSet) -> Result<()> {
    lab.client.batch_execute("RESET ALL")?;
    let seconds = lab.repeat(&[Method::Plain], |lab, _, method| {
        let sql = "SELECT count(payload) FROM {t}";
        let (took, answer) = run(&mut lab.client, sql, &method.target())?;
        first_count(&answer)?;
        Ok(took.as_secs_f64() * 1e6)
    })?;
    let entries = [(Method::Plain, Summary::of(seconds.into_iter().flatten()))];
    let subject = Subject {
        group: "floor",
        data_set: set.name,
        workload: "sequential scan of the table",
        unit: "\u{b5}s",
        settings: "",
        equal: None,
    };
    lab.record(&subject, &entries);
    Ok(())
}
