//! A script of operations on an index, beside a sorted set. The first byte of the
//! input chooses the index to start from.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use omen_core::Error;
use omen_core::key::Pos;
use omen_core::sim::{Keys, Rows, Source};
use omen_core::tree::{Interval, Router, Scan, check};
use omen_fuzz::{Collected, Index, aged, empty};

/// Long scripts are slow, and find no more.
const MOST_STEPS: usize = 100;
/// Entries that a step inserts at most: a quarter of a delta area.
const MOST_INSERTS: u8 = 16;

thread_local! {
    static ONE_LANE: Vec<Index<1>> = starts();
    static TWO_LANES: Vec<Index<2>> = starts();
}

/// Indexes of which a few steps split pages of any level, or merge them.
fn starts<const V: usize>() -> Vec<Index<V>> {
    let of = |keys, size, fillfactor, n| {
        Index::load(
            size,
            fillfactor,
            &mut Source::new(keys, Rows::Heap(50), 1),
            n,
        )
    };
    vec![
        empty(512),
        empty(1024),
        of(Keys::Random, 512, 100, 200),
        of(Keys::Serial, 512, 100, 300),
        // Inner pages on three levels, with little on each leaf.
        of(Keys::Random, 512, 10, 300),
        aged(512, 90, 8, 150),
        aged(512, 100, 2, 150),
        aged(1024, 90, 6, 200),
    ]
}

/// A script's view of an index.
struct Lab<const V: usize> {
    index: Index<V>,
    row: u64,
}

fn at<const V: usize>(key: u64, tid: u64) -> Pos<V> {
    let mut vals = [7; V];
    vals[0] = key;
    Pos { rank: 0, vals, tid }
}

fn is_dead(tid: u64, part: u64) -> bool {
    (tid >> 16 ^ tid) % (part + 2) == 0
}

impl<const V: usize> Lab<V> {
    fn next(&mut self, key: u64) -> Pos<V> {
        self.row += 1;
        at(key, (self.row / 50) << 16 | (self.row % 50 + 1))
    }

    /// Inserts entries of these keys one by one, or all at once.
    fn insert(&mut self, keys: impl Iterator<Item = u64>, together: bool) {
        let mut entries: Vec<_> = keys.map(|key| self.next(key)).collect();
        if together {
            entries.sort_unstable();
            entries.retain(|pos| !self.index.set.contains(pos));
            self.index.insert_all(&entries);
        } else {
            entries.into_iter().for_each(|pos| self.index.insert(pos));
        }
    }

    /// The session ends in an error after some records, of which the last may be
    /// one of several.
    fn crash(&mut self, key: u64, records: u64) {
        let stopped = |result| match result {
            Ok(()) => false,
            Err(Error::Stopped) => true,
            Err(error) => panic!("{error}"),
        };
        self.index.store.stop_after(1 + records / 2 % 16);
        let (mut unsure, mut part) = (None, None);
        if records & 1 == 0 {
            for i in 0..2 * u64::from(MOST_INSERTS) {
                let pos = self.next(key.wrapping_add(i * 3));
                if self.index.set.contains(&pos) {
                    continue;
                }
                if stopped(self.index.try_insert(pos)) {
                    unsure = Some(pos);
                    break;
                }
                self.index.set.insert(pos);
            }
        } else {
            part = Some(key % 8);
            let _ = stopped(self.index.try_vacuum(&mut |tid| is_dead(tid, key % 8)));
        }
        let store = self.index.store.recover();
        let set = core::mem::take(&mut self.index.set);
        self.index = Index::over(store, set);
        if let Some(pos) = unsure {
            let point = Interval {
                lo: pos,
                hi: Some(pos.next()),
            };
            if !self.found(point, true).is_empty() {
                self.index.set.insert(pos);
            }
        }
        if let Some(part) = part {
            self.index.vacuum(&mut |tid| is_dead(tid, part));
        }
    }

    fn found(&self, part: Interval<V>, forward: bool) -> Vec<Pos<V>> {
        let tree = self.index.tree();
        let mut scan = Scan::new();
        let mut found = Vec::new();
        while let Some(pos) = scan.next(&tree, &[part], forward, false).expect("scans") {
            found.push(pos);
        }
        found
    }

    fn scan(&self, part: Interval<V>, forward: bool) {
        let mut found = self.found(part, forward);
        if !forward {
            found.reverse();
        }
        let wanted = self.index.set.range(part.lo..);
        let wanted = wanted.take_while(|pos| part.contains(pos));
        assert!(found.iter().eq(wanted));
    }

    fn verify(&self) {
        let mut seen = Collected::default();
        check(&self.index.tree(), &mut seen).expect("sound");
        assert!(seen.0.iter().eq(self.index.set.iter()));
    }

    /// A key that is near one that is there, or any.
    fn key(&self, a: u8, b: u8) -> u64 {
        let any = u64::from(a) << 8 | u64::from(b);
        let from = at(any.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0);
        match self.index.set.range(from..).next() {
            Some(near) if a & 1 == 0 => near.vals[0],
            _ => any,
        }
    }

    fn run(mut self, script: &[u8]) {
        for step in script.as_chunks::<4>().0.iter().take(MOST_STEPS) {
            let [what, a, b, c] = *step;
            let key = self.key(a, b);
            let together = what >= 128;
            let n = u64::from(c % (MOST_INSERTS + 1)) * if together { 4 } else { 1 };
            let odd = 0x9e37_79b9_7f4a_7c15;
            match what % 10 {
                // Serial, scattered, equal and far keys; then one beside others.
                0 => self.insert((0..n).map(|i| key.wrapping_add(i)), together),
                1 => self.insert(
                    (0..n).map(|i| key.wrapping_add(i).wrapping_mul(odd)),
                    together,
                ),
                2 => self.insert((0..n).map(|_| key), together),
                3 => self.insert([key << (c % 48)].into_iter(), together),
                4 => {
                    let apart = c / 32 * 4;
                    self.insert((0..n).map(|i| key.wrapping_add(i << apart)), together);
                }
                5 => self.index.vacuum(&mut |tid| is_dead(tid, u64::from(c))),
                6 => {
                    let lo = at(key, 0);
                    let hi = at(key.saturating_add(u64::from(c) << 4), 0);
                    self.scan(Interval { lo, hi: Some(hi) }, b & 1 == 0);
                }
                7 => self.crash(key, u64::from(c)),
                8 => {
                    let store = self.index.store.recover();
                    self.index = Index::over(store, core::mem::take(&mut self.index.set));
                }
                _ => self.index.router = RefCell::new(Router::new(usize::from(c) << 6)),
            }
        }
        self.verify();
        self.scan(Interval::ALL, script.len() % 2 == 0);
    }
}

fn run<const V: usize>(starts: &[Index<V>], choice: u8, script: &[u8]) {
    let index = starts[usize::from(choice) % starts.len()].copy();
    Lab { index, row: 0 }.run(script);
}

fuzz_target!(|data: &[u8]| {
    let [choice, script @ ..] = data else { return };
    if choice & 0x80 == 0 {
        ONE_LANE.with(|starts| run(starts, *choice, script));
    } else {
        TWO_LANES.with(|starts| run(starts, *choice, script));
    }
});
