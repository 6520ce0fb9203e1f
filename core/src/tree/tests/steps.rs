//! Operations of one process that can be done again, and random runs of them.

use super::*;
use crate::sim::{Keys, Rng};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Insert(Pos<1>),
    /// Entries in order, none of which is there.
    Batch(Vec<Pos<1>>),
    Delete(HashSet<Tid>),
    /// A scan that takes every row for dead.
    Sweep,
    Scavenge,
    /// As VACUUM does it: first what is lost is freed, then a model is published.
    Publish(Choice),
}

impl Step {
    pub(super) fn run(
        &self,
        tree: &Tree<'_, SimStore, 1>,
        fill: InsertOptions,
        scratch: &mut Scratch<1>,
        liveness: &mut impl Liveness,
    ) -> Result<()> {
        let mut pause = || tree.store().breathe();
        match self {
            Self::Insert(pos) => tree.insert(*pos, fill, scratch, liveness),
            Self::Batch(entries) => insert_all(tree, entries, fill, scratch, liveness),
            Self::Delete(dead) => {
                let mut stats = DeleteStats::default();
                let mut named = |tid: Tid| {
                    // It answers, or raises an ERROR.
                    if tid.is_multiple_of(16)
                        && let Err(fault) = tree.store().call()
                    {
                        std::panic::resume_unwind(Box::new(fault));
                    }
                    dead.contains(&tid)
                };
                tree.bulk_delete(&mut named, scratch, &mut pause, &mut stats)
            }
            Self::Sweep => sweep(tree, scratch, liveness),
            Self::Scavenge => tree.scavenge(&mut pause).map(|_| ()),
            Self::Publish(choice) => {
                tree.scavenge(&mut pause)?;
                let trained = tree.meta()?.model_leaves;
                let published = tree.refresh_model(*choice, trained * 2 + 2);
                published.map(|_| ())
            }
        }
    }

    /// What is left to do where `set` holds what was done of it; `None`: nothing.
    pub(super) fn rest(&self, set: &BTreeSet<Pos<1>>) -> Option<Self> {
        let missing = |pos: &Pos<1>| !set.contains(pos);
        match self {
            Self::Insert(pos) => missing(pos).then(|| self.clone()),
            Self::Batch(entries) => {
                let entries: Vec<_> = entries.iter().copied().filter(missing).collect();
                (!entries.is_empty()).then_some(Self::Batch(entries))
            }
            _ => Some(self.clone()),
        }
    }

    /// Whether a run of it may leave this entry behind.
    pub(super) fn inserts(&self, pos: &Pos<1>) -> bool {
        match self {
            Self::Insert(inserted) => inserted == pos,
            Self::Batch(entries) => entries.contains(pos),
            _ => false,
        }
    }

    /// Does to the set what was done to the tree.
    pub(super) fn note(&self, set: &mut BTreeSet<Pos<1>>) {
        match self {
            Self::Insert(pos) => {
                set.insert(*pos);
            }
            Self::Batch(entries) => set.extend(entries),
            Self::Delete(dead) => set.retain(|pos| !dead.contains(&pos.tid)),
            Self::Sweep | Self::Scavenge | Self::Publish(_) => {}
        }
    }
}

/// Inserts entries that ascend.
pub(super) fn insert_all<const V: usize>(
    tree: &Tree<'_, SimStore, V>,
    mut entries: &[Pos<V>],
    fill: InsertOptions,
    scratch: &mut Scratch<V>,
    liveness: &mut impl Liveness,
) -> Result<()> {
    while !entries.is_empty() {
        let n = tree.insert_some(entries, fill, scratch, liveness)?;
        assert!(n > 0);
        entries = &entries[n..];
    }
    Ok(())
}

/// Scans everything, and drops what is dead.
fn sweep(
    tree: &Tree<'_, SimStore, 1>,
    scratch: &mut Scratch<1>,
    liveness: &mut impl Liveness,
) -> Result<()> {
    let mut scan = Scan::new();
    loop {
        let found = scan.next(tree, &[EVERYTHING()], true, false)?;
        if scan.killed() > 0 && (scan.has_left_killed() || found.is_none()) {
            scan.drop_killed(tree, 1, scratch, liveness)?;
        }
        if found.is_none() {
            return Ok(());
        }
        scan.kill();
    }
}

/// A run over a tree that holds `set`, the same each time.
pub(super) fn steps(seed: u64, n: usize, set: &BTreeSet<Pos<1>>) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let keys = [
        Keys::Random,
        Keys::Serial,
        Keys::Gaps,
        Keys::Thousand,
        Keys::Descending,
    ];
    let mut source = Source::new(keys[rng.index(5)], Rows::Heap(30), rng.word());
    source.arrived = 5000;
    let mut set = set.clone();
    // TIDs that a VACUUM has made free.
    let mut unused = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..n {
        let step = match rng.below(80) {
            0 => {
                let part = 1 + rng.below(8);
                let dead = set.iter().filter(|_| !rng.once_in(part));
                let dead: Vec<Tid> = dead.map(|pos| pos.tid).collect();
                unused.extend(&dead);
                Step::Delete(dead.into_iter().collect())
            }
            1 => Step::Scavenge,
            2 => Step::Publish(Choice::Auto),
            6 => Step::Sweep,
            3..6 => {
                let most = [10, 60, 300][rng.index(3)];
                let n = 1 + rng.index(most);
                let mut entries = source.fresh(n, &set);
                entries.sort_unstable();
                Step::Batch(entries)
            }
            _ => {
                let Some(mut pos) = source.fresh(1, &set).pop() else {
                    continue;
                };
                if rng.once_in(2)
                    && let Some(tid) = unused.pop()
                {
                    pos.tid = tid;
                }
                Step::Insert(pos)
            }
        };
        step.note(&mut set);
        steps.push(step);
    }
    steps
}
