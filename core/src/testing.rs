//! What the tests of several modules share.

use proptest::prelude::ProptestConfig;

/// So many cases, unless the environment says otherwise. Miri, which takes a
/// thousand times as long, gets one.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(if cfg!(miri) { 1 } else { cases }),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// `n`, or a part of it under Miri.
pub(crate) fn scaled(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(20) } else { n }
}
