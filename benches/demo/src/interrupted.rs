//! Whether a signal has asked this process to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Called by the signal handler before it stops the server.
pub fn set() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Blocks for good when the server is being stopped by the signal handler,
/// which ends the process: errors seen meanwhile are its doing and no news.
pub fn wait_if_set() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        park();
    }
}
