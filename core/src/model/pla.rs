//! Error-bounded piecewise linear approximation.
//!
//! Segments come from one pass with a shrinking cone: O'Rourke, "An on-line
//! algorithm for fitting straight lines between data ranges", CACM 24(9), 1981;
//! Galakatos et al., "FITing-Tree", SIGMOD 2019. A segment starts exactly at
//! its first key's position and grows while some slope keeps every trained key
//! *and the end of every gap between them* within epsilon. Where a gap breaks
//! the cone, the segment ends before the next key and the gap belongs to it:
//! predictions stop at the segment's last position, which is the right one
//! there. So the error is at most epsilon for every `u64`, trained on or not.
//!
//! A line of slope zero always covers epsilon positions after its first, so n
//! keys take at most n / (epsilon + 1) + 1 segments. The PGM-index (Ferragina
//! and Vinciguerra 2020) has the optimal number, from convex hulls.

use serde::{Deserialize, Serialize};

use super::linear::{Line, Ratio};
use super::{Run, blob, exact, push, runs, with_room};
use crate::error::Result;

/// The error bound of [`super::Choice::Pla`], in leaves.
pub const EPSILON: u32 = 8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(super) struct Pla {
    /// First key of each segment, strictly ascending. Apart from the segments,
    /// so that a search touches few cache lines.
    keys: Vec<u64>,
    segments: Vec<Segment>,
    /// Narrows the search; follows from `keys` and is not stored.
    #[serde(skip)]
    top: Top,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Segment {
    line: Line,
    /// Position of the first key; of its last duplicate.
    first: u32,
    /// Position of the last key.
    last: u32,
}

/// A radix table over the segments' keys: the key space from the first to the
/// last is cut into equal parts, and `before[i]` counts the segments that start
/// in a part before the i-th.
#[derive(Clone, Debug, Default, PartialEq)]
struct Top {
    shift: u32,
    before: Vec<u32>,
}

impl Top {
    /// Between one and two parts per segment.
    fn build(keys: &[u64]) -> Result<Self> {
        let (Some(&first), Some(&last)) = (keys.first(), keys.last()) else {
            return Ok(Self::default());
        };
        let span = last.saturating_sub(first);
        let bits = keys.len().next_power_of_two().trailing_zeros();
        let shift = (64 - span.leading_zeros()).saturating_sub(bits);
        let parts = (span >> shift) as usize + 1;
        let mut before = with_room(parts + 1)?;
        let mut count = 0u32;
        let mut rest = keys.iter().peekable();
        for part in 0..parts as u64 {
            before.push(count);
            while rest
                .next_if(|&&key| key.saturating_sub(first) >> shift <= part)
                .is_some()
            {
                count += 1;
            }
        }
        before.push(count);
        Ok(Self { shift, before })
    }

    /// The segments that start in the part of `key`, as a range of indexes.
    #[inline]
    fn part(&self, first: u64, key: u64) -> (usize, usize) {
        let part = key.saturating_sub(first) >> self.shift;
        let last = self.before.len().saturating_sub(2);
        let part = part.min(last as u64) as usize;
        match self
            .before
            .get(part..)
            .and_then(|from| from.first_chunk::<2>())
        {
            Some(&[from, to]) => (from as usize, to as usize),
            None => (0, 0),
        }
    }
}

/// A segment under construction.
struct Cone {
    key: u64,
    first: u32,
    last: u32,
    /// Slopes still possible: `low <= slope < high`.
    low: Ratio,
    high: Option<Ratio>,
    /// One of them, kept for as long as it fits.
    line: Line,
}

impl Cone {
    fn open(run: Run) -> Self {
        Self {
            key: run.key,
            first: run.at.last,
            last: run.at.last,
            low: Ratio { rise: 0, run: 1 },
            high: None,
            line: Line::default(),
        }
    }

    /// Takes the next trained key, or says that no slope is left for it.
    fn admit(&mut self, run: Run, epsilon: u64) -> bool {
        // Rounded down, the line must not reach these at the end of the gap
        // before the key and at the key, and must reach `least` at the key.
        let gap = Ratio {
            rise: u64::from(self.last - self.first) + epsilon + 1,
            run: (run.key - self.key).saturating_sub(1),
        };
        let rise = u64::from(run.at.last.saturating_sub(self.first));
        let most = Ratio {
            rise: rise + epsilon + 1,
            run: run.key - self.key,
        };
        let least = Ratio {
            rise: rise.saturating_sub(epsilon),
            run: run.key - self.key,
        };

        let mut high = match self.high {
            Some(high) if !most.below(high) => high,
            _ => most,
        };
        if gap.run > 0 && gap.below(high) {
            high = gap;
        }
        let low = if self.low.below(least) {
            least
        } else {
            self.low
        };
        let reached = self.line.rise(most.run);
        let fits = reached < most.rise
            && reached >= least.rise
            && (gap.run == 0 || self.line.rise(gap.run) < gap.rise);
        if !fits {
            match Line::between(low, high) {
                Some(line) => self.line = line,
                None => return false,
            }
        }
        self.low = low;
        self.high = Some(high);
        self.last = run.at.last;
        true
    }

    fn close(self) -> Segment {
        let line = match self.high {
            Some(high) => Line::between(self.low, high).unwrap_or(self.line),
            None => self.line,
        };
        Segment {
            line,
            first: self.first,
            last: self.last,
        }
    }
}

impl Pla {
    /// The first key has position `first`.
    pub(super) fn train(keys: &[u64], first: u32, epsilon: u32) -> Result<Self> {
        let (mut starts, mut segments) = (Vec::new(), Vec::new());
        let mut open: Option<Cone> = None;
        for run in runs(keys, first) {
            if open
                .as_mut()
                .is_some_and(|cone| cone.admit(run, epsilon.into()))
            {
                continue;
            }
            if let Some(full) = open.replace(Cone::open(run)) {
                push(&mut starts, full.key)?;
                push(&mut segments, full.close())?;
            }
        }
        if let Some(full) = open {
            push(&mut starts, full.key)?;
            push(&mut segments, full.close())?;
        }
        Self::new(starts, segments)
    }

    fn new(keys: Vec<u64>, segments: Vec<Segment>) -> Result<Self> {
        let top = Top::build(&keys)?;
        Ok(Self {
            keys: exact(keys)?,
            segments: exact(segments)?,
            top,
        })
    }

    #[inline]
    pub(super) fn predict(&self, key: u64) -> u32 {
        let Some(&first) = self.keys.first() else {
            return 0;
        };
        let (from, to) = self.top.part(first, key);
        let Some(part) = self.keys.get(from..to) else {
            return 0;
        };
        let i = (from + part.partition_point(|&start| start <= key)).saturating_sub(1);
        let (Some(&start), Some(segment)) = (self.keys.get(i), self.segments.get(i)) else {
            return 0;
        };
        let rise = segment.line.rise(key.saturating_sub(start));
        // At most `last`, so the cast is exact.
        rise.saturating_add(segment.first.into())
            .min(segment.last.into()) as u32
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<u64>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.top.before.capacity() * size_of::<u32>()
    }

    /// Whether a model of `trained` keys from `base` on can look like this.
    pub(super) fn check(&self, trained: u32, base: u64) -> core::result::Result<(), &'static str> {
        let (Some(&first), Some(last)) = (self.keys.first(), self.segments.last()) else {
            return if trained == 0 {
                Ok(())
            } else {
                Err("pla without segments")
            };
        };
        if first != base {
            return Err("pla does not start at the first key");
        }
        if last.last >= trained {
            return Err("pla position beyond the number of keys");
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Unchecked {
    #[serde(deserialize_with = "blob::read_vec")]
    keys: Vec<u64>,
    #[serde(deserialize_with = "blob::read_vec")]
    segments: Vec<Segment>,
}

impl TryFrom<Unchecked> for Pla {
    type Error = &'static str;

    fn try_from(read: Unchecked) -> core::result::Result<Self, Self::Error> {
        if read.keys.len() != read.segments.len() {
            return Err("pla with unequal columns");
        }
        if !read.keys.is_sorted_by(|a, b| a < b) {
            return Err("pla keys out of order");
        }
        if read.segments.iter().any(|s| s.first > s.last)
            || !read.segments.is_sorted_by(|a, b| a.last < b.first)
        {
            return Err("pla positions out of order");
        }
        Self::new(read.keys, read.segments).map_err(|_| "out of memory")
    }
}
