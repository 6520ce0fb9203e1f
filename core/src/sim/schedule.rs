//! Running actors one at a time, switching where a seed says.

use super::{Rng, SimStore};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Blocked,
    Done,
}

struct Turn {
    states: Vec<State>,
    /// Turns that each actor leaves to the others.
    asleep: Vec<u64>,
    current: usize,
    rng: Rng,
    failed: bool,
}

/// Hands a baton to one actor at a time.
pub(super) struct Scheduler {
    turn: Mutex<Turn>,
    wake: Vec<Condvar>,
}

impl Scheduler {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, turn: &mut Turn) {
        let mut ready: Vec<usize> = (0..turn.states.len())
            .filter(|&actor| turn.states[actor] == State::Ready)
            .collect();
        let awake: Vec<usize> = ready
            .iter()
            .copied()
            .filter(|&actor| turn.asleep[actor] == 0)
            .collect();
        for turns in &mut turn.asleep {
            *turns = turns.saturating_sub(1);
        }
        if !awake.is_empty() {
            ready = awake;
        }
        if ready.is_empty() {
            // Nobody can run: all are done, or they wait for each other.
            turn.failed |= turn.states.contains(&State::Blocked);
            self.wake.iter().for_each(Condvar::notify_one);
            return;
        }
        turn.current = ready[turn.rng.index(ready.len())];
        self.wake[turn.current].notify_one();
    }

    fn wait(&self, actor: usize, mut turn: MutexGuard<'_, Turn>) {
        while turn.current != actor && !turn.failed {
            turn = self.wake[actor]
                .wait(turn)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let failed = turn.failed;
        drop(turn);
        assert!(
            !failed || std::thread::panicking(),
            "actors wait for each other, or one failed"
        );
    }

    /// A point where another actor may run.
    pub(super) fn switch(&self, actor: usize) {
        if std::thread::panicking() {
            return;
        }
        let mut turn = self.turn();
        self.pass_on(&mut turn);
        self.wait(actor, turn);
    }

    /// The actor falls behind the others.
    pub(super) fn sleep(&self, actor: usize, turns: u64) {
        self.turn().asleep[actor] = turns;
    }

    /// The actor cannot go on before somebody releases a lock or a pin.
    pub(super) fn block(&self, actor: usize) {
        let mut turn = self.turn();
        turn.states[actor] = State::Blocked;
        self.pass_on(&mut turn);
        self.wait(actor, turn);
    }

    /// A lock or pin was released.
    pub(super) fn unblock_all(&self) {
        for state in &mut self.turn().states {
            if *state == State::Blocked {
                *state = State::Ready;
            }
        }
    }

    fn finish(&self, actor: usize, failed: bool) {
        let mut turn = self.turn();
        turn.states[actor] = State::Done;
        turn.failed |= failed;
        self.pass_on(&mut turn);
        if turn.failed {
            self.wake.iter().for_each(Condvar::notify_one);
        }
    }
}

struct Finish<'a>(&'a Scheduler, usize);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish(self.1, std::thread::panicking());
    }
}

/// An actor: what it does with its own view of the store.
pub type Actor<'a> = Box<dyn FnOnce(SimStore) + Send + 'a>;

/// Runs actors over one store, one at a time, switching at locks and waits as
/// `seed` decides: the same seed gives the same run.
///
/// # Panics
/// If an actor does, or if all wait for each other.
pub fn run_actors(store: &SimStore, seed: u64, actors: Vec<Actor<'_>>) {
    let n = actors.len();
    let mut rng = Rng::new(seed);
    let current = rng.index(n);
    let turn = Turn {
        states: vec![State::Ready; n],
        asleep: vec![0; n],
        current,
        rng,
        failed: false,
    };
    let scheduler = Arc::new(Scheduler {
        turn: Mutex::new(turn),
        wake: (0..n).map(|_| Condvar::new()).collect(),
    });
    store.world().set_actors(n);
    std::thread::scope(|scope| {
        for (actor, work) in actors.into_iter().enumerate() {
            let scheduler = scheduler.clone();
            let mut view = store.clone();
            view.scheduler = Some(scheduler.clone());
            view.actor = actor;
            scope.spawn(move || {
                let finish = Finish(&scheduler, actor);
                finish.0.wait(actor, finish.0.turn());
                work(view);
            });
        }
    });
    store.world().set_actors(1);
}
