//! Faults that tests plant, to show that tests find them. Without the feature
//! `planted_faults` there are none; with it the environment variable
//! `OMEN_PLANTED_FAULT` names the one that the process has.

/// Whether this fault is in.
#[cfg(feature = "planted_faults")]
#[must_use]
pub fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<Option<String>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| std::env::var("OMEN_PLANTED_FAULT").ok());
    planted.as_deref() == Some(name)
}

/// Whether this fault is in: never.
#[cfg(not(feature = "planted_faults"))]
#[inline(always)]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}
