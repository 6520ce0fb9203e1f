//! Entries to try an index with: keys of many patterns, TIDs of many heaps.

use super::Rng;
use crate::Pos;
use crate::key::{TID_END, Tid};
use std::collections::BTreeSet;

/// How keys arrive.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// 0, 1, 2: a serial.
    Serial,
    /// Ascending with random gaps.
    Gaps,
    /// Any value, evenly.
    Random,
    /// A serial that counts down from the top.
    Descending,
    /// Rising and falling back, over and over.
    Sawtooth,
    /// The ends of the domain, and the sign bit.
    Extremes,
    /// A serial with a far-off value now and then.
    Outliers,
    /// Values over many orders of magnitude.
    Lognormal,
    /// Close to one of twenty centres.
    Clustered,
    /// One a thousand, with jitter, and one in twenty late.
    Timestamps,
    /// A permutation: dense ids in the order of a shuffled heap.
    Dense,
    /// The same value always.
    One,
    /// One of two values.
    Two,
    /// One of a thousand values.
    Thousand,
}

/// All patterns of keys.
pub const ALL_KEYS: [Keys; 14] = [
    Keys::Serial,
    Keys::Gaps,
    Keys::Random,
    Keys::Descending,
    Keys::Sawtooth,
    Keys::Extremes,
    Keys::Outliers,
    Keys::Lognormal,
    Keys::Clustered,
    Keys::Timestamps,
    Keys::Dense,
    Keys::One,
    Keys::Two,
    Keys::Thousand,
];

/// Where the rows lie.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// In the order of arrival, so many to a page.
    Heap(u64),
    /// Anywhere in a large heap.
    Scattered,
    /// Offsets that no heap has: 0, or beyond 2,048.
    Odd,
    /// The largest TIDs.
    Max,
}

/// All kinds of heaps.
pub const ALL_ROWS: [Rows; 5] = [
    Rows::Heap(226),
    Rows::Heap(1),
    Rows::Scattered,
    Rows::Odd,
    Rows::Max,
];

/// How the lanes behind the first depend on it.
#[derive(Clone, Copy, Debug)]
pub enum Lanes {
    /// The pattern is in the first lane, the others are constant.
    First,
    /// The pattern is in the last lane, behind lanes of few values.
    Last,
    /// The lanes behind the pattern are random.
    Noise,
}

/// A stream of entries.
#[derive(Clone, Debug)]
pub struct Source {
    /// The pattern of the keys.
    pub keys: Keys,
    /// The heap.
    pub rows: Rows,
    /// Where the pattern stands.
    pub lanes: Lanes,
    /// NULLs, one in so many; 0 is none.
    pub nulls: u64,
    /// Entries that came before.
    pub arrived: u64,
    rng: Rng,
}

impl Source {
    /// A stream of entries without NULLs.
    #[must_use]
    pub fn new(keys: Keys, rows: Rows, seed: u64) -> Self {
        Self {
            keys,
            rows,
            lanes: Lanes::First,
            nulls: 0,
            arrived: 0,
            rng: Rng::new(seed),
        }
    }

    fn key(&mut self) -> u64 {
        let (i, rng) = (self.arrived, &mut self.rng);
        match self.keys {
            Keys::Serial => i,
            Keys::Gaps => i * 1000 + rng.below(1000),
            Keys::Random => rng.word(),
            Keys::Descending => u64::MAX - i * 7,
            Keys::Sawtooth => i % 97 * 1_000_003,
            Keys::Extremes => {
                let ends = [0, u64::MAX, 1 << 63, (1 << 63) - 1];
                ends[rng.index(4)] ^ (rng.word() >> (61 + rng.below(3)))
            }
            Keys::Outliers if rng.once_in(50) => rng.word(),
            Keys::Outliers => (1 << 40) + i,
            Keys::Lognormal => {
                // A sum of uniforms is normal enough.
                let normal: f64 = (0..12).map(|_| rng.below(1 << 30) as f64).sum();
                (normal / f64::from(1 << 30) - 6.0).mul_add(2.0, 20.0).exp() as u64
            }
            Keys::Clustered => rng.below(20) * (u64::MAX / 20) + rng.below(3000),
            Keys::Timestamps => {
                let late = if rng.once_in(20) {
                    rng.below(5_000_000)
                } else {
                    0
                };
                (1_u64 << 62) + i * 1000 + rng.below(900) - late
            }
            Keys::Dense => (i * 40_503) & 0xffff,
            Keys::One => 42,
            Keys::Two => rng.below(2) << 40,
            Keys::Thousand => rng.below(1000) * 77,
        }
    }

    fn tid(&mut self) -> Tid {
        let (i, rng) = (self.arrived, &mut self.rng);
        match self.rows {
            Rows::Heap(k) => (i / k) << 16 | (i % k + 1),
            Rows::Scattered => rng.below(1 << 30) << 16 | (1 + rng.below(226)),
            Rows::Odd => rng.below(1 << 20) << 16 | [0, 2049, 60_000, 5][rng.index(4)],
            Rows::Max => TID_END - 1 - rng.below(1 << 20),
        }
    }

    /// The next entry, which may be one that came before.
    pub fn entry<const V: usize>(&mut self) -> Pos<V> {
        self.arrived += 1;
        let tid = self.tid();
        if self.nulls > 0 && self.rng.once_in(self.nulls) {
            return Pos {
                rank: 1,
                vals: [u64::MAX; V],
                tid,
            };
        }
        let mut vals = [0; V];
        let key = self.key();
        let at = if matches!(self.lanes, Lanes::Last) {
            V - 1
        } else {
            0
        };
        for (lane, val) in vals.iter_mut().enumerate() {
            *val = match self.lanes {
                _ if lane == at => key,
                Lanes::First => 7,
                Lanes::Last => self.rng.below(3),
                Lanes::Noise => self.rng.word(),
            };
        }
        Pos { rank: 0, vals, tid }
    }

    /// The next `n` entries that are not in `known`, in the order of arrival;
    /// fewer where the pattern has no more.
    pub fn fresh<const V: usize>(&mut self, n: usize, known: &BTreeSet<Pos<V>>) -> Vec<Pos<V>> {
        let mut taken = BTreeSet::new();
        let mut fresh = Vec::new();
        for _ in 0..4 * n {
            let pos = self.entry();
            if fresh.len() < n && !known.contains(&pos) && taken.insert(pos) {
                fresh.push(pos);
            }
        }
        fresh
    }

    /// The first `n` entries, sorted, without doubles.
    pub fn sorted<const V: usize>(&mut self, n: usize) -> Vec<Pos<V>> {
        (0..n)
            .map(|_| self.entry())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}
