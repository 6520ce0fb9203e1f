//! Timing the same query on two tables that differ in their index only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::{Client, SimpleQueryMessage};

/// A table and its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// With heap fetches in the order of the heap.
    Bitmap,
    /// Two index-only scans of the same index, merged.
    MergeJoin,
}

/// A workload as SQL; `{t}` stands for the table.
#[derive(Clone)]
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
pub type Answer = Vec<Vec<Option<String>>>;

/// Checks plan and answers, then times `query` on both tables in turn, `reps` times.
pub fn compare(client: &mut Client, query: &Query, reps: usize) -> Result<Outcome> {
    let expected = run(client, &query.check, &BTREE)?.1;
    let mut equal = same(&expected, &run(client, &query.check, &CANDIDATE)?.1);
    for target in [&BTREE, &CANDIDATE] {
        require_plan(client, query, target)?;
    }

    let counted = run(client, &query.timed, &BTREE)?.1;
    let mut seconds = interleave(&[BTREE, CANDIDATE], 0, reps, |_, target| {
        let (took, answer) = run(client, &query.timed, target)?;
        equal &= same(&counted, &answer);
        Ok(took.as_secs_f64())
    })?;
    Ok(Outcome {
        btree: median(&mut seconds[0]),
        candidate: median(&mut seconds[1]),
        equal,
        count: first_count(&counted)?,
    })
}

/// Does `one` for each of `subjects` in turn, `warm_ups + reps` times, and returns
/// what the last `reps` rounds gave for each. Every round begins with another one,
/// so that none is always measured first.
pub fn interleave<T, V>(
    subjects: &[T],
    warm_ups: usize,
    reps: usize,
    mut one: impl FnMut(usize, &T) -> Result<V>,
) -> Result<Vec<Vec<V>>> {
    let mut values: Vec<Vec<V>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..warm_ups + reps {
        for turn in 0..subjects.len() {
            let which = (round + turn) % subjects.len();
            let value = one(round, &subjects[which])?;
            if round >= warm_ups {
                values[which].push(value);
            }
        }
    }
    Ok(values)
}

/// The first column of an answer's first row.
pub fn first_count(answer: &Answer) -> Result<u64> {
    answer
        .first()
        .and_then(|row| row.first()?.as_deref()?.parse().ok())
        .context("a timed query must return a count first")
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

/// Fails, showing the plan, unless `query` runs as the index scan that is to be
/// measured; the plan.
pub fn require_plan(client: &mut Client, query: &Query, target: &Target) -> Result<String> {
    let explain = format!(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}",
        query.timed
    );
    require_explained(client, &explain, query.scan, target)
}

/// The same for an EXPLAIN of any kind; `Scan::Index` and `Scan::Bitmap` need no ANALYZE.
pub fn require_explained(
    client: &mut Client,
    explain: &str,
    scan: Scan,
    target: &Target,
) -> Result<String> {
    let (_, rows) = run(client, explain, target)?;
    let plan: Vec<String> = rows.into_iter().flatten().flatten().collect();
    let plan = plan.join("\n");
    if !plan_is(&plan, scan, target) {
        let sql = explain.replace("{t}", target.table);
        bail!("not the plan to be measured:\n{sql}\n{plan}");
    }
    Ok(plan)
}

fn plan_is(plan: &str, scan: Scan, target: &Target) -> bool {
    let Target { table, index } = target;
    let using = |node: &str| format!("{node} using {index} on {table}");
    let wanted = match scan {
        Scan::IndexOnly | Scan::MergeJoin => using("Index Only Scan"),
        Scan::IndexOnlyBackward => using("Index Only Scan Backward"),
        Scan::Index => using("Index Scan"),
        Scan::Bitmap => format!("Bitmap Index Scan on {index}"),
    };
    let mut detours = vec![
        "Sort".to_owned(),
        "Hash Join".into(),
        format!("Seq Scan on {table}"),
    ];
    if scan != Scan::Bitmap {
        detours.push("Bitmap".into());
    }
    if scan != Scan::MergeJoin {
        detours.push("Merge Join".into());
    }
    let merged = scan != Scan::MergeJoin || plan.contains("Merge Join");
    let all_visible =
        matches!(scan, Scan::Index | Scan::Bitmap) || plan.contains("Heap Fetches: 0");
    plan.contains(&wanted)
        && merged
        && all_visible
        && !detours.iter().any(|node| plan.contains(node))
}

#[cfg(test)]
mod tests {
    use super::{BTREE, Scan, interleave, median, plan_is};

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_two_middle_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn rounds_begin_with_another_subject_each_and_warm_ups_do_not_count() {
        let mut order = String::new();
        let values = interleave(&["a", "b", "c"], 1, 2, |round, name| {
            order.push_str(name);
            Ok(round)
        });
        assert_eq!(order, "abcbcacab");
        assert_eq!(values.unwrap(), [[1, 2], [1, 2], [1, 2]]);
    }

    #[test]
    fn a_plan_counts_only_if_it_is_the_scan_meant() {
        let only = "->  Index Only Scan using t_btree_key on t_btree t\n Heap Fetches: 0";
        assert!(plan_is(only, Scan::IndexOnly, &BTREE));
        assert!(!plan_is(only, Scan::Index, &BTREE));
        assert!(!plan_is(only, Scan::Bitmap, &BTREE));
        assert!(!plan_is(only, Scan::MergeJoin, &BTREE));
        assert!(!plan_is(only, Scan::IndexOnlyBackward, &BTREE));
        let fetching = only.replace("Fetches: 0", "Fetches: 7");
        assert!(!plan_is(&fetching, Scan::IndexOnly, &BTREE));
        let sorted = format!("Sort\n{only}");
        assert!(!plan_is(&sorted, Scan::IndexOnly, &BTREE));
        let merged = format!("Merge Join\n{only}");
        assert!(plan_is(&merged, Scan::MergeJoin, &BTREE));
        assert!(!plan_is(&merged, Scan::IndexOnly, &BTREE));
        let bitmap = "Bitmap Heap Scan on t_btree\n-> Bitmap Index Scan on t_btree_key";
        assert!(plan_is(bitmap, Scan::Bitmap, &BTREE));
        assert!(!plan_is(bitmap, Scan::Index, &BTREE));
    }
}
