//! Lines in fixed-point arithmetic, and the model that is a single one.

use serde::{Deserialize, Serialize};

use super::runs;

/// A slope of `slope / 2^shift` positions per key unit. The mantissa keeps 32
/// significant bits, so a line over n positions strays from the true slope by
/// less than n / 2^31 positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    slope: u32,
    shift: u8,
}

/// A slope as a fraction: `rise` positions over `run` > 0 key units.
#[derive(Clone, Copy)]
pub(super) struct Ratio {
    pub(super) rise: u64,
    pub(super) run: u64,
}

impl Ratio {
    /// Whether this slope is less than the other.
    pub(super) fn below(self, other: Self) -> bool {
        u128::from(self.rise) * u128::from(other.run)
            < u128::from(other.rise) * u128::from(self.run)
    }

    /// A shift that gives this slope a mantissa of 31 or 32 bits.
    ///
    /// With rise < 2^a and run >= 2^(b-1) the mantissa is below
    /// 2^(a + 31 + b - a - (b - 1)) = 2^32, and rise << shift below 2^(31 + b).
    fn shift(self) -> u32 {
        let (a, b) = (
            64 - self.rise.leading_zeros(),
            64 - self.run.leading_zeros(),
        );
        (31 + b).saturating_sub(a)
    }

    /// The mantissa for `shift`, rounded up.
    fn mantissa(self, shift: u32) -> u128 {
        (u128::from(self.rise) << shift).div_ceil(u128::from(self.run.max(1)))
    }
}

impl Line {
    /// The line of least slope not below the ratio: it meets or exceeds whole
    /// positions where the true line has them, and rounding down keeps them.
    pub(super) fn through(ratio: Ratio) -> Self {
        let shift = ratio.shift();
        Self {
            slope: u32::try_from(ratio.mantissa(shift)).unwrap_or(u32::MAX),
            shift: u8::try_from(shift).unwrap_or(0),
        }
    }

    /// A line in the middle of `low <= slope < high`; None when there is none
    /// of 32 bits.
    pub(super) fn between(low: Ratio, high: Ratio) -> Option<Self> {
        if !low.below(high) {
            return None;
        }
        let shift = high.shift();
        // low < high, so neither overflows: low.rise << shift is at most
        // high's mantissa times low.run, below 2^33 * 2^64.
        let least = low.mantissa(shift);
        let most = high.mantissa(shift).checked_sub(1)?;
        if least > most {
            return None;
        }
        Some(Self {
            slope: u32::try_from(least + (most - least) / 2).ok()?,
            shift: u8::try_from(shift).ok()?,
        })
    }

    /// The positions that the line rises over `run` key units, rounded down,
    /// saturating.
    #[inline]
    pub(super) fn rise(self, run: u64) -> u64 {
        let product = u128::from(run) * u128::from(self.slope);
        // Shifts are below 96 unless a blob was forged.
        let rise = product >> (self.shift & 127);
        if rise > u128::from(u64::MAX) {
            u64::MAX
        } else {
            rise as u64
        }
    }
}

/// A line with its origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fit {
    /// Key where the line starts; keys below it count as it.
    pub(super) base: u64,
    /// Position at `base`. May lie outside of the trained positions: it is
    /// centred so that errors to both sides are equal.
    intercept: i64,
    line: Line,
}

impl Fit {
    /// Always the same position.
    pub(super) fn constant(position: u32) -> Self {
        Self {
            base: 0,
            intercept: i64::from(position),
            line: Line::default(),
        }
    }

    /// The line between the ends of the keys, moved up or down so that the
    /// largest error above equals the one below. The first key has position
    /// `first`.
    pub(super) fn train(keys: &[u64], first: u32) -> Self {
        let mut ends = runs(keys, first);
        let Some(start) = ends.next() else {
            return Self::default();
        };
        let end = ends.last().unwrap_or(start);
        let mut fit = Self {
            base: start.key,
            intercept: i64::from(start.at.last),
            line: match end.key.saturating_sub(start.key) {
                0 => Line::default(),
                run => {
                    let rise = end.at.last.saturating_sub(start.at.last);
                    Line::through(Ratio {
                        rise: rise.into(),
                        run,
                    })
                }
            },
        };
        let (mut least, mut most) = (0, 0);
        let mut see = |residual: i64| {
            least = residual.min(least);
            most = residual.max(most);
        };
        let mut below = start.at;
        for run in runs(keys, first) {
            let gap_end = fit.at(run.key.saturating_sub(1).max(start.key));
            see(below.residual(gap_end));
            see(run.at.residual(fit.at(run.key)));
            below = run.at;
            below.first = below.last;
        }
        fit.intercept -= (least + most) / 2;
        fit
    }

    /// The position on the line, which is not bounded to any range.
    #[inline]
    pub(super) fn at(&self, key: u64) -> i64 {
        let rise = self.line.rise(key.saturating_sub(self.base));
        self.intercept.saturating_add_unsigned(rise)
    }

    /// The position on the line, in `0..=last`.
    #[inline]
    pub(super) fn at_most(&self, key: u64, last: u32) -> u32 {
        // In 0..=last, so the cast is exact.
        self.at(key).clamp(0, i64::from(last)) as u32
    }
}

/// One line for all keys. Takes no heap memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Linear {
    fit: Fit,
    last: u32,
}

impl Linear {
    pub(super) fn train(keys: &[u64], first: u32) -> Self {
        let last = first
            .saturating_add(super::ordinal(keys.len()))
            .saturating_sub(1);
        Self {
            fit: Fit::train(keys, first),
            last,
        }
    }

    #[inline]
    pub(super) fn predict(&self, key: u64) -> u32 {
        self.fit.at_most(key, self.last)
    }
}
