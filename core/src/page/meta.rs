//! Block 0: what the index is, and where its tree and its model start.

use super::bytes::{get_u32, get_u64, put_u32, put_u64};
use super::header::{self, Kind, PAGE_HEADER, header};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK};

const BYTES: usize = 56;
const VERSION: u32 = 1;

/// The contents of the meta page. Written by the build, by VACUUM and by
/// splits of the root, under the meta page's exclusive lock, which is taken
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Code of the key type, as the access method layer numbers them.
    pub key_code: u8,
    /// Order of the column: DESC, NULLS FIRST, as the layer above packs them.
    pub ordering: u8,
    /// Value and payload lanes, the `V` of [`crate::Pos`].
    pub lanes: u8,
    /// Level of the root; 0 when the root is a leaf.
    pub root_level: u8,
    /// The root.
    pub root: Block,
    /// The leftmost leaf. It never changes: pages split to the right, and the
    /// first child of a parent is never merged away.
    pub first_leaf: Block,
    /// First page of the model chain, or [`INVALID_BLOCK`].
    pub model_head: Block,
    /// Version of the model chain, counted up by each new model.
    pub model_version: u32,
    /// Length of the model blob, in bytes.
    pub model_bytes: u32,
    /// Leaves when the model was trained.
    pub model_leaves: u32,
    /// Entries counted by the last build or VACUUM.
    pub entries: u64,
}

/// Reads the meta page.
///
/// # Errors
/// [`Error::Corrupt`] if the page is not one, [`Error::Version`] if it is of a
/// format that is not known.
pub fn read_meta(page: &[u8]) -> Result<Meta> {
    let corrupt = |what| Error::Corrupt { block: 0, what };
    let h = header(page, 0)?;
    if h.kind != Kind::Meta {
        return Err(corrupt("block 0 is not a meta page"));
    }
    let at = PAGE_HEADER;
    let version = get_u32(page, at);
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    if h.lower < at + BYTES {
        return Err(corrupt("meta page is too short"));
    }
    let [key_code, ordering, lanes, root_level] = get_u32(page, at + 4).to_le_bytes();
    let meta = Meta {
        key_code,
        ordering,
        lanes,
        root_level,
        root: get_u32(page, at + 8),
        first_leaf: get_u32(page, at + 12),
        model_head: get_u32(page, at + 16),
        model_version: get_u32(page, at + 20),
        model_bytes: get_u32(page, at + 24),
        model_leaves: get_u32(page, at + 28),
        entries: get_u64(page, at + 32),
    };
    if meta.root == INVALID_BLOCK || meta.root == 0 || meta.first_leaf == 0 {
        return Err(corrupt("meta page names no root"));
    }
    Ok(meta)
}

/// Makes `page` the meta page.
pub fn write_meta(page: &mut [u8], meta: &Meta) {
    header::init(page, Kind::Meta, 0, 0);
    let at = PAGE_HEADER;
    put_u32(page, at, VERSION);
    let codes = [meta.key_code, meta.ordering, meta.lanes, meta.root_level];
    put_u32(page, at + 4, u32::from_le_bytes(codes));
    put_u32(page, at + 8, meta.root);
    put_u32(page, at + 12, meta.first_leaf);
    put_u32(page, at + 16, meta.model_head);
    put_u32(page, at + 20, meta.model_version);
    put_u32(page, at + 24, meta.model_bytes);
    put_u32(page, at + 28, meta.model_leaves);
    put_u64(page, at + 32, meta.entries);
    header::set_lower(page, at + BYTES);
}
