//! Stage lines with the time since the start, on standard error.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Prints one stage line, as `[   12.3 s] text`.
pub fn stage(text: &str) {
    let start = START.get_or_init(Instant::now);
    eprintln!("[{:7.1} s] {text}", start.elapsed().as_secs_f64());
}
