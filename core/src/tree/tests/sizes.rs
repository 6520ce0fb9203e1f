//! What the leaves of an index take in all.

use super::*;
use crate::key::TID_END;
use crate::page::{LeafView, PAGE_HEADER, SPECIAL, leaf_capacity};
use crate::sim::{Keys, Rng};

/// Bytes of a leaf that are there whatever it holds: page header, special area,
/// two fences, 12 bytes of counts.
const fn fixed<const V: usize>() -> usize {
    PAGE_HEADER + SPECIAL + 2 * Pos::<V>::BYTES + 12
}

/// Stored raw, an entry takes `8 * V + 6` bytes, and a leaf [`fixed`] ones. The
/// leaves of a full build take at most 2 percent more than that, and what is
/// left of the last page.
fn check_size<const V: usize>(entries: &[Pos<V>]) {
    let store = SimStore::new(8192);
    let options = BulkOptions {
        fillfactor: 100,
        model: Choice::Auto,
        key_code: 1,
        ordering: 0,
    };
    let mut loader = BulkLoader::<_, V>::new(SimSink(store), options).unwrap();
    entries.iter().for_each(|pos| loader.push(*pos).unwrap());
    let leaves = loader.finish().unwrap().leaves as usize;
    let raw = entries.len() * (8 * V + 6) + leaves * fixed::<V>();
    assert!(
        leaves * 8192 * 100 <= raw * 102 + 8192 * 100,
        "{leaves} leaves for {} entries, raw {raw} bytes",
        entries.len()
    );
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn no_index_is_larger_than_its_raw_encoding(seed: u64, n in 1usize..scaled(12_000)) {
        for keys in ALL_KEYS {
            for rows in [Rows::Heap(226), Rows::Scattered, Rows::Odd] {
                check_size::<1>(&Source::new(keys, rows, seed).sorted(n));
                let mut noisy = Source::new(keys, rows, seed);
                noisy.lanes = Lanes::Noise;
                check_size::<2>(&noisy.sorted(n / 2));
            }
        }
    }

    #[test]
    fn an_index_of_random_words_is_at_most_raw(seed: u64, n in 1usize..scaled(60_000)) {
        let mut rng = Rng::new(seed);
        let mut entry = || p(rng.word(), rng.below(TID_END));
        let entries: BTreeSet<_> = (0..n).map(|_| entry()).collect();
        check_size::<1>(&entries.into_iter().collect::<Vec<_>>());
        let mut entry = || Pos {
            rank: 0,
            // The first lane repeats, so that the second is not sorted.
            vals: [rng.below(3), rng.word(), rng.word()],
            tid: rng.below(TID_END),
        };
        let entries: BTreeSet<Pos<3>> = (0..n / 4).map(|_| entry()).collect();
        check_size::<3>(&entries.into_iter().collect::<Vec<_>>());
    }
}

/// The leaves of an index into which entries came as a source makes them: one by
/// one, or `together`.
fn leaves_of<const V: usize>(keys: Keys, rows: Rows, lanes: Lanes, together: usize) -> u64 {
    let mut source = Source::new(keys, rows, 7);
    source.lanes = lanes;
    let mut entries: Vec<Pos<V>> = source.fresh(scaled(12_000), &BTreeSet::new());
    let rest = entries.split_off(scaled(1000));
    entries.sort_unstable();
    let mut lab = Lab::<V>::build(8192, 90, Choice::Auto, &entries);
    for batch in rest.chunks(together) {
        let mut batch = batch.to_vec();
        batch.sort_unstable();
        lab.insert_all(&batch);
    }
    lab.verify().leaves.into()
}

#[test]
fn entries_that_come_together_take_as_few_leaves() {
    for keys in ALL_KEYS {
        for rows in [Rows::Heap(226), Rows::Scattered] {
            let one_by_one = leaves_of::<1>(keys, rows, Lanes::First, 1);
            let together = leaves_of::<1>(keys, rows, Lanes::First, 1000);
            // Where a batch ends, a leaf may be split that others would have filled.
            assert!(
                together * 10 <= one_by_one * 13 + 10,
                "{keys:?} {rows:?}: {together} leaves, one by one {one_by_one}"
            );
        }
    }
    let one_by_one = leaves_of::<2>(Keys::Gaps, Rows::Heap(226), Lanes::Noise, 1);
    let together = leaves_of::<2>(Keys::Gaps, Rows::Heap(226), Lanes::Noise, 1000);
    assert!(together * 10 <= one_by_one * 11 + 10);
}

/// Bytes that blocks and directory take of a leaf that was built, and those of the
/// reserve, at most. The last leaf is left out.
fn fullest(keys: Keys, rows: Rows, fillfactor: u32) -> (usize, usize) {
    let entries: Vec<Pos<1>> = Source::new(keys, rows, 3).sorted(scaled(100_000));
    let store = bulk_load(8192, fillfactor, Choice::Auto, &entries);
    let mut most = (0, 0);
    let mut block = 1;
    loop {
        let page = store.read(block).unwrap().unwrap();
        let leaf = LeafView::<1>::read(&page, block).unwrap();
        if leaf.high().is_none() {
            return most;
        }
        most = most.max((leaf.used() - leaf.reserve(), leaf.reserve()));
        block = leaf.header().right;
    }
}

#[test]
fn builds_fill_leaves_as_far_as_they_are_told() {
    let capacity = leaf_capacity::<1>(8192);
    for fillfactor in [10, 50, 90, 100] {
        // A little more or less in each leaf; lengthening a line may add 32 bytes.
        let above = |percent: u32| {
            let percent = (fillfactor + percent).min(100);
            capacity * percent as usize / 100 + 32
        };
        let limit = above(2);
        let (blocks, reserve) = fullest(Keys::Serial, Rows::Heap(226), fillfactor);
        assert!(blocks + reserve <= limit.min(capacity) + blocks / 16);
        let (blocks, reserve) = fullest(Keys::Random, Rows::Scattered, fillfactor);
        // The first block of a leaf is taken as it is.
        assert!(blocks <= limit.clamp(capacity / 2, capacity));
        assert!(blocks + reserve <= capacity);
        // Room for half of a delta area is left where any is wanted.
        assert!(fillfactor == 100 || blocks + reserve <= above(4).max(capacity - 512));
    }
}
