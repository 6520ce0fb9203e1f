//! What scans find dead is dropped where it is, and nothing else.

use super::*;
use crate::sim::{Keys, Rng};

/// A heap whose dead rows are known.
struct Rows<'a>(&'a HashSet<Tid>);

impl Liveness for Rows<'_> {
    fn mark_dead(&mut self, _: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        for (tid, dead) in tids.iter().zip(dead) {
            *dead = self.0.contains(tid);
        }
        Ok(())
    }
}

/// Serial keys and rows.
fn queue(n: u64) -> Vec<Pos<1>> {
    (0..n)
        .map(|i| p(i, (i / 100) << 16 | (i % 100 + 1)))
        .collect()
}

/// The first entry that is alive, and what was dropped for those in front of it.
fn poll(lab: &mut Lab<1>, dead: &HashSet<Tid>) -> (Option<Pos<1>>, usize) {
    let tree = Tree::new(&lab.store, &lab.router);
    let mut scan = Scan::new();
    let mut dropped = 0;
    let first = loop {
        let found = scan.next(&tree, &[EVERYTHING()], true, false).unwrap();
        if scan.killed() >= 16 && scan.has_left_killed() {
            dropped += scan
                .drop_killed(&tree, 16, &mut lab.scratch, &mut Rows(dead))
                .unwrap()
                .unwrap();
        }
        match found {
            Some(pos) if dead.contains(&pos.tid) => scan.kill(),
            found => break found,
        }
    };
    if scan.killed() >= 16 {
        dropped += scan
            .drop_killed(&tree, 16, &mut lab.scratch, &mut Rows(dead))
            .unwrap()
            .unwrap();
    }
    lab.set
        .retain(|pos| !dead.contains(&pos.tid) || dropped == 0);
    (first, dropped)
}

#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn a_queue_is_polled_past_few_dead_entries() {
    for size in [512, 8192] {
        let entries = queue(5000);
        let mut lab = Lab::build(size, 90, Choice::Auto, &entries);
        let mut dead = HashSet::new();
        let mut met = 0;
        for (i, pos) in entries.iter().enumerate() {
            let (first, dropped) = poll(&mut lab, &dead);
            assert_eq!(first, Some(*pos));
            assert!(met <= 16 && (dropped == 0 || dropped == met), "after {i}");
            met = if dropped > 0 { 1 } else { met + 1 };
            dead.insert(pos.tid);
        }
        assert_eq!(poll(&mut lab, &dead).0, None);
        lab.set.clear();
        let left = check(&lab.tree(), &mut |_| {}).unwrap().entries;
        assert!(left <= 32, "{left} entries are left");
    }
}

/// The scan stands still while the rows in front of it are removed and their TIDs
/// used again, by rows of the same keys.
#[test]
fn a_row_that_has_got_the_tid_of_a_dead_one_keeps_its_entry() {
    let entries = queue(40);
    let mut lab = Lab::build(8192, 90, Choice::Auto, &entries);
    let mut dead: HashSet<Tid> = entries[..30].iter().map(|pos| pos.tid).collect();
    let tree = Tree::new(&lab.store, &lab.router);
    let mut scan = Scan::new();
    for _ in 0..30 {
        scan.next(&tree, &[EVERYTHING()], true, false).unwrap();
        scan.kill();
    }
    let mut other = Lab::over(lab.store.clone(), lab.set.clone());
    other.delete(&dead);
    for pos in &entries[..10] {
        other.insert(*pos);
        dead.remove(&pos.tid);
    }
    lab.set = other.set.clone();
    let dropped = scan.drop_killed(&tree, 1, &mut lab.scratch, &mut Rows(&dead));
    // The rest has no entries any more.
    assert_eq!(dropped, Ok(None));
    lab.verify();
}

/// What cannot be dropped for another reason than that the rows are not pruned yet
/// says nothing of the rows.
#[test]
fn only_rows_that_are_not_pruned_count_as_a_failure() {
    let entries = queue(40);
    let mut lab = Lab::build(8192, 90, Choice::Auto, &entries);
    let dead: HashSet<Tid> = entries[..20].iter().map(|pos| pos.tid).collect();
    let some: HashSet<Tid> = entries[..5].iter().map(|pos| pos.tid).collect();
    let none = HashSet::new();
    let walk = |scan: &mut Scan<_, 1>, tree: &Tree<'_, SimStore, 1>, n: usize| {
        for _ in 0..n {
            scan.next(tree, &[EVERYTHING()], true, false).unwrap();
            scan.kill();
        }
    };
    let tree = Tree::new(&lab.store, &lab.router);
    let mut scan = Scan::new();
    let cases = [
        (20, 16, &none, Some(0)),
        (20, 16, &some, Some(0)),
        (10, 16, &dead, None),
        (20, 16, &dead, Some(20)),
    ];
    for (noted, least, rows, expected) in cases {
        scan.restart();
        walk(&mut scan, &tree, noted);
        let mut other = Scan::new();
        walk(&mut other, &tree, noted);
        let mut drop = |scan: &mut Scan<_, 1>| {
            scan.drop_killed(&tree, least, &mut lab.scratch, &mut Rows(rows))
        };
        assert_eq!(drop(&mut scan), Ok(expected));
        assert_eq!(scan.killed(), 0);
        if expected == Some(20) {
            // Somebody else was first.
            assert_eq!(drop(&mut other), Ok(None));
        }
    }
    lab.set.retain(|pos| !dead.contains(&pos.tid));
    lab.verify();
}

/// The leaf was split, or merged away and used again, since the scan read it.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn what_has_gone_to_another_page_is_let_be() {
    let (dropped_at_all, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    with_seeds(40, |seed| {
        let mut rng = Rng::new(seed);
        let mut source = Source::new(Keys::Gaps, crate::sim::Rows::Heap(30), seed);
        let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &source.sorted(400));
        let start = *lab.set.iter().nth(rng.index(300)).unwrap();
        let list = [Interval {
            lo: start,
            hi: None,
        }];
        let mut scan = Scan::new();
        let mut named = Vec::new();
        for _ in 0..20 {
            let tree = Tree::new(&lab.store, &lab.router);
            named.extend(scan.next(&tree, &list, true, false).unwrap());
            if scan.has_left_killed() {
                named.drain(..named.len() - 1);
            }
            scan.kill();
        }
        let split = rng.once_in(2);
        if split {
            for pos in source.fresh(400, &lab.set) {
                lab.insert(pos);
            }
        } else {
            let part = 5 + rng.below(20);
            let gone = lab.set.iter().filter(|_| !rng.once_in(part));
            let gone = gone.map(|pos| pos.tid).collect();
            lab.delete(&gone);
        }
        let dead = named.iter().map(|pos| pos.tid).collect();
        let tree = Tree::new(&lab.store, &lab.router);
        let dropped = scan.drop_killed(&tree, 1, &mut lab.scratch, &mut Rows(&dead));
        let dropped = dropped.unwrap().unwrap_or(0);
        let stay = named.iter().filter(|pos| lab.set.contains(*pos)).count();
        dropped_at_all.fetch_add(dropped, Ordering::Relaxed);
        left.fetch_add(stay - dropped, Ordering::Relaxed);
        let mut found = BTreeSet::new();
        check(&lab.tree(), &mut |pos| {
            found.insert(pos);
        })
        .unwrap();
        assert_eq!(found.len() + dropped, lab.set.len());
        let lost = lab.set.difference(&found);
        assert!(lost.into_iter().all(|pos| named.contains(pos)));
        lab.set = found;
        lab.verify();
    });
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let known = std::env::var("OMEN_SIM_SEED").is_ok();
    let both = (of(&dropped_at_all), of(&left));
    assert!(known || both.0 > 20 && both.1 > 3, "{both:?}");
}
