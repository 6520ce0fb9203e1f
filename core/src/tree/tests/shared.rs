//! Scans that several processes share: over a still tree, beside inserts and
//! VACUUM, and with errors and deaths of some of those who share them.

use super::actors::{Routing, Shared, Tally, count, inserter, vacuum};
use super::history::History;
use super::interleave::tree_with_past;
use super::scans::{expected, intervals};
use super::*;
use crate::sim::{Actor, FAULT, Failure, Keys, Rng, run_actors};
use crate::store::PageStore;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the processes have in common.
struct Place<const V: usize> {
    reached: Option<Reached<V>>,
    taken: bool,
    /// Who had the turn has died: the query is cancelled.
    lost: bool,
}

/// One who takes turns.
struct Participant<const V: usize> {
    place: Arc<Mutex<Place<V>>>,
    store: SimStore,
    at_once: usize,
    /// It dies in this turn, counted from here.
    dies_in: std::cell::Cell<Option<u64>>,
}

impl<const V: usize> Participant<V> {
    fn first(store: &SimStore, at_once: usize) -> Self {
        let place = Place {
            reached: Some(Reached::START),
            taken: false,
            lost: false,
        };
        Self {
            place: Arc::new(Mutex::new(place)),
            store: store.clone(),
            at_once,
            dies_in: None.into(),
        }
    }

    /// Another one, with its own view of the store.
    fn another(&self, store: &SimStore) -> Self {
        Self {
            place: self.place.clone(),
            store: store.clone(),
            dies_in: None.into(),
            ..*self
        }
    }

    fn place(&self) -> MutexGuard<'_, Place<V>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_over(&self) {
        let mut place = self.place();
        assert!(!place.taken, "the turn is lost");
        place.reached = Some(Reached::START);
    }
}

impl<const V: usize> Turns<V> for Participant<V> {
    fn at_once(&self) -> usize {
        self.at_once
    }

    fn take(&self) -> Result<Option<Reached<V>>> {
        loop {
            assert!(!self.store.holds_lock(), "waits for the turn with a lock");
            self.store.breathe()?;
            let mut place = self.place();
            if place.lost {
                return Err(FAULT);
            }
            if place.taken {
                continue;
            }
            place.taken = place.reached.is_some();
            let left = self.dies_in.get();
            self.dies_in.set(left.map(|left| left.saturating_sub(1)));
            if left == Some(0) && place.taken {
                place.lost = true;
                return Err(FAULT);
            }
            return Ok(place.reached);
        }
    }

    fn pass(&self, reached: Option<Reached<V>>) {
        assert!(!self.store.holds_lock(), "passes the turn on with a lock");
        let mut place = self.place();
        assert!(place.taken && !place.lost);
        place.reached = reached;
        place.taken = false;
    }
}

/// Shares a scan of a still tree among `n`, and returns what each has found.
fn share<const V: usize>(
    lab: &Lab<V>,
    list: &[Interval<V>],
    forward: bool,
    n: usize,
    rng: &mut Rng,
) -> Vec<Vec<Pos<V>>> {
    let at_once = [1, 7, 1000][rng.index(3)];
    let turns = Participant::first(&lab.store, at_once);
    let mut scans: Vec<_> = (0..n).map(|_| Scan::new()).collect();
    let mut found = vec![Vec::new(); n];
    // Twice: what a first pass leaves in memory leads nowhere.
    for _ in 0..2 {
        turns.start_over();
        found = vec![Vec::new(); n];
        scans.iter_mut().for_each(Scan::restart);
        let mut running: Vec<usize> = (0..n).collect();
        while !running.is_empty() {
            let at = rng.index(running.len());
            let who = running[at];
            let tree = lab.tree();
            let next = scans[who].next_shared(&tree, list, forward, false, &turns);
            match next.unwrap() {
                Some(pos) => found[who].push(pos),
                None => {
                    running.swap_remove(at);
                }
            }
        }
    }
    found
}

fn shares_are_the_whole<const V: usize>(lab: &Lab<V>, rng: &mut Rng) {
    let ends: Vec<_> = lab.set.iter().copied().collect();
    for _ in 0..8 {
        let list = intervals(&ends, rng);
        let (forward, n) = (rng.once_in(2), 1 + rng.index(4));
        let shares = share(lab, &list, forward, n, rng);
        for share in &shares {
            assert!(share.is_sorted_by(|a, b| if forward { a < b } else { b < a }));
        }
        let mut all = shares.concat();
        all.sort_unstable();
        assert_eq!(all, expected(&lab.set, &list), "forward: {forward}");
    }
    assert_eq!(lab.store.pins(), 0);
}

fn prepared<const V: usize>(size: usize, mut first: Source, n: usize, seed: u64) -> Lab<V> {
    let mut rng = Rng::new(seed);
    let mut lab = Lab::build(size, 90, Choice::Auto, &first.sorted(n));
    for pos in first.fresh(n / 8, &lab.set) {
        lab.insert(pos);
    }
    let dead = lab.set.iter().filter(|_| rng.once_in(3));
    let dead = dead.map(|pos| pos.tid).collect();
    lab.delete(&dead);
    lab
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn shares_of_a_scan_are_the_whole(
        size in prop::sample::select(&[512usize, 1024, 8192][..]),
        first in source(), n in 0usize..scaled(3000), seed: u64,
    ) {
        shares_are_the_whole(&prepared::<1>(size, first, n, seed), &mut Rng::new(seed));
    }

    #[test]
    fn shares_of_a_scan_of_two_lanes_are_the_whole(
        first in source(), n in 0usize..scaled(1500), seed: u64,
    ) {
        shares_are_the_whole(&prepared::<2>(1024, first, n, seed), &mut Rng::new(seed));
    }
}

/// What all who share a scan were given, and when.
struct SharedLog {
    list: Vec<Interval<1>>,
    forward: bool,
    begun: u64,
    found: Mutex<Vec<(usize, u64, Pos<1>)>>,
    /// Those who did not come to the end.
    failed: AtomicU64,
}

impl SharedLog {
    /// Nobody got an entry twice or out of order, or one that was not there or not
    /// asked for. Unless somebody failed, all together got what lived through the scan.
    fn verify(&self, history: &mut History<1>) {
        let found = self.found.lock().unwrap();
        let mut last = std::collections::BTreeMap::new();
        let mut all = BTreeSet::new();
        for (who, now, pos) in found.iter() {
            assert!(all.insert(*pos), "{pos:?} was returned twice");
            if let Some(before) = last.insert(who, *pos) {
                assert_eq!(before < *pos, self.forward, "{who}: {before:?}, {pos:?}");
            }
            history.must_have_been(pos, self.begun, *now);
            assert!(
                self.list.iter().any(|i| i.contains(pos)),
                "nobody asked for {pos:?}"
            );
        }
        if self.failed.load(Ordering::Relaxed) == 0 {
            let due = expected(&history.stable(self.begun), &self.list);
            if let Some(missed) = due.iter().find(|pos| !all.contains(pos)) {
                panic!("nobody got {missed:?}");
            }
        }
    }
}

/// Scans its share.
fn participant(
    shared: &Shared,
    turns: &Participant<1>,
    router: &Routing,
    mut rng: Rng,
    log: &SharedLog,
    who: usize,
) {
    let store = &turns.store;
    let (keep_pin, pace) = (rng.once_in(2), 1 + rng.below(12));
    if rng.once_in(3) {
        // A worker that starts late.
        store.sleep(rng.below(100));
        store.yield_turn();
    }
    if shared.errors && rng.once_in(8) {
        turns.dies_in.set(Some(rng.below(6)));
    }
    let mut scan = Scan::new();
    loop {
        let tree = Tree::new(store, router);
        let mut next = || scan.next_shared(&tree, &log.list, log.forward, keep_pin, turns);
        let found = if shared.errors && rng.once_in(30) {
            store.fail_call(1 + rng.below(8), Failure::Unwinding);
            match catch_unwind(AssertUnwindSafe(next)) {
                Err(panic) if panic.downcast_ref() == Some(&FAULT) => Err(FAULT),
                Err(panic) => resume_unwind(panic),
                Ok(found) => found,
            }
        } else {
            shared.let_fail(store, &mut rng, 60);
            next()
        };
        let Some(found) = shared.outcome(store, found) else {
            count(&log.failed);
            break;
        };
        let Some(pos) = found else { break };
        let now = {
            let mut history = shared.history();
            assert!(!keep_pin || !history.is_gone(&pos), "{pos:?} is gone");
            history.now()
        };
        log.found.lock().unwrap().push((who, now, pos));
        count(&shared.tally.operations);
        if rng.once_in(pace) {
            store.breathe().unwrap();
        }
    }
}

fn share_beside_others(seed: u64, tally: &Arc<Tally>) {
    let mut rng = Rng::new(seed);
    let domain = [50, 5000, 1 << 40][rng.index(3)];
    let (lab, mut routers, row) = tree_with_past(seed, &mut rng, domain);
    let mut history = History::of(&lab.set);
    let ends: Vec<_> = (0..6).map(|_| history.key(rng.index(10_000))).collect();
    let log = SharedLog {
        list: intervals(&ends, &mut rng),
        forward: rng.once_in(2),
        begun: history.now(),
        found: Mutex::default(),
        failed: AtomicU64::default(),
    };
    let shared = Shared {
        history: Arc::new(Mutex::new(history)),
        rows: Arc::new(AtomicU64::new(row + 1)),
        tally: tally.clone(),
        churn: rng.once_in(2),
        errors: rng.once_in(3),
    };
    let turns = Participant::first(&lab.store, [1, 5, 40, 1000][rng.index(4)]);
    let mut actors: Vec<Actor<'_>> = Vec::new();
    let participants = 2 + rng.index(3);
    for who in 0..participants + 2 {
        let (shared, rng) = (shared.clone(), Rng::new(rng.word()));
        let router = RefCell::new(routers.remove(0));
        let (log, place) = (&log, turns.place.clone());
        let at_once = turns.at_once;
        actors.push(if who < participants {
            Box::new(move |store| {
                let turns = Participant {
                    place,
                    store,
                    at_once,
                    dies_in: None.into(),
                };
                participant(&shared, &turns, &router, rng, log, who);
            })
        } else if who == participants {
            Box::new(move |store| vacuum(&shared, &store, &router, rng))
        } else {
            Box::new(move |store| inserter(&shared, &store, &router, rng, domain))
        });
    }
    run_actors(&lab.store, rng.word(), actors);
    assert_eq!(lab.store.pins(), 0, "a pin is left");
    let place = turns.place();
    assert!(place.lost || !place.taken, "the turn is lost");
    log.verify(&mut shared.history());
    count(&tally.runs);
}

#[test]
fn shares_beside_inserts_and_vacuum_have_each_entry_once() {
    let tally = Arc::<Tally>::default();
    with_seeds(300, |seed| share_beside_others(seed, &tally));
    let of = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    let (runs, operations, failed) = (of(&tally.runs), of(&tally.operations), of(&tally.failed));
    println!("{runs} runs, {operations} operations, {failed} errors");
    assert!(runs < 100 || failed > 50);
}

/// One who fails loses what it has claimed and no more: if it fails before it has
/// claimed anything, the others get all.
#[test]
fn who_fails_leaves_the_turn_to_others() {
    let mut source = Source::new(Keys::Random, Rows::Heap(50), 1);
    let lab = Lab::<1>::build(512, 90, Choice::Auto, &source.sorted(scaled(2000)));
    let all: Vec<_> = lab.set.iter().copied().collect();
    let list = [EVERYTHING()];
    let mut nothing_lost = 0;
    for failure in [Failure::Returned, Failure::Unwinding] {
        for call in 1.. {
            let turns = Participant::first(&lab.store, 20);
            let (tree, mut scan) = (lab.tree(), Scan::new());
            lab.router.borrow_mut().reset();
            lab.store.fail_call(call, failure);
            let first = catch_unwind(AssertUnwindSafe(|| {
                scan.next_shared(&tree, &list, true, true, &turns)
            }));
            if lab.store.forgive() {
                assert!(matches!(first, Ok(Ok(Some(_)))));
                break;
            }
            assert!(!matches!(first, Ok(Ok(_))), "call {call} did not fail");
            drop(scan);
            assert_eq!(lab.store.pins(), 0);
            let other = turns.another(&lab.store);
            let (mut scan, mut found) = (Scan::new(), Vec::new());
            while let Some(pos) = scan.next_shared(&tree, &list, true, false, &other).unwrap() {
                found.push(pos);
            }
            let lost = all.len() - found.len();
            assert!(lost <= 20 && found == all[lost..], "call {call}");
            nothing_lost += u32::from(lost == 0);
        }
    }
    assert!(nothing_lost >= 4);
}
