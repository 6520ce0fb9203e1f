//! The server's settings during the measurements.

use std::fs;

use anyhow::Result;
use postgres::Client;

/// Settings that differ from PostgreSQL's defaults; `most_buffers` are the MB of shared
/// buffers that are wanted on a machine with enough memory.
pub fn server(most_buffers: u64) -> Vec<(&'static str, String)> {
    // A quarter of the memory is the usual advice, and as much as is taken here.
    let buffers = memory_mb().map_or(most_buffers, |mb| most_buffers.min(mb / 4));
    let fixed = [
        ("maintenance_work_mem", "256MB"),
        ("work_mem", "256MB"),
        ("max_parallel_maintenance_workers", "0"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("autovacuum", "off"),
        ("wal_level", "replica"),
        ("fsync", "off"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1d"),
        // A scan that begins where another one ended copies rows in another order.
        ("synchronize_seqscans", "off"),
        ("timezone", "UTC"),
    ];
    let mut settings = vec![("shared_buffers", format!("{}MB", buffers.max(64)))];
    settings.extend(fixed.map(|(name, value)| (name, value.to_owned())));
    settings
}

/// The values that the server reports for `settings`.
pub fn shown(
    client: &mut Client,
    settings: &[(&'static str, String)],
) -> Result<Vec<(String, String)>> {
    settings
        .iter()
        .map(|(name, _)| {
            let row = client.query_one(&format!("SHOW {name}"), &[])?;
            Ok(((*name).to_owned(), row.get(0)))
        })
        .collect()
}

/// The machine's memory, where the kernel says.
fn memory_mb() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024)
}
