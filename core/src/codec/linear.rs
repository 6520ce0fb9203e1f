//! Lines in fixed point, alone or with bit-packed residuals: the codecs
//! Constant, Line, Linear, FrameOfReference and Raw.
//!
//! `line(i) = (slope * i mod 2^64, as two's complement) >> shift`, and a value
//! is `base + line(i) + residual(i) mod 2^64`. All of it is 64-bit wrapping
//! arithmetic; the encoder keeps `|slope| < 2^50` where `shift > 0`, so that
//! the product does not wrap for any position up to [`super::MAX_LINE`]. The
//! base has the least residual already added, and residuals are unsigned.
//! A frame of reference is the line of slope 0, a constant the one without
//! residual bits, a raw column the one with 64 of them.

use super::bits::{Writer, base_len, bytes_of, field, mask, packed_len, unpack, width_of, zigzag};
use super::{Codec, Plan};

/// Fraction bits of a fitted slope: enough that over 256 positions rounding
/// moves the line by less than 1/16.
const FRACTION: u32 = 12;

/// Shifts are stored in units of 4 bits.
pub(super) const SHIFT_UNIT: u32 = 4;

/// The largest shift that the format allows.
pub(super) const MAX_SHIFT: u32 = 32;

/// A line through the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slope {
    /// Rise per position in units of `2^-shift`, two's complement.
    pub(super) slope: u64,
    /// Fraction bits of the slope.
    pub(super) shift: u32,
}

impl Slope {
    /// The line that rises by `rise` over `run` positions, exactly so at
    /// `run`. Integer slopes have shift 0.
    pub(super) fn through(rise: i128, run: usize) -> Self {
        let run = run.max(1) as i128;
        let bits = 128 - (rise.unsigned_abs() / run.unsigned_abs()).leading_zeros();
        let mut shift = 50u32.saturating_sub(bits + 1).min(FRACTION) / SHIFT_UNIT * SHIFT_UNIT;
        let scaled = rise << shift;
        // Rounded up, so that the floor of the product at `run` is `rise`.
        let ceil = scaled.div_euclid(run) + i128::from(scaled.rem_euclid(run) != 0);
        let mut slope = ceil as u64;
        while shift > 0 && slope.trailing_zeros() >= SHIFT_UNIT {
            slope = (slope as i64 >> SHIFT_UNIT) as u64;
            shift -= SHIFT_UNIT;
        }
        Self { slope, shift }
    }

    #[inline]
    pub(super) fn at(self, i: usize) -> u64 {
        self.floor(self.slope.wrapping_mul(i as u64))
    }

    #[inline]
    fn floor(self, product: u64) -> u64 {
        (product as i64).wrapping_shr(self.shift) as u64
    }

    /// `line(from)`, `line(from + 1)`, ... by additions.
    #[inline]
    pub(super) fn walk(self, from: usize) -> impl Iterator<Item = u64> {
        let mut product = self.slope.wrapping_mul(from as u64);
        core::iter::repeat_with(move || {
            let line = self.floor(product);
            product = product.wrapping_add(self.slope);
            line
        })
    }

    /// Bytes of the stored slope.
    pub(super) fn len(self) -> usize {
        bytes_of(zigzag(self.slope))
    }

    /// The header byte with the slope's length and shift.
    pub(super) fn header(self) -> u8 {
        (self.len() as u32 | (self.shift / SHIFT_UNIT) << 4) as u8
    }
}

/// Base and width that cover the residuals of `values` from the line.
pub(super) fn cover(values: &[u64], line: Slope) -> (u64, u32) {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for (value, line) in values.iter().zip(line.walk(0)) {
        let residual = value.wrapping_sub(line) as i64;
        low = low.min(residual);
        high = high.max(residual);
    }
    (low as u64, width_of(high.wrapping_sub(low) as u64))
}

/// One value, whatever the number of positions.
pub(super) fn plan_constant(value: u64) -> Plan {
    Plan {
        codec: Codec::Constant,
        size: 1 + base_len(value),
        base: value,
        ..Plan::EMPTY
    }
}

/// `base + line(i)`, exact at each value.
pub(super) fn plan_line(base: u64, line: Slope) -> Plan {
    let size = 2 + base_len(base) + line.len();
    Plan {
        codec: Codec::Line,
        size,
        base,
        line,
        ..Plan::EMPTY
    }
}

/// `base` and `width` as [`cover`] finds them.
pub(super) fn plan_linear(n: usize, base: u64, line: Slope, width: u32) -> Plan {
    let size = 3 + base_len(base) + line.len() + packed_len(n, width);
    Plan {
        codec: Codec::Linear,
        size,
        base,
        line,
        width,
        ..Plan::EMPTY
    }
}

/// The values lie in `min..=max`.
pub(super) fn plan_frame(n: usize, min: u64, max: u64) -> Plan {
    let width = width_of(max - min);
    let size = 2 + base_len(min) + packed_len(n, width);
    Plan {
        codec: Codec::FrameOfReference,
        size,
        base: min,
        width,
        ..Plan::EMPTY
    }
}

/// Always possible.
pub(super) fn plan_raw(n: usize) -> Plan {
    Plan {
        codec: Codec::Raw,
        size: 1 + 8 * n,
        width: 64,
        ..Plan::EMPTY
    }
}

/// The endpoint line of the values.
pub(super) fn endpoint_line(values: &[u64]) -> Slope {
    match (values.first(), values.last()) {
        (Some(first), Some(last)) => {
            Slope::through(i128::from(*last) - i128::from(*first), values.len() - 1)
        }
        _ => Slope::default(),
    }
}

/// Writes any of the codecs of this file.
pub(super) fn write(plan: &Plan, values: &[u64], w: &mut Writer<'_>) {
    let Plan {
        codec,
        base,
        line,
        width,
        ..
    } = *plan;
    w.byte(codec.head(base));
    match codec {
        Codec::FrameOfReference => {
            w.byte(width as u8);
            w.base(base);
        }
        Codec::Linear => {
            w.byte(line.header());
            w.byte(width as u8);
            w.base(base);
            w.number(zigzag(line.slope), line.len());
        }
        Codec::Line => {
            w.byte(line.header());
            w.base(base);
            w.number(zigzag(line.slope), line.len());
        }
        // A constant is all base, and a raw column has none.
        _ => w.base(base),
    }
    if width > 0 {
        w.end_head();
        let lines = line.walk(0);
        let residuals = values.iter().zip(lines);
        w.fields(
            width,
            residuals.map(|(v, line)| v.wrapping_sub(base).wrapping_sub(line)),
        );
    }
}

/// A line with residuals, as read from a page.
#[derive(Clone, Copy)]
pub(super) struct Fit<'a> {
    pub(super) base: u64,
    pub(super) line: Slope,
    /// Bits of a residual, 0 to 64.
    pub(super) width: u32,
    /// Residuals, and whatever follows them.
    pub(super) fields: &'a [u8],
}

impl Fit<'_> {
    /// The value of all positions, if it is one for certain.
    #[inline]
    pub(super) fn constant(&self) -> Option<u64> {
        (self.line.slope == 0 && self.width == 0).then_some(self.base)
    }

    /// Whether each value is its predecessor's successor for certain.
    #[inline]
    pub(super) fn is_consecutive(&self) -> bool {
        self.line.slope == 1 && self.line.shift == 0 && self.width == 0
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> u64 {
        self.base
            .wrapping_add(self.line.at(i))
            .wrapping_add(field(self.fields, self.width, i))
    }

    #[inline]
    pub(super) fn decode(&self, from: usize, out: &mut [u64]) {
        let Self {
            base,
            line,
            width,
            fields,
        } = *self;
        if line.slope == 0 {
            return unpack(fields, width, from, out, |_, field| {
                base.wrapping_add(field)
            });
        }
        let mut product = line.slope.wrapping_mul(from as u64);
        unpack(fields, width, from, out, |_, field| {
            let value = base.wrapping_add(line.floor(product)).wrapping_add(field);
            product = product.wrapping_add(line.slope);
            value
        });
    }

    /// The line says where `x` would be, the residual width how far off that
    /// can be; from there the search gallops until `x` is bracketed, so that
    /// nothing has to be believed.
    pub(super) fn lower_bound(&self, from: usize, to: usize, x: u64) -> usize {
        let Slope { slope, shift } = self.line;
        // 2^spread positions is what the residuals can amount to.
        let spread = (self.width + shift).saturating_sub(width_of(slope)).min(63);
        let step = 1usize << spread.saturating_sub(2);
        let rise = x.wrapping_sub(self.base).wrapping_sub(mask(self.width) / 2);
        if slope as i64 <= 0 || step >= (to - from) / 4 {
            return bisect(from, to, |i| self.get(i) < x);
        }
        let predicted = if rise as i64 <= 0 {
            from
        } else if width_of(rise) + shift > 64 {
            to
        } else {
            usize::try_from((rise << shift) / slope).unwrap_or(to)
        };
        gallop(from, to, predicted.clamp(from, to), step, |i| {
            self.get(i) < x
        })
    }
}

/// First `i` in `from..to` that is not `below`, else `to`. Reading a value
/// takes long enough that guessing the next one pays: a version without
/// branches measured 1.1 to 1.5 times slower on packed columns.
#[inline]
pub(super) fn bisect(from: usize, to: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut len) = (from, to - from);
    while len > 0 {
        let half = len / 2;
        if below(low + half) {
            low += half + 1;
            len -= half + 1;
        } else {
            len = half;
        }
    }
    low
}

/// [`bisect`] that starts at `start` and widens by `step`, doubling.
#[inline]
fn gallop(
    from: usize,
    to: usize,
    start: usize,
    mut step: usize,
    below: impl Fn(usize) -> bool,
) -> usize {
    let (mut low, mut high) = (start, start);
    if start < to && below(start) {
        low = start + 1;
        loop {
            high = low.saturating_add(step).min(to);
            // Everything before `low` is below; `high` is not, or is the end.
            if high == to || !below(high) {
                return bisect(low, high, below);
            }
            low = high + 1;
            step = step.saturating_mul(2);
        }
    }
    while low > from {
        low = high.saturating_sub(step).max(from);
        if below(low) {
            return bisect(low + 1, high, below);
        }
        high = low;
        step = step.saturating_mul(2);
    }
    high
}
