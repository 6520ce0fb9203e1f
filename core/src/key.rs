//! Positions in the order of an index: key lanes, then the heap TID.
//!
//! A column value maps to a *null rank* and `V` unsigned 64-bit *lanes*. The
//! lexicographic order of (rank, lanes) is the order of the operator class,
//! and two values have equal key lanes exactly when the class calls them equal.
//! Entries with equal lanes are ordered by their heap TID, so that all entries
//! of an index are distinct and a position between any two of them exists.

/// A page number in the index; [`INVALID_BLOCK`] is "none".
pub type Block = u32;

/// The "no page" of sibling links, PostgreSQL's `InvalidBlockNumber`.
pub const INVALID_BLOCK: Block = u32::MAX;

/// A heap tuple identifier: `block << 16 | offset`, 48 bits.
pub type Tid = u64;

/// One more than the largest TID: the position behind all entries of a key.
pub const TID_END: Tid = 1 << 48;

/// The largest null rank that fits a page (the rank takes the 16 bits above a
/// 48-bit TID).
pub const MAX_RANK: u64 = u16::MAX as u64;

/// A position in the order of the index: an entry, a fence, a separator or the
/// bound of a scan. The derived order is the order of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos<const V: usize> {
    /// Null rank: sorts NULLs before or behind all values, `0..=MAX_RANK`.
    pub rank: u64,
    /// Value lanes, payload lanes last.
    pub vals: [u64; V],
    /// Heap TID, `0..=TID_END`.
    pub tid: Tid,
}

impl<const V: usize> Pos<V> {
    /// The least position: the low fence of the leftmost page of a level.
    pub const MIN: Self = Self {
        rank: 0,
        vals: [0; V],
        tid: 0,
    };

    /// Bytes that a position takes on a page.
    pub const BYTES: usize = 8 * V + 8;

    /// The least position above this one. An entry's TID is below [`TID_END`],
    /// so this never carries into the lanes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            rank: self.rank,
            vals: self.vals,
            tid: self.tid + 1,
        }
    }

    /// Rank and TID in one word, as pages store them. Both have to be within their 16
    /// and 48 bits: those of entries, fences and separators are, those of bounds are not.
    #[must_use]
    pub(crate) const fn tail(&self) -> u64 {
        self.rank << 48 | (self.tid & (TID_END - 1))
    }

    /// The position of these lanes and of a word that [`Self::tail`] made.
    #[must_use]
    pub(crate) const fn of(vals: [u64; V], tail: u64) -> Self {
        Self {
            rank: tail >> 48,
            vals,
            tid: tail & (TID_END - 1),
        }
    }

    /// What models predict by: the first lane.
    #[must_use]
    pub fn model_key(&self) -> u64 {
        self.vals.first().copied().unwrap_or(0)
    }

    /// Whether both positions have the same key, whatever their TIDs.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        self.rank == other.rank && self.vals == other.vals
    }

    /// This key with the lowest TID: the position before all of its entries.
    #[must_use]
    pub const fn key_start(self) -> Self {
        Self {
            rank: self.rank,
            vals: self.vals,
            tid: 0,
        }
    }

    /// The position behind all entries of this key.
    #[must_use]
    pub const fn key_end(self) -> Self {
        Self {
            rank: self.rank,
            vals: self.vals,
            tid: TID_END,
        }
    }
}
