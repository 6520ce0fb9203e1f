//! Results as a table for people and as JSON for programs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment, Table};
use serde::{Serialize, Serializer};

use crate::data::Goal;

/// One measured workload.
#[derive(Debug, Serialize)]
pub struct Row {
    pub data_set: String,
    pub workload: String,
    /// Rows indexed, read in all or inserted per statement, as the workload goes.
    pub rows: u64,
    pub unit: &'static str,
    pub btree: f64,
    pub candidate: f64,
    /// btree / candidate: above 1 the candidate is better.
    pub ratio: Option<f64>,
    pub answers_equal: Option<bool>,
}

/// Everything that is written to `results.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub candidate: String,
    pub server_version: String,
    pub repetitions: usize,
    #[serde(serialize_with = "as_map")]
    pub settings: Vec<(String, String)>,
    pub results: Vec<Row>,
}

impl Report {
    /// Whether no answer differed.
    pub fn all_equal(&self) -> bool {
        self.results
            .iter()
            .all(|row| row.answers_equal != Some(false))
    }

    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The table of one data set.
    pub fn table(&self, data_set: &str) -> String {
        let mut table = new_table(&[
            "workload",
            "rows",
            "btree",
            &self.candidate,
            "ratio",
            "answers",
        ]);
        for row in self.results.iter().filter(|row| row.data_set == data_set) {
            table.add_row([
                left(&row.workload),
                right(&grouped(row.rows)),
                right(&value(row.btree, row.unit)),
                right(&value(row.candidate, row.unit)),
                right(&ratio(row.ratio)),
                left(match row.answers_equal {
                    Some(true) => "equal",
                    Some(false) => "DIFFERENT",
                    None => "",
                }),
            ]);
        }
        table.to_string()
    }

    /// The table of sizes, with the goals of each data set.
    pub fn size_table(&self, goals: &[(String, Goal)]) -> String {
        let mut table = new_table(&[
            "data",
            "btree",
            &self.candidate,
            "at most",
            "",
            "build ratio",
            "lookup ratio",
            "answers",
        ]);
        for (data_set, goal) in goals {
            let of = |workload: &str| {
                self.results
                    .iter()
                    .find(|row| row.data_set == *data_set && row.workload.starts_with(workload))
            };
            let (Some(size), Some(build), Some(lookup)) =
                (of("index size"), of("build"), of("point lookup"))
            else {
                continue;
            };
            let most = match goal {
                Goal::Bytes(bytes) => *bytes,
                Goal::OfBtree(share) => size.btree * share,
            };
            let equal = [build, lookup]
                .iter()
                .all(|row| row.answers_equal != Some(false));
            table.add_row([
                left(data_set),
                right(&value(size.btree, size.unit)),
                right(&value(size.candidate, size.unit)),
                right(&value(most, size.unit)),
                left(if size.candidate <= most {
                    "met"
                } else {
                    "missed"
                }),
                right(&ratio(build.ratio)),
                right(&ratio(lookup.ratio)),
                left(if equal { "equal" } else { "DIFFERENT" }),
            ]);
        }
        table.to_string()
    }
}

fn as_map<S: Serializer>(settings: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(settings.iter().map(|(name, value)| (name, value)))
}

pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header.iter().map(|title| left(title)));
    table
}

pub fn left(text: &str) -> Cell {
    Cell::new(text)
}

pub fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Three significant digits and the unit; long times in milliseconds.
pub fn value(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "\u{b5}s" if value >= 1000.0 => (value / 1000.0, "ms"),
        unit => (value, unit),
    };
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}")
}

/// A ratio as `3.1x`, a loss as `0.62x`.
pub fn ratio(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".into(),
        Some(ratio) if ratio >= 100.0 => format!("{ratio:.0}x"),
        Some(ratio) if ratio >= 10.0 => format!("{ratio:.1}x"),
        Some(ratio) => format!("{ratio:.2}x"),
    }
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, ratio, value};

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(3_000_000), "3,000,000");
        assert_eq!(value(22.456, "B/entry"), "22.5 B/entry");
        assert_eq!(value(0.25, "s"), "0.250 s");
        assert_eq!(value(196_558.0, "\u{b5}s"), "197 ms");
        assert_eq!(ratio(Some(0.618)), "0.62x");
        assert_eq!(ratio(Some(45.67)), "45.7x");
        assert_eq!(ratio(None), "-");
    }
}
