//! A session that goes on after errors.

use super::steps::Step;
use super::*;
use crate::page::model_page_capacity;
use crate::sim::{FAULT, Failure, Keys, Rng};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The call that fails, and how it fails.
pub(super) type Fault = (u64, Failure);

pub(super) const FAILURES: [Failure; 2] = [Failure::Returned, Failure::Unwinding];

/// A call that is never made.
const NO_FAULT: Fault = (u64::MAX, Failure::Returned);

/// A heap that cannot always be read.
pub(super) struct LinePointers<'a> {
    pub(super) store: &'a SimStore,
    pub(super) dead: &'a HashSet<Tid>,
}

impl Liveness for LinePointers<'_> {
    fn mark_dead(&mut self, _: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        for (at, (tid, dead)) in tids.iter().zip(dead).enumerate() {
            if at == tids.len() / 2 {
                self.store.call()?;
            }
            *dead = self.dead.contains(tid);
        }
        Ok(())
    }
}

/// Runs `work` with its call number `call` failing. Returns how it failed;
/// `None` if it does not make so many calls.
pub(super) fn fail(
    store: &SimStore,
    (call, failure): Fault,
    work: impl FnOnce() -> Result<()>,
) -> Option<Failure> {
    store.fail_call(call, failure);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let failed = !store.forgive();
    match outcome {
        Ok(Ok(())) => {
            assert!(!failed, "an error was not passed on");
            None
        }
        Ok(Err(FAULT)) => Some(Failure::Returned),
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) if panic.downcast_ref() == Some(&FAULT) => Some(Failure::Unwinding),
        Err(panic) => resume_unwind(panic),
    }
}

/// A table with its index, and the process that uses it.
pub(super) struct Session {
    pub(super) lab: Lab<1>,
    /// Rows whose line pointers are dead.
    dead: HashSet<Tid>,
}

impl Session {
    pub(super) fn new(lab: Lab<1>) -> Self {
        let dead = HashSet::new();
        Self { lab, dead }
    }

    /// Does work in another session of the same past, but with this one's room
    /// for writers.
    pub(super) fn on_twin<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let lab = &mut self.lab;
        let mut twin = Lab::over(lab.store.copy(), lab.set.clone());
        twin.fill = lab.fill;
        twin.router = RefCell::new(lab.router.borrow().clone());
        std::mem::swap(&mut twin.scratch, &mut lab.scratch);
        let mut twin = Self {
            lab: twin,
            dead: self.dead.clone(),
        };
        let result = work(&mut twin);
        std::mem::swap(&mut twin.lab.scratch, &mut self.lab.scratch);
        result
    }

    /// Runs a step with a call that fails. Returns whether it did: then the step
    /// may have been done, or a part of it.
    pub(super) fn try_run(&mut self, step: &Step, fault: Fault) -> bool {
        let (store, before) = (&self.lab.store, self.lab.set.clone());
        let mut after = before.clone();
        step.note(&mut after);
        let tree = Tree::new(store, &self.lab.router);
        let mut heap = LinePointers {
            store,
            dead: &self.dead,
        };
        let (fill, scratch) = (self.lab.fill, &mut self.lab.scratch);
        let failed = fail(store, fault, || step.run(&tree, fill, scratch, &mut heap));
        if failed == Some(Failure::Unwinding) {
            // The room for writers goes with the stack.
            *scratch = Scratch::new(store.page_size()).unwrap();
        } else {
            assert!(!tree.holds_locks());
        }
        let least = if failed.is_some() { &before } else { &after };
        self.lab.set = survey(store, &self.dead, least, &after);
        if let (Step::Delete(dead), None) = (step, failed) {
            // Their line pointers are unused from here on.
            self.dead.retain(|tid| !dead.contains(tid));
        }
        failed.is_some()
    }

    /// Runs a step, which may have failed before.
    pub(super) fn run(&mut self, step: &Step) {
        if let Some(rest) = step.rest(&self.lab.set) {
            assert!(!self.try_run(&rest, NO_FAULT));
        }
    }

    /// Runs a step on twins, in each of which another of its calls fails, one of
    /// `every`, and then again.
    pub(super) fn fail_everywhere(&mut self, step: &Step, every: u64, rng: &mut Rng) {
        let height = self.on_twin(|twin| {
            twin.run(step);
            twin.lab.verify().height
        });
        for failure in FAILURES {
            let mut call = 1 + rng.below(every);
            while self.on_twin(|twin| {
                let failed = twin.try_run(step, (call, failure));
                if failed {
                    twin.run(step);
                    assert!(
                        twin.lab.verify().height <= height,
                        "the root does not shrink"
                    );
                    twin.go_on(rng);
                }
                failed
            }) {
                call += 1 + rng.below(2 * every - 1);
            }
        }
    }

    /// Now and then: whatever leaked is found, and nothing in memory leads astray.
    fn go_on(&mut self, rng: &mut Rng) {
        if !rng.once_in(4) {
            return;
        }
        let mut source = Source::new(Keys::Random, Rows::Scattered, rng.word());
        for pos in source.fresh(12, &self.lab.set) {
            self.lab.insert(pos);
        }
        let lab = &self.lab;
        assert!(lab.all(true).iter().eq(lab.set.iter()));
        assert!(lab.all(false).iter().eq(lab.set.iter().rev()));
        no_page_is_lost(lab);
        let model = read_model(&lab.store, &lab.tree().meta().unwrap());
        assert!(matches!(model, Ok(Loaded::Model(_) | Loaded::None)));
    }

    /// Lets the row of an entry die, or of one before it.
    pub(super) fn kill_near(&mut self, pos: &Pos<1>, rng: &mut Rng) {
        let victim = self.lab.set.range(..=pos).nth_back(rng.index(3));
        self.dead.extend(victim.map(|pos| pos.tid));
    }
}

/// What a quiet tree holds: what it held, as far as a step has gone that makes
/// it `after`. Dead rows may be missing. Nobody has a lock or a pin.
fn survey(
    store: &SimStore,
    dead: &HashSet<Tid>,
    before: &BTreeSet<Pos<1>>,
    after: &BTreeSet<Pos<1>>,
) -> BTreeSet<Pos<1>> {
    assert_eq!(store.pins(), 0, "a lock or pin is left");
    let mut found = BTreeSet::new();
    let router = RefCell::new(Router::new(0));
    check(&Tree::new(store, &router), &mut |pos| {
        found.insert(pos);
    })
    .unwrap();
    for pos in before.intersection(after) {
        let excused = dead.contains(&pos.tid);
        assert!(excused || found.contains(pos), "{pos:?} is lost");
    }
    for pos in &found {
        let known = before.contains(pos) || after.contains(pos);
        assert!(known, "{pos:?} is made up");
    }
    found
}

/// Every page is part of the tree or of the model, or known to be free once the
/// index was scavenged. Returns how many were not known before.
pub(super) fn no_page_is_lost(lab: &Lab<1>) -> usize {
    let known = lab.store.known_free();
    let free = lab.tree().scavenge(&mut || Ok(())).unwrap().free;
    assert_eq!(lab.store.known_free(), free as usize);
    let (report, meta) = (lab.verify(), lab.tree().meta().unwrap());
    let of_model = (meta.model_bytes as usize).div_ceil(model_page_capacity(lab.store.page_size()));
    let used = 1 + report.leaves + report.inner + of_model as u32;
    assert_eq!(used + free, lab.store.pages().unwrap(), "a page is lost");
    free as usize - known
}
