//! Calls that fail, as nearly every call into PostgreSQL may: a page cannot be
//! read, the disk is full, memory is short, the statement is cancelled. Unlike
//! after a crash, the store goes on, and so does who called it.

use super::SimStore;
use crate::error::{Error, Result};

/// What a call that fails says.
pub const FAULT: Error = Error::OutOfMemory { bytes: 0 };

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It returns [`FAULT`].
    Returned,
    /// It panics with [`FAULT`]: an ERROR of PostgreSQL unwinds the stack.
    Unwinding,
}

/// The call of an actor that is to fail.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    /// Calls up to that one, itself included.
    left: u64,
    failure: Failure,
}

impl SimStore {
    /// Makes this actor's call number `n` from here, counted from 1, fail. Nothing
    /// has happened when it does, but that [`allocate`] may have lost the page.
    ///
    /// [`allocate`]: crate::store::PageStore::allocate
    pub fn fail_call(&self, n: u64, failure: Failure) {
        self.world().faults[self.actor] = Some(Fault { left: n, failure });
    }

    /// Lets all calls of this actor succeed from here. Returns whether the one
    /// that was to fail has not come.
    pub fn forgive(&self) -> bool {
        self.world().faults[self.actor].take().is_some()
    }

    /// Counts a call, and fails the one that is to. For what stands beside the
    /// store too, such as the heap.
    ///
    /// # Errors
    /// [`FAULT`].
    pub fn call(&self) -> Result<()> {
        let mut world = self.world();
        let Some(fault) = &mut world.faults[self.actor] else {
            return Ok(());
        };
        fault.left = fault.left.saturating_sub(1);
        if fault.left > 0 {
            return Ok(());
        }
        let failure = fault.failure;
        world.faults[self.actor] = None;
        drop(world);
        match failure {
            Failure::Returned => Err(FAULT),
            Failure::Unwinding => std::panic::resume_unwind(Box::new(FAULT)),
        }
    }
}
