//! Timing the same query on two tables that differ in their index only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::{Client, SimpleQueryMessage};

/// A table and its index.
pub struct Target {
    pub table: &'static str,
    pub index: &'static str,
}

pub const BTREE: Target = Target {
    table: "t_btree",
    index: "t_btree_key",
};

pub const CANDIDATE: Target = Target {
    table: "t_candidate",
    index: "t_candidate_key",
};

/// The scan that a query must be planned as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    IndexOnly,
    IndexOnlyBackward,
    /// With heap fetches.
    Index,
}

/// A workload as SQL; `{t}` stands for the table.
pub struct Query {
    pub scan: Scan,
    /// What is timed: as little work beside the index as possible.
    pub timed: String,
    /// The same rows, all of them in one checksum; not timed.
    pub check: String,
}

/// Seconds, the median of the repetitions, and whether all answers were the same.
pub struct Outcome {
    pub btree: f64,
    pub candidate: f64,
    pub equal: bool,
    /// The first column of the timed query's answer, a count of rows.
    pub count: u64,
}

/// The rows of an answer as text.
type Answer = Vec<Vec<Option<String>>>;

/// Checks plan and answers, then times `query` on both tables in turn, `reps` times.
pub fn compare(client: &mut Client, query: &Query, reps: usize) -> Result<Outcome> {
    let expected = run(client, &query.check, &BTREE)?.1;
    let mut equal = same(&expected, &run(client, &query.check, &CANDIDATE)?.1);
    for target in [&BTREE, &CANDIDATE] {
        require_plan(client, query, target)?;
    }

    let counted = run(client, &query.timed, &BTREE)?.1;
    let mut seconds = [Vec::new(), Vec::new()];
    for rep in 0..reps {
        for turn in 0..2 {
            let which = (rep + turn) % 2;
            let target = [&BTREE, &CANDIDATE][which];
            let (took, answer) = run(client, &query.timed, target)?;
            seconds[which].push(took.as_secs_f64());
            equal &= same(&counted, &answer);
        }
    }
    let count = counted
        .first()
        .and_then(|row| row.first()?.as_deref()?.parse().ok())
        .context("a timed query must return a count first")?;
    Ok(Outcome {
        btree: median(&mut seconds[0]),
        candidate: median(&mut seconds[1]),
        equal,
        count,
    })
}

/// Runs `sql`; its time as the client sees it, and its rows.
pub fn run(client: &mut Client, sql: &str, target: &Target) -> Result<(Duration, Answer)> {
    let sql = sql.replace("{t}", target.table);
    let begun = Instant::now();
    let messages = client
        .simple_query(&sql)
        .with_context(|| format!("query failed: {sql}"))?;
    let took = begun.elapsed();
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|column| row.get(column).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    });
    Ok((took, rows.collect()))
}

/// Whether both are the same; a difference is printed.
pub fn same(expected: &Answer, got: &Answer) -> bool {
    if expected != got {
        eprintln!("  ANSWERS DIFFER: expected {expected:?}\n                  got      {got:?}");
    }
    expected == got
}

/// The median; 0 for nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Fails, showing the plan, unless `query` runs as the index scan that is to be measured.
fn require_plan(client: &mut Client, query: &Query, target: &Target) -> Result<()> {
    let explain = format!(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}",
        query.timed
    );
    let (_, rows) = run(client, &explain, target)?;
    let plan: Vec<String> = rows.into_iter().flatten().flatten().collect();
    let plan = plan.join("\n");
    if !plan_is(&plan, query.scan, target) {
        let table = target.table;
        let sql = explain.replace("{t}", table);
        bail!("not the plan to be measured:\n{sql}\n{plan}");
    }
    Ok(())
}

fn plan_is(plan: &str, scan: Scan, target: &Target) -> bool {
    let node = match scan {
        Scan::IndexOnly => "Index Only Scan",
        Scan::IndexOnlyBackward => "Index Only Scan Backward",
        Scan::Index => "Index Scan",
    };
    let wanted = format!("{node} using {} on {}", target.index, target.table);
    let seq_scan = format!("Seq Scan on {}", target.table);
    let detours = ["Sort", "Bitmap", "Hash Join", "Merge Join", &seq_scan];
    let all_visible = scan == Scan::Index || plan.contains("Heap Fetches: 0");
    plan.contains(&wanted) && all_visible && !detours.iter().any(|node| plan.contains(node))
}

#[cfg(test)]
mod tests {
    use super::{BTREE, Scan, median, plan_is};

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_two_middle_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn a_plan_counts_only_if_it_is_the_scan_meant() {
        let only = "->  Index Only Scan using t_btree_key on t_btree t\n Heap Fetches: 0";
        assert!(plan_is(only, Scan::IndexOnly, &BTREE));
        assert!(!plan_is(only, Scan::Index, &BTREE));
        assert!(!plan_is(only, Scan::IndexOnlyBackward, &BTREE));
        let fetching = only.replace("Fetches: 0", "Fetches: 7");
        assert!(!plan_is(&fetching, Scan::IndexOnly, &BTREE));
        let sorted = format!("Sort\n{only}");
        assert!(!plan_is(&sorted, Scan::IndexOnly, &BTREE));
    }
}
