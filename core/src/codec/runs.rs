//! Runs of equal values: the values as a packed frame of reference, and the
//! last position of each run in a byte. For columns of few distinct values in
//! a row, such as the leading lane of a multi-column key.

use super::bits::{Writer, base_len, field, packed_len, width_of};
use super::linear::bisect;
use super::{Codec, Plan};

/// Runs in the values, at most [`super::MAX_VALUES`].
pub(super) fn plan(runs: usize, min: u64, max: u64) -> Plan {
    let width = width_of(max - min);
    let size = 3 + base_len(min) + runs + packed_len(runs, width);
    Plan {
        codec: Codec::Runs,
        size,
        base: min,
        width,
        count: runs,
        ..Plan::EMPTY
    }
}

pub(super) fn write(plan: &Plan, values: &[u64], w: &mut Writer<'_>) {
    let Plan {
        base, width, count, ..
    } = *plan;
    w.byte(Codec::Runs.head(base));
    w.byte(width as u8);
    w.byte((count - 1) as u8);
    w.base(base);
    w.end_head();
    let runs = || values.chunk_by(|a, b| a == b);
    let mut end = 0;
    for (to, run) in w.take(count).iter_mut().zip(runs()) {
        end += run.len();
        *to = (end - 1) as u8;
    }
    w.fields(
        width,
        runs()
            .filter_map(|run| run.first())
            .map(|value| value.wrapping_sub(base)),
    );
}

/// A column of runs, as read from a page.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    pub(super) base: u64,
    /// Bits of a run's value, 0 to 64.
    pub(super) width: u32,
    /// Last positions, ascending unless the page lies; never empty.
    pub(super) ends: &'a [u8],
    /// Packed values, and whatever follows them.
    pub(super) fields: &'a [u8],
}

impl Runs<'_> {
    /// The run of a position, the last one for positions beyond.
    #[inline]
    fn run_of(&self, i: usize) -> usize {
        let run = self.ends.partition_point(|end| usize::from(*end) < i);
        run.min(self.ends.len().saturating_sub(1))
    }

    #[inline]
    fn value(&self, run: usize) -> u64 {
        self.base.wrapping_add(field(self.fields, self.width, run))
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> u64 {
        self.value(self.run_of(i))
    }

    pub(super) fn decode(&self, from: usize, out: &mut [u64]) {
        let mut rest = out;
        let mut at = from;
        let first = self.run_of(from);
        let last = self.ends.len().saturating_sub(1);
        for (run, end) in self.ends.iter().enumerate().skip(first) {
            let behind = if run == last {
                usize::MAX
            } else {
                usize::from(*end) + 1
            };
            let len = behind.saturating_sub(at).min(rest.len());
            let (filled, unfilled) = rest.split_at_mut(len);
            filled.fill(self.value(run));
            rest = unfilled;
            at = at.saturating_add(len);
            if rest.is_empty() {
                break;
            }
        }
        rest.fill(self.value(last));
    }

    /// Only the runs that reach into `from..to` are known to be sorted.
    pub(super) fn lower_bound(&self, from: usize, to: usize, x: u64) -> usize {
        let first = self.run_of(from);
        let behind = self.run_of(to.saturating_sub(1)).max(first) + 1;
        let run = bisect(first, behind, |run| self.value(run) < x);
        if run >= behind {
            return to;
        }
        let start = match run.checked_sub(1).and_then(|before| self.ends.get(before)) {
            Some(end) => usize::from(*end) + 1,
            None => 0,
        };
        start.clamp(from, to)
    }
}
