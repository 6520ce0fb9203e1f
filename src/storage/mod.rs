//! PostgreSQL's buffers, locks and generic WAL behind the seam of
//! [`omen_core::store`], and what else the access method keeps in files.
//!
//! Rules that hold for every guard in here:
//!
//! * An ERROR of PostgreSQL unwinds as a Rust panic up to the callback. While
//!   it does, guards leave their locks and pins alone: `errfinish` has reset
//!   `InterruptHoldoffCount`, releasing a lock now would count it below zero.
//!   The abort of the transaction releases them (`LWLockReleaseAll`, resource
//!   owner).
//! * Damage that the core finds comes back as a value up to the callback, where
//!   [`in_index`] makes an ERROR of it after all guards are gone.
//! * What frees memory on behalf of a dying memory context does so inside
//!   [`abandon`], which keeps its pins from being released a second time.

mod buffer;
mod build_file;
mod error;
mod held;
mod known;
mod queue;
mod record;
mod relation;
mod spill;
#[cfg(feature = "stop_points")]
pub mod stop;
mod store;

pub use buffer::{Pin, abandon, pages_of, prefetch_row, prefetch_tuple, request_page};
pub use build_file::{EmptyFork, NewFork};
pub use error::{HINT, in_index};
pub use held::must_be_none;
pub use known::Known;
pub use queue::{Receiver, Sender};
pub use relation::{file_number, index_name, is_other_temp, is_unlogged};
pub use spill::{SpillFile, SpillReader};
pub use store::{PAGE_SIZE, PgStore};
