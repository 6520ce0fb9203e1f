//! Fields of a fixed bit width, packed little endian without gaps, and numbers
//! of a variable byte length.
//!
//! A field is read by one unaligned 8-byte load, so a column wants up to 8
//! bytes of anything behind it; where the slice ends earlier, missing bytes
//! read as zero on a slower path.

use core::array;

/// The widest field that one 8-byte load holds at any bit offset within a byte.
const ONE_LOAD: u32 = 57;

/// The `width` low bits set; all of them from 64 upwards.
#[inline]
pub(super) const fn mask(width: u32) -> u64 {
    match width {
        0 => 0,
        1..64 => u64::MAX >> (64 - width),
        _ => u64::MAX,
    }
}

/// Bits that numbers up to `max` take, 0 to 64.
#[inline]
pub(super) const fn width_of(max: u64) -> u32 {
    64 - max.leading_zeros()
}

/// Significant bytes of a number, 0 to 8.
#[inline]
pub(super) const fn bytes_of(value: u64) -> usize {
    width_of(value).div_ceil(8) as usize
}

/// Bytes that `n` fields take.
#[inline]
pub(super) const fn packed_len(n: usize, width: u32) -> usize {
    (n * width as usize).div_ceil(8)
}

/// How a base is stored: the high nibble of the first byte, the number that
/// follows, and that number's bytes. Nibbles 0 to 8 are the bytes of the base,
/// nibbles 9 to 15 those of its complement plus 8, which is shorter for bases
/// just below zero.
#[inline]
pub(super) const fn stored_base(base: u64) -> (u8, u64, usize) {
    let plain = bytes_of(base);
    let complement = bytes_of(!base | 1);
    if complement < plain {
        (8 + complement as u8, !base, complement)
    } else {
        (plain as u8, base, plain)
    }
}

/// Bytes of a stored base, 0 to 8.
#[inline]
pub(super) const fn base_len(base: u64) -> usize {
    stored_base(base).2
}

/// Maps small magnitudes of either sign (two's complement) to small numbers.
#[inline]
pub(super) const fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

/// The inverse of [`zigzag`].
#[inline]
pub(super) const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Eight bytes at `at`, little endian; zero where the slice has none.
#[inline]
pub(super) fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_tail(bytes, at),
    }
}

#[cold]
#[inline(never)]
fn load_tail(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    u64::from_le_bytes(array::from_fn(|i| rest.get(i).copied().unwrap_or(0)))
}

/// The number stored in `len` (0 to 8) bytes at `at`; `None` beyond the slice.
#[inline]
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    (len <= 8 && at + len <= bytes.len()).then(|| load(bytes, at) & mask(8 * len as u32))
}

/// Field `i` of `width` (0 to 64) bits.
#[inline]
pub(super) fn field(bytes: &[u8], width: u32, i: usize) -> u64 {
    if width == 0 {
        return 0;
    }
    let bit = i.wrapping_mul(width as usize);
    let (at, shift) = (bit >> 3, (bit & 7) as u32);
    let low = load(bytes, at) >> shift;
    if width <= ONE_LOAD || shift == 0 {
        return low & mask(width);
    }
    let ninth = u64::from(bytes.get(at + 8).copied().unwrap_or(0));
    (low | ninth << (64 - shift)) & mask(width)
}

/// Replaces each slot of `out` by `f(slot, field)`, fields from `from` on.
#[inline]
pub(super) fn unpack(
    bytes: &[u8],
    width: u32,
    from: usize,
    out: &mut [u64],
    mut f: impl FnMut(u64, u64) -> u64,
) {
    match width {
        0 => out.iter_mut().for_each(|slot| *slot = f(*slot, 0)),
        1..=7 => unpack_by::<8>(bytes, width, from, out, f),
        8..=14 => unpack_by::<4>(bytes, width, from, out, f),
        15..=28 => unpack_by::<2>(bytes, width, from, out, f),
        29..=ONE_LOAD => unpack_by::<1>(bytes, width, from, out, f),
        _ => {
            for (k, slot) in out.iter_mut().enumerate() {
                *slot = f(*slot, field(bytes, width, from.wrapping_add(k)));
            }
        }
    }
}

/// [`unpack`] with `PER` fields to a load: `PER * width <= 57`.
#[inline]
fn unpack_by<const PER: usize>(
    bytes: &[u8],
    width: u32,
    from: usize,
    out: &mut [u64],
    mut f: impl FnMut(u64, u64) -> u64,
) {
    let width = width.min(ONE_LOAD / PER as u32);
    let mask = mask(width);
    let stride = width as usize;
    let mut bit = from.wrapping_mul(stride);
    let (groups, rest) = out.as_chunks_mut::<PER>();
    for group in groups {
        let mut word = load(bytes, bit >> 3) >> (bit & 7);
        for slot in group {
            *slot = f(*slot, word & mask);
            word >>= width;
        }
        bit = bit.wrapping_add(PER * stride);
    }
    for slot in rest {
        *slot = f(*slot, load(bytes, bit >> 3) >> (bit & 7) & mask);
        bit = bit.wrapping_add(stride);
    }
}

/// Writes an encoding front to back into a slice of its exact size. The size
/// is computed first and the slice cut to it, so nothing is ever cut off here.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    head: Option<usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            at: 0,
            head: None,
        }
    }

    /// What follows is the body.
    pub(super) fn end_head(&mut self) {
        self.head = Some(self.at);
    }

    /// Bytes of the head: all that has been written if there is no body.
    pub(super) fn head(&self) -> usize {
        self.head.unwrap_or(self.at)
    }

    /// The next `len` bytes, for the caller to fill.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        let from = self.at;
        self.at += len;
        self.out.get_mut(from..from + len).unwrap_or_default()
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.take(1).fill(value);
    }

    /// The base of a column.
    pub(super) fn base(&mut self, base: u64) {
        let (_, stored, len) = stored_base(base);
        self.number(stored, len);
    }

    /// The `len` (0 to 8) low bytes of a number.
    pub(super) fn number(&mut self, value: u64, len: usize) {
        let bytes = value.to_le_bytes();
        for (to, from) in self.take(len).iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// Packs fields of `width` bits; values must fit. Ends on a whole byte.
    #[inline]
    pub(super) fn fields(&mut self, width: u32, values: impl Iterator<Item = u64>) {
        if width == 0 {
            return;
        }
        let (mut word, mut filled) = (0u64, 0u32);
        for value in values {
            word |= value << filled;
            filled += width;
            if filled >= 64 {
                self.number8(word);
                filled -= 64;
                // The bits of `value` that did not fit, none if filled == 0.
                word = if filled == 0 {
                    0
                } else {
                    value >> (width - filled)
                };
            }
        }
        self.number(word, filled.div_ceil(8) as usize);
    }

    #[inline]
    fn number8(&mut self, word: u64) {
        if let Some(to) = self
            .out
            .get_mut(self.at..)
            .and_then(|rest| rest.first_chunk_mut::<8>())
        {
            *to = word.to_le_bytes();
        }
        self.at += 8;
    }
}
