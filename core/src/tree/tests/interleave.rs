//! Inserters, scans and VACUUM at once, in orders that a seed decides.

use super::actors::{Shared, Tally, count, inserter, scanner, vacuum};
use super::history::History;
use super::session::no_page_is_lost;
use super::*;
use crate::sim::{Actor, Rng, run_actors};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A tree with free pages, with routers that were loaded at different times of
/// its past.
pub(super) fn tree_with_past(
    seed: u64,
    rng: &mut Rng,
    domain: u64,
) -> (Lab<1>, Vec<Router<1>>, u64) {
    let mut row = 0;
    let mut next_row = || {
        row += 1;
        row << 16 | 1
    };
    let long = rng.once_in(8);
    let entries: BTreeSet<_> = if long {
        // Leaves of more entries than are asked about when they are folded.
        let step = domain / 1300;
        (0..1300).map(|i| p(i * step, next_row())).collect()
    } else {
        (0..rng.below(500))
            .map(|_| p(rng.below(domain), next_row()))
            .collect()
    };
    let entries: Vec<_> = entries.into_iter().collect();
    let mut lab = Lab::build([512, 512, 1024][rng.index(3)], 90, Choice::Auto, &entries);
    let mut routers = Vec::new();
    for _ in 0..6 {
        let bytes = [1 << 20, 1 << 20, 90, 0][rng.index(4)];
        let router = RefCell::new(Router::new(bytes));
        if bytes > 0 {
            Tree::new(&lab.store, &router).load_router().unwrap();
        }
        routers.push(router.into_inner());
        for _ in 0..rng.below(100) {
            lab.insert(p(rng.below(domain), next_row()));
        }
        if !long && rng.once_in(3) {
            let part = 2 + rng.below(10);
            let dead = lab
                .set
                .iter()
                .filter(|_| !rng.once_in(part))
                .map(|pos| pos.tid);
            let dead = dead.collect();
            lab.delete(&dead);
        }
    }
    assert_eq!(lab.verify().incomplete, 0, "seed {seed}");
    (lab, routers, row)
}

/// The tree when all is quiet: it holds all live rows, and maybe dead ones.
fn survivors(history: &History<1>, store: SimStore) -> Lab<1> {
    let mut after = Lab::over(store, history.present());
    let mut found = BTreeSet::new();
    check(&after.tree(), &mut |pos| {
        found.insert(pos);
    })
    .unwrap();
    if let Some(lost) = after.set.difference(&found).next() {
        panic!("{lost:?} is lost");
    }
    let remains = history.remains();
    let mut others = found.difference(&after.set);
    if let Some(other) = others.find(|pos| !remains.contains(pos)) {
        panic!("{other:?} is made up or was deleted");
    }
    after.set = found;
    after
}

fn interleave(seed: u64, tally: &Arc<Tally>) {
    let mut rng = Rng::new(seed);
    let domain = [50, 5000, 1 << 40][rng.index(3)];
    let (lab, mut routers, row) = tree_with_past(seed, &mut rng, domain);
    let shared = Shared {
        history: Arc::new(Mutex::new(History::of(&lab.set))),
        rows: Arc::new(AtomicU64::new(row + 1)),
        tally: tally.clone(),
        churn: rng.once_in(2),
        errors: rng.once_in(4),
    };
    let mut actors: Vec<Actor<'_>> = Vec::new();
    let kinds = 1 + rng.index(5);
    for kind in 0..=kinds {
        let (shared, rng) = (shared.clone(), Rng::new(rng.word()));
        let router = RefCell::new(routers.remove(0));
        actors.push(match kind {
            0 => Box::new(move |store| vacuum(&shared, &store, &router, rng)),
            1 | 3 => Box::new(move |store| scanner(&shared, &store, &router, rng)),
            _ => Box::new(move |store| inserter(&shared, &store, &router, rng, domain)),
        });
    }
    run_actors(&lab.store, rng.word(), actors);
    let after = survivors(&shared.history(), lab.store);
    assert!(shared.errors || after.verify().incomplete == 0);
    no_page_is_lost(&after);
    assert!(after.all(true).iter().eq(after.set.iter()));
    assert!(after.all(false).iter().eq(after.set.iter().rev()));
    // Routers that slept through all of it still lead to the right places.
    for router in routers {
        let router = RefCell::new(router);
        let tree = Tree::new(&after.store, &router);
        let found = scan_all(&tree, &[EVERYTHING()], false).unwrap();
        assert!(found.iter().eq(after.set.iter().rev()));
        let point = |pos: &Pos<1>| {
            [Interval {
                lo: *pos,
                hi: Some(pos.next()),
            }]
        };
        for pos in after.set.iter().filter(|_| rng.once_in(5)) {
            assert_eq!(scan_all(&tree, &point(pos), true).unwrap(), [*pos]);
        }
    }
    count(&tally.runs);
}

#[test]
fn scans_inserts_and_vacuum_at_once_keep_their_promises() {
    let begun = std::time::Instant::now();
    let tally = Arc::<Tally>::default();
    with_seeds(500, |seed| interleave(seed, &tally));
    let of = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    let (runs, told, reused) = (of(&tally.runs), of(&tally.told), of(&tally.reused));
    let (operations, failed) = (of(&tally.operations), of(&tally.failed));
    let (dropped, remembered) = (of(&tally.dropped), of(&tally.remembered));
    println!(
        "{runs} runs, {operations} operations, {:.0} operations per second, \
        {told} dead entries, {dropped} dropped by scans, {remembered} times remembered, \
        {reused} TIDs used again, {failed} errors",
        operations as f64 / begun.elapsed().as_secs_f64()
    );
    let least = told.min(reused).min(failed).min(dropped).min(remembered);
    assert!(runs < 100 || least > 100);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let (lab, ..) = tree_with_past(seed, &mut rng, scaled(5000) as u64);
        let order = Arc::new(Mutex::new(Vec::new()));
        let actors: Vec<Actor<'_>> = (0..4_usize)
            .map(|actor| {
                let order = order.clone();
                let work = move |store: SimStore| {
                    for _ in 0..50 {
                        order.lock().unwrap().push(actor);
                        store.breathe().unwrap();
                    }
                };
                Box::new(work) as Actor<'_>
            })
            .collect();
        run_actors(&lab.store, seed, actors);
        Arc::into_inner(order).unwrap().into_inner().unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

/// One actor waits for a lock that another takes with it when it panics, and a
/// third waits for its turn: the run ends with a panic.
#[test]
fn a_panic_of_one_actor_ends_the_run() {
    let store = bulk_load::<1>(512, 90, Choice::Auto, &[p(1, 1)]);
    let outcome = std::panic::catch_unwind(|| {
        let fail: Actor<'_> = Box::new(|store| {
            let _guard = store.write(1).unwrap();
            for _ in 0..10 {
                store.breathe().unwrap();
            }
            panic!("on purpose");
        });
        let wait = || -> Actor<'_> {
            Box::new(|store| {
                loop {
                    drop(store.write(1).unwrap());
                    store.breathe().unwrap();
                }
            })
        };
        run_actors(&store, 1, vec![wait(), fail, wait()]);
    });
    assert!(outcome.is_err());
}

#[test]
fn a_deadlock_ends_the_run() {
    let store = bulk_load::<1>(512, 90, Choice::Auto, &[p(1, 1)]);
    // On a damaged index the store does not insist on the order of locks.
    store.overwrite(1, store.bytes(1).unwrap());
    let outcome = std::panic::catch_unwind(|| {
        let both = |first: u32, second: u32| -> Actor<'_> {
            Box::new(move |store| {
                for _ in 0..100 {
                    let _first = store.write(first).unwrap();
                    let _second = store.write(second).unwrap();
                }
            })
        };
        run_actors(&store, 1, vec![both(0, 1), both(1, 0)]);
    });
    assert!(outcome.is_err());
}
