//! Inserters, scans and VACUUM at once, in orders that a seed decides.

use super::history::{History, ScanLog};
use super::scans::intervals;
use super::*;
use crate::sim::{Actor, Rng, run_actors};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the actors share beside the store.
#[derive(Clone)]
struct Shared {
    history: Arc<Mutex<History<1>>>,
    rows: Arc<AtomicU64>,
    operations: Arc<AtomicU64>,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History<1>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry with a TID of its own.
    fn entry(&self, rng: &mut Rng, domain: u64, append: bool) -> Pos<1> {
        let row = self.rows.fetch_add(1, Ordering::Relaxed);
        let key = if append {
            domain + row
        } else {
            rng.below(domain)
        };
        p(key, row << 16 | (1 + rng.below(3)))
    }

    fn count(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }
}

type Routing = RefCell<Router<1>>;

fn inserter(shared: &Shared, store: &SimStore, router: &Routing, mut rng: Rng, domain: u64) {
    let mut scratch = Scratch::new(store.page_size()).unwrap();
    let append = rng.once_in(3);
    for _ in 0..30 + rng.below(120) {
        let pos = shared.entry(&mut rng, domain, append);
        shared.history().insert_begins(pos);
        let tree = Tree::new(store, router);
        tree.insert(pos, FILL, &mut scratch, &mut NoDead).unwrap();
        shared.history().insert_returned(pos);
        shared.count();
    }
}

fn scanner(shared: &Shared, store: &SimStore, router: &Routing, mut rng: Rng) {
    let keep_pin = rng.once_in(2);
    for _ in 0..2 + rng.below(4) {
        let (list, mut log) = {
            let mut history = shared.history();
            let ends: Vec<_> = (0..6).map(|_| history.key(rng.index(10_000))).collect();
            let list = intervals(&ends, &mut rng);
            let log = ScanLog::new(&mut history, &list);
            (list, log)
        };
        let mut forward = rng.once_in(2);
        let turns = [10, 100_000][rng.index(2)];
        let pace = 1 + rng.below(12);
        let mut scan = Scan::new();
        for _ in 0..400 {
            if rng.once_in(turns) {
                forward = !forward;
            }
            let tree = Tree::new(store, router);
            let found = scan.next(&tree, &list, forward, keep_pin).unwrap();
            log.step(forward, found);
            if let Some(pos) = found
                && keep_pin
            {
                assert!(
                    !shared.history().is_gone(&pos),
                    "VACUUM of {pos:?} returned while a scan held the page that it was read from"
                );
            }
            shared.count();
            if found.is_none() {
                break;
            }
            if rng.once_in(pace) {
                store.breathe().unwrap();
            }
        }
        scan.unpin();
        log.verify(&mut shared.history());
    }
}

fn vacuum(shared: &Shared, store: &SimStore, router: &Routing, mut rng: Rng) {
    let mut scratch = Scratch::new(store.page_size()).unwrap();
    for _ in 0..1 + rng.below(4) {
        let dead = {
            let mut history = shared.history();
            let n = history.len();
            let (from, to) = (history.key(rng.index(n)), history.key(rng.index(n)));
            let (part, stretch) = (2 + rng.below(8), rng.once_in(2));
            history
                .delete_begins(|pos| !rng.once_in(part) && (!stretch || (from..to).contains(pos)))
        };
        let tree = Tree::new(store, router);
        let mut stats = DeleteStats::default();
        let mut named = |tid| dead.contains(&tid);
        tree.bulk_delete(
            &mut named,
            &mut scratch,
            &mut || store.breathe(),
            &mut stats,
        )
        .unwrap();
        shared.history().delete_returned(&dead);
        assert_eq!(stats.removed, dead.len() as u64);
        let found = tree.scavenge(&mut || store.breathe()).unwrap();
        tree.refresh_model(Choice::Auto, found.leaves).unwrap();
        shared.count();
    }
}

/// A tree with free pages, with routers that were loaded at different times of
/// its past.
fn tree_with_past(seed: u64, rng: &mut Rng, domain: u64) -> (Lab<1>, Vec<Router<1>>, u64) {
    let n = rng.below(500);
    let mut row = 0;
    let mut entry = |rng: &mut Rng| {
        row += 1;
        p(rng.below(domain), row << 16 | 1)
    };
    let entries: BTreeSet<_> = (0..n).map(|_| entry(rng)).collect();
    let entries: Vec<_> = entries.into_iter().collect();
    let mut lab = Lab::build([512, 512, 1024][rng.index(3)], 90, Choice::Auto, &entries);
    let mut routers = Vec::new();
    for _ in 0..6 {
        let bytes = [1 << 20, 1 << 20, 200, 0][rng.index(4)];
        let router = RefCell::new(Router::new(bytes));
        if bytes > 0 {
            Tree::new(&lab.store, &router).load_router().unwrap();
        }
        routers.push(router.into_inner());
        for _ in 0..rng.below(100) {
            lab.insert(entry(rng));
        }
        if rng.once_in(3) {
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

fn interleave(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let domain = [50, 5000, 1 << 40][rng.index(3)];
    let (lab, mut routers, row) = tree_with_past(seed, &mut rng, domain);
    let shared = Shared {
        history: Arc::new(Mutex::new(History::of(&lab.set))),
        rows: Arc::new(AtomicU64::new(row + 1)),
        operations: Arc::default(),
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
    let set = shared.history().present();
    let after = Lab::over(lab.store, set);
    assert_eq!(after.verify().incomplete, 0);
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
    shared.operations.load(Ordering::Relaxed)
}

#[test]
fn scans_inserts_and_vacuum_at_once_keep_their_promises() {
    let begun = std::time::Instant::now();
    let (operations, runs) = (AtomicU64::new(0), AtomicU64::new(0));
    with_seeds(500, |seed| {
        operations.fetch_add(interleave(seed), Ordering::Relaxed);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let (operations, seconds) = (operations.into_inner(), begun.elapsed().as_secs_f64());
    println!(
        "{} runs, {operations} operations, {:.0} operations per second",
        runs.into_inner(),
        operations as f64 / seconds
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let (lab, ..) = tree_with_past(seed, &mut rng, 5000);
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
