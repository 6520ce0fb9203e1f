//! Memory of backends, as the kernel counts it.
//!
//! `RssAnon` is what a process has for itself; shared buffers and the program are not
//! in it, which the peak `VmHWM` counts as well. So the peak is sampled.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;

const INTERVAL: Duration = Duration::from_millis(2);

/// Watches one process from its own thread.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sampler {
    /// Watches the backend of `session`.
    pub fn of_session(session: &mut Client) -> Result<Self> {
        let pid = backend_pid(session)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(anonymous_bytes(pid).unwrap_or_default());
                sleep(INTERVAL);
            }
            peak
        });
        Ok(Self { stop, thread })
    }

    /// Ends the watch; the most that was seen, bytes.
    pub fn peak(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Bytes that the backend of `session` has for itself.
pub fn of_session(session: &mut Client) -> Result<u64> {
    anonymous_bytes(backend_pid(session)?)
}

fn backend_pid(session: &mut Client) -> Result<i32> {
    Ok(session.query_one("SELECT pg_backend_pid()", &[])?.get(0))
}

/// Bytes that process `pid` has for itself.
fn anonymous_bytes(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    anonymous(&status).context("the kernel does not tell RssAnon")
}

fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::anonymous;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(
            anonymous("VmRSS:\t 9 kB\nRssAnon:\t    12 kB\n"),
            Some(12288)
        );
        assert_eq!(anonymous("VmRSS:\t 9 kB\n"), None);
    }
}
