//! Who works on an index at once: inserters, scans and VACUUM, over one heap.

use super::history::{History, ScanLog};
use super::scans::intervals;
use super::*;
use crate::sim::{FAULT, Failure, Rng, SimPin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was done.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) runs: AtomicU64,
    pub(super) operations: AtomicU64,
    /// Entries whose rows the heap said are dead.
    pub(super) told: AtomicU64,
    /// Entries that scans have dropped.
    pub(super) dropped: AtomicU64,
    /// Times that scans were told of dead entries of a leaf.
    pub(super) remembered: AtomicU64,
    /// TIDs used again.
    pub(super) reused: AtomicU64,
    /// Calls that failed.
    pub(super) failed: AtomicU64,
}

pub(super) fn count(tally: &AtomicU64) {
    tally.fetch_add(1, Ordering::Relaxed);
}

/// What the actors share beside the store.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) history: Arc<Mutex<History<1>>>,
    pub(super) rows: Arc<AtomicU64>,
    pub(super) tally: Arc<Tally>,
    /// Rows die, the heap tells of it, and TIDs are used again.
    pub(super) churn: bool,
    /// Calls of the store fail.
    pub(super) errors: bool,
}

impl Shared {
    pub(super) fn history(&self) -> MutexGuard<'_, History<1>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry whose TID no other row has.
    fn entry(&self, rng: &mut Rng, domain: u64, append: bool) -> Pos<1> {
        let unused = if self.churn && rng.once_in(2) {
            self.history().reuse()
        } else {
            None
        };
        if let Some(pos) = unused {
            count(&self.tally.reused);
            // Of the key that it was of before, or of another.
            return [pos, p(rng.below(domain), pos.tid)][rng.index(2)];
        }
        let row = self.rows.fetch_add(1, Ordering::Relaxed);
        let key = if append {
            domain + row
        } else {
            rng.below(domain)
        };
        p(key, row << 16 | (1 + rng.below(3)))
    }

    /// A row dies: one that was there before, or some other.
    fn kill(&self, rng: &mut Rng, before: Option<Pos<1>>) {
        let mut history = self.history();
        let any = history.key(rng.index(10_000));
        let victim = before.filter(|_| rng.once_in(2)).unwrap_or(any);
        if history.has(&victim) {
            history.dies(&victim);
        }
    }

    /// Lets one of an actor's next calls fail, if calls do.
    pub(super) fn let_fail(&self, store: &SimStore, rng: &mut Rng, calls: u64) {
        if self.errors && rng.once_in(4) {
            store.fail_call(1 + rng.below(calls), Failure::Returned);
        }
    }

    /// What came of it; `None`: a call failed.
    pub(super) fn outcome<T>(&self, store: &SimStore, result: Result<T>) -> Option<T> {
        store.forgive();
        match result {
            Ok(value) => Some(value),
            Err(FAULT) => {
                count(&self.tally.failed);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A heap that tells of some of its dead rows.
struct Heap<'a> {
    shared: &'a Shared,
    store: &'a SimStore,
    rng: Rng,
    /// It is asked about entries that may not be there any more.
    of_late: bool,
}

impl Liveness for Heap<'_> {
    fn mark_dead(&mut self, _: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        if !self.shared.churn {
            return Ok(());
        }
        for (tid, dead) in tids.iter().zip(dead) {
            // Somebody else may have locked the page of the heap.
            if self.rng.once_in(10) {
                self.store.yield_turn();
            }
            let history = self.shared.history();
            let told = if self.of_late {
                history.is_marked(*tid)
            } else {
                history.is_dead(*tid)
            };
            drop(history);
            *dead = told && !self.rng.once_in(4);
            if *dead {
                count(&self.shared.tally.told);
            }
        }
        // What was heard may be old when it is used, but for the lock on the leaf.
        if self.rng.once_in(8) {
            self.store.sleep(1 + self.rng.below(2000));
        }
        self.store.call()
    }
}

pub(super) type Routing = RefCell<Router<1>>;

pub(super) fn inserter(
    shared: &Shared,
    store: &SimStore,
    router: &Routing,
    mut rng: Rng,
    domain: u64,
) {
    let mut scratch = Scratch::new(store.page_size()).unwrap();
    let append = rng.once_in(3);
    let mut before = None;
    let mut heap = Heap {
        shared,
        store,
        rng: Rng::new(rng.word()),
        of_late: false,
    };
    let most = [1, 1, 8, 60][rng.index(4)];
    let mut left = 30 + rng.below(120);
    while left > 0 {
        let mut batch = Vec::new();
        for _ in 0..(1 + rng.below(most)).min(left) {
            let pos = shared.entry(&mut rng, domain, append);
            shared.history().insert_begins(pos);
            batch.push(pos);
        }
        left -= batch.len() as u64;
        batch.sort_unstable();
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let tree = Tree::new(store, router);
            shared.let_fail(store, &mut rng, 12);
            let inserted = tree.insert_some(rest, FILL, &mut scratch, &mut heap);
            let Some(inserted) = shared.outcome(store, inserted) else {
                let mut history = shared.history();
                rest.iter().for_each(|pos| history.insert_failed(*pos));
                break;
            };
            let (done, others) = rest.split_at(inserted);
            let mut history = shared.history();
            done.iter().for_each(|pos| history.insert_returned(*pos));
            rest = others;
        }
        if shared.churn {
            for pos in batch {
                shared.kill(&mut rng, before.replace(pos));
                count(&shared.tally.operations);
            }
        }
    }
}

pub(super) fn scanner(shared: &Shared, store: &SimStore, router: &Routing, mut rng: Rng) {
    let keep_pin = rng.once_in(2);
    let mut scratch = Scratch::new(store.page_size()).unwrap();
    let mut heap = Heap {
        shared,
        store,
        rng: Rng::new(rng.word()),
        of_late: true,
    };
    let mistaken = 2 + rng.below(20);
    // What it finds dead is dead, and its next scans hear of it.
    let exact = rng.once_in(2);
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
            shared.let_fail(store, &mut rng, 60);
            let found = scan.next(&tree, &list, forward, keep_pin);
            let Some(found) = shared.outcome(store, found) else {
                break;
            };
            log.step(shared.history().now(), forward, found);
            if let Some(pos) = found
                && keep_pin
            {
                assert!(
                    !shared.history().is_gone(&pos),
                    "VACUUM of {pos:?} returned while a scan held the page that it was read from"
                );
            }
            count(&shared.tally.operations);
            if scan.killed() > 0 && (scan.has_left_killed() || rng.once_in(30)) {
                if exact {
                    remember_killed(&mut scan, &tree, &mut rng, &shared.tally);
                }
                drop_killed(&mut scan, &tree, &mut scratch, &mut heap);
            }
            let Some(pos) = found else {
                break;
            };
            // Dead when it was looked at, or taken for another.
            let dead = |tid| shared.history().leads_nowhere(tid);
            if shared.churn && (dead(pos.tid) || !exact && rng.once_in(mistaken)) {
                scan.kill();
            }
            if rng.once_in(pace) {
                store.breathe().unwrap();
            }
        }
        let tree = Tree::new(store, router);
        if exact {
            remember_killed(&mut scan, &tree, &mut rng, &shared.tally);
        }
        drop_killed(&mut scan, &tree, &mut scratch, &mut heap);
        scan.unpin();
        log.verify(&mut shared.history());
    }
}

/// Lets other scans of the actor pass what a scan has noted. Left is what may be
/// dropped: what was known of another leaf, or all that is known of this one.
fn remember_killed(
    scan: &mut Scan<SimPin, 1>,
    tree: &Tree<'_, SimStore, 1>,
    rng: &mut Rng,
    tally: &Tally,
) {
    if scan.killed() > 0 && scan.remember_killed(tree.router()) > 0 {
        count(&tally.remembered);
    }
    match rng.below(4) {
        0 => scan.recall_killed(tree.router()),
        1 => {}
        _ => scan.forget_killed(),
    }
}

/// Drops what a scan has noted, while others wait for nothing.
fn drop_killed(
    scan: &mut Scan<SimPin, 1>,
    tree: &Tree<'_, SimStore, 1>,
    scratch: &mut Scratch<1>,
    heap: &mut Heap<'_>,
) {
    let (shared, store) = (heap.shared, tree.store());
    let least = 1 + heap.rng.index(4);
    let mut rng = Rng::new(heap.rng.word());
    shared.let_fail(store, &mut rng, 8);
    let dropped = scan.drop_killed(tree, least, scratch, heap);
    if let Some(dropped) = shared.outcome(store, dropped) {
        let tally = &shared.tally.dropped;
        tally.fetch_add(dropped.unwrap_or(0) as u64, Ordering::Relaxed);
    }
}

pub(super) fn vacuum(shared: &Shared, store: &SimStore, router: &Routing, mut rng: Rng) {
    let mut scratch = Scratch::new(store.page_size()).unwrap();
    for _ in 0..1 + rng.below(4) {
        let dead = {
            let mut history = shared.history();
            let n = history.len();
            let (from, to) = (history.key(rng.index(n)), history.key(rng.index(n)));
            let (part, stretch) = (2 + rng.below(8), rng.once_in(2));
            let dead_only = shared.churn && rng.once_in(2);
            history.delete_begins(|pos, dead| {
                !rng.once_in(part) && (!stretch || (from..to).contains(pos)) && (!dead_only || dead)
            })
        };
        let tree = Tree::new(store, router);
        let mut removed = 0;
        loop {
            let mut stats = DeleteStats::default();
            let mut named = |tid| dead.contains(&tid);
            let mut pause = || store.breathe();
            shared.let_fail(store, &mut rng, 300);
            let deleted = tree.bulk_delete(&mut named, &mut scratch, &mut pause, &mut stats);
            removed += stats.removed;
            if shared.outcome(store, deleted).is_some() {
                break;
            }
        }
        shared.history().delete_returned(&dead);
        // Others drop entries of dead rows as well.
        assert!(removed <= dead.len() as u64);
        assert!(shared.churn || shared.errors || removed == dead.len() as u64);
        let found = tree.scavenge(&mut || store.breathe()).unwrap();
        tree.refresh_model(Choice::Auto, found.leaves).unwrap();
        count(&shared.tally.operations);
    }
}
