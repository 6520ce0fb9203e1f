//! The size of an encoded block.

use super::{Pos, cases, scaled};
use crate::codec::MAX_VALUES;
use crate::page::encode_block;
use crate::sim::{Keys, Rng, Rows, Source};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Encoding `n` entries raw takes `8 * V + 6` bytes for each. A block of any
/// entries is at most 2 percent and 16 bytes for each of its columns larger;
/// besides, the page has for it a directory entry (`8 * V + 16` bytes) and a
/// reserve of a bit for each entry.
fn check_size<const V: usize>(entries: &[Pos<V>]) {
    for part in entries.chunks(MAX_VALUES) {
        let mut out = [0; 64 * MAX_VALUES];
        let len = encode_block(part, None, &mut out).unwrap();
        let raw = part.len() * (8 * V + 6);
        assert!(
            len * 100 <= raw * 102 + 1600 * (V + 2),
            "{len} bytes for {} entries, raw {raw}",
            part.len()
        );
        if part.len() == MAX_VALUES {
            assert!(
                len * 100 <= raw * 102,
                "{len} bytes for a full block, raw {raw}"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn no_block_is_larger_than_its_raw_encoding(seed: u64, n in 1usize..scaled(2000)) {
        for keys in crate::sim::ALL_KEYS {
            for rows in crate::sim::ALL_ROWS {
                check_size::<1>(&Source::new(keys, rows, seed).sorted(n));
                let mut noisy = Source::new(keys, rows, seed);
                noisy.lanes = crate::sim::Lanes::Noise;
                check_size::<2>(&noisy.sorted(n));
            }
        }
    }

    #[test]
    fn a_block_of_random_words_is_at_most_raw(seed: u64) {
        let mut rng = Rng::new(seed);
        let entries: BTreeSet<Pos<3>> = (0..MAX_VALUES)
            .map(|_| Pos {
                rank: 0,
                vals: [rng.below(2), rng.word(), rng.word()],
                tid: rng.word() >> 16,
            })
            .collect();
        check_size::<3>(&entries.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_block_of_serials_takes_next_to_nothing() {
    let entries: Vec<Pos<1>> = Source::new(Keys::Serial, Rows::Heap(226), 1).sorted(256);
    let mut out = [0; 4096];
    assert!(encode_block(&entries, None, &mut out).unwrap() < 32);
}
