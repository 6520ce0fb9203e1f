//! What every page says of itself: PostgreSQL's page header and the special
//! area of omen.

use super::bytes::{get_u16, get_u32, put_u16, put_u32};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK};
use crate::planted;

/// Bytes of PostgreSQL's page header (`SizeOfPageHeaderData`).
pub const PAGE_HEADER: usize = 24;
/// Bytes of the special area at the end of each page.
pub const SPECIAL: usize = 24;
/// The version of the on-disk format, on every page.
pub const FORMAT_VERSION: u8 = 1;

/// The right sibling of this page has no downlink in the parent yet. Whoever
/// wants to split or merge the page inserts it first.
pub const FLAG_SPLIT_INCOMPLETE: u8 = 1;
/// The page's high fence is +infinity.
pub const FLAG_HIGH_INFINITE: u8 = 2;

const MAGIC: u32 = 0x4e45_4d4f; // "OMEN"
const LAYOUT_VERSION: u16 = 4; // PG_PAGE_LAYOUT_VERSION

pub(crate) const PD_LOWER: usize = 12;
const PD_UPPER: usize = 14;
const PD_SPECIAL: usize = 16;
const PD_PAGESIZE_VERSION: usize = 18;

const S_LEFT: usize = 0;
const S_RIGHT: usize = 4;
const S_GENERATION: usize = 8;
const S_REWRITES: usize = 12;
const S_KIND: usize = 16;
const S_LEVEL: usize = 17;
const S_FLAGS: usize = 18;
const S_VERSION: usize = 19;
const S_MAGIC: usize = 20;

/// What a page is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All zero: extended, never written.
    New,
    /// Block 0.
    Meta,
    /// Separators and children.
    Inner,
    /// Entries.
    Leaf,
    /// A piece of a model blob.
    Model,
    /// In nobody's use.
    Free,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Meta => 1,
            Self::Inner => 2,
            Self::Leaf => 3,
            Self::Model => 4,
            Self::Free => 5,
        }
    }
}

/// The checked header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the page is.
    pub kind: Kind,
    /// 0 for leaves, one more than the children's for inner pages.
    pub level: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// Left sibling, or [`INVALID_BLOCK`].
    pub left: Block,
    /// Right sibling, or [`INVALID_BLOCK`].
    pub right: Block,
    /// How often the page was freed, or its rewrites came to more than have room.
    pub generation: u32,
    /// How often the leaf was written anew since it came into use. Entries that are
    /// there stay there as long as this and the generation do: others are only added.
    pub rewrites: u32,
    /// End of the contents at the front, in bytes from the page's start.
    pub lower: usize,
    /// Start of the contents at the back.
    pub upper: usize,
    /// End of the contents at the back.
    pub special: usize,
}

impl Header {
    /// Whether the split that made this page's right sibling lacks its downlink.
    #[must_use]
    pub fn split_incomplete(&self) -> bool {
        self.flags & FLAG_SPLIT_INCOMPLETE != 0
    }

    /// Whether the page is in nobody's use.
    #[must_use]
    pub fn reusable(&self) -> bool {
        matches!(self.kind, Kind::New | Kind::Free)
    }

    /// Whether the page is the last of its level.
    #[must_use]
    pub fn high_infinite(&self) -> bool {
        self.flags & FLAG_HIGH_INFINITE != 0
    }
}

/// Whether a page was never written.
#[must_use]
pub fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|&b| b == 0)
}

/// Reads and checks the header of a page.
///
/// # Errors
/// [`Error::Corrupt`] if this is not a page of an omen index,
/// [`Error::Version`] if it is one of another format version.
pub fn header(page: &[u8], block: Block) -> Result<Header> {
    let corrupt = |what| Error::Corrupt { block, what };
    let size = page.len();
    let special = usize::from(get_u16(page, PD_SPECIAL));
    let lower = usize::from(get_u16(page, PD_LOWER));
    let upper = usize::from(get_u16(page, PD_UPPER));
    if upper == 0 && is_zero(page) {
        return Ok(Header {
            kind: Kind::New,
            level: 0,
            flags: 0,
            left: INVALID_BLOCK,
            right: INVALID_BLOCK,
            generation: 0,
            rewrites: 0,
            lower: 0,
            upper: 0,
            special: 0,
        });
    }
    if special != size - SPECIAL || get_u32(page, special + S_MAGIC) != MAGIC {
        return Err(corrupt("not a page of an omen index"));
    }
    let version = page.get(special + S_VERSION).copied().unwrap_or(0);
    if version != FORMAT_VERSION && !planted::is("format_unchecked") {
        return Err(Error::Version {
            found: u32::from(version),
        });
    }
    if lower < PAGE_HEADER || lower > upper || upper > special {
        return Err(corrupt("page header is inconsistent"));
    }
    let kind = match page.get(special + S_KIND) {
        Some(1) => Kind::Meta,
        Some(2) => Kind::Inner,
        Some(3) => Kind::Leaf,
        Some(4) => Kind::Model,
        Some(5) => Kind::Free,
        _ => return Err(corrupt("unknown kind of page")),
    };
    let level = page.get(special + S_LEVEL).copied().unwrap_or(0);
    if (kind == Kind::Inner) != (level > 0) {
        return Err(corrupt("level does not fit the kind of page"));
    }
    let flags = page.get(special + S_FLAGS).copied().unwrap_or(0);
    let right = get_u32(page, special + S_RIGHT);
    let last = flags & FLAG_HIGH_INFINITE != 0;
    if matches!(kind, Kind::Leaf | Kind::Inner) && last != (right == INVALID_BLOCK) {
        return Err(corrupt("high fence and right link contradict each other"));
    }
    Ok(Header {
        kind,
        level,
        flags,
        left: get_u32(page, special + S_LEFT),
        right,
        generation: get_u32(page, special + S_GENERATION),
        rewrites: get_u32(page, special + S_REWRITES),
        lower,
        upper,
        special,
    })
}

/// Makes `page` an empty page of `kind`, keeping its LSN (generic WAL sets it)
/// and carrying over `generation`.
pub(crate) fn init(page: &mut [u8], kind: Kind, level: u8, generation: u32) {
    let size = page.len();
    let special = size - SPECIAL;
    if let Some(body) = page.get_mut(8..) {
        body.fill(0);
    }
    #[allow(clippy::cast_possible_truncation)] // pages are at most 32 KiB
    let size16 = size as u16;
    #[allow(clippy::cast_possible_truncation)]
    let special16 = special as u16;
    put_u16(page, PD_LOWER, PAGE_HEADER as u16);
    put_u16(page, PD_UPPER, special16);
    put_u16(page, PD_SPECIAL, special16);
    put_u16(page, PD_PAGESIZE_VERSION, size16 | LAYOUT_VERSION);
    put_u32(page, special + S_LEFT, INVALID_BLOCK);
    put_u32(page, special + S_RIGHT, INVALID_BLOCK);
    put_u32(page, special + S_GENERATION, generation);
    put_u32(page, special + S_MAGIC, MAGIC);
    for (at, value) in [
        (S_KIND, kind.code()),
        (S_LEVEL, level),
        (S_VERSION, FORMAT_VERSION),
    ] {
        if let Some(byte) = page.get_mut(special + at) {
            *byte = value;
        }
    }
}

pub(crate) fn lower(page: &[u8]) -> usize {
    usize::from(get_u16(page, PD_LOWER))
}

pub(crate) fn set_lower(page: &mut [u8], lower: usize) {
    put_u16(page, PD_LOWER, u16::try_from(lower).unwrap_or(u16::MAX));
}

pub(crate) fn set_upper(page: &mut [u8], upper: usize) {
    put_u16(page, PD_UPPER, u16::try_from(upper).unwrap_or(u16::MAX));
}

/// Sets the `FLAG_*` of a page.
pub fn set_flags(page: &mut [u8], flags: u8) {
    let at = page.len() - SPECIAL + S_FLAGS;
    if let Some(byte) = page.get_mut(at) {
        *byte = flags;
    }
}

/// Sets how often a leaf was written anew.
pub fn set_rewrites(page: &mut [u8], rewrites: u32) {
    let at = page.len() - SPECIAL + S_REWRITES;
    put_u32(page, at, rewrites);
}

/// Sets the left sibling of a page.
pub fn set_left(page: &mut [u8], left: Block) {
    let at = page.len() - SPECIAL + S_LEFT;
    put_u32(page, at, left);
}

/// Sets the right sibling of a page.
pub fn set_right(page: &mut [u8], right: Block) {
    let at = page.len() - SPECIAL + S_RIGHT;
    put_u32(page, at, right);
}
