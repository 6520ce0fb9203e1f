//! The cost of a lookup and the size as the rows grow, and of a table that is tiny.

use anyhow::Result;

use crate::bench::build;
use crate::bench::datasets::DataSet;
use crate::bench::lab::{Lab, Timed};
use crate::bench::method::{Ask, BOTH, Method};
use crate::bench::results::Measurement;
use crate::measure::{BTREE, Scan};
use crate::queries::Names;

pub const GROUP: &str = "curve";
pub const PROBE: &str = "random probe, index-only, by rows";
pub const SIZE: &str = "index size, by rows";

const TINY: u64 = 200;

/// Tables of the first 10^5, ... rows of table `base`, up to all of them.
pub fn over_rows(lab: &mut Lab, set: &DataSet) -> Result<()> {
    for rows in steps(lab.scale.rows, lab.scale.quick) {
        if rows == lab.scale.rows && last_from_results(lab, set) {
            break;
        }
        lab.fill(&format!("SELECT * FROM base LIMIT {rows}"), 100, &BOTH)?;
        let column = lab.column(BTREE.table, rows);
        column.draw_probes(&mut lab.client)?;
        crate::keys::prewarm(&mut lab.client, &BOTH.map(Method::target))?;
        probe(lab, GROUP, set.name, PROBE)?;
        let first = lab.results.len();
        build::sizes(lab, set.name, SIZE, &BOTH)?;
        for result in &mut lab.results[first..] {
            result.group = GROUP;
        }
    }
    Ok(())
}

/// Shows what was measured with all rows as the last point; whether there was any.
fn last_from_results(lab: &mut Lab, set: &DataSet) -> bool {
    let mut points = Vec::new();
    for result in &lab.results {
        let workload = match result.workload.as_str() {
            "random probe, index-only" => PROBE,
            "index size after build" => SIZE,
            _ => continue,
        };
        let compared = result.method == "btree" || result.method == lab.candidate;
        if result.data_set == set.name && compared {
            points.push(Measurement {
                group: GROUP,
                workload: workload.to_owned(),
                ..result.clone()
            });
        }
    }
    // Two methods, lookup and size.
    let complete = points.len() == 4;
    if complete {
        lab.results.extend(points);
    }
    complete
}

/// 10^5, 10^5.5, 10^6, ... and `rows` itself; every second one if `quick`.
fn steps(rows: u64, quick: bool) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut decade = 100_000;
    while decade < rows {
        steps.push(decade);
        let between = decade / 100 * 316;
        if between < rows && !quick {
            steps.push(between);
        }
        decade *= 10;
    }
    steps.push(rows);
    steps
}

/// Probes of a table of 200 rows, which a lookup can hardly save anything on.
pub fn tiny(lab: &mut Lab, set: &DataSet) -> Result<()> {
    lab.fill(&format!("SELECT * FROM base LIMIT {TINY}"), 100, &BOTH)?;
    let times = lab.scale.loops(1_000);
    lab.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS probes;
         CREATE TABLE probes AS SELECT k FROM t_btree, generate_series(1, {times})
            ORDER BY random();
         ANALYZE probes"
    ))?;
    probe(
        lab,
        "floor",
        set.name,
        "random probe, index-only, of 200 rows",
    )
}

fn probe(lab: &mut Lab, group: &'static str, data_set: &str, workload: &str) -> Result<()> {
    let names = Names {
        column: "k",
        payload: "payload",
    };
    let timed = Timed {
        group,
        data_set,
        workload,
        query: names.point(Scan::IndexOnly),
        ask: Ask::Equal,
        each: crate::keys::count(&mut lab.client, "probes")?,
        extra: "",
    };
    lab.time(&timed, &BOTH)
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn steps_are_half_decades_and_end_with_all_rows() {
        assert_eq!(
            steps(10_000_000, false),
            [100_000, 316_000, 1_000_000, 3_160_000, 10_000_000]
        );
        assert_eq!(steps(1_000_000, true), [100_000, 1_000_000]);
        assert_eq!(steps(20_000, false), [20_000]);
    }
}
