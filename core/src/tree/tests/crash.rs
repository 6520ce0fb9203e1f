//! A crash after every record of a run: what recovery finds is sound, lacks
//! nothing that was completed, and can be worked on.

use super::steps::{Step, steps};
use super::*;
use crate::page::{self, Kind, read_pos};
use crate::sim::{Keys, Rng};

/// Runs until the store stops. `lab.set` is then what was completed. Returns
/// the step that was in flight.
fn run_until_stop(lab: &mut Lab<1>, steps: &[Step]) -> Option<Step> {
    for step in steps {
        let tree = Tree::new(&lab.store, &lab.router);
        match step.run(&tree, lab.fill, &mut lab.scratch, &mut NoDead) {
            Ok(()) => step.note(&mut lab.set),
            Err(Error::Stopped) => return Some(step.clone()),
            Err(error) => panic!("{error}"),
        }
    }
    None
}

/// Recovers, and makes the set what the tree is found to hold, which has to be
/// what was completed and a part of what was in flight.
fn recover(lab: &Lab<1>, in_flight: Option<&Step>) -> (Lab<1>, CheckReport) {
    let mut recovered = Lab::over(lab.store.recover(), BTreeSet::new());
    let mut found = BTreeSet::new();
    let report = check(&recovered.tree(), &mut |pos| {
        found.insert(pos);
    });
    let report = report.unwrap();
    for pos in &lab.set {
        let excused = matches!(in_flight, Some(Step::Delete(dead)) if dead.contains(&pos.tid));
        assert!(excused || found.contains(pos), "{pos:?} is lost");
    }
    for pos in found.difference(&lab.set) {
        let excused = in_flight.is_some_and(|step| step.inserts(pos));
        assert!(excused, "{pos:?} is made up");
    }
    recovered.set = found;
    (recovered, report)
}

/// The range of a page whose split is not finished.
pub(super) fn incomplete(store: &SimStore) -> Option<(Pos<1>, Pos<1>)> {
    (1..store.pages().unwrap()).find_map(|block| {
        let page = store.bytes(block)?;
        let header = page::header(&page, block).unwrap();
        let tree_page = matches!(header.kind, Kind::Leaf | Kind::Inner);
        (tree_page && header.split_incomplete()).then(|| {
            let high = page::PAGE_HEADER + Pos::<1>::BYTES;
            (read_pos(&page, page::PAGE_HEADER), read_pos(&page, high))
        })
    })
}

/// A position in a range, if one is found at the first try.
pub(super) fn between(low: Pos<1>, high: Pos<1>, rng: &mut Rng) -> Option<Pos<1>> {
    let keys = (high.vals[0] - low.vals[0]).saturating_add(1);
    let pos = p(low.vals[0] + rng.below(keys), rng.below(1 << 47));
    (low <= pos && pos < high).then_some(pos)
}

/// Inserts into the range of unfinished splits until there are none.
fn finish_splits(lab: &mut Lab<1>, rng: &mut Rng) {
    let mut inserted = 0;
    while let Some((low, high)) = incomplete(&lab.store) {
        for _ in 0..8 {
            if let Some(pos) = between(low, high, rng) {
                lab.insert(pos);
            }
        }
        inserted += 8;
        assert!(inserted < 40_000, "a split stays unfinished");
    }
    assert_eq!(lab.verify().incomplete, 0);
}

/// Inserts, a VACUUM and inserts again, after recovery.
fn go_on(mut lab: Lab<1>, rng: &mut Rng) {
    let mut source = Source::new(Keys::Random, Rows::Scattered, rng.word());
    for pos in source.fresh(30, &lab.set) {
        lab.insert(pos);
    }
    if rng.once_in(2) {
        finish_splits(&mut lab, rng);
    }
    let part = 1 + rng.below(6);
    let dead = lab
        .set
        .iter()
        .filter(|_| !rng.once_in(part))
        .map(|pos| pos.tid)
        .collect();
    lab.delete(&dead);
    let leaves = lab.verify().leaves;
    let found = lab.tree().scavenge(&mut || Ok(())).unwrap();
    assert_eq!(
        (found.leaves, found.entries),
        (leaves, lab.set.len() as u64)
    );
    lab.tree().refresh_model(Choice::Auto, leaves).unwrap();
    for pos in source.fresh(60, &lab.set) {
        lab.insert(pos);
    }
    finish_splits(&mut lab, rng);
    assert!(lab.all(true).iter().eq(lab.set.iter()));
    assert!(lab.all(false).iter().eq(lab.set.iter().rev()));
}

/// Crashes after each of the records that `steps` write to a copy of `base`.
fn crash_everywhere(base: &Lab<1>, steps: &[Step], seed: u64, go_on_once_in: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let copy = || Lab::over(base.store.recover(), base.set.clone());
    let mut whole = copy();
    assert!(run_until_stop(&mut whole, steps).is_none());
    whole.verify();
    let records = whole.store.commits();
    for records in 0..records {
        let mut lab = copy();
        lab.store.stop_after(records);
        let in_flight = run_until_stop(&mut lab, steps);
        assert!(in_flight.is_some());
        let (recovered, _) = recover(&lab, in_flight.as_ref());
        if rng.once_in(go_on_once_in) {
            go_on(recovered, &mut rng);
        }
    }
    records
}

#[test]
fn recovery_finds_all_that_was_completed() {
    with_seeds(20, |seed| {
        let mut rng = Rng::new(seed);
        let mut first = Source::new(Keys::Gaps, Rows::Heap(30), seed);
        let entries: Vec<Pos<1>> = first.sorted(rng.index(700));
        let base = Lab::build([512, 1024][rng.index(2)], 90, Choice::Auto, &entries);
        let steps = steps(seed, 150, &base.set);
        crash_everywhere(&base, &steps, seed, 8);
    });
}

/// Appends until one that makes a new root above `level`: parent, grandparent
/// and root are full at once. Returns the tree before that append, and it.
pub(super) fn before_root_splits(level: u8, descending: bool) -> (Lab<1>, Pos<1>) {
    let mut lab = Lab::<1>::build(512, 100, Choice::Auto, &[]);
    lab.fill = InsertOptions { fillfactor: 100 };
    for i in 0..1_000_000_u64 {
        let key = (if descending { 1_000_000 - i } else { i }) << 20;
        let pos = p(key + i * i % 1000, (i * 7919 % 100_000) << 16 | 3);
        let before = lab.store.recover();
        lab.insert(pos);
        if lab.tree().meta().unwrap().root_level > level {
            lab.set.remove(&pos);
            return (Lab::over(before, lab.set), pos);
        }
    }
    panic!("the tree does not grow");
}

#[test]
fn a_full_parent_grandparent_and_root_split_at_once() {
    for descending in [false, true] {
        let (base, pos) = before_root_splits(2, descending);
        let report = base.verify();
        assert_eq!((report.height, report.incomplete), (2, 0));
        let records = crash_everywhere(&base, &[Step::Insert(pos)], 7, 1);
        // Leaf, parent, root: each a split and its downlink; then the entry.
        assert!(records >= 6, "only {records} records");
    }
}

/// Splits left unfinished by crashes pile up, and writers finish them.
#[test]
fn crashes_between_split_and_downlink_one_after_the_other() {
    with_seeds(20, |seed| {
        let mut rng = Rng::new(seed);
        let mut source = Source::new(Keys::Random, Rows::Heap(40), seed);
        let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &source.sorted(300));
        for _ in 0..60 {
            lab.store.stop_after(1 + rng.below(40));
            loop {
                let pos = source.fresh(1, &lab.set)[0];
                match lab.try_insert(pos) {
                    Ok(()) => {
                        lab.set.insert(pos);
                    }
                    Err(Error::Stopped) => {
                        lab = recover(&lab, Some(&Step::Insert(pos))).0;
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            if rng.once_in(6) {
                let dead = lab
                    .set
                    .iter()
                    .filter(|_| rng.once_in(2))
                    .map(|pos| pos.tid)
                    .collect();
                lab.delete(&dead);
                lab.verify();
            }
        }
        go_on(lab, &mut rng);
    });
}
