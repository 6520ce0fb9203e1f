//! Dropping entries by name.

use super::*;

impl<const V: usize> Bench<V> {
    /// Drops: in place, always. Those of `named` that are not there are let be.
    pub(super) fn drop_named(&mut self, named: &[Pos<V>]) {
        let leaf = LeafView::<V>::read(&self.page, 1).unwrap();
        let before = leaf.used();
        let removed = self.edit.plan_drop(&leaf, named).unwrap();
        let entries = self.entries.len();
        self.entries.retain(|pos| named.binary_search(pos).is_err());
        assert_eq!(removed, entries - self.entries.len());
        self.write_deleted(removed, before);
    }

    fn bitmaps(&self) -> usize {
        let dirs = (0..self.leaf().blocks()).map(|i| self.leaf().dir(i).unwrap());
        dirs.filter(|dir| dir.survivors).count()
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn only_named_entries_are_dropped(
        size in prop::sample::select(&[512usize, 1024, 8192][..]), seed: u64,
        percent in 10usize..100, rounds in prop::collection::vec((any::<u64>(), 1u64..40), 1..12),
    ) {
        let mut bench = Bench::<1>::fill(size, &stretches(seed), percent);
        for (seed, one_in) in rounds {
            let mut rng = Rng::new(seed);
            let entries: Vec<_> = bench.entries.iter().copied().collect();
            let mut named = BTreeSet::new();
            // From somewhere on those that stand side by side, all or some of them.
            let from = [0, rng.index(entries.len() + 1)][rng.index(2)];
            let some = entries.iter().skip(from).take(rng.index(200));
            named.extend(some.filter(|_| one_in > 20 || !rng.once_in(one_in)));
            // And some that are not there, or not any more.
            for _ in 0..rng.below(5) {
                let any = entries.get(rng.index(entries.len() + 1)).unwrap_or(&Pos::MIN);
                named.insert(near(any, &mut rng));
            }
            let named: Vec<_> = named.into_iter().collect();
            bench.drop_named(&named);
            bench.drop_named(&named);
            let some: Vec<_> = entries.iter().filter(|_| rng.once_in(20)).collect();
            let fresh: Vec<_> = some.into_iter().map(|pos| near(pos, &mut rng)).collect();
            bench.append(fresh);
        }
    }
}

/// A queue loses its first entries, a few at a time: its line begins later, and that
/// is all.
#[test]
#[cfg_attr(miri, ignore = "takes a long line")]
fn a_line_that_is_eaten_from_the_front_stays_a_line() {
    let entries = line(20_000, 3);
    let mut bench = Bench::fill(8192, &entries, 90);
    let blocks = bench.leaf().blocks();
    let mut rest = entries.as_slice();
    while rest.len() > 100 {
        let (eaten, others) = rest.split_at(50);
        bench.drop_named(eaten);
        rest = others;
        assert_eq!(bench.bitmaps(), 0);
        assert!(bench.leaf().blocks() <= blocks);
    }
    assert_eq!(bench.leaf().blocks(), 1);
}

/// Survivors in the middle of a line need a bitmap of the stretch that they are in,
/// and none once they stand side by side.
#[test]
fn a_line_loses_its_bitmap_when_its_gaps_are_cut_off() {
    let entries = line(4000, 3);
    let mut bench = Bench::fill(8192, &entries, 90);
    let gaps: Vec<_> = entries[..900].iter().copied().step_by(2).collect();
    bench.drop_named(&gaps);
    assert_eq!(bench.bitmaps(), 1);
    let used = bench.leaf().used();
    bench.drop_named(&entries[..500]);
    assert_eq!(bench.bitmaps(), 1);
    assert!(bench.leaf().used() + 60 <= used);
    bench.drop_named(&entries[500..900]);
    assert_eq!(bench.bitmaps(), 0);
    bench.drop_named(&entries[900..]);
    assert_eq!(bench.leaf().blocks(), 0);
}
