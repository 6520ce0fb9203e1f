//! Elias-Fano: a non-decreasing sequence in about `2 + log2(range / n)` bits a
//! value, whatever its gaps look like.
//!
//! Each value minus the base is cut into `low_bits` low bits, packed, and a
//! high part, written in unary: value `i` sets bit `high + i`. The rank of a
//! set bit is the position, the count of zeros before it the high part.
//!
//! P. Elias, "Efficient storage and retrieval by content and address of static
//! files", JACM 21(2), 1974; R. Fano, MIT Project MAC memorandum 61, 1971;
//! S. Vigna, "Quasi-succinct indices", WSDM 2013. Select within a word as in
//! S. Vigna, "Broadword implementation of rank/select queries", WEA 2008.

use super::bits::{Writer, base_len, field, load, mask, packed_len, unpack, width_of};
use super::linear::bisect;
use super::{Codec, Plan};

/// The smallest Elias-Fano encoding of a non-decreasing sequence from `min` to
/// `max`; `None` if its unary part would be too long for the format.
pub(super) fn plan(n: usize, min: u64, max: u64) -> Option<Plan> {
    let range = max - min;
    let guess = width_of(range / n.max(1) as u64).saturating_sub(1);
    let mut best: Option<Plan> = None;
    for low_bits in guess.saturating_sub(1)..=(guess + 1).min(63) {
        let high_bytes = usize::try_from(range >> low_bits)
            .ok()?
            .saturating_add(n)
            .div_ceil(8);
        let size = 3 + base_len(min) + high_bytes.min(1 << 16) + packed_len(n, low_bits);
        if high_bytes <= usize::from(u8::MAX) && best.is_none_or(|best| size < best.size) {
            best = Some(Plan {
                codec: Codec::EliasFano,
                size,
                base: min,
                width: low_bits,
                count: high_bytes,
                ..Plan::EMPTY
            });
        }
    }
    best
}

pub(super) fn write(plan: &Plan, values: &[u64], w: &mut Writer<'_>) {
    let Plan {
        base, width, count, ..
    } = *plan;
    w.byte(Codec::EliasFano.head(base));
    w.byte(width as u8);
    w.byte(count as u8);
    w.base(base);
    w.end_head();
    let high = w.take(count);
    high.fill(0);
    for (i, value) in values.iter().enumerate() {
        let bit = (value.wrapping_sub(base) >> width) as usize + i;
        if let Some(byte) = high.get_mut(bit >> 3) {
            *byte |= 1 << (bit & 7);
        }
    }
    let low = mask(width);
    w.fields(
        width,
        values.iter().map(|value| value.wrapping_sub(base) & low),
    );
}

/// An Elias-Fano column, as read from a page.
#[derive(Clone, Copy)]
pub(super) struct EliasFano<'a> {
    pub(super) base: u64,
    /// 0 to 63.
    pub(super) low_bits: u32,
    /// Bytes of the unary part, at most 255.
    pub(super) high_bytes: usize,
    /// The unary part, the packed low bits, and whatever follows them.
    pub(super) bytes: &'a [u8],
}

impl<'a> EliasFano<'a> {
    fn low(&self) -> &'a [u8] {
        self.bytes.get(self.high_bytes..).unwrap_or_default()
    }

    fn words(&self) -> usize {
        self.high_bytes.div_ceil(8)
    }

    /// Word `j` of the unary part, inverted if `invert` is all ones; zero
    /// beyond the unary part.
    #[inline]
    fn word(&self, j: usize, invert: u64) -> u64 {
        let left = (8 * self.high_bytes).saturating_sub(64 * j).min(64);
        (load(self.bytes, 8 * j) ^ invert) & mask(left as u32)
    }

    /// Position of set bit `rank`, of the inverse if `invert` is all ones.
    #[inline]
    fn select(&self, mut rank: usize, invert: u64) -> Option<usize> {
        for j in 0..self.words() {
            let word = self.word(j, invert);
            let prefix = byte_prefix_counts(word);
            let ones = (prefix >> 56) as usize;
            if rank < ones {
                return Some(64 * j + select_in_word(word, prefix, rank as u64) as usize);
            }
            rank -= ones;
        }
        None
    }

    /// The value of the high part `high` and field `i` of the low bits.
    #[inline]
    pub(super) fn get(&self, i: usize) -> u64 {
        let high = self
            .select(i, 0)
            .map_or(0, |bit| bit.wrapping_sub(i) as u64);
        let low = field(self.low(), self.low_bits, i);
        self.base.wrapping_add((high << self.low_bits) | low)
    }

    pub(super) fn decode(&self, from: usize, out: &mut [u64]) {
        let done = self.decode_high(from, out);
        out.iter_mut().skip(done).for_each(|slot| *slot = 0);
        let (base, low_bits) = (self.base, self.low_bits);
        unpack(self.low(), low_bits, from, out, |high, low| {
            base.wrapping_add((high << low_bits) | low)
        });
    }

    /// Writes high parts from position `from` on, and returns how many.
    fn decode_high(&self, from: usize, out: &mut [u64]) -> usize {
        let (mut skip, len, mut rest) = (from, out.len(), out);
        // The place of a word's first bit, without the position of its first value.
        let mut first = (from as u64).wrapping_neg();
        for j in 0..self.words() {
            let mut word = self.word(j, 0);
            if skip > 0 {
                let prefix = byte_prefix_counts(word);
                let ones = (prefix >> 56) as usize;
                if skip >= ones {
                    skip -= ones;
                    first = first.wrapping_add(64);
                    continue;
                }
                word &= !mask(select_in_word(word, prefix, skip as u64));
                skip = 0;
            }
            let ones = (byte_prefix_counts(word) >> 56) as usize;
            let Some(slots) = rest.split_off_mut(..ones.min(rest.len())) else {
                break;
            };
            // High part and position add up to the place of the bit.
            for slot in slots {
                *slot = u64::from(word.trailing_zeros()).wrapping_add(first);
                word &= word.wrapping_sub(1);
                first = first.wrapping_sub(1);
            }
            first = first.wrapping_add(64);
            if rest.is_empty() {
                break;
            }
        }
        len - rest.len()
    }

    pub(super) fn lower_bound(&self, from: usize, to: usize, x: u64) -> usize {
        if x <= self.base {
            return from;
        }
        let x = x - self.base;
        let Some((first, behind)) = self.bucket(x) else {
            return to;
        };
        let (lows, x) = (self.low(), x & mask(self.low_bits));
        bisect(first, behind, |i| field(lows, self.low_bits, i) < x).clamp(from, to)
    }

    /// As [`super::Column::equal_range`], for `from < to`.
    pub(super) fn equal_range(
        &self,
        from: usize,
        to: usize,
        x: u64,
        near: impl FnOnce(usize),
    ) -> core::result::Result<(usize, usize), usize> {
        let Some(x) = x.checked_sub(self.base) else {
            return Err(from);
        };
        let Some((first, behind)) = self.bucket(x) else {
            return Err(to);
        };
        near(first);
        let (lows, x) = (self.low(), x & mask(self.low_bits));
        let low = |i| field(lows, self.low_bits, i);
        let (first, behind) = (first.clamp(from, to), behind.clamp(from, to));
        let at = bisect(first, behind, |i| low(i) < x);
        if at >= behind || low(at) != x {
            return Err(at);
        }
        let next = at + 1;
        if next < behind && low(next) == x {
            Ok((at, bisect(next, behind, |i| low(i) <= x)))
        } else {
            Ok((at, next))
        }
    }

    /// The positions of the values with the high part of `x`, a value less the base:
    /// their low bits are sorted. `None`: all high parts are below.
    ///
    /// The zero that closes bucket `high - 1` says where bucket `high` starts, a run
    /// of ones.
    #[inline]
    fn bucket(&self, x: u64) -> Option<(usize, usize)> {
        let high = usize::try_from(x >> self.low_bits).ok()?;
        let start = match high.checked_sub(1) {
            None => 0,
            Some(zero) => self.select(zero, u64::MAX)? + 1,
        };
        let first = start - high;
        let mut ones = 0;
        while ones < 8 * self.high_bytes {
            let bit = start + ones;
            let run = (self.word(bit / 64, 0) >> (bit % 64)).trailing_ones() as usize;
            ones += run;
            if run == 0 || !(bit + run).is_multiple_of(64) {
                break;
            }
        }
        Some((first, first + ones))
    }
}

const LOW_BIT: u64 = 0x0101_0101_0101_0101;

/// Byte `b` of the result counts the ones in bytes `0..=b` of the word.
#[inline]
fn byte_prefix_counts(word: u64) -> u64 {
    let pairs = word - ((word >> 1) & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    bytes.wrapping_mul(LOW_BIT)
}

/// Position of set bit `rank`, which is below the count of ones.
#[inline]
fn select_in_word(word: u64, prefix: u64, rank: u64) -> u32 {
    const HIGH_BIT: u64 = LOW_BIT << 7;
    // The top bit of each byte says whether its prefix count exceeds the rank.
    let exceeds = ((prefix | HIGH_BIT) - (rank + 1).wrapping_mul(LOW_BIT)) & HIGH_BIT;
    let shift = (exceeds.trailing_zeros() & 63) & !7;
    let before = ((prefix << 8) >> shift) & 0xff;
    let mut byte = (word >> shift) & 0xff;
    for _ in before..rank {
        byte &= byte.wrapping_sub(1);
    }
    shift + (byte.trailing_zeros() & 7)
}
