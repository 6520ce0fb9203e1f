//! omen: a learned index access method for PostgreSQL.
//!
//! The index itself is in [`omen_core`], which knows no PostgreSQL. Here it
//! meets the server: [`types`] maps values to the core's positions, `storage`
//! its pages to buffers and WAL, `am` its operations to the callbacks of an
//! access method, and `inspect` shows it to users.

#![deny(unsafe_op_in_unsafe_fn)]

use pgrx::prelude::*;

mod am;
mod inspect;
mod storage;
pub mod types;

::pgrx::pg_module_magic!(name, version);

/// Called when the library is loaded.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    am::options::define();
    am::batch::install();
}

/// What `cargo pgrx test` needs at the root of the crate.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        // Otherwise the crash of a background process would go unnoticed.
        vec!["restart_after_crash = off"]
    }
}
