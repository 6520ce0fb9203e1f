//! The direction of an index column.

use omen_core::key::Pos;
use pgrx::pg_sys;

/// `ASC`/`DESC` and `NULLS FIRST`/`NULLS LAST` of an index column. The two are
/// independent: `DESC` reverses the values, the other places the NULLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordering {
    /// Larger values come first.
    pub desc: bool,
    /// NULLs come before all values.
    pub nulls_first: bool,
}

impl Ordering {
    /// From the column's entry in `rd_indoption`.
    pub fn from_indoption(indoption: i16) -> Self {
        let options = u32::from(indoption.cast_unsigned());
        Self {
            desc: options & pg_sys::INDOPTION_DESC != 0,
            nulls_first: options & pg_sys::INDOPTION_NULLS_FIRST != 0,
        }
    }

    /// The rank of positions that hold a value.
    #[inline]
    pub const fn value_rank(self) -> u64 {
        self.nulls_first as u64
    }

    /// The rank of positions that hold NULL.
    #[inline]
    pub const fn null_rank(self) -> u64 {
        !self.nulls_first as u64
    }

    /// What to XOR onto a key lane.
    #[inline]
    pub(super) const fn complement(self) -> u64 {
        (self.desc as u64).wrapping_neg()
    }

    /// The lanes of a NULL. All NULLs have the same; the value at the end
    /// where the NULLs are keeps the first lane monotone along the index, which
    /// the models that are trained on it rely on.
    #[inline]
    pub(super) const fn null_lane(self) -> u64 {
        if self.nulls_first { 0 } else { u64::MAX }
    }

    /// The position where the second of the two regions, NULLs and values,
    /// starts.
    pub(super) const fn second_region<const V: usize>() -> Pos<V> {
        Pos {
            rank: 1,
            vals: [0; V],
            tid: 0,
        }
    }
}
