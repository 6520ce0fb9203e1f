//! Races and damage that were thought of beforehand, one test each.

use super::scans::take_tids;
use super::*;
use crate::page::{self, Kind};
use crate::sim::{Actor, Keys, Rng, run_actors};
use std::sync::atomic::{AtomicBool, Ordering};

fn serial(n: u64) -> Vec<Pos<1>> {
    (0..n)
        .map(|i| p(i * 10, (i / 100) << 16 | (i % 100 + 1)))
        .collect()
}

/// Leaves from left to right, with their low fences.
fn leaves(lab: &Lab<1>) -> Vec<(Pos<1>, u32)> {
    let map = lab.leaves();
    map.iter().collect()
}

/// A page that a scan has pinned keeps its entries, even when VACUUM has
/// cleaned it before the scan came, and merges it only afterwards.
#[test]
fn a_pinned_leaf_is_not_merged() {
    let mut lab = Lab::<1>::build(512, 20, Choice::Auto, &noise(400));
    let leaves = leaves(&lab);
    let ((_, left), (low, block)) = (leaves[1], leaves[2]);
    let mut scan = Scan::new();
    let part = [Interval { lo: low, hi: None }];
    let first = scan.next(&lab.tree(), &part, true, true).unwrap();
    assert!(first.is_some());
    let mut scratch = Scratch::new(512).unwrap();
    assert!(!lab.tree().merge_leaf(left, block, &mut scratch).unwrap());
    // Pinning the page that entries come to is no obstacle.
    scan.unpin();
    let mut other = Scan::new();
    let part = [Interval {
        lo: leaves[1].0,
        hi: None,
    }];
    assert!(
        other
            .next(&lab.tree(), &part, true, true)
            .unwrap()
            .is_some()
    );
    assert!(lab.tree().merge_leaf(left, block, &mut scratch).unwrap());
    other.unpin();
    let freed = page::header(&lab.store.bytes(block).unwrap(), block).unwrap();
    assert_eq!((freed.kind, freed.generation), (Kind::Free, 1));
    lab.verify();
    // The page is used again, and its generation goes on.
    for pos in Source::new(Keys::Random, Rows::Scattered, 2).fresh(300, &lab.set) {
        lab.insert(pos);
    }
    let reused = page::header(&lab.store.bytes(block).unwrap(), block).unwrap();
    assert_eq!((reused.kind, reused.generation), (Kind::Leaf, 1));
    lab.verify();
}

/// An index-only scan has copied TIDs of a page and not returned them: a bulk
/// delete of these TIDs does not return before the scan is done with them.
#[test]
fn bulk_delete_waits_for_tids_that_a_scan_still_holds() {
    for seed in 0..40 {
        let lab = Lab::build(512, 90, Choice::Auto, &serial(600));
        let (pinned, deleted) = (AtomicBool::new(false), AtomicBool::new(false));
        let reader: Actor<'_> = Box::new(|store| {
            let router = RefCell::new(Router::new(1 << 16));
            let tree = Tree::new(&store, &router);
            let mut scan = Scan::new();
            let part = [Interval {
                lo: p(2000, 0),
                hi: Some(p(2300, 0)),
            }];
            assert_eq!(
                scan.next(&tree, &part, true, true).unwrap(),
                Some(lab_entry(200))
            );
            pinned.store(true, Ordering::SeqCst);
            for _ in 0..300 {
                store.breathe().unwrap();
            }
            assert!(
                !deleted.load(Ordering::SeqCst),
                "TIDs are free while a scan holds them"
            );
            scan.unpin();
        });
        let vacuum: Actor<'_> = Box::new(|store| {
            let router = RefCell::new(Router::<1>::new(1 << 16));
            let tree = Tree::new(&store, &router);
            let mut scratch = Scratch::new(512).unwrap();
            while !pinned.load(Ordering::SeqCst) {
                store.breathe().unwrap();
            }
            let mut stats = DeleteStats::default();
            tree.bulk_delete(&mut |_| true, &mut scratch, &mut || Ok(()), &mut stats)
                .unwrap();
            deleted.store(true, Ordering::SeqCst);
            assert_eq!(stats.removed, 600);
        });
        run_actors(&lab.store, seed, vec![reader, vacuum]);
        assert!(deleted.into_inner());
        Lab::<1>::over(lab.store, BTreeSet::new()).verify();
    }
}

/// A bulk delete reads ahead where neighbours are far apart in the table, and not
/// again and again where it is a leaf here and there.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn leaves_are_not_read_ahead_in_vain() {
    let mut rng = Rng::new(11);
    for (scattered, least, most) in [(0, 1, 1), (60, 1, 2), (250, 2, 2)] {
        let mut entry = |i: u64| {
            let row = match i % 250 < scattered {
                true => rng.below(100_000),
                false => i,
            };
            p(
                i << 20 | rng.below(1 << 20),
                ((row / 20) << 16) | (row % 20 + 1),
            )
        };
        let entries: Vec<Pos<1>> = (0..6_000).map(&mut entry).collect();
        let mut lab = Lab::build(512, 90, Choice::Auto, &entries);
        let leaves = u64::from(lab.verify().leaves);
        let before = lab.store.locks();
        let tree = Tree::new(&lab.store, &lab.router);
        let mut stats = DeleteStats::default();
        tree.bulk_delete(&mut |_| false, &mut lab.scratch, &mut || Ok(()), &mut stats)
            .unwrap();
        let locks = lab.store.locks() - before;
        assert!(
            (least * leaves..=most * leaves + 40).contains(&locks),
            "{scattered}: {locks} locks for {leaves} leaves"
        );
    }
}

fn lab_entry(i: u64) -> Pos<1> {
    serial(i + 1).pop().unwrap()
}

/// A backward scan has returned a page; the page left of it splits before the
/// scan goes there: both halves are returned.
#[test]
fn backward_scan_returns_both_halves_of_a_left_neighbour_that_was_split() {
    let mut lab = Lab::build(512, 90, Choice::Auto, &noise(600));
    let leaves = leaves(&lab);
    let (low, _) = leaves[leaves.len() / 2];
    let (router, mut scan) = (RefCell::new(Router::new(1 << 16)), Scan::new());
    let all = [EVERYTHING()];
    let mut found = Vec::new();
    loop {
        let tree = Tree::new(&lab.store, &router);
        let pos = scan.next(&tree, &all, false, false).unwrap().unwrap();
        found.push(pos);
        if pos.vals[0] == low.vals[0] {
            break;
        }
    }
    let before = lab.verify().leaves;
    let base = low.vals[0] - 1000;
    for i in 0..200 {
        // Into the left neighbour, below what the scan goes to next.
        lab.insert(p(base - 1 - i * 37 % 999, (900 + i) << 16 | 7));
    }
    assert!(
        lab.verify().leaves > before + 1,
        "the neighbour was not split"
    );
    let tree = Tree::new(&lab.store, &router);
    while let Some(pos) = scan.next(&tree, &all, false, false).unwrap() {
        found.push(pos);
    }
    assert!(found.iter().eq(lab.set.iter().rev()));
}

/// What a scan has yet to visit is merged into the page that it comes from, or
/// the page that it comes from into its left neighbour.
#[test]
fn a_parked_interval_survives_merges() {
    for forward in [true, false] {
        for stop in (20..580).step_by(7) {
            let mut lab = Lab::build(512, 40, Choice::Auto, &noise(600));
            let (router, mut scan) = (RefCell::new(Router::new(1 << 16)), Scan::new());
            let order: Vec<_> = lab.set.iter().copied().collect();
            let mut found = Vec::new();
            let all = [EVERYTHING()];
            for _ in 0..stop {
                let tree = Tree::new(&lab.store, &router);
                found.push(scan.next(&tree, &all, forward, false).unwrap().unwrap());
            }
            let ahead = scan_ahead(&order, *found.last().unwrap(), forward);
            // Half of what is ahead goes, the other half has to come.
            let dead: HashSet<Tid> = ahead
                .iter()
                .step_by(2)
                .chain(&found)
                .map(|pos| pos.tid)
                .collect();
            let due: Vec<_> = ahead
                .iter()
                .filter(|p| !dead.contains(&p.tid))
                .copied()
                .collect();
            assert!(lab.delete(&dead).freed > 0);
            lab.verify();
            let tree = Tree::new(&lab.store, &router);
            let mut rest = Vec::new();
            while let Some(pos) = scan.next(&tree, &all, forward, false).unwrap() {
                rest.push(pos);
            }
            // The batch in hand may still have deleted ones.
            rest.retain(|pos| !dead.contains(&pos.tid));
            assert_eq!(rest, due);
        }
    }
}

fn noise(n: u64) -> Vec<Pos<1>> {
    let entry = |i: u64| p(i * 1000 + i * 7919 % 997, i << 16 | 1);
    (0..n).map(entry).collect()
}

fn scan_ahead(order: &[Pos<1>], last: Pos<1>, forward: bool) -> Vec<Pos<1>> {
    if forward {
        order.iter().filter(|pos| **pos > last).copied().collect()
    } else {
        order
            .iter()
            .rev()
            .filter(|pos| **pos < last)
            .copied()
            .collect()
    }
}

/// The list of free pages is a hint: it may name pages in use, and lack free
/// ones, as it does after a crash. Pages that were extended but never written
/// are found again.
#[test]
fn free_pages_are_found_again_and_pages_in_use_are_not_taken() {
    let entries = Source::new(Keys::Random, Rows::Scattered, 3).sorted(1000);
    let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &entries);
    let dead = lab
        .set
        .iter()
        .filter(|pos| pos.vals[0] % 8 != 0)
        .map(|pos| pos.tid)
        .collect();
    assert!(lab.delete(&dead).freed > 3);
    drop(lab.store.allocate().unwrap());
    let mut lab = Lab::over(lab.store.recover(), lab.set);
    for block in 0..lab.store.pages().unwrap() {
        let kind = page::header(&lab.store.bytes(block).unwrap(), block)
            .unwrap()
            .kind;
        if !matches!(kind, Kind::Free | Kind::New) {
            lab.store.note_free(block).unwrap();
        }
    }
    let found = lab.tree().scavenge(&mut || Ok(())).unwrap();
    assert!(found.free > 3);
    let pages = lab.store.pages().unwrap();
    for pos in Source::new(Keys::Random, Rows::Scattered, 5).fresh(200, &lab.set) {
        lab.insert(pos);
    }
    lab.verify();
    assert_eq!(
        lab.store.pages().unwrap(),
        pages,
        "free pages were not used"
    );
}

/// Merging undoes splitting: what grows and shrinks over and over takes no more
/// pages each time.
#[test]
fn space_is_reused() {
    let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &[]);
    let mut most = 0;
    for round in 0..12_u64 {
        // A queue: appended at one end, deleted at the other.
        for i in 0..1500 {
            lab.insert(p(
                (round * 1500 + i) * 1000 + i * 7919 % 997,
                (round * 1500 + i) << 16 | 1,
            ));
        }
        let keep = lab.set.len() / 10;
        let dead = lab.set.iter().rev().skip(keep).map(|pos| pos.tid).collect();
        lab.delete(&dead);
        lab.verify();
        let pages = lab.store.pages().unwrap();
        if round == 3 {
            most = pages + 4;
        }
        assert!(
            round <= 3 || pages <= most,
            "{pages} pages in round {round}"
        );
    }
    let dead = lab.set.iter().map(|pos| pos.tid).collect();
    lab.delete(&dead);
    let report = lab.verify();
    assert!(report.height <= 1, "the root does not shrink: {report:?}");
}

/// Lookups go through the model, and a router that is out of date learns.
#[test]
fn lookups_use_the_model() {
    for choice in [Choice::Auto, Choice::Linear, Choice::Rmi, Choice::Pla] {
        let curve: Vec<_> = (0..60_000).map(curved).collect();
        let mut lab = Lab::<1>::build(1024, 90, choice, &curve);
        let look = |lab: &Lab<1>, n: u64| {
            let before = lab.router.borrow().counters;
            let mut rng = Rng::new(n);
            for _ in 0..n {
                let i = rng.below(60_000);
                let pos = curved(i);
                let point = [Interval {
                    lo: pos.key_start(),
                    hi: Some(pos.key_end()),
                }];
                assert_eq!(scan_all(&lab.tree(), &point, true).unwrap(), [pos]);
            }
            let after = lab.router.borrow().counters;
            (
                after.predicted - before.predicted,
                after.hits - before.hits,
                after.falls - before.falls,
            )
        };
        let (predicted, hits, falls) = look(&lab, 1000);
        assert!(
            predicted >= 995 && hits >= 995 && falls <= 5,
            "{predicted} {hits} {falls}"
        );
        for pos in Source::new(Keys::Random, Rows::Scattered, 9).fresh(3000, &lab.set) {
            let pos = p(pos.vals[0] % 60_000_u64.pow(3), pos.tid);
            if !lab
                .set
                .range(pos.key_start()..)
                .next()
                .is_some_and(|next| next.same_key(&pos))
            {
                lab.insert(pos);
            }
        }
        let (predicted, _, falls) = look(&lab, 1000);
        assert!(predicted >= 900 && falls <= 100, "{predicted} {falls}");
    }
}

/// No line predicts where this key is.
fn curved(i: u64) -> Pos<1> {
    p(i * i * i + i * 7919 % 997, i << 16 | 1)
}

fn noise_at(i: u64) -> Pos<1> {
    p(i * 1000 + i * 7919 % 997, i << 16 | 1)
}

/// Only who reads a page to its end says so, once.
#[test]
fn pages_are_fetched_at_once_for_long_scans_alone() {
    let entries = Source::new(Keys::Random, Rows::Scattered, 11).sorted(20_000);
    let lab = Lab::<1>::build(8192, 90, Choice::Auto, &entries);
    let leaves = leaves(&lab);
    let place_of = |leaf: usize| entries.partition_point(|pos| *pos < leaves[leaf].0);
    let expected = |list: &[Interval<1>], forward| {
        let before = lab.store.expected();
        let found = scan_all(&lab.tree(), list, forward).unwrap();
        (found.len(), lab.store.expected() - before)
    };
    let all = [EVERYTHING()];
    for forward in [true, false] {
        assert_eq!(expected(&all, forward), (20_000, leaves.len() as u64));
        // One leaf, and a part of the next in this direction.
        let (lo, hi) = if forward {
            (place_of(5), place_of(6) + 100)
        } else {
            (place_of(5) - 100, place_of(6))
        };
        let some = [Interval {
            lo: entries[lo],
            hi: Some(entries[hi]),
        }];
        assert_eq!(expected(&some, forward), (hi - lo, 1));
        let point = |pos: &Pos<1>| Interval {
            lo: *pos,
            hi: Some(pos.next()),
        };
        let points: Vec<_> = entries.iter().step_by(100).map(point).collect();
        assert_eq!(expected(&points, forward), (200, 0));
    }
    let before = lab.store.expected();
    take_tids(&lab, &all);
    assert_eq!(lab.store.expected(), before);
}

/// A router that may hold next to nothing does not read the index again for
/// each lookup.
#[test]
fn a_router_without_room_costs_nothing() {
    let lab = Lab::<1>::build(512, 90, Choice::Auto, &noise(3000));
    for bytes in [0, 1, 12, 30, 100] {
        *lab.router.borrow_mut() = Router::new(bytes);
        let height = u64::from(lab.verify().height);
        let before = lab.store.locks();
        for i in 0..300 {
            let point = [Interval {
                lo: noise_at(i),
                hi: Some(noise_at(i).next()),
            }];
            assert_eq!(scan_all(&lab.tree(), &point, true).unwrap().len(), 1);
        }
        let locks = lab.store.locks() - before;
        assert!(
            locks < 300 * (height + 2) + 300,
            "{locks} locks with a router of {bytes} bytes"
        );
    }
}

/// An empty index, and one of a single entry at either end of the order.
#[test]
fn the_smallest_indexes_work() {
    let ends = [Pos::MIN, p(u64::MAX, (1 << 48) - 1)];
    for entries in [&[][..], &ends[..1], &ends[1..], &ends[..]] {
        let mut lab = Lab::<1>::build(512, 90, Choice::Auto, entries);
        lab.verify();
        assert_eq!(lab.all(true), entries);
        for pos in ends {
            lab.insert(pos);
        }
        assert_eq!(lab.all(true), ends);
        assert!(lab.all(false).iter().eq(ends.iter().rev()));
        let dead = ends.iter().map(|pos| pos.tid).collect();
        lab.delete(&dead);
        lab.verify();
        assert_eq!(lab.all(false), []);
    }
}

/// A new model takes the place of the old one, whose pages are free then.
#[test]
fn models_do_not_pile_up() {
    let mut source = Source::new(Keys::Lognormal, Rows::Scattered, 8);
    let mut lab = Lab::<1>::build(512, 90, Choice::Pla, &source.sorted(3000));
    for _ in 0..4 {
        for pos in source.fresh(1500, &lab.set) {
            lab.insert(pos);
        }
        let leaves = lab.verify().leaves;
        assert!(lab.tree().refresh_model(Choice::Pla, leaves).unwrap());
        let meta = lab.tree().meta().unwrap();
        let kinds = (0..lab.store.pages().unwrap()).map(|block| {
            page::header(&lab.store.bytes(block).unwrap(), block)
                .unwrap()
                .kind
        });
        let pages = kinds.filter(|kind| *kind == Kind::Model).count();
        let needed = (meta.model_bytes as usize).div_ceil(page::model_page_capacity(512));
        assert_eq!(pages, needed);
    }
}
