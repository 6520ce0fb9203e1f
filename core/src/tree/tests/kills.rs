//! What scans find dead is dropped where it is, and nothing else.

use super::*;
use crate::page::{self, LeafFrame, LeafView};
use crate::sim::{Keys, Rng};
use crate::tree::insert::frame_of;

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

/// Finds the rows of `dead` dead in the first leaf that has one, and lets the scans of
/// the process pass them. Returns their entries.
fn remember(lab: &Lab<1>, dead: &HashSet<Tid>) -> Vec<Pos<1>> {
    let tree = lab.tree();
    let mut scan = Scan::new();
    let mut noted = Vec::new();
    while let Some(pos) = scan.next(&tree, &[EVERYTHING()], true, false).unwrap() {
        if !noted.is_empty() && scan.has_left_killed() {
            break;
        }
        if dead.contains(&pos.tid) {
            scan.kill();
            noted.push(pos);
        }
    }
    scan.remember_killed(&lab.router);
    assert_eq!(scan.killed(), 0);
    noted
}

/// What the scans of the process find, the same in both directions and as TIDs.
fn found(lab: &Lab<1>) -> BTreeSet<Pos<1>> {
    let found: BTreeSet<_> = lab.all(true).into_iter().collect();
    assert!(lab.all(false).iter().eq(found.iter().rev()));
    let mut scan = Scan::new();
    let mut tids = BTreeSet::new();
    loop {
        let some = scan.next_tids(&lab.tree(), &[EVERYTHING()]).unwrap();
        if some.is_empty() {
            break;
        }
        assert!(some.iter().all(|tid| tids.insert(*tid)), "a TID came twice");
    }
    assert!(found.iter().map(|pos| pos.tid).collect::<BTreeSet<_>>() == tids);
    found
}

/// A process whose scans pass dead rows of its first leaf, in blocks and among the
/// newest entries. They are returned.
fn knowing(size: usize) -> (Lab<1>, Vec<Pos<1>>) {
    let mut lab = Lab::build(size, 50, Choice::Auto, &queue(400));
    // Their keys are those of rows that live.
    for i in 0..3 {
        lab.insert(p(7, 1000 << 16 | (i + 1)));
    }
    let dead = |pos: &&Pos<1>| pos.vals[0] < 20 && !pos.tid.is_multiple_of(3);
    let dead = lab.set.iter().filter(dead).map(|pos| pos.tid).collect();
    let known = remember(&lab, &dead);
    assert!(known.len() > 12 && known.iter().any(|pos| pos.tid > 999 << 16));
    (lab, known)
}

#[test]
fn scans_of_a_process_pass_rows_that_it_knows_to_be_dead() {
    for size in [512, 8192] {
        let (mut lab, known) = knowing(size);
        let without = |set: &BTreeSet<Pos<1>>| -> BTreeSet<_> {
            set.iter()
                .filter(|pos| !known.contains(pos))
                .copied()
                .collect()
        };
        assert_eq!(found(&lab), without(&lab.set));
        // An entry that is added changes nothing for the others.
        lab.insert(p(8, 1000 << 16 | 7));
        assert_eq!(found(&lab), without(&lab.set));
        // It dies as well; what is known of the leaf is known still.
        let dead = HashSet::from([1000 << 16 | 7]);
        let more = remember(&lab, &dead);
        assert_eq!(more, [p(8, 1000 << 16 | 7)]);
        let all = without(&lab.set);
        let all: BTreeSet<_> = all.iter().filter(|pos| **pos != more[0]).copied().collect();
        assert_eq!(found(&lab), all);
        // Other processes do not know, and the index has all of it.
        let other = Lab::over(lab.store.clone(), lab.set.clone());
        assert_eq!(found(&other), lab.set);
        lab.verify();
        // All that is known can be dropped at once.
        let mut scan = Scan::new();
        scan.recall_killed(&lab.router);
        assert_eq!(scan.killed(), known.len() + 1);
        let tree = Tree::new(&lab.store, &lab.router);
        let dead = known.iter().chain(&more).map(|pos| pos.tid).collect();
        let dropped = scan.drop_killed(&tree, 1, &mut lab.scratch, &mut Rows(&dead));
        assert_eq!(dropped, Ok(Some(known.len() + 1)));
        lab.set = all;
        assert_eq!(found(&lab), lab.set);
        lab.verify();
    }
}

/// Of another leaf the process hears next: that takes the place of what it knew, and
/// what it knew may be dropped.
#[test]
fn a_process_knows_of_one_leaf() {
    let (mut lab, known) = knowing(512);
    let last = lab.set.last().copied();
    let mut scan = Scan::new();
    let found_last = scan.next(&lab.tree(), &[EVERYTHING()], false, false);
    assert_eq!(found_last, Ok(last));
    scan.kill();
    assert_eq!(scan.remember_killed(&lab.router), 1);
    assert_eq!(scan.killed(), known.len());
    let rows = scan.killed_rows().collect::<Vec<_>>();
    assert!(known.iter().map(|pos| pos.tid).eq(rows));
    let without = |pos: &&Pos<1>| Some(**pos) != last;
    let all: BTreeSet<_> = lab.set.iter().filter(without).copied().collect();
    assert_eq!(found(&lab), all);
    let tree = Tree::new(&lab.store, &lab.router);
    let dead = known.iter().map(|pos| pos.tid).collect();
    let dropped = scan.drop_killed(&tree, 1, &mut lab.scratch, &mut Rows(&dead));
    assert_eq!(dropped, Ok(Some(known.len())));
    lab.set.retain(|pos| !known.contains(pos));
    lab.verify();
}

/// What takes dead entries out of a leaf, by another process.
const WAYS: [fn(&mut Lab<1>, &[Pos<1>]); 3] = [
    // VACUUM.
    |lab, known| {
        lab.delete(&known.iter().map(|pos| pos.tid).collect());
    },
    // A scan, and VACUUM makes their line pointers unused.
    |lab, known| {
        let dead = remember(lab, &known.iter().map(|pos| pos.tid).collect());
        assert_eq!(dead, known);
        let tree = Tree::new(&lab.store, &lab.router);
        let mut scan = Scan::new();
        scan.recall_killed(&lab.router);
        let dead = known.iter().map(|pos| pos.tid).collect();
        let dropped = scan.drop_killed(&tree, 1, &mut lab.scratch, &mut Rows(&dead));
        assert_eq!(dropped, Ok(Some(known.len())));
        lab.set.retain(|pos| !known.contains(pos));
    },
    // The leaf is split, and the right page is cleaned as well.
    |lab, known| {
        for i in 0..300 {
            lab.insert(p(i % 20, 2000 << 16 | (i + 1)));
        }
        lab.delete(&known.iter().map(|pos| pos.tid).collect());
    },
];

#[test]
fn a_tid_that_is_used_again_is_not_known_to_be_dead() {
    for (way, size) in (0..WAYS.len()).flat_map(|way| [(way, 512), (way, 8192)]) {
        let (mut lab, known) = knowing(size);
        let mut other = Lab::over(lab.store.clone(), lab.set.clone());
        WAYS[way](&mut other, &known);
        // Of the same key, or of another one in the leaf.
        for (i, pos) in known.iter().enumerate() {
            let key = if i % 2 == 0 { pos.vals[0] } else { 3 };
            other.insert(p(key, pos.tid));
        }
        lab.set = other.set.clone();
        assert_eq!(found(&lab), lab.set, "way {way}");
        lab.verify();
    }
}

/// The leaf is merged away, and its page comes back as a leaf.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn a_leaf_in_a_page_that_was_freed_is_another_leaf() {
    let used_again = AtomicUsize::new(0);
    with_seeds(40, |seed| {
        let mut rng = Rng::new(seed);
        let mut source = Source::new(Keys::Random, crate::sim::Rows::Heap(30), seed);
        let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &source.sorted(600));
        let die = lab.set.iter().skip(100 + rng.index(400)).take(10);
        let known = remember(&lab, &die.map(|pos| pos.tid).collect());
        let page_of = |block| lab.store.bytes(block).unwrap();
        let owns = |block: &Block| {
            LeafView::<1>::read(&page_of(*block), *block).is_ok_and(|leaf| {
                leaf.low() <= known[0] && leaf.high().is_none_or(|high| known[0] < high)
            })
        };
        let place = (1..).find(owns).unwrap_or_default();
        let mut other = Lab::over(lab.store.clone(), lab.set.clone());
        let most = other.set.iter().filter(|_| !rng.once_in(15));
        let gone = most
            .map(|pos| pos.tid)
            .chain(known.iter().map(|pos| pos.tid));
        other.delete(&gone.collect());
        // Their TIDs and others come back, with keys that may go to any page.
        for i in 0..400 {
            let tid = known
                .get(i)
                .map_or((3000 + i as u64) << 16 | 1, |pos| pos.tid);
            other.insert(Pos {
                tid,
                ..source.fresh(1, &other.set)[0]
            });
        }
        let again = LeafView::<1>::read(&page_of(place), place)
            .is_ok_and(|leaf| leaf.header().generation > 0);
        used_again.fetch_add(usize::from(again), Ordering::Relaxed);
        lab.set = other.set.clone();
        assert_eq!(found(&lab), lab.set);
        lab.verify();
    });
    let used_again = used_again.into_inner();
    let known = std::env::var("OMEN_SIM_SEED").is_ok();
    assert!(known || used_again > 10, "{used_again}");
}

/// A scan has read an entry, and looks at the row when VACUUM has taken both away. A
/// new row gets the TID before the scan says what it has seen.
#[test]
fn a_row_that_was_looked_at_too_late_is_not_passed() {
    let entries = queue(40);
    let lab = Lab::build(8192, 90, Choice::Auto, &entries);
    let mut scan = Scan::new();
    let found_first = scan.next(&lab.tree(), &[EVERYTHING()], true, false);
    assert_eq!(found_first, Ok(Some(entries[0])));
    let mut other = Lab::over(lab.store.clone(), lab.set.clone());
    other.delete(&HashSet::from([entries[0].tid]));
    other.insert(entries[0]);
    scan.kill();
    assert_eq!(scan.remember_killed(&lab.router), 1);
    assert_eq!(found(&lab), lab.set);
    lab.verify();
}

/// A leaf is written anew while a scan is on it: what the scan has found dead before and
/// after can be dropped together, but is not passed, nor does it replace what is known of
/// the leaf as it is.
#[test]
fn what_was_noted_before_a_leaf_was_written_anew_can_be_dropped() {
    let mut lab = Lab::build(8192, 50, Choice::Auto, &queue(400));
    let dead: Vec<_> = lab.set.iter().take(60).copied().collect();
    let mut scans = [Scan::new(), Scan::new()];
    for (i, pos) in dead.iter().enumerate() {
        if i == 10 {
            let mut other = Lab::over(lab.store.clone(), lab.set.clone());
            for i in 0..100 {
                other.insert(p(300, 1000 << 16 | (i + 1)));
            }
            lab.set = other.set.clone();
        }
        for scan in &mut scans {
            let found = scan.next(&lab.tree(), &[EVERYTHING()], true, false);
            assert_eq!(found, Ok(Some(*pos)));
            scan.kill();
        }
    }
    let [mut scan, mut other] = scans;
    let last = lab.set.last().map(|pos| pos.tid);
    let known = remember(&lab, &last.into_iter().collect());
    assert_eq!(known.len(), 1);
    assert_eq!(other.remember_killed(&lab.router), 1);
    assert_eq!(other.killed(), 0);
    let mut all = lab.set.clone();
    all.retain(|pos| !known.contains(pos));
    assert_eq!(found(&lab), all);
    let tree = Tree::new(&lab.store, &lab.router);
    let rows = dead.iter().map(|pos| pos.tid).collect();
    let dropped = scan.drop_killed(&tree, 60, &mut lab.scratch, &mut Rows(&rows));
    assert_eq!(dropped, Ok(Some(60)));
    lab.set.retain(|pos| !dead.contains(pos));
    assert_eq!(found(&lab), lab.set);
    lab.verify();
}

/// Generation and rewrites of a leaf, together, do not come again.
#[test]
fn rewrites_of_a_leaf_are_counted_beyond_their_field() {
    let frame = LeafFrame::<1> {
        low: Pos::MIN,
        high: None,
        flags: 0,
        left: crate::INVALID_BLOCK,
        right: crate::INVALID_BLOCK,
        generation: 8,
        rewrites: u32::MAX - 1,
    };
    let mut page = vec![0; 512];
    let mut counts = Vec::new();
    page::init_leaf(&mut page, &frame);
    for _ in 0..3 {
        let next = frame_of(&LeafView::<1>::read(&page, 1).unwrap());
        counts.push((next.generation, next.rewrites));
        page::init_leaf(&mut page, &next);
    }
    assert_eq!(counts, [(8, u32::MAX), (9, 0), (9, 1)]);
}
