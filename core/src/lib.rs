//! The PostgreSQL-free heart of the omen access method: key order, codecs,
//! learned models, page formats and the tree algorithms over a page store.
//!
//! Nothing in here is unsafe, depends on the machine it runs on, or panics on
//! the bytes of a page: what a page says is checked, and a page inconsistent
//! in itself is an [`Error::Corrupt`] that names its block.
#![forbid(unsafe_code)]

pub mod codec;
pub mod error;
pub mod key;
mod memory;
pub mod model;
pub mod page;
pub mod planted;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tree;

pub use error::{Error, Result};
pub use key::{Block, INVALID_BLOCK, Pos, Tid};
