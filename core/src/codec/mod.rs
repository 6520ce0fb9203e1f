//! Column codecs for the blocks of a learned leaf: up to [`MAX_VALUES`] u64
//! values in as few bytes as their pattern allows.
//!
//! [`encode`] derives the size that each codec would take from a few passes
//! over the values and writes the smallest; [`Column`] reads any of them in
//! place. All arithmetic is on integers and wraps, all bytes are little
//! endian, nothing is allocated, and no bytes whatsoever make a reader panic:
//! a column that passes [`Column::parse`] gives some value at any position.
//!
//! An encoding is a head of at most 30 bytes, and a body of packed fields, which
//! constants and lines do not have. The head starts with a byte of tag (low nibble)
//! and the form of the base (high nibble); each codec's module says what follows.
//! The body follows its head, or stands elsewhere, so that the heads of several
//! columns can stand side by side.

mod bits;
mod column;
mod elias_fano;
mod linear;
mod patched;
mod runs;
#[cfg(test)]
mod tests;

pub use column::Column;

use crate::error::{Error, Result};
use bits::Writer;
use linear::Slope;

/// The most values that one call of [`encode`] takes.
pub const MAX_VALUES: usize = 256;

/// A constant or a line may be evaluated for positions `0..=MAX_LINE`.
pub const MAX_LINE: usize = 8192;

/// How the values of a column are stored; the discriminant is the tag on the
/// page. In order of the cost of reading, except that Elias-Fano is read a
/// little slower than runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// One value for all positions, 1 to 9 bytes: null lanes, payload lanes
    /// that are never used, a duplicated key.
    Constant = 1,
    /// `base + ((slope * i) >> shift)`, exactly, 2 to 18 bytes: serials and
    /// row ordinals. Integer slopes have shift 0, so stretches of one
    /// progression have one slope and a longer block can share the line.
    Line = 2,
    /// A line plus bit-packed residuals: sorted keys that keep near a line.
    Linear = 3,
    /// The minimum plus bit-packed differences from it, for values without a
    /// trend (J. Goldstein, R. Ramakrishnan, U. Shaft, "Compressing relations
    /// and indexes", ICDE 1998).
    FrameOfReference = 4,
    /// 8 bytes a value: bounds the size of anything at `8 * n + 1` bytes.
    Raw = 5,
    /// Non-decreasing values with random gaps, within half a bit of the
    /// information bound (Elias 1974, Fano 1971; Vigna, "Quasi-succinct
    /// indices", WSDM 2013).
    EliasFano = 6,
    /// Runs of equal values: leading lanes of a multi-column key, duplicates.
    Runs = 7,
    /// A line plus residuals with a few exceptions: row ordinals in key order
    /// when some rows arrive late (after PFOR, Zukowski et al., ICDE 2006).
    Patched = 8,
}

impl Codec {
    /// All codecs, in the order of their tags.
    pub const ALL: [Self; 8] = [
        Self::Constant,
        Self::Line,
        Self::Linear,
        Self::FrameOfReference,
        Self::Raw,
        Self::EliasFano,
        Self::Runs,
        Self::Patched,
    ];

    /// The codec of a tag, `None` if there is none.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            1 => Self::Constant,
            2 => Self::Line,
            3 => Self::Linear,
            4 => Self::FrameOfReference,
            5 => Self::Raw,
            6 => Self::EliasFano,
            7 => Self::Runs,
            8 => Self::Patched,
            _ => return None,
        })
    }

    /// The tag on the page, 1 to 8.
    #[must_use]
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// The name that statistics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Line => "line",
            Self::Linear => "linear",
            Self::FrameOfReference => "frame of reference",
            Self::Raw => "raw",
            Self::EliasFano => "elias-fano",
            Self::Runs => "runs",
            Self::Patched => "patched",
        }
    }

    /// The first byte of an encoding with this base.
    const fn head(self, base: u64) -> u8 {
        self.tag() | bits::stored_base(base).0 << 4
    }
}

/// An encoding decided upon, with its exact size in bytes. Which fields
/// matter depends on the codec.
#[derive(Clone, Copy)]
struct Plan {
    codec: Codec,
    size: usize,
    base: u64,
    line: Slope,
    /// Bits of a packed field.
    width: u32,
    /// Runs, exceptions, or bytes of the unary part.
    count: usize,
    patch_base: u64,
    patch_width: u32,
}

impl Plan {
    const EMPTY: Self = Self {
        codec: Codec::Constant,
        size: 0,
        base: 0,
        line: Slope { slope: 0, shift: 0 },
        width: 0,
        count: 0,
        patch_base: 0,
        patch_width: 0,
    };

    fn write(&self, values: &[u64], out: &mut [u8]) -> Result<Encoded> {
        let out = out.get_mut(..self.size).ok_or(Error::Full)?;
        let mut writer = Writer::new(out);
        match self.codec {
            Codec::EliasFano => elias_fano::write(self, values, &mut writer),
            Codec::Runs => runs::write(self, values, &mut writer),
            Codec::Patched => patched::write(self, values, &mut writer),
            _ => linear::write(self, values, &mut writer),
        }
        Ok(Encoded {
            codec: self.codec,
            head: writer.head(),
            len: self.size,
        })
    }
}

/// What [`encode`] has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// How the values are stored.
    pub codec: Codec,
    /// Bytes of the head.
    pub head: usize,
    /// Bytes of head and body.
    pub len: usize,
}

/// What one pass over the values tells.
struct Summary {
    n: usize,
    first: u64,
    min: u64,
    max: u64,
    sorted: bool,
    runs: usize,
    /// The difference of all neighbours, if it is one.
    step: Option<u64>,
}

impl Summary {
    fn of(values: &[u64]) -> Option<Self> {
        let [first, rest @ ..] = values else {
            return None;
        };
        if values.len() > MAX_VALUES {
            return None;
        }
        let step = rest.first().map_or(0, |second| second.wrapping_sub(*first));
        let (mut min, mut max, mut last) = (*first, *first, *first);
        let (mut sorted, mut changes, mut strays) = (true, 0, 0u64);
        for value in rest {
            min = min.min(*value);
            max = max.max(*value);
            sorted &= last <= *value;
            changes += usize::from(last != *value);
            strays |= value.wrapping_sub(last) ^ step;
            last = *value;
        }
        let step = (strays == 0).then_some(step);
        Some(Self {
            n: values.len(),
            first: *first,
            min,
            max,
            sorted,
            runs: changes + 1,
            step,
        })
    }

    fn integer_line(&self) -> Option<Plan> {
        let line = Slope {
            slope: self.step?,
            shift: 0,
        };
        Some(linear::plan_line(self.first, line))
    }
}

/// The endpoint line with its residuals, and without them where there are
/// none.
fn plan_linear(values: &[u64]) -> (Plan, Option<Plan>) {
    let line = linear::endpoint_line(values);
    let (base, width) = linear::cover(values, line);
    let exact = (width == 0).then(|| linear::plan_line(base, line));
    (linear::plan_linear(values.len(), base, line, width), exact)
}

/// From so many values on, an integer line is smaller than anything else.
const LINE_WINS: usize = 32;

/// Elias-Fano and patched columns are read slower than the others, so they
/// have to save 8 bytes, or one byte in 32.
fn saves(slower: &Plan, best: &Plan) -> bool {
    slower.size + (best.size / 32).clamp(1, 8) <= best.size
}

fn choose(values: &[u64], summary: &Summary) -> Plan {
    let Summary { n, min, max, .. } = *summary;
    if min == max {
        return linear::plan_constant(min);
    }
    let line = summary.integer_line();
    if let Some(line) = line
        && n >= LINE_WINS
    {
        return line;
    }
    let (linear, exact) = plan_linear(values);
    // In order of the cost of reading: of equal sizes the first is taken.
    let candidates = [
        line.or(exact),
        Some(linear),
        Some(linear::plan_frame(n, min, max)),
        Some(linear::plan_raw(n)),
        Some(runs::plan(summary.runs, min, max)),
    ];
    let cheap = candidates
        .into_iter()
        .flatten()
        .min_by_key(|plan| plan.size);
    let mut best = cheap.unwrap_or_else(|| linear::plan_raw(n));
    if summary.sorted
        && let Some(plan) = elias_fano::plan(n, min, max)
        && saves(&plan, &best)
    {
        best = plan;
    }
    if patched::worth_a_try(values, min, max, best.size) {
        let plan = patched::plan(values, min, max);
        if plan.size + 8 <= best.size {
            best = plan;
        }
    }
    best
}

/// Writes the smallest encoding of `values`, in any order, to the start of
/// `out`, of at most `8 * values.len() + 2` bytes, the body behind the head.
///
/// Nearly equal sizes go to the codec that is cheaper to read.
///
/// # Errors
///
/// [`Error::Full`] if `out` is too short, and for less than 1 or more than
/// [`MAX_VALUES`] values.
pub fn encode(values: &[u64], out: &mut [u8]) -> Result<Encoded> {
    let summary = Summary::of(values).ok_or(Error::Full)?;
    choose(values, &summary).write(values, out)
}

/// As [`encode`] with a given codec. `None` if it cannot represent the values:
/// a constant or a line of anything else, Elias-Fano of values that decrease.
/// The size is not bounded by that of the raw codec.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_as(codec: Codec, values: &[u64], out: &mut [u8]) -> Result<Option<Encoded>> {
    let summary = Summary::of(values).ok_or(Error::Full)?;
    let Summary {
        n,
        min,
        max,
        sorted,
        runs,
        ..
    } = summary;
    let plan = match codec {
        Codec::Constant => (min == max).then(|| linear::plan_constant(min)),
        Codec::Line => summary.integer_line().or_else(|| plan_linear(values).1),
        Codec::Linear => Some(plan_linear(values).0),
        Codec::FrameOfReference => Some(linear::plan_frame(n, min, max)),
        Codec::Raw => Some(linear::plan_raw(n)),
        Codec::EliasFano => sorted.then(|| elias_fano::plan(n, min, max)).flatten(),
        Codec::Runs => Some(runs::plan(runs, min, max)),
        Codec::Patched => Some(patched::plan(values, min, max)),
    };
    plan.map(|plan| plan.write(values, out)).transpose()
}
