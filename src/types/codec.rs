//! Values of one index column to and from positions.

use omen_core::key::{Pos, TID_END, Tid};
use pgrx::pg_sys::Datum;

use super::cut::Cut;
use super::{KeyType, Ordering, lanes};

/// Maps the values of an index column to positions. Monomorphised on the
/// number of lanes; the caller guarantees `V == key_type.lanes()`.
#[derive(Clone, Copy, Debug)]
pub struct KeyCodec<const V: usize> {
    /// The column's type.
    pub key_type: KeyType,
    /// The column's direction.
    pub ordering: Ordering,
}

impl<const V: usize> KeyCodec<V> {
    /// The position of an index entry.
    ///
    /// # Safety
    /// Unless `is_null`, `datum` is a value of the column's type; a uuid's
    /// points to 16 readable bytes.
    #[inline]
    pub unsafe fn encode(&self, datum: Datum, is_null: bool, tid: Tid) -> Pos<V> {
        if is_null {
            return Pos {
                rank: self.ordering.null_rank(),
                vals: [self.ordering.null_lane(); V],
                tid,
            };
        }
        // SAFETY: the caller's promise, and the value is not NULL.
        let [first, second] = self.directed(unsafe { lanes::of_datum(self.key_type, datum) });
        Pos {
            rank: self.ordering.value_rank(),
            vals: assemble(first, second),
            tid,
        }
    }

    /// The value of a position and whether it is NULL. A uuid is written to
    /// `buf`, which must live as long as the datum is used; the other types
    /// leave it alone.
    #[inline]
    pub fn decode(&self, pos: &Pos<V>, buf: &mut [u8; 16]) -> (Datum, bool) {
        if pos.rank != self.ordering.value_rank() {
            return (Datum::from(0_usize), true);
        }
        let first = pos.vals.first().copied().unwrap_or(0);
        let second = pos.vals.get(1).copied().unwrap_or(0);
        (
            lanes::to_datum(self.key_type, self.directed([first, second]), buf),
            false,
        )
    }

    /// How to make the values of an integer type; `None` for the other types.
    pub fn integer(&self) -> Option<Integer> {
        let (bytes, sign) = match self.key_type {
            KeyType::Int2 => (2, lanes::SIGN64),
            KeyType::Int4 | KeyType::Date => (4, lanes::SIGN64),
            KeyType::Oid => (4, 0),
            KeyType::Int8 | KeyType::Time | KeyType::Timestamp | KeyType::TimestampTz => {
                (8, lanes::SIGN64)
            }
            KeyType::Float4 | KeyType::Float8 | KeyType::Uuid => return None,
        };
        Some(Integer {
            flip: sign ^ self.ordering.complement(),
            unused: 64 - 8 * bytes,
            rank: self.ordering.value_rank(),
        })
    }

    /// The position of a cut: behind all entries of the keys before it, before
    /// all entries of the keys behind it.
    #[inline]
    pub(super) fn position(&self, cut: Cut) -> Pos<V> {
        let [first, mut second] = self.directed(cut.key);
        // In a descending index what is above a key comes before it.
        let behind = cut.above != self.ordering.desc;
        if self.key_type.has_payload() {
            second = if behind { u64::MAX } else { 0 };
        }
        Pos {
            rank: self.ordering.value_rank(),
            vals: assemble(first, second),
            tid: if behind { TID_END } else { 0 },
        }
    }

    /// Complements the key lanes, not the payload, of a descending index; its
    /// own inverse.
    #[inline]
    fn directed(&self, [first, second]: [u64; 2]) -> [u64; 2] {
        let flip = self.ordering.complement();
        let flip_second = if self.key_type.has_payload() { 0 } else { flip };
        [first ^ flip, second ^ flip_second]
    }
}

/// The values of integers and of types that are made of them, without a look at
/// the type for each.
#[derive(Clone, Copy, Debug)]
pub struct Integer {
    /// Bits of a lane that are complemented in the value.
    flip: u64,
    /// High bits of a lane that the value has not.
    unused: u32,
    /// Rank of positions that are not NULL.
    rank: u64,
}

impl Integer {
    /// The lane of a position; `None` for NULL.
    #[inline]
    pub fn lane<const V: usize>(self, pos: &Pos<V>) -> Option<u64> {
        let lane = pos.vals.first().copied();
        lane.filter(|_| self.has_rank(pos.rank))
    }

    /// Whether positions of this rank are not NULL.
    #[inline]
    pub fn has_rank(self, rank: u64) -> bool {
        rank == self.rank
    }

    /// Whether none of many positions is NULL, by their ranks.
    #[inline]
    pub fn have_rank(self, ranks: &[u64]) -> bool {
        // Without a way out several are compared at once.
        let differ = ranks.iter().fold(0, |bits, rank| bits | (rank ^ self.rank));
        differ == 0
    }

    /// The value as it stands in a tuple, with zeros behind it if it is narrower.
    #[inline]
    pub fn bytes(self, lane: u64) -> [u8; 8] {
        let high = (lane ^ self.flip) << self.unused;
        if cfg!(target_endian = "big") {
            high.to_ne_bytes()
        } else {
            (high >> self.unused).to_ne_bytes()
        }
    }
}

#[inline]
fn assemble<const V: usize>(first: u64, second: u64) -> [u64; V] {
    core::array::from_fn(|lane| if lane == 0 { first } else { second })
}
