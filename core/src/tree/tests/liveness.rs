//! Entries whose heap tuples are known to be dead are dropped when a leaf is
//! about to fold or split, and no others.

use super::*;
use crate::sim::{Keys, Rng};

/// A heap that knows some TIDs to be dead, and notes what it was asked.
struct Heap {
    dead: HashSet<Tid>,
    reported: HashSet<Tid>,
    asked: usize,
}

impl Liveness for Heap {
    fn mark_dead(&mut self, _: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        assert_eq!(tids.len(), dead.len());
        for (tid, dead) in tids.iter().zip(dead) {
            self.asked += 1;
            *dead = self.dead.contains(tid);
            if *dead {
                self.reported.insert(*tid);
            }
        }
        Ok(())
    }
}

fn present<const V: usize>(lab: &Lab<V>) -> Vec<Pos<V>> {
    let mut seen = Vec::new();
    check(&lab.tree(), &mut |pos| seen.push(pos)).unwrap();
    seen
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn only_entries_reported_dead_disappear(
        size in prop::sample::select(&[512usize, 1024, 8192][..]),
        mut source in source(), n in 0usize..scaled(1500), more in 1usize..scaled(1500),
        seed: u64, dead_one_in in 1u64..20,
    ) {
        let mut lab = Lab::<1>::build(size, 90, Choice::Auto, &source.sorted(n));
        let mut rng = Rng::new(seed);
        let mut heap =
            Heap { dead: HashSet::new(), reported: HashSet::new(), asked: 0 };
        for pos in source.fresh(more, &lab.set) {
            // A row that dies never lives again, and a row to be is not dead.
            if heap.dead.contains(&pos.tid) {
                continue;
            }
            let tree = Tree::new(&lab.store, &lab.router);
            tree.insert(pos, lab.fill, &mut lab.scratch, &mut heap).unwrap();
            lab.set.insert(pos);
            if rng.once_in(dead_one_in) {
                let victim = if rng.once_in(2) { Some(&pos) } else { lab.set.range(..pos).last() };
                heap.dead.extend(victim.map(|pos| pos.tid));
            }
        }
        let found: BTreeSet<_> = present(&lab).into_iter().collect();
        for pos in &lab.set {
            assert!(found.contains(pos) || heap.reported.contains(&pos.tid), "{pos:?} is missing");
        }
        assert!(found.is_subset(&lab.set));
    }
}

/// Keys of some leaves, no line among them.
fn nth(i: u64) -> Pos<1> {
    p(i * 1000 + i * 7919 % 997, i << 16 | 1)
}

fn built(n: u64) -> Lab<1> {
    let keys: Vec<Pos<1>> = (0..n).map(nth).collect();
    let lab = Lab::build(8192, 90, Choice::Auto, &keys);
    assert!(lab.verify().leaves > 4);
    lab
}

fn nobody() -> Heap {
    Heap {
        dead: HashSet::new(),
        reported: HashSet::new(),
        asked: 0,
    }
}

/// A row that is updated over and over leaves one live version, whether it is in the
/// middle of the table or its last one.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn versions_of_one_row_do_not_pile_up() {
    let line = |i: u64| p(i * 10, i << 16 | 1);
    let keys: Vec<Pos<1>> = (0..2000).map(line).collect();
    let lab = Lab::build(8192, 90, Choice::Auto, &keys);
    versions_of(line(500), lab, &keys);
    let keys: Vec<Pos<1>> = (0..20_000).map(nth).collect();
    for key in [nth(10_000), nth(19_999)] {
        versions_of(key, built(20_000), &keys);
    }
}

fn versions_of(key: Pos<1>, mut lab: Lab<1>, keys: &[Pos<1>]) {
    let before = lab.verify().leaves;
    let mut heap = nobody();
    for version in 0..20_000_u64 {
        let pos = Pos {
            tid: (100_000 + version) << 16 | 1,
            ..key
        };
        let tree = Tree::new(&lab.store, &lab.router);
        tree.insert(pos, lab.fill, &mut lab.scratch, &mut heap)
            .unwrap();
        heap.dead.insert(pos.tid);
    }
    let found = present(&lab);
    assert!(found.len() < keys.len() + 200, "{} entries", found.len());
    assert!(check(&lab.tree(), &mut |_| {}).unwrap().leaves <= before + 1);
    assert!(keys.iter().all(|pos| found.binary_search(pos).is_ok()));
}

/// New keys that are appended to a table of some size are no reason to look at its
/// newest rows, which others are about to write, each time.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn appends_of_new_keys_do_not_ask_each_time() {
    let mut lab = built(20_000);
    let mut heap = nobody();
    let appended = 100_000;
    for i in 20_000..20_000 + appended {
        let tree = Tree::new(&lab.store, &lab.router);
        tree.insert(nth(i), lab.fill, &mut lab.scratch, &mut heap)
            .unwrap();
    }
    let asked = heap.asked as u64;
    assert!((1..appended).contains(&asked), "{asked} asked about");
}

/// Rows whose key is a time that each update moves on, to the end of the index: the
/// leaf that was there fills up once, and those after it are kept short.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn old_keys_of_rows_do_not_pile_up_at_the_end() {
    const ROWS: u64 = 300;
    let mut lab = built(20_000);
    let before = lab.verify().leaves;
    let mut heap = nobody();
    for i in 20_000..70_000 {
        let tree = Tree::new(&lab.store, &lab.router);
        tree.insert(nth(i), lab.fill, &mut lab.scratch, &mut heap)
            .unwrap();
        if let Some(old) = i.checked_sub(ROWS).filter(|old| *old >= 20_000) {
            heap.dead.insert(nth(old).tid);
        }
    }
    let found = present(&lab);
    assert!(found.len() < 25_000, "{} entries", found.len());
    assert!(check(&lab.tree(), &mut |_| {}).unwrap().leaves <= before + 2);
    assert!((69_701..70_000).all(|i| found.binary_search(&nth(i)).is_ok()));
}

/// A leaf of very many entries is not asked about in full, but its delta area
/// is.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn dead_entries_of_a_long_leaf_go_with_its_delta_area() {
    let mut source = Source::new(Keys::Serial, Rows::Heap(226), 1);
    let mut lab = Lab::<1>::build(8192, 50, Choice::Auto, &source.sorted(20_000));
    let mut heap = Heap {
        dead: HashSet::new(),
        reported: HashSet::new(),
        asked: 0,
    };
    for i in 0..5000_u64 {
        let pos = p(7777, (1000 + i) << 16 | 2);
        let tree = Tree::new(&lab.store, &lab.router);
        tree.insert(pos, lab.fill, &mut lab.scratch, &mut heap)
            .unwrap();
        heap.dead.insert(pos.tid);
    }
    assert!(heap.asked > 0);
    let found = present(&lab);
    assert!(found.len() < 20_000 + 300, "{} entries", found.len());
    assert!(lab.set.iter().all(|pos| found.binary_search(pos).is_ok()));
    lab.set.clear();
}
