//! A line with residuals and exceptions. A bitmap marks the values that are
//! far from the line; those are stored whole, as a packed frame of reference
//! in order of position. Row ordinals in key order look like this when a few
//! rows arrive late: a line of slope near 1, small shifts, and some outliers.
//!
//! The idea of PFOR: M. Zukowski, S. Heman, N. Nes, P. Boncz, "Super-scalar
//! RAM-CPU cache compression", ICDE 2006. An exception keeps an unused slot
//! among the residuals, so that reading position `i` needs no rank unless `i`
//! is an exception. The line is fitted by the median of slopes between points
//! half a block apart (after H. Theil 1950 and P. K. Sen 1968), which bears
//! about a quarter of outliers.

use super::bits::{Writer, base_len, bytes_of, field, load, mask, packed_len, width_of, zigzag};
use super::linear::{Fit, Slope, endpoint_line};
use super::{Codec, MAX_VALUES, Plan};

/// Bytes of the header before the variable-length numbers.
pub(super) const HEADER: usize = 6;

/// Points that the test for outliers looks at.
const SAMPLE: usize = 32;

/// Whether a few outliers may be what makes the values expensive, such that
/// [`plan`] could save 8 bytes and more against `best` bytes. Looks at a few
/// points only.
pub(super) fn worth_a_try(values: &[u64], min: u64, max: u64, best: usize) -> bool {
    let n = values.len();
    if n < SAMPLE || best < HEADER + n / 8 + 8 {
        return false;
    }
    // Irregular distances, so that no period of the data hides its outliers.
    let stride = n / SAMPLE;
    let mut points = [(0usize, 0u64); SAMPLE];
    for (k, point) in points.iter_mut().enumerate() {
        let i = k * stride + k * 7 % stride;
        *point = (i, values.get(i).copied().unwrap_or(min));
    }
    let mut slopes = [(0i128, 0i128, 1usize); SAMPLE / 2];
    let (left, right) = points.split_at(SAMPLE / 2);
    for (slope, (a, b)) in slopes.iter_mut().zip(left.iter().zip(right)) {
        let (rise, run) = (i128::from(b.1) - i128::from(a.1), b.0 - a.0);
        *slope = ((rise << 12) / run as i128, rise, run);
    }
    let (_, median, _) = slopes.select_nth_unstable_by_key(SAMPLE / 4, |slope| slope.0);
    let line = Slope::through(median.1, median.2);
    let mut residuals = points.map(|(i, value)| value.wrapping_sub(line.at(i)) as i64);
    residuals.sort_unstable();
    let trimmed = match residuals.as_slice() {
        [_, _, _, _, low, .., high, _, _, _, _] => high.wrapping_sub(*low) as u64,
        _ => return false,
    };
    let bits = n + n * width_of(trimmed) as usize + n / 16 * width_of(max - min) as usize;
    HEADER + 2 + bits / 8 + 8 <= best
}

/// The best line with exceptions that the candidate slopes yield.
pub(super) fn plan(values: &[u64], min: u64, max: u64) -> Plan {
    let n = values.len();
    let value_bits = width_of(max - min);
    let mut best: Option<(usize, u32, Slope)> = None;
    for line in [
        median_line(values),
        quartile_line(values),
        endpoint_line(values),
    ] {
        let (cost, width) = estimate(values, line, value_bits);
        if best.is_none_or(|(least, ..)| cost < least) {
            best = Some((cost, width, line));
        }
    }
    let (_, guess, line) = best.unwrap_or_default();

    let mut scratch = [0i64; MAX_VALUES];
    let residuals = fill_residuals(values, line, &mut scratch);
    residuals.sort_unstable();
    let mut best = (usize::MAX, 0u32, 0u64);
    for width in guess.saturating_sub(2)..=(guess + 1).min(64) {
        let (inside, base) = densest_window(residuals, mask(width));
        let cost = n * width as usize + (n - inside) * value_bits as usize;
        if cost < best.0 {
            best = (cost, width, base);
        }
    }
    let (_, width, base) = best;

    let (mut count, mut low, mut high) = (0, u64::MAX, 0);
    for value in exceptions(values, base, line, width) {
        count += 1;
        low = low.min(value);
        high = high.max(value);
    }
    let (patch_base, patch_width) = if count == 0 {
        (0, 0)
    } else {
        (low, width_of(high - low))
    };
    let size = HEADER
        + base_len(base)
        + line.len()
        + bytes_of(patch_base)
        + n.div_ceil(8)
        + packed_len(count, patch_width)
        + packed_len(n, width);
    Plan {
        codec: Codec::Patched,
        size,
        base,
        line,
        width,
        count,
        patch_base,
        patch_width,
    }
}

/// The values whose residual does not fit `width` bits, in order.
fn exceptions(
    values: &[u64],
    base: u64,
    line: Slope,
    width: u32,
) -> impl Iterator<Item = u64> + Clone {
    let limit = mask(width);
    values.iter().enumerate().filter_map(move |(i, value)| {
        let residual = value.wrapping_sub(base).wrapping_sub(line.at(i));
        (residual > limit).then_some(*value)
    })
}

fn fill_residuals<'a>(
    values: &[u64],
    line: Slope,
    scratch: &'a mut [i64; MAX_VALUES],
) -> &'a mut [i64] {
    for ((to, value), line) in scratch.iter_mut().zip(values).zip(line.walk(0)) {
        *to = value.wrapping_sub(line) as i64;
    }
    scratch.get_mut(..values.len()).unwrap_or_default()
}

/// The median slope between points half the values apart.
fn median_line(values: &[u64]) -> Slope {
    let lag = values.len() / 2;
    let mut scratch = [0i128; MAX_VALUES / 2];
    let later = values.get(lag..).unwrap_or_default();
    for (rise, (a, b)) in scratch.iter_mut().zip(values.iter().zip(later)) {
        *rise = i128::from(*b) - i128::from(*a);
    }
    match scratch.get_mut(..lag) {
        Some(rises) if lag > 0 => {
            let (_, median, _) = rises.select_nth_unstable(lag / 2);
            Slope::through(*median, lag)
        }
        _ => Slope::default(),
    }
}

/// The slope through the points at one and three quarters.
fn quartile_line(values: &[u64]) -> Slope {
    let (a, b) = (values.len() / 4, values.len() * 3 / 4);
    match (values.get(a), values.get(b)) {
        (Some(low), Some(high)) if a < b => {
            Slope::through(i128::from(*high) - i128::from(*low), b - a)
        }
        _ => Slope::default(),
    }
}

/// Bits that the line takes at its best width, roughly: a histogram of the
/// widths of the residuals' distances from their median.
fn estimate(values: &[u64], line: Slope, value_bits: u32) -> (usize, u32) {
    let n = values.len();
    let mut scratch = [0i64; MAX_VALUES];
    let residuals = fill_residuals(values, line, &mut scratch);
    if residuals.is_empty() {
        return (0, 0);
    }
    let (_, median, _) = residuals.select_nth_unstable(n / 2);
    let median = *median as u64;
    let mut histogram = [0usize; 65];
    for residual in residuals.iter() {
        let width = width_of(zigzag((*residual as u64).wrapping_sub(median)));
        if let Some(count) = histogram.get_mut(width as usize) {
            *count += 1;
        }
    }
    let (mut outside, mut best) = (n, (usize::MAX, 0));
    for (width, count) in (0u32..).zip(histogram) {
        outside -= count;
        let cost = n * width as usize + outside * value_bits as usize;
        if cost < best.0 {
            best = (cost, width);
        }
    }
    best
}

/// How many of the sorted residuals at most lie within `span` of each other,
/// and the least of those.
fn densest_window(sorted: &[i64], span: u64) -> (usize, u64) {
    let mut best = (0, 0);
    let mut ends = sorted.iter().enumerate().peekable();
    for (start, low) in sorted.iter().enumerate() {
        while ends
            .next_if(|(_, high)| high.wrapping_sub(*low) as u64 <= span)
            .is_some()
        {}
        let end = ends.peek().map_or(sorted.len(), |(end, _)| *end);
        if end - start > best.0 {
            best = (end - start, *low as u64);
        }
    }
    best
}

pub(super) fn write(plan: &Plan, values: &[u64], w: &mut Writer<'_>) {
    let Plan {
        base,
        line,
        width,
        count,
        patch_base,
        patch_width,
        ..
    } = *plan;
    let patch_len = bytes_of(patch_base);
    w.byte(Codec::Patched.head(base));
    w.byte(line.header());
    w.byte(width as u8);
    w.byte(patch_width as u8);
    w.byte(patch_len as u8);
    w.byte(count as u8);
    w.base(base);
    w.number(zigzag(line.slope), line.len());
    w.number(patch_base, patch_len);
    w.end_head();
    let limit = mask(width);
    let residuals = || {
        values
            .iter()
            .zip(line.walk(0))
            .map(|(v, l)| v.wrapping_sub(base).wrapping_sub(l))
    };
    let bitmap = w.take(values.len().div_ceil(8));
    bitmap.fill(0);
    for (i, residual) in residuals().enumerate() {
        if let Some(byte) = bitmap.get_mut(i >> 3) {
            *byte |= u8::from(residual > limit) << (i & 7);
        }
    }
    let patches = exceptions(values, base, line, width);
    w.fields(
        patch_width,
        patches.map(|value| value.wrapping_sub(patch_base)),
    );
    w.fields(
        width,
        residuals().map(|residual| if residual > limit { 0 } else { residual }),
    );
}

/// A line with exceptions, as read from a page.
#[derive(Clone, Copy)]
pub(super) struct Patched<'a> {
    pub(super) fit: Fit<'a>,
    /// Values in the column, at most [`MAX_VALUES`].
    pub(super) n: usize,
    pub(super) patch_base: u64,
    /// Bits of an exception, 0 to 64.
    pub(super) patch_width: u32,
    /// One bit a value, and whatever follows.
    pub(super) bitmap: &'a [u8],
    /// Packed exceptions, and whatever follows.
    pub(super) patches: &'a [u8],
}

impl Patched<'_> {
    #[inline]
    fn patch(&self, rank: usize) -> u64 {
        self.patch_base
            .wrapping_add(field(self.patches, self.patch_width, rank))
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> u64 {
        let word = if i < self.n {
            load(self.bitmap, i / 64 * 8)
        } else {
            0
        };
        if word >> (i % 64) & 1 == 0 {
            return self.fit.get(i);
        }
        self.patch(self.rank(i / 64) + (word & mask((i % 64) as u32)).count_ones() as usize)
    }

    /// Exceptions before word `word` of the bitmap.
    #[inline]
    fn rank(&self, word: usize) -> usize {
        (0..word)
            .map(|j| load(self.bitmap, 8 * j).count_ones() as usize)
            .sum()
    }

    pub(super) fn decode(&self, from: usize, out: &mut [u64]) {
        self.fit.decode(from, out);
        if from >= self.n {
            return;
        }
        let to = from.saturating_add(out.len()).min(self.n);
        let first = from / 64;
        let skipped = load(self.bitmap, 8 * first) & mask((from % 64) as u32);
        let mut rank = self.rank(first) + skipped.count_ones() as usize;
        for j in first..to.div_ceil(64) {
            let mut word = load(self.bitmap, 8 * j) & mask((to - 64 * j).min(64) as u32);
            if j == first {
                word &= !skipped;
            }
            while word != 0 {
                let i = 64 * j + word.trailing_zeros() as usize;
                if let Some(slot) = i.checked_sub(from).and_then(|k| out.get_mut(k)) {
                    *slot = self.patch(rank);
                }
                rank += 1;
                word &= word - 1;
            }
        }
    }
}
