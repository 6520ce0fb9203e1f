//! The access method: one file per group of callbacks.
//!
//! A callback is generic in `V`, the lanes of the index's key type, wherever it
//! touches positions; [`by_lanes`] picks the instance. What the core returns as
//! an error becomes an ERROR in the callback, when all guards are gone.

pub(crate) mod batch;
mod bitmap;
pub(crate) mod build;
mod cost;
mod handler;
pub(crate) mod heap;
mod insert;
mod kill;
pub(crate) mod options;
mod parallel;
mod scan;
mod sort;
pub(crate) mod state;
pub(crate) mod tuple;
mod vacuum;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

/// Calls a function generic in the lanes of an index's key type.
macro_rules! by_lanes {
    ($lanes:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $lanes {
            2 => $function::<2>($($argument),*),
            _ => $function::<1>($($argument),*),
        }
    };
}
pub(crate) use by_lanes;
pub(crate) use handler::is_omen;
