//! Probes with an index that is several times larger than shared_buffers. The files
//! are in the operating system's cache, so what is measured is not the disk.

use anyhow::Result;

use crate::bench::datasets::DataSet;
use crate::bench::lab::Lab;
use crate::bench::method::{BOTH, Method};
use crate::bench::read;
use crate::keys::index_bytes;

pub const GROUP: &str = "cold";

/// Btree's index divided by shared_buffers; 32 MB for 10 million rows.
const TIMES_LARGER: u64 = 7;

/// Restarts the server with little memory, and then with `settings` again.
pub fn probes(lab: &mut Lab, set: &DataSet, settings: &[(&str, String)]) -> Result<()> {
    let bytes = index_bytes(&mut lab.client, Method::Btree.target().index)?;
    let buffers = format!("{}kB", (bytes / TIMES_LARGER / 1024).max(512));
    lab.restart(&[("shared_buffers", buffers.clone())])?;
    lab.note = format!("shared_buffers = {buffers}");
    let probed = read::probes(lab, GROUP, set.name, ", small buffers", &BOTH);
    lab.note.clear();
    lab.restart(settings)?;
    probed
}
