//! Rewrites of one leaf against the sorted list of its entries, and the size of
//! what is written.

mod decode;
mod drop;
mod size;

use super::*;
use crate::codec::MAX_VALUES;
use crate::sim::Rng;
use crate::testing::{cases, scaled};
use crate::{INVALID_BLOCK, Pos};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};

fn frame<const V: usize>() -> LeafFrame<V> {
    LeafFrame {
        low: Pos::MIN,
        high: None,
        flags: 0,
        left: INVALID_BLOCK,
        right: INVALID_BLOCK,
        generation: 3,
        rewrites: 5,
    }
}

/// One leaf, and the entries that it should hold.
struct Bench<const V: usize> {
    page: Vec<u8>,
    edit: EditScratch<V>,
    entries: BTreeSet<Pos<V>>,
}

fn contents<const V: usize>(page: &[u8]) -> Vec<Pos<V>> {
    let leaf = LeafView::<V>::read(page, 1).unwrap();
    let mut found = Vec::new();
    for index in 0..leaf.blocks() {
        let view = leaf.view(index).unwrap();
        assert_eq!(leaf.dir(index).unwrap().first, view.pos(0));
        assert!(view.live() > 0);
        for i in (0..view.len()).filter(|i| view.survives(*i)) {
            let pos = view.pos(i);
            assert_eq!(view.lower_bound(&pos), i);
            assert_eq!(view.tid(i), pos.tid);
            let (from, to) = view.equal_range(&pos);
            let same = |at: usize| view.pos(at).same_key(&pos);
            assert!((from..to).contains(&i) && (from..to).all(same));
            assert!(from == 0 || !same(from - 1));
            assert!(to == view.len() || !same(to));
            found.push(pos);
        }
    }
    assert!(found.is_sorted(), "blocks are out of order");
    found.extend((0..leaf.delta_len()).map(|i| leaf.delta(i)));
    assert_eq!(found.len(), leaf.entries());
    assert!(leaf.used() <= leaf_capacity::<V>(page.len()));
    found.sort_unstable();
    found
}

impl<const V: usize> Bench<V> {
    /// A leaf with as many of the entries as fit into `percent` of it.
    fn fill(size: usize, entries: &[Pos<V>], percent: usize) -> Self {
        let mut edit = EditScratch::new(size).unwrap();
        // Lengthening a line takes the reserve of a block more.
        let limit = (leaf_capacity::<V>(size) * percent / 100).saturating_sub(32);
        let mut last = None;
        let mut entries_left = entries.iter();
        loop {
            let full = entries_left.by_ref().any(|entry| edit.add_pending(*entry));
            if edit.first_pending().is_none() || edit.footprint() > limit {
                break;
            }
            match edit.seal_within(&Fill::up_to(limit)).unwrap() {
                Some(sealed) => last = Some(sealed),
                None => break,
            }
            if !full && edit.first_pending().is_none() {
                break;
            }
        }
        let taken: BTreeSet<_> = entries
            .iter()
            .copied()
            .filter(|e| Some(*e) <= last)
            .collect();
        let pieces = edit.pieces().len();
        let mut page = vec![0; size];
        edit.write(&[], 0..pieces, &[], &frame(), &mut page)
            .unwrap();
        let bench = Self {
            page,
            edit,
            entries: taken,
        };
        bench.verify();
        bench
    }

    fn verify(&self) {
        let found = contents::<V>(&self.page);
        assert!(
            found.iter().eq(self.entries.iter()),
            "entries were lost or made up"
        );
    }

    fn leaf(&self) -> LeafView<'_, V> {
        LeafView::read(&self.page, 1).unwrap()
    }

    /// Adds to the delta area what fits.
    fn append(&mut self, entries: impl IntoIterator<Item = Pos<V>>) {
        for pos in entries {
            if self.leaf().delta_room() > 0 && self.entries.insert(pos) {
                append_delta(&mut self.page, &pos);
            }
        }
        self.verify();
    }

    /// Folds, if the result fits. The plan is checked either way.
    fn fold(&mut self) -> bool {
        let leaf = LeafView::<V>::read(&self.page, 1).unwrap();
        self.edit.load_delta(&leaf);
        match self.edit.plan_fold(&leaf) {
            Ok(()) => {}
            Err(crate::Error::Full) => return false,
            Err(error) => panic!("{error}"),
        }
        let live: usize = self.edit.pieces().iter().map(Piece::live).sum();
        assert_eq!(
            live,
            self.entries.len(),
            "the fold has another number of entries"
        );
        let mut image = self.page.clone();
        let all = 0..self.edit.pieces().len();
        let fits = self.edit.footprint() <= leaf_capacity::<V>(self.page.len());
        let written = self.edit.write(&self.page, all, &[], &frame(), &mut image);
        assert_eq!(
            written.is_ok(),
            fits,
            "the footprint is not what the pieces take"
        );
        if fits {
            self.page = image;
        }
        self.verify();
        fits
    }

    /// Deletes: in place, always.
    fn delete(&mut self, dead: &HashSet<u64>) {
        let leaf = LeafView::<V>::read(&self.page, 1).unwrap();
        let before = leaf.used();
        let removed = self
            .edit
            .plan_delete(&leaf, &mut |tid| dead.contains(&tid))
            .unwrap();
        let entries = self.entries.len();
        self.entries.retain(|pos| !dead.contains(&pos.tid));
        assert_eq!(removed, entries - self.entries.len());
        self.write_deleted(removed, before);
    }

    /// Writes a plan without `removed` of the entries; `before` bytes were in use.
    fn write_deleted(&mut self, removed: usize, before: usize) {
        if removed > 0 {
            let all = 0..self.edit.pieces().len();
            self.page = self.write_part(all, &self.edit.delta).page;
            assert!(self.leaf().used() <= before, "deleting took room");
        }
        self.verify();
    }

    fn write_part(&self, pieces: std::ops::Range<usize>, delta: &[Pos<V>]) -> Self {
        let mut page = self.page.clone();
        self.edit
            .write(&self.page, pieces, delta, &frame(), &mut page)
            .unwrap();
        let edit = EditScratch::new(page.len()).unwrap();
        let entries = contents(&page).into_iter().collect();
        Self {
            page,
            edit,
            entries,
        }
    }

    /// Splits in two halves, if the leaf has blocks of more than one entry.
    fn split(&mut self) -> Option<(Self, Self)> {
        let leaf = LeafView::<V>::read(&self.page, 1).unwrap();
        let live: usize = (0..leaf.blocks())
            .map(|i| leaf.view(i).unwrap().live())
            .sum();
        if live < 2 {
            return None;
        }
        let (pieces, separator) = self.edit.plan_split(&leaf).unwrap();
        let delta = &self.edit.delta;
        let (low, high) = delta.split_at(delta.partition_point(|pos| *pos < separator));
        let left = self.write_part(0..pieces, low);
        let right = self.write_part(pieces..self.edit.pieces().len(), high);
        assert!(left.entries.iter().all(|pos| *pos < separator));
        assert!(right.entries.iter().all(|pos| *pos >= separator));
        assert!(left.leaf().blocks() > 0 && right.leaf().blocks() > 0);
        assert!(
            left.entries
                .iter()
                .chain(&right.entries)
                .eq(self.entries.iter())
        );
        Some((left, right))
    }

    /// Joins two leaves, of which all of `right` is above all of this one.
    fn join(&mut self, right: &Self) -> bool {
        let capacity = leaf_capacity::<V>(self.page.len());
        if self.leaf().used() + right.leaf().used() > capacity
            || self.leaf().delta_len() + right.leaf().delta_len() > delta_capacity(self.page.len())
        {
            return false;
        }
        self.edit.clear();
        self.edit.delta.clear();
        let (a, b) = (LeafView::read(&self.page, 1).unwrap(), right.leaf());
        self.edit.plan_join(&a).unwrap();
        self.edit.plan_join(&b).unwrap();
        let delta = self.edit.delta.clone();
        let joined = self.write_part(0..self.edit.pieces().len(), &delta);
        self.entries.extend(&right.entries);
        self.page = joined.page;
        self.verify();
        true
    }
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    Scattered,
    AllButScattered,
    Stretch,
}

#[derive(Clone, Debug)]
enum Edit {
    /// Fills the delta area from near or between the entries, and folds.
    Fold {
        seed: u64,
        append: bool,
    },
    Delete {
        seed: u64,
        one_in: u64,
        kill: Kill,
    },
    Split {
        left: bool,
    },
    SplitAndJoin,
}

const KILLS: [Kill; 3] = [Kill::Scattered, Kill::AllButScattered, Kill::Stretch];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<u64>(), any::<bool>()).prop_map(|(seed, append)| Edit::Fold { seed, append }),
        4 => (any::<u64>(), 1u64..8, prop::sample::select(&KILLS[..]))
            .prop_map(|(seed, one_in, kill)| Edit::Delete { seed, one_in, kill }),
        1 => any::<bool>().prop_map(|left| Edit::Split { left }),
        1 => Just(Edit::SplitAndJoin),
    ]
}

/// An entry near another: a neighbour of its key, or of its TID.
fn near<const V: usize>(pos: &Pos<V>, rng: &mut Rng) -> Pos<V> {
    let mut near = *pos;
    match rng.below(3) {
        0 => near.tid = rng.below(1 << 24) << 16 | (1 + rng.below(226)),
        1 => near.vals[V - 1] = near.vals[V - 1].wrapping_add(1 + rng.below(9)),
        _ => near.vals[0] = near.vals[0].wrapping_add(rng.word() >> (1 + rng.below(63))),
    }
    near
}

fn run<const V: usize>(mut bench: Bench<V>, edits: Vec<Edit>) {
    for edit in edits {
        match edit {
            Edit::Fold { seed, append } => {
                let mut rng = Rng::new(seed);
                let old: Vec<_> = bench.entries.iter().copied().collect();
                let room = bench.leaf().delta_room();
                let step = match old.as_slice() {
                    [.., a, b] => b.vals[0] - a.vals[0],
                    _ => 1,
                };
                let last = old.last().copied().unwrap_or(Pos::MIN);
                let fresh = (1..=room as u64).map(|i| {
                    if append {
                        let mut pos = last;
                        pos.vals[0] = pos.vals[0].saturating_add(step.saturating_mul(i));
                        pos.tid = (pos.tid + i) & 0xffff_ffff_ffff;
                        pos
                    } else {
                        near(old.get(rng.index(old.len())).unwrap_or(&last), &mut rng)
                    }
                });
                let fresh: Vec<_> = fresh.collect();
                bench.append(fresh);
                if !bench.fold()
                    && let Some((left, right)) = bench.split()
                {
                    bench = if rng.once_in(2) { left } else { right };
                }
            }
            Edit::Delete { seed, one_in, kill } => {
                let mut rng = Rng::new(seed);
                let n = bench.entries.len();
                let (from, len) = (rng.index(n), n / one_in as usize);
                let dead = bench
                    .entries
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| match kill {
                        Kill::Scattered => rng.once_in(one_in),
                        Kill::AllButScattered => !rng.once_in(one_in),
                        Kill::Stretch => (from..from + len).contains(i),
                    });
                let dead: Vec<_> = dead.map(|(_, pos)| *pos).collect();
                if seed % 2 == 0 {
                    bench.drop_named(&dead);
                } else {
                    bench.delete(&dead.iter().map(|pos| pos.tid).collect());
                }
            }
            Edit::Split { left } => {
                if let Some((low, high)) = bench.split() {
                    bench = if left { low } else { high };
                }
            }
            Edit::SplitAndJoin => {
                if let Some((mut low, high)) = bench.split()
                    && low.join(&high)
                {
                    assert_eq!(low.entries, bench.entries);
                    bench = low;
                }
            }
        }
    }
}

/// Lines of different slopes, some with gaps, and stretches of noise.
fn stretches<const V: usize>(seed: u64) -> Vec<Pos<V>> {
    let mut rng = Rng::new(seed);
    let (mut key, mut row) = (rng.below(1 << 20), rng.below(1 << 20));
    let mut entries = BTreeSet::new();
    for _ in 0..1 + rng.below(6) {
        let step = 1 + (rng.word() >> (24 + rng.below(40)));
        let noise = if rng.once_in(3) { step } else { 1 };
        let most = [300, scaled(3000) as u64][rng.index(2)];
        for _ in 0..rng.below(most) {
            key = key.saturating_add(step + rng.below(noise));
            row += 1;
            let mut vals = [key; V];
            vals[0] = if V > 1 && noise > 1 { 5 } else { key };
            entries.insert(Pos {
                rank: 0,
                vals,
                tid: (row / 200) << 16 | (row % 200 + 1),
            });
        }
        row += rng.below(500);
    }
    entries.into_iter().collect()
}

fn line(n: u64, step: u64) -> Vec<Pos<1>> {
    let entry = |i: u64| Pos {
        rank: 0,
        vals: [i * step],
        tid: (i / 7) << 16 | (i % 7 + 1),
    };
    (0..n).map(entry).collect()
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn rewrites_of_one_lane_keep_all_entries(
        size in prop::sample::select(&[512usize, 1024, 8192][..]), seed: u64,
        percent in 10usize..100, edits in prop::collection::vec(edit(), 1..12),
    ) {
        run::<1>(Bench::fill(size, &stretches(seed), percent), edits);
    }

    #[test]
    fn rewrites_of_two_lanes_keep_all_entries(
        size in prop::sample::select(&[512usize, 1024, 8192][..]), seed: u64,
        percent in 10usize..100, edits in prop::collection::vec(edit(), 1..12),
    ) {
        run::<2>(Bench::fill(size, &stretches(seed), percent), edits);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes a long line")]
fn a_random_half_of_a_perfect_line_is_deleted_in_place() {
    for (size, step) in [(8192, 1), (8192, 1 << 40), (1024, 3), (512, 1 << 30)] {
        let mut bench = Bench::fill(size, &line(100_000, step), 100);
        assert!(
            bench.entries.len() > size * 5,
            "a line takes a bit an entry, for its reserve"
        );
        let mut rng = Rng::new(size as u64);
        for _ in 0..12 {
            let dead = bench
                .entries
                .iter()
                .map(|pos| pos.tid)
                .filter(|_| rng.once_in(2))
                .collect();
            bench.delete(&dead);
        }
        // A block that shrinks is encoded anew where that is smaller.
        assert!(bench.entries.len() < 100);
        assert!(bench.leaf().used() < leaf_capacity::<1>(size) / 2);
    }
}

/// The bits of a bitmap behind the last position are nobody's.
#[test]
fn only_positions_of_a_block_are_counted_as_survivors() {
    let mut bytes = [0; 64];
    let n = 13;
    let len = encode_block(&line(13, 3), None, &mut bytes[2..]).unwrap() + 2;
    for bitmap in [[0xff, 0xff], [0b1010_0101, 0b1110_0010], [0, 0b1110_0000]] {
        bytes[..2].copy_from_slice(&bitmap);
        let view = BlockView::<1>::parse(&bytes, len, n, 0, true, false).unwrap();
        let alive = (0..n).filter(|&i| view.survives(i)).count();
        assert_eq!(view.live(), alive);
    }
}

/// Few survivors of a line are not few positions.
#[test]
fn survivors_at_the_end_of_a_line_are_kept_when_it_is_folded_with_its_neighbour() {
    // A block of noise, and behind it one of a line.
    let noise = (0..256u64).map(|i| Pos {
        rank: 0,
        vals: [i * i],
        tid: (1000 + i * 77 % 1000) << 16 | 1,
    });
    let steps = (0..300u64).map(|i| Pos {
        rank: 0,
        vals: [(i + 1) << 40],
        tid: i << 16 | 1,
    });
    let entries: Vec<Pos<1>> = noise.chain(steps).collect();
    let mut bench = Bench::fill(8192, &entries, 90);
    assert_eq!((bench.entries.len(), bench.leaf().blocks()), (556, 2));
    let mut rng = Rng::new(1);
    let (noise, line) = entries.split_at(256);
    let dead = noise.iter().skip(100);
    let dead = dead.chain(line.iter().filter(|_| !rng.once_in(6)));
    bench.delete(&dead.map(|pos| pos.tid).collect());
    let line = bench.leaf().dir(1).unwrap();
    assert!(line.survivors && line.n > MAX_VALUES);
    bench.append((0..20).map(|i| Pos {
        rank: 0,
        vals: [i * i + 3],
        tid: (5000 + i) << 16 | 1,
    }));
    assert!(bench.fold());
}

#[test]
#[cfg_attr(miri, ignore = "takes a long line")]
fn scattered_keys_fold_into_a_leaf_of_perfect_lines() {
    for step in [1000, 1 << 40] {
        let mut bench = Bench::fill(8192, &line(40_000, step), 60);
        let mut rng = Rng::new(step);
        // Two delta areas full of keys, as long as they fit; then halves.
        for _ in 0..8 {
            let keys: Vec<_> = bench.entries.iter().copied().collect();
            let room = bench.leaf().delta_room();
            let fresh = (0..room).map(|_| {
                let mut pos = keys[rng.index(keys.len())];
                pos.vals[0] += 1 + rng.below(step - 1);
                pos
            });
            let fresh: Vec<_> = fresh.collect();
            bench.append(fresh);
            if !bench.fold() {
                let (left, right) = bench.split().unwrap();
                bench = if left.entries.len() > right.entries.len() {
                    left
                } else {
                    right
                };
            }
        }
    }
}
