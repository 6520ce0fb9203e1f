//! SQL values as positions of the index, and scan conditions as intervals of
//! positions.
//!
//! Everything that knows a data type is here: which types are supported
//! ([`KeyType`]), how a datum becomes key lanes and comes back
//! ([`KeyCodec::encode`], [`KeyCodec::decode`]), and which positions satisfy
//! the scan keys of a rescan ([`KeyCodec::resolve_into`]). The layers below
//! see unsigned lanes only.
//!
//! The operator families (`sql/opclasses.sql`) mirror those of btree, so a
//! scan key may compare the column with a constant of another type. The
//! oracle for each such comparison is the SQL operator itself, as a
//! sequential scan evaluates it; `locate` finds where a constant falls
//! among the values of the column.

mod codec;
mod cut;
mod interval;
mod key_type;
mod lanes;
mod locate;
mod ordering;
mod resolve;
mod validate;
mod zone;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

pub use codec::{Integer, KeyCodec};
pub use interval::ScanIntervals;
pub use key_type::KeyType;
pub use ordering::Ordering;
pub use validate::validate;
