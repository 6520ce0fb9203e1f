//! Tests of the tree over the simulated store, against a sorted set.
//!
//! `PROPTEST_CASES` asks for more random cases, `OMEN_SIM_SEEDS` for so many
//! fresh seeds of the simulations, `OMEN_SIM_SEED` for one seed alone. What
//! fails prints its seed.
//!
//! Miri runs the properties and the interleavings, each a few times and on small
//! trees; what needs a large tree or hundreds of runs is left out under it.

mod actors;
#[cfg(not(miri))]
mod checks;
#[cfg(not(miri))]
mod crash;
mod damage;
#[cfg(not(miri))]
mod directed;
#[cfg(not(miri))]
mod faults;
mod history;
mod interleave;
mod kills;
mod liveness;
mod maps;
mod old_pages;
mod random_operations;
mod scans;
mod session;
mod shared;
mod sizes;
mod steps;

use crate::Pos;
use crate::key::Tid;
use crate::model::Choice;
use crate::sim::{ALL_KEYS, ALL_ROWS, Lanes, Rows, SimSink, SimStore, Source};
use crate::testing::{cases, scaled};
use crate::tree::map::Map;
use crate::tree::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

const FILL: InsertOptions = InsertOptions { fillfactor: 90 };

/// The seeds of a simulation: `fixed` known ones, and some that nobody has
/// tried yet.
fn seeds(fixed: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    if let Some(seed) = number("OMEN_SIM_SEED") {
        return vec![seed];
    }
    if cfg!(miri) {
        // It has no clock, and no time for more.
        return vec![1];
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = now.map_or(0, |now| now.as_nanos() as u64) & 0xffff_ffff_0000;
    let fresh = number("OMEN_SIM_SEEDS").unwrap_or(fixed / 4 + 1);
    (0..fixed).chain(first..first + fresh).collect()
}

/// Runs `work` for each seed, on all cores, and says which one failed.
fn with_seeds(fixed: u64, work: impl Fn(u64) + std::panic::RefUnwindSafe + Sync) {
    let seeds = seeds(fixed);
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(panic) = std::panic::catch_unwind(|| work(seed)) {
                next.store(seeds.len(), Ordering::Relaxed);
                eprintln!("failed with OMEN_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores.min(seeds.len()))
            .map(|_| scope.spawn(run))
            .collect();
        run();
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Any stream of entries.
fn source() -> impl Strategy<Value = Source> {
    let rows = prop_oneof![3 => Just(Rows::Heap(226)), 4 => prop::sample::select(&ALL_ROWS[..])];
    let lanes = prop::sample::select(&[Lanes::First, Lanes::Last, Lanes::Noise][..]);
    let nulls = prop_oneof![3 => Just(0u64), 1 => Just(10u64)];
    let start = prop_oneof![Just(0u64), 0u64..1 << 20];
    (
        prop::sample::select(&ALL_KEYS[..]),
        rows,
        lanes,
        nulls,
        start,
        any::<u64>(),
    )
        .prop_map(|(keys, rows, lanes, nulls, arrived, seed)| {
            let mut source = Source::new(keys, rows, seed);
            (source.lanes, source.nulls, source.arrived) = (lanes, nulls, arrived);
            source
        })
}

fn p(key: u64, tid: Tid) -> Pos<1> {
    Pos {
        rank: 0,
        vals: [key],
        tid,
    }
}

fn bulk_load<const V: usize>(
    page_size: usize,
    fillfactor: u32,
    model: Choice,
    entries: &[Pos<V>],
) -> SimStore {
    let store = SimStore::new(page_size);
    let options = BulkOptions {
        fillfactor,
        model,
        key_code: 1,
        ordering: 0,
    };
    let mut loader = BulkLoader::<_, V>::new(SimSink(store.clone()), options).unwrap();
    for entry in entries {
        loader.push(*entry).unwrap();
    }
    let built = loader.finish().unwrap();
    assert_eq!(built.entries, entries.len() as u64);
    assert_eq!(built.pages, store.pages().unwrap());
    store
}

/// A tree beside the set of what it should hold.
struct Lab<const V: usize> {
    store: SimStore,
    router: RefCell<Router<V>>,
    scratch: Scratch<V>,
    set: BTreeSet<Pos<V>>,
    fill: InsertOptions,
}

impl<const V: usize> Lab<V> {
    fn build(page_size: usize, fillfactor: u32, model: Choice, entries: &[Pos<V>]) -> Self {
        let store = bulk_load(page_size, fillfactor, model, entries);
        let mut lab = Self::over(store, entries.iter().copied().collect());
        lab.fill = InsertOptions { fillfactor };
        lab
    }

    fn over(store: SimStore, set: BTreeSet<Pos<V>>) -> Self {
        let scratch = Scratch::new(store.page_size()).unwrap();
        let router = RefCell::new(Router::new(1 << 20));
        Self {
            store,
            router,
            scratch,
            set,
            fill: FILL,
        }
    }

    fn tree(&self) -> Tree<'_, SimStore, V> {
        Tree::new(&self.store, &self.router)
    }

    /// Inserts an entry that is not there yet.
    fn try_insert(&mut self, pos: Pos<V>) -> Result<()> {
        let tree = Tree::new(&self.store, &self.router);
        tree.insert(pos, self.fill, &mut self.scratch, &mut NoDead)
    }

    fn insert(&mut self, pos: Pos<V>) {
        if self.set.insert(pos) {
            self.try_insert(pos).unwrap();
        }
    }

    /// Inserts entries that ascend, none of which is there yet.
    fn insert_all(&mut self, entries: &[Pos<V>]) {
        let tree = Tree::new(&self.store, &self.router);
        let (fill, scratch) = (self.fill, &mut self.scratch);
        steps::insert_all(&tree, entries, fill, scratch, &mut NoDead).unwrap();
        self.set.extend(entries);
    }

    fn try_delete(&mut self, dead: &HashSet<Tid>) -> Result<DeleteStats> {
        let mut stats = DeleteStats::default();
        let tree = Tree::new(&self.store, &self.router);
        let mut named = |tid: Tid| dead.contains(&tid);
        tree.bulk_delete(&mut named, &mut self.scratch, &mut || Ok(()), &mut stats)?;
        Ok(stats)
    }

    /// A VACUUM of the entries with these TIDs.
    fn delete(&mut self, dead: &HashSet<Tid>) -> DeleteStats {
        let stats = self.try_delete(dead).unwrap();
        let before = self.set.len();
        self.set.retain(|pos| !dead.contains(&pos.tid));
        assert_eq!(stats.removed, (before - self.set.len()) as u64);
        assert_eq!(stats.remaining, self.set.len() as u64);
        stats
    }

    /// The tree is sound and holds what the set does, by both checks.
    fn verify(&self) -> CheckReport {
        let mut seen = Vec::with_capacity(self.set.len());
        let report = check(&self.tree(), &mut |pos| seen.push(pos)).unwrap();
        assert!(
            seen.iter().eq(self.set.iter()),
            "the tree holds other entries than it should"
        );
        seen.clear();
        let mut visit = |pos| seen.push(pos);
        let beside = check_beside_writers(&self.tree(), &mut Each(&mut visit)).unwrap();
        assert!(seen.iter().eq(self.set.iter()));
        assert_eq!(beside.leaves, report.leaves);
        assert_eq!(report.entries, seen.len() as u64);
        assert_eq!(self.store.pins(), 0, "a pin is left");
        report
    }

    /// The leaves, as their parents list them.
    fn leaves(&self) -> Map<V> {
        self.tree().list_children(1, usize::MAX).unwrap().unwrap()
    }

    fn all(&self, forward: bool) -> Vec<Pos<V>> {
        scan_all(&self.tree(), &[EVERYTHING::<V>()], forward).unwrap()
    }
}

/// Shows entries one by one.
struct Each<'a, const V: usize>(&'a mut dyn FnMut(Pos<V>));

impl<const V: usize> Witness<V> for Each<'_, V> {
    fn leaf(&mut self, _: Block, entries: &[Pos<V>]) -> Result<()> {
        entries.iter().for_each(|pos| (self.0)(*pos));
        Ok(())
    }
}

fn check<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    visit: &mut dyn FnMut(Pos<V>),
) -> Result<CheckReport> {
    crate::tree::check(tree, &mut Each(visit))
}

#[allow(non_snake_case)]
const fn EVERYTHING<const V: usize>() -> Interval<V> {
    Interval {
        lo: Pos::MIN,
        hi: None,
    }
}

fn scan_all<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    intervals: &[Interval<V>],
    forward: bool,
) -> Result<Vec<Pos<V>>> {
    let mut scan = Scan::new();
    let mut found = Vec::new();
    while let Some(pos) = scan.next(tree, intervals, forward, false)? {
        found.push(pos);
    }
    Ok(found)
}
