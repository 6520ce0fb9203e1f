//! Page formats: parse and write over the bytes of one page.
//!
//! Every page has PostgreSQL's standard header, so that generic WAL, data
//! checksums and `pageinspect` treat it as any other page: contents stand below
//! `pd_lower` and above `pd_upper` only, and generic WAL zeroes what lies
//! between. The special area at the end of the page says what it is.

mod block;
mod bytes;
mod edit;
mod free;
mod header;
mod inner;
mod leaf;
mod meta;
mod model;
#[cfg(test)]
mod tests;

pub(crate) use block::Columns;
pub use block::{BlockView, Entries, encode_block, max_block_entries};
pub use bytes::{read_pos, write_pos};
pub use edit::{DeadRows, EditScratch, Fill, Piece, write_pieces};
pub use free::init_free;
pub use header::{
    FLAG_HIGH_INFINITE, FLAG_SPLIT_INCOMPLETE, FORMAT_VERSION, Header, Kind, PAGE_HEADER, SPECIAL,
    header, is_zero, set_flags, set_left, set_rewrites, set_right,
};
pub use inner::{Child, InnerView, inner_capacity, write_inner};
pub(crate) use leaf::MAX_DELTA;
pub use leaf::{
    DeltaAppend, DirEntry, LeafFrame, LeafView, append_delta, delta_capacity, init_leaf,
    leaf_capacity, set_high,
};
pub use meta::{Meta, read_meta, write_meta};
pub use model::{ModelPage, model_page_capacity, read_model_page, write_model_page};
