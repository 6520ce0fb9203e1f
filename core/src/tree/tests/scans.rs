//! Scans in both directions over lists of intervals, over a still tree and over
//! one that changes between any two steps.

use super::history::{History, ScanLog};
use super::*;
use crate::sim::{Keys, Rng};

/// Ascending, disjoint intervals whose ends are at, beside and between entries.
pub(super) fn intervals<const V: usize>(ends: &[Pos<V>], rng: &mut Rng) -> Vec<Interval<V>> {
    let mut cuts: Vec<Pos<V>> = (0..rng.below(9))
        .filter_map(|_| {
            let pos = *ends.get(rng.index(ends.len()))?;
            Some(match rng.below(6) {
                0 => pos.key_start(),
                1 => pos.key_end(),
                2 => pos.next(),
                3 => Pos::MIN,
                _ => pos,
            })
        })
        .collect();
    cuts.sort_unstable();
    let mut list = Vec::new();
    for pair in cuts.chunks(2) {
        match pair {
            // Some are empty, some meet.
            [lo, hi] => list.push(Interval {
                lo: *lo,
                hi: Some(*hi),
            }),
            [lo, ..] => list.push(Interval { lo: *lo, hi: None }),
            [] => {}
        }
    }
    if rng.once_in(6) {
        return vec![EVERYTHING()];
    }
    list
}

pub(super) fn expected<const V: usize>(
    set: &BTreeSet<Pos<V>>,
    list: &[Interval<V>],
) -> Vec<Pos<V>> {
    let inside = |pos: &&Pos<V>| {
        list.iter()
            .any(|i| i.lo <= **pos && i.hi.is_none_or(|hi| **pos < hi))
    };
    set.iter().filter(inside).copied().collect()
}

/// The next entry, sometimes without a look at the tree where that is not needed.
fn step_or_next<const V: usize>(
    scan: &mut Scan<<SimStore as PageStore>::Pin, V>,
    tree: &Tree<'_, SimStore, V>,
    list: &[Interval<V>],
    forward: bool,
    rng: &mut Rng,
) -> Option<Pos<V>> {
    if forward && rng.once_in(3) && scan.ahead() < scan.batch().len() {
        scan.step_ahead(1);
        return scan.current();
    }
    if rng.once_in(2) {
        let ahead = scan.batch().get(scan.ahead());
        let found = scan.step(forward);
        assert!(!forward || found == ahead);
        if found.is_some() || forward && scan.end(list) {
            return found;
        }
    }
    scan.next(tree, list, forward, false).unwrap()
}

/// Looks up keys whole: such as are there, were there, and never were.
fn look_up<const V: usize>(lab: &Lab<V>, ever: &[Pos<V>], rng: &mut Rng) {
    let Some(last) = ever.len().checked_sub(1) else {
        return;
    };
    for _ in 0..60 {
        let mut key = ever[rng.index(last + 1)];
        let lane = rng.index(V);
        key.vals[lane] = key.vals[lane].wrapping_add(rng.below(4) / 3);
        let (lo, hi) = (key.key_start(), key.key_end());
        let due: Vec<_> = lab.set.range(lo..hi).copied().collect();
        let list = [Interval { lo, hi: Some(hi) }];
        assert_eq!(scan_all(&lab.tree(), &list, true).unwrap(), due);
        let mut back = scan_all(&lab.tree(), &list, false).unwrap();
        back.reverse();
        assert_eq!(back, due);
    }
}

/// Takes the TIDs alone, some at a time.
pub(super) fn take_tids<const V: usize>(lab: &Lab<V>, list: &[Interval<V>]) {
    let mut due: Vec<_> = expected(&lab.set, list).iter().map(|pos| pos.tid).collect();
    let tree = lab.tree();
    let mut scan = Scan::new();
    let mut found = Vec::new();
    loop {
        let some = scan.next_tids(&tree, list).unwrap();
        if some.is_empty() {
            break;
        }
        found.extend_from_slice(some);
    }
    assert!(scan.next_tids(&tree, list).unwrap().is_empty());
    due.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, due);
}

/// Steps to and fro, marks and goes back, beside an index into a list.
fn walk<const V: usize>(lab: &Lab<V>, list: &[Interval<V>], rng: &mut Rng, turn_once_in: u64) {
    let due = expected(&lab.set, list);
    let tree = lab.tree();
    let mut scan = Scan::new();
    // A scan that has not begun begins at the end that its first step is from.
    let mut place = None;
    let mut forward = rng.once_in(2);
    let mut mark = None;
    for _ in 0..2 * due.len() + 20 {
        if rng.once_in(turn_once_in) {
            forward = !forward;
        }
        let found = step_or_next(&mut scan, &tree, list, forward, rng);
        let step = if forward { 1 } else { -1 };
        let begin = if forward { -1 } else { due.len().cast_signed() };
        let mut at = (place.unwrap_or(begin) + step).clamp(-1, due.len().cast_signed());
        let wanted = usize::try_from(at).ok().and_then(|at| due.get(at)).copied();
        assert_eq!(found, wanted, "step {step} to place {at} of {}", due.len());
        assert_eq!(scan.current(), wanted);
        if found.is_some() && rng.once_in(10) {
            mark = Some((scan.mark(), at, found));
        }
        if let Some((mark, there, entry)) = &mark
            && rng.once_in(15)
        {
            scan.restore(&tree, list, mark, false).unwrap();
            assert_eq!(scan.current(), *entry);
            at = *there;
        } else if found.is_some() && forward && rng.once_in(40) {
            let batch = scan.batch();
            let here = scan.ahead() - 1;
            let due = &due[at.cast_unsigned()..][..batch.len() - here];
            assert!(
                batch.ranks()[here..]
                    .iter()
                    .eq(due.iter().map(|pos| &pos.rank))
            );
            for lane in 0..V {
                let vals = due.iter().map(|pos| &pos.vals[lane]);
                assert!(batch.vals(lane)[here..].iter().eq(vals));
            }
            assert!(
                batch.tids()[here..]
                    .iter()
                    .eq(due.iter().map(|pos| &pos.tid))
            );
            let some = rng.index(due.len());
            scan.step_ahead(some);
            assert_eq!(scan.current(), Some(due[some]));
            scan.step_ahead(due.len() - 1 - some);
            at += due.len().cast_signed() - 1;
        }
        place = Some(at);
        if rng.once_in(200) {
            scan.restart();
            assert_eq!(scan.current(), None);
            (place, mark) = (None, None);
        }
    }
}

/// A tree, and the entries that it was built with, of which some are gone.
fn prepared<const V: usize>(
    size: usize,
    mut first: Source,
    n: usize,
    seed: u64,
) -> (Lab<V>, Vec<Pos<V>>) {
    let mut rng = Rng::new(seed);
    let ever = first.sorted(n);
    let mut lab = Lab::build(size, 90, Choice::Auto, &ever);
    // Delta areas, survivor bitmaps and leaves out of the order of their blocks.
    for pos in first.fresh(n / 8, &lab.set) {
        lab.insert(pos);
    }
    let dead = lab
        .set
        .iter()
        .filter(|_| rng.once_in(3))
        .map(|pos| pos.tid)
        .collect();
    lab.delete(&dead);
    for pos in first.fresh(n / 16, &lab.set) {
        lab.insert(pos);
    }
    (lab, ever)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn scans_agree_with_a_cursor_over_the_sorted_list(
        size in prop::sample::select(&[512usize, 1024, 8192][..]),
        first in source(), n in 0usize..scaled(3000), seed: u64,
    ) {
        let (lab, ever) = prepared::<1>(size, first, n, seed);
        let mut rng = Rng::new(seed);
        look_up(&lab, &ever, &mut rng);
        let ends: Vec<_> = lab.set.iter().copied().collect();
        for _ in 0..8 {
            let list = intervals(&ends, &mut rng);
            let due = expected(&lab.set, &list);
            assert_eq!(scan_all(&lab.tree(), &list, true).unwrap(), due);
            let mut back = scan_all(&lab.tree(), &list, false).unwrap();
            back.reverse();
            assert_eq!(back, due);
            take_tids(&lab, &list);
            let turns = [3, 20, 1000][rng.index(3)];
            walk(&lab, &list, &mut rng, turns);
        }
    }

    #[test]
    fn scans_of_two_lanes_agree_with_a_cursor_over_the_sorted_list(
        first in source(), n in 0usize..scaled(1500), seed: u64,
    ) {
        let (lab, ever) = prepared::<2>(1024, first, n, seed);
        let mut rng = Rng::new(seed);
        look_up(&lab, &ever, &mut rng);
        let ends: Vec<_> = lab.set.iter().copied().collect();
        for turns in [3, 20, 1000] {
            let list = intervals(&ends, &mut rng);
            take_tids(&lab, &list);
            walk(&lab, &list, &mut rng, turns);
        }
    }
}

/// Between any two steps of a scan there are inserts, bulk deletes with merges,
/// and new models, by another process.
fn scan_over_changes(seed: u64) {
    let mut rng = Rng::new(seed);
    let size = [512, 1024][rng.index(2)];
    let keys = [Keys::Random, Keys::Thousand, Keys::Serial, Keys::Clustered][rng.index(4)];
    let mut source = Source::new(keys, Rows::Heap(50), seed);
    let mut lab = Lab::<1>::build(size, 90, Choice::Auto, &source.sorted(600));
    let mut history = History::of(&lab.set);
    let router = RefCell::new(Router::new(1 << 16));
    let ends: Vec<_> = lab.set.iter().copied().collect();
    for _ in 0..12 {
        let list = intervals(&ends, &mut rng);
        let mut log = ScanLog::new(&mut history, &list);
        let mut scan = Scan::new();
        let mut forward = rng.once_in(2);
        let turns = [5, 60, 100_000][rng.index(3)];
        for _ in 0..500 {
            if rng.once_in(turns) {
                forward = !forward;
            }
            let tree = Tree::new(&lab.store, &router);
            let found = step_or_next(&mut scan, &tree, &list, forward, &mut rng);
            log.step(history.now(), forward, found);
            if found.is_none() && rng.once_in(2) {
                break;
            }
            change(&mut lab, &mut history, &mut source, &mut rng);
        }
        log.verify(&mut history);
        if rng.once_in(4) {
            let leaves = lab.verify().leaves;
            lab.tree().refresh_model(Choice::Auto, leaves).unwrap();
        }
    }
    lab.verify();
}

fn change(lab: &mut Lab<1>, history: &mut History<1>, source: &mut Source, rng: &mut Rng) {
    match rng.below(60) {
        0..20 => {
            for pos in source.fresh(1 + rng.index(4), &lab.set) {
                // An entry that was deleted does not come back: it would have
                // two lives.
                if !history.has(&pos) {
                    history.insert_begins(pos);
                    lab.insert(pos);
                    history.insert_returned(pos);
                }
            }
        }
        20 => {
            let (from, to) = (history.key(rng.index(999)), history.key(rng.index(999)));
            let part = 1 + rng.below(3);
            let dead =
                history.delete_begins(|pos, _| (from..to).contains(pos) && !rng.once_in(part + 1));
            lab.delete(&dead);
            history.delete_returned(&dead);
        }
        _ => {}
    }
}

#[test]
fn scans_return_what_lives_through_them_while_pages_split_and_merge() {
    with_seeds(150, scan_over_changes);
}
