//! What must hold of small tables too, where times mean nothing.

use anyhow::{Result, ensure};

use crate::bench::goals;
use crate::bench::results::Measurement;

/// Pages that an index has beside its leaves, relative to btree's on small tables.
const ALLOWANCE: f64 = 1.1;

/// Fails if an index of the candidate is larger than btree's, beyond an allowance.
pub fn sizes(results: &[Measurement], candidate: &str) -> Result<()> {
    let larger = larger(results, candidate);
    ensure!(
        larger.is_empty(),
        "larger than btree's:\n{}",
        larger.join("\n")
    );
    Ok(())
}

/// Fails if there is a goal whose workloads were not all measured.
pub fn goals(results: &[Measurement], candidate: &str) -> Result<()> {
    let without = goals::without_results(results, candidate);
    ensure!(
        without.is_empty(),
        "not all workloads were measured of:\n{}",
        without.join("\n")
    );
    Ok(())
}

fn larger(results: &[Measurement], candidate: &str) -> Vec<String> {
    results
        .iter()
        .filter(|result| result.group == "size" && result.method == candidate)
        .filter(|result| {
            result
                .ratio_to_btree
                .is_none_or(|ratio| ratio * ALLOWANCE < 1.0)
        })
        .map(|result| format!("{}: {}", result.data_set, result.workload))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::larger;
    use crate::bench::results::tests::measured;

    #[test]
    fn only_the_candidates_larger_indexes_are_named() {
        let results = [
            measured("a", "smaller", "omen", 1.0, Some(2.0)),
            measured("a", "allowed", "omen", 1.0, Some(0.95)),
            measured("a", "larger", "omen", 1.0, Some(0.5)),
            measured("a", "of hash", "hash", 1.0, Some(0.5)),
            measured("a", "of nothing", "omen", 0.0, None),
        ];
        assert_eq!(larger(&results, "omen"), ["a: larger", "a: of nothing"]);
    }
}
