//! What the numbers were measured on.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

/// Names and values; what the system does not tell is left out.
pub fn describe() -> Vec<(String, String)> {
    let load = fs::read_to_string("/proc/loadavg").ok();
    let facts = [
        ("processor", field("/proc/cpuinfo", "model name")),
        (
            "cores",
            available_parallelism().ok().map(|cores| cores.to_string()),
        ),
        (
            "memory",
            field("/proc/meminfo", "MemTotal").and_then(|kb| gigabytes(&kb)),
        ),
        (
            "kernel",
            fs::read_to_string("/proc/sys/kernel/osrelease").ok(),
        ),
        (
            "load when it began",
            load.and_then(|load| load.split(' ').next().map(str::to_owned)),
        ),
        ("revision", revision()),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.trim().to_owned())))
        .collect()
}

/// The value of the first line `name: value` of a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `16384 kB` in GB.
fn gigabytes(kb: &str) -> Option<String> {
    let kb: u64 = kb.split_whitespace().next()?.parse().ok()?;
    Some(format!("{} GB", (kb + 512 * 1024) / (1024 * 1024)))
}

fn revision() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::gigabytes;

    #[test]
    fn memory_is_rounded_to_gigabytes() {
        assert_eq!(gigabytes("16384000 kB").as_deref(), Some("16 GB"));
        assert_eq!(gigabytes("none"), None);
    }
}
