//! SQL functions that show what is in an index.

mod stats;
