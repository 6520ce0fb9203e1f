//! The results as tables, which are Markdown too.

use crate::bench::results::Measurement;
use crate::report::{grouped, left, new_table, ratio, right, value};

/// The sections of the report, in order, with their titles.
pub const GROUPS: &[(&str, &str)] = &[
    ("size", "Size"),
    ("build", "Build"),
    ("read", "Reads"),
    (
        "cold",
        "Reads with an index several times larger than shared_buffers",
    ),
    ("clients", "Prepared lookups by several clients"),
    ("insert", "Bulk inserts"),
    ("rows", "Single-row inserts"),
    ("change", "Updates, deletes and VACUUM"),
    ("churn", "Queue and counter between vacuums"),
    ("memory", "Memory of sessions"),
    ("planning", "Planning"),
    ("curve", "Lookups and size over rows"),
    ("floor", "Beside the floor"),
];

/// All sections that have results.
pub fn all(results: &[Measurement], candidate: &str) -> String {
    let sections = GROUPS.iter();
    sections
        .map(|(group, _)| section(results, candidate, group))
        .collect()
}

/// The section of one group; nothing without results.
pub fn section(results: &[Measurement], candidate: &str, group: &str) -> String {
    let of_group: Vec<&Measurement> = results.iter().filter(|r| r.group == group).collect();
    let title = GROUPS.iter().find(|(name, _)| *name == group);
    match title {
        Some((_, title)) if !of_group.is_empty() => {
            format!("\n## {title}\n\n{}\n", table(&of_group, candidate))
        }
        _ => String::new(),
    }
}

/// What the candidate is worse at than btree, worst first; `curve` shows rows again
/// that other sections have.
pub fn losses(results: &[Measurement], candidate: &str) -> String {
    let mut lost: Vec<(f64, &Measurement)> = results
        .iter()
        .filter(|result| result.method == candidate && result.group != "curve")
        .filter_map(|result| Some((result.ratio_to_btree?, result)))
        .filter(|(ratio, _)| *ratio < 1.0)
        .collect();
    lost.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut table = new_table(&["data", "workload", "ratio"]);
    for (times, result) in &lost {
        table.add_row([
            left(&result.data_set),
            left(&result.workload),
            right(&ratio(Some(*times))),
        ]);
    }
    format!("\n## Where btree is better\n\n{table}\n")
}

/// One line for each data set and workload.
fn table(results: &[&Measurement], candidate: &str) -> String {
    let mut table = new_table(&[
        "data", "workload", "rows", "btree", candidate, "ratio", "others", "answers",
    ]);
    for line in lines(results) {
        let of = |method: &str| line.iter().find(|result| result.method == method);
        let shown = |method| of(method).map_or("-".into(), |result| with_extremes(result));
        let first = line[0];
        let others: Vec<String> = line
            .iter()
            .filter(|result| result.method != "btree" && result.method != candidate)
            .map(|result| format!("{} {}", result.method, value(result.value, result.unit)))
            .collect();
        table.add_row([
            left(&first.data_set),
            left(&workload(&line)),
            right(&grouped(first.rows)),
            right(&shown("btree")),
            right(&shown(candidate)),
            right(&ratio(
                of(candidate).and_then(|result| result.ratio_to_btree),
            )),
            left(&others.join(", ")),
            left(match first.answers_equal {
                Some(true) => "equal",
                Some(false) => "DIFFERENT",
                None => "",
            }),
        ]);
    }
    table.to_string()
}

/// The median and, of several repetitions, the least and the greatest.
fn with_extremes(result: &Measurement) -> String {
    let show = |number| value(number, result.unit);
    if result.repetitions < 2 {
        return show(result.value);
    }
    format!(
        "{} ({} - {})",
        show(result.value),
        show(result.min),
        show(result.max)
    )
}

/// The workload, with the parallel workers where there were any.
fn workload(line: &[&Measurement]) -> String {
    let name = &line[0].workload;
    if line.iter().all(|result| result.workers.unwrap_or(0) == 0) {
        return name.clone();
    }
    let workers: Vec<String> = line
        .iter()
        .map(|result| format!("{}: {}", result.method, result.workers.unwrap_or(0)))
        .collect();
    format!("{name} (workers {})", workers.join(", "))
}

/// Results of the same data set, workload and rows together, in order of appearance.
pub fn lines<'a>(results: &[&'a Measurement]) -> Vec<Vec<&'a Measurement>> {
    let mut lines: Vec<Vec<&Measurement>> = Vec::new();
    for result in results {
        let same = |line: &&mut Vec<&Measurement>| {
            line[0].data_set == result.data_set
                && line[0].workload == result.workload
                && line[0].rows == result.rows
        };
        match lines.iter_mut().find(same) {
            Some(line) => line.push(result),
            None => lines.push(vec![result]),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{lines, losses};
    use crate::bench::results::tests::measured;

    #[test]
    fn methods_of_a_workload_share_a_line() {
        let results = [
            measured("serial", "probe", "btree", 2.0, Some(1.0)),
            measured("random", "probe", "btree", 2.0, Some(1.0)),
            measured("serial", "probe", "omen", 1.0, Some(2.0)),
        ];
        let lines = lines(&results.each_ref());
        let methods: Vec<&str> = lines[0].iter().map(|r| r.method.as_str()).collect();
        assert_eq!((lines.len(), methods), (2, vec!["btree", "omen"]));
    }

    #[test]
    fn losses_are_the_candidates_alone_and_the_worst_comes_first() {
        let results = [
            measured("a", "slow", "omen", 2.0, Some(0.9)),
            measured("a", "slower", "omen", 2.0, Some(0.5)),
            measured("a", "fast", "omen", 2.0, Some(1.5)),
            measured("a", "hashed", "hash", 2.0, Some(0.1)),
        ];
        let text = losses(&results, "omen");
        let place = |name: &str| text.find(&format!("| {name} "));
        assert!(place("slower") < place("slow") && place("slow").is_some());
        assert!(place("fast").is_none() && place("hashed").is_none());
    }
}
