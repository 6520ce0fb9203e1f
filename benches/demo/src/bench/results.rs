//! What was measured, and the arithmetic on it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::measure::median;

/// What some repetitions gave, with their median, least and greatest.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// In the order of the rounds.
    pub values: Vec<f64>,
}

impl Summary {
    /// Of nothing it is all zeros.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let mut sorted = values.clone();
        let median = median(&mut sorted);
        Self {
            median,
            min: sorted.first().copied().unwrap_or_default(),
            max: sorted.last().copied().unwrap_or_default(),
            values,
        }
    }

    /// A value that does not vary.
    pub fn exact(value: f64) -> Self {
        Self::of([value])
    }

    pub fn times(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
            values: self.values.iter().map(|value| value * factor).collect(),
        }
    }
}

/// What each repetition of `with` took beyond the one of `without`.
pub fn shares(with: &[f64], without: &[f64]) -> Summary {
    Summary::of(
        with.iter()
            .zip(without)
            .map(|(with, without)| with - without),
    )
}

/// The unit of rates, of which more is better; of all others less is.
pub const TPS: &str = "tps";

/// How many times better one is than btree: the median of the rounds' ratios, since
/// what slows the machine for a while slows both. Of the medians where some round
/// has none; nothing if those have none.
pub fn times_better(btree: &Summary, other: &Summary, unit: &str) -> Option<f64> {
    let better = |btree: f64, value: f64| {
        let better = if unit == TPS {
            value / btree
        } else {
            btree / value
        };
        (btree > 0.0 && value > 0.0).then_some(better)
    };
    let rounds = btree.values.iter().zip(&other.values);
    let ratios: Option<Vec<f64>> = rounds
        .map(|(btree, value)| better(*btree, *value))
        .collect();
    match ratios {
        Some(mut ratios) if !ratios.is_empty() && btree.values.len() == other.values.len() => {
            Some(median(&mut ratios))
        }
        _ => better(btree.median, other.median),
    }
}

/// What the numbers were measured with.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    pub postgresql: String,
    pub omendb_index: String,
}

/// One method on one workload and data set.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The section of the report.
    pub group: &'static str,
    pub data_set: String,
    pub workload: String,
    pub method: String,
    /// Rows of the table when the workload begins.
    pub rows: u64,
    /// The median.
    pub value: f64,
    pub unit: &'static str,
    /// How many times better than btree: above 1 the method is. The median of the
    /// rounds' ratios.
    pub ratio_to_btree: Option<f64>,
    pub min: f64,
    pub max: f64,
    pub repetitions: usize,
    /// Of each round.
    pub values: Vec<f64>,
    /// Parallel workers that the plan was given.
    pub workers: Option<u64>,
    /// Whether the answers were the same as btree's, or the index's as its table's.
    pub answers_equal: Option<bool>,
    /// Settings of this workload, beside those of the server.
    pub settings: String,
    pub versions: Versions,
}

/// The file that programs read.
#[derive(Serialize)]
pub struct Document<'a> {
    pub machine: &'a [(String, String)],
    pub settings: &'a [(String, String)],
    pub results: &'a [Measurement],
}

impl Document<'_> {
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Measurement, Summary, TPS, Versions, shares, times_better};

    /// A result for the tests of what is made of results.
    pub fn measured(
        data_set: &str,
        workload: &str,
        method: &str,
        value: f64,
        ratio_to_btree: Option<f64>,
    ) -> Measurement {
        Measurement {
            group: "size",
            data_set: data_set.into(),
            workload: workload.into(),
            method: method.into(),
            rows: 1,
            value,
            unit: "s",
            ratio_to_btree,
            min: value,
            max: value,
            repetitions: 1,
            values: vec![value],
            workers: None,
            answers_equal: None,
            settings: String::new(),
            versions: Versions {
                postgresql: String::new(),
                omendb_index: String::new(),
            },
        }
    }

    #[test]
    fn a_summary_has_the_median_and_the_extremes() {
        let summary = Summary::of([3.0, 1.0, 5.0]).times(2.0);
        assert_eq!((summary.median, summary.min, summary.max), (6.0, 2.0, 10.0));
        assert_eq!(summary.values, [6.0, 2.0, 10.0]);
        assert_eq!(Summary::of([]).median, 0.0);
    }

    #[test]
    fn an_index_share_is_taken_within_each_repetition() {
        let share = shares(&[5.0, 9.0, 7.0], &[4.0, 4.0, 4.0]);
        assert_eq!((share.median, share.min, share.max), (3.0, 1.0, 5.0));
    }

    #[test]
    fn above_one_is_better_for_costs_and_for_rates() {
        let better =
            |btree, value, unit| times_better(&Summary::exact(btree), &Summary::exact(value), unit);
        assert_eq!(better(6.0, 2.0, "s"), Some(3.0));
        assert_eq!(better(2.0, 6.0, TPS), Some(3.0));
        assert_eq!(better(6.0, -1.0, "s"), None);
        assert_eq!(better(0.0, 1.0, "s"), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_rounds() {
        // The machine is three times as slow in the last round.
        let btree = Summary::of([2.0, 2.0, 6.0]);
        let omen = Summary::of([1.0, 1.6, 3.0]);
        assert_eq!(times_better(&btree, &omen, "s"), Some(2.0));
        // A share that comes out below nothing has no ratio: that of the medians.
        let omen = Summary::of([1.0, -1.0, 6.0]);
        assert_eq!(times_better(&btree, &omen, "s"), Some(2.0));
        // So has what took another number of rounds.
        let btree = Summary::of([6.0, 2.0, 2.0]);
        assert_eq!(times_better(&btree, &Summary::exact(1.0), "s"), Some(2.0));
    }
}
