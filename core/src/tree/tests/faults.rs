//! Every call that an operation makes fails once: no lock or pin is left, no
//! entry is lost, and the process goes on with what it has in hand and does the
//! operation again.

use super::crash::{before_root_splits, between, incomplete};
use super::scans::{expected, intervals};
use super::session::{FAILURES, LinePointers, Session, fail, no_page_is_lost};
use super::steps::{Step, steps};
use super::*;
use crate::model::Model;
use crate::page::model_page_capacity;
use crate::sim::{Failure, Keys, Rng, SimPin};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A router that has room for all pages, for some, or for none.
fn any_router(rng: &mut Rng) -> RefCell<Router<1>> {
    RefCell::new(Router::new([1 << 20, 1 << 20, 90, 0][rng.index(4)]))
}

/// Entries of one leaf, more than are asked about when it is folded.
fn long_line() -> Vec<Pos<1>> {
    (0..1300).map(|i| p(i * 16, i << 16 | 1)).collect()
}

#[test]
fn errors_under_every_call_of_a_run_lose_nothing() {
    with_seeds(4, |seed| {
        let mut rng = Rng::new(seed);
        let entries = if seed % 2 == 0 {
            Source::new(Keys::Gaps, Rows::Heap(30), seed).sorted(rng.index(400))
        } else {
            long_line()
        };
        let size = [512, 1024][rng.index(2)];
        let mut session = Session::new(Lab::build(size, 90, Choice::Auto, &entries));
        session.lab.router = any_router(&mut rng);
        for step in steps(seed, 50, &session.lab.set) {
            session.fail_everywhere(&step, 1, &mut rng);
            session.run(&step);
            if let Step::Insert(pos) = step
                && rng.once_in(3)
            {
                session.kill_near(&pos, &mut rng);
            }
        }
        no_page_is_lost(&session.lab);
    });
}

/// A fold that would have dropped an entry fails. VACUUM removes the entry, and
/// another process inserts one with its TID: a later fold of the first process
/// does not take it for the one that was to be dropped.
#[test]
fn what_a_failed_fold_was_to_drop_is_forgotten() {
    let (victim, none) = (1 << 40 | 1, HashSet::new());
    for call in 1.. {
        // More to a leaf than is asked about in full, and a full delta area.
        let mut lab = Lab::build(512, 90, Choice::Auto, &long_line());
        for (i, tid) in [1, victim, 2, 3].into_iter().enumerate() {
            lab.insert(p(8001 + i as u64 * 16, tid));
        }
        let (store, dead) = (lab.store.clone(), HashSet::from([victim]));
        let heap = |dead| LinePointers {
            store: &store,
            dead,
        };
        let tree = Tree::new(&store, &lab.router);
        let failed = fail(&store, (call, Failure::Returned), || {
            let pos = p(7990, 4);
            tree.insert(pos, FILL, &mut lab.scratch, &mut heap(&dead))
        });
        if failed.is_none() {
            break;
        }
        let mut other = Lab::over(store.clone(), lab.set.clone());
        other.delete(&dead);
        other.insert(p(8020, victim));
        for i in 0..8 {
            other.insert(p(8022 + i * 16, 10 + i));
        }
        lab.set = other.set;
        for i in 0..8 {
            let pos = p(8024 + i * 16, 20 + i);
            lab.set.insert(pos);
            tree.insert(pos, FILL, &mut lab.scratch, &mut heap(&none))
                .unwrap();
        }
        lab.verify();
    }
}

/// Errors pile up in one session: it leaves splits unfinished and pages unused,
/// and its router is of the past.
#[test]
fn a_session_survives_one_error_after_the_other() {
    let (runs, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    with_seeds(30, |seed| {
        let mut rng = Rng::new(seed);
        let entries: Vec<Pos<1>> =
            Source::new(Keys::Random, Rows::Heap(30), seed).sorted(rng.index(300));
        let mut session = Session::new(Lab::build(512, 90, Choice::Auto, &entries));
        session.lab.router = any_router(&mut rng);
        for step in steps(seed, 300, &session.lab.set) {
            let mut calls = 8;
            while let Some(rest) = step.rest(&session.lab.set)
                && session.try_run(&rest, (1 + rng.below(calls), FAILURES[rng.index(2)]))
            {
                calls *= 2;
            }
        }
        lost.fetch_add(no_page_is_lost(&session.lab), Ordering::Relaxed);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert!(
        runs.into_inner() < 30 || lost.into_inner() > 0,
        "nothing leaked"
    );
}

#[test]
fn errors_while_parent_and_root_are_split_lose_nothing() {
    let mut rng = Rng::new(1);
    for (level, descending, every) in [(1, false, 1), (1, true, 1), (2, true, 4)] {
        let (base, pos) = before_root_splits(level, descending);
        Session::new(base).fail_everywhere(&Step::Insert(pos), every, &mut rng);
    }
}

/// Twins in which a step was stopped after each of its records by a crash.
fn crashed(session: &mut Session, step: &Step) -> Vec<Session> {
    let mut crashed = Vec::new();
    loop {
        let mut lab = Lab::over(session.lab.store.copy(), session.lab.set.clone());
        lab.store.stop_after(crashed.len() as u64);
        let tree = Tree::new(&lab.store, &lab.router);
        match step.run(&tree, lab.fill, &mut lab.scratch, &mut NoDead) {
            Ok(()) => return crashed,
            Err(error) => assert_eq!(error, Error::Stopped),
        }
        lab.store = lab.store.recover();
        crashed.push(Session::new(lab));
    }
}

/// A VACUUM of all but one in `part` entries.
fn vacuum(set: &BTreeSet<Pos<1>>, part: u64, rng: &mut Rng) -> Step {
    let dead = set.iter().filter(|_| !rng.once_in(part));
    Step::Delete(dead.map(|pos| pos.tid).collect())
}

/// Writers and VACUUM meet splits that a crash has left unfinished.
#[test]
fn errors_while_splits_are_finished_lose_nothing() {
    let mut rng = Rng::new(1);
    for descending in [false, true] {
        let (base, pos) = before_root_splits(1, descending);
        for mut session in crashed(&mut Session::new(base), &Step::Insert(pos)) {
            let delete = vacuum(&session.lab.set, 6, &mut rng);
            session.fail_everywhere(&delete, 4, &mut rng);
            while let Some((low, high)) = incomplete(&session.lab.store) {
                let Some(pos) = between(low, high, &mut rng) else {
                    continue;
                };
                let insert = Step::Insert(pos);
                let records = session.on_twin(|twin| {
                    twin.run(&insert);
                    twin.lab.store.commits()
                });
                if records > 1 {
                    session.fail_everywhere(&insert, 2, &mut rng);
                }
                session.run(&insert);
            }
        }
    }
}

/// Leaves are merged, then their parents, and the root is taken away.
#[test]
fn errors_while_the_tree_shrinks_lose_nothing() {
    let mut rng = Rng::new(1);
    let entries = Source::new(Keys::Random, Rows::Scattered, 5).sorted(900);
    let mut session = Session::new(Lab::build(512, 70, Choice::Auto, &entries));
    assert_eq!(session.lab.verify().height, 2);
    for part in [6, u64::MAX] {
        let delete = vacuum(&session.lab.set, part, &mut rng);
        session.fail_everywhere(&delete, 4, &mut rng);
    }
}

/// A model of several pages.
fn large_model(seed: u64) -> Model {
    let mut rng = Rng::new(seed);
    let mut key = 0;
    let mut next = || {
        key += rng.word() >> (20 + rng.below(40));
        key
    };
    let keys: Vec<u64> = (0..3000).map(|_| next()).collect();
    Model::train(Choice::Pla, &keys).unwrap()
}

#[test]
fn errors_while_a_model_is_published_leave_the_old_one_or_the_new() {
    let entries = Source::new(Keys::Random, Rows::Scattered, 8).sorted(300);
    let base = Lab::<1>::build(512, 90, Choice::Auto, &entries);
    let (old, new) = (large_model(1), large_model(2));
    let publish = |lab: &Lab<1>, model| {
        lab.tree().scavenge(&mut || lab.store.breathe())?;
        publish_model(&lab.store, model, 3000)
    };
    let is = |lab: &Lab<1>, model: &Model| {
        let meta = lab.tree().meta().unwrap();
        assert!(meta.model_bytes as usize > 3 * model_page_capacity(512));
        matches!(read_model(&lab.store, &meta), Ok(Loaded::Model(read)) if read == *model)
    };
    publish(&base, &old).unwrap();
    for failure in FAILURES {
        for call in 1.. {
            let lab = Lab::over(base.store.copy(), base.set.clone());
            let failed = fail(&lab.store, (call, failure), || publish(&lab, &new));
            lab.verify();
            assert!(is(&lab, &new) || failed.is_some() && is(&lab, &old));
            publish(&lab, &new).unwrap();
            assert!(is(&lab, &new));
            no_page_is_lost(&lab);
            if failed.is_none() {
                break;
            }
        }
    }
}

/// Reads all of a list in one direction, goes back to a mark on the way, and
/// reads on.
fn read_all(
    scan: &mut Scan<SimPin, 1>,
    tree: &Tree<'_, SimStore, 1>,
    list: &[Interval<1>],
    (forward, keep_pin): (bool, bool),
) -> Result<Vec<Pos<1>>> {
    let (mut found, mut mark) = (Vec::new(), None);
    scan.restart();
    while let Some(pos) = scan.next(tree, list, forward, keep_pin)? {
        found.push(pos);
        if found.len() == 40 {
            mark = Some(scan.mark());
        }
        if found.len() == 130
            && let Some(mark) = mark.take()
        {
            scan.restore(tree, list, &mark, keep_pin)?;
            found.truncate(40);
        }
    }
    Ok(found)
}

#[test]
fn errors_under_every_call_of_a_scan_leave_no_pin() {
    with_seeds(10, |seed| {
        let mut rng = Rng::new(seed);
        let mut source = Source::new(Keys::Gaps, Rows::Heap(30), seed);
        let lab = Lab::<1>::build(512, 90, Choice::Auto, &source.sorted(500));
        let dead = vacuum(&lab.set, 2, &mut rng);
        let mut session = Session::new(lab);
        session.run(&dead);
        for pos in source.fresh(100, &session.lab.set) {
            session.lab.insert(pos);
        }
        let lab = session.lab;
        let ends: Vec<_> = lab.set.iter().copied().collect();
        for how in [(true, false), (true, true), (false, false), (false, true)] {
            let list = intervals(&ends, &mut rng);
            let mut due = expected(&lab.set, &list);
            if !how.0 {
                due.reverse();
            }
            for failure in FAILURES {
                let mut scan = Scan::new();
                for call in 1.. {
                    let router = any_router(&mut rng);
                    let tree = Tree::new(&lab.store, &router);
                    let failed = fail(&lab.store, (call, failure), || {
                        read_all(&mut scan, &tree, &list, how).map(|_| ())
                    });
                    if failed == Some(Failure::Unwinding) {
                        scan = Scan::new();
                    }
                    assert_eq!(lab.store.pins(), 0, "a lock or pin is left");
                    assert_eq!(read_all(&mut scan, &tree, &list, how), Ok(due.clone()));
                    if failed.is_none() {
                        break;
                    }
                }
            }
        }
        lab.verify();
    });
}
