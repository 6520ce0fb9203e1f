//! Intervals of positions.

use crate::key::Pos;

/// The positions of an ascending index walk from `lo`, inclusive, up to `hi`,
/// exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<const V: usize> {
    /// The first position.
    pub lo: Pos<V>,
    /// The position behind the last; `None` is the end of the index.
    pub hi: Option<Pos<V>>,
}

impl<const V: usize> Interval<V> {
    /// All positions.
    pub const ALL: Self = Self {
        lo: Pos::MIN,
        hi: None,
    };

    /// Whether the position is in the interval.
    #[must_use]
    pub fn contains(&self, pos: &Pos<V>) -> bool {
        self.lo <= *pos && self.hi.is_none_or(|hi| *pos < hi)
    }

    /// Whether no position is in the interval.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hi.is_some_and(|hi| hi <= self.lo)
    }

    /// Whether both ends are values, of different keys.
    pub fn is_between(&self) -> bool {
        let Self { lo, hi } = *self;
        let start = Pos {
            rank: lo.rank,
            ..Pos::MIN
        };
        lo != start && hi.is_some_and(|hi| hi.rank == lo.rank && hi != lo.key_end())
    }

    /// The positions that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            lo: self.lo.max(other.lo),
            hi: earlier(self.hi, other.hi),
        }
    }

    /// The least interval that covers both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            lo: self.lo.min(other.lo),
            hi: if earlier(self.hi, other.hi) == self.hi {
                other.hi
            } else {
                self.hi
            },
        }
    }
}

/// The lesser of two ends; `None` is +infinity.
pub(crate) fn earlier<const V: usize>(a: Option<Pos<V>>, b: Option<Pos<V>>) -> Option<Pos<V>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}
