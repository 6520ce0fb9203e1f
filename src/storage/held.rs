//! The content locks that this process has through its guards, in builds for
//! tests (with debug assertions, or with planted faults). What the rules of
//! locking forbid ends the server with "TRAP", as an assertion of PostgreSQL
//! does; otherwise it would be a process that waits for itself without an end,
//! and cannot be cancelled.
//!
//! The simulator's store has the same rules, and that of the order of locks.

use pgrx::pg_sys;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A writer.
    Share,
    /// Readers and writers.
    Exclusive,
    /// Readers, writers and pins.
    Cleanup,
}

#[cfg(not(any(debug_assertions, feature = "planted_faults")))]
mod tracker {
    use super::{Mode, pg_sys};

    #[inline(always)]
    pub fn wanted(_: pg_sys::Buffer, _: Mode) {}
    #[inline(always)]
    pub fn taken(_: pg_sys::Buffer, _: bool) {}
    #[inline(always)]
    pub fn given_back(_: pg_sys::Buffer) {}
    #[inline(always)]
    pub fn must_be_exclusive(_: pg_sys::Buffer) {}
    #[inline(always)]
    pub fn must_be_none(_: &str) {}
}

#[cfg(any(debug_assertions, feature = "planted_faults"))]
mod tracker {
    use core::cell::Cell;

    use super::{Mode, pg_sys};

    /// More locks than any operation takes.
    const MOST: usize = 16;

    thread_local! {
        /// Buffers and whether they are locked exclusively; buffer 0 is none.
        /// An array, since nothing may be allocated under a lock.
        static HELD: Cell<[(pg_sys::Buffer, bool); MOST]> = const { Cell::new([(0, false); MOST]) };
    }

    fn held() -> impl Iterator<Item = (pg_sys::Buffer, bool)> {
        HELD.get().into_iter().filter(|(buffer, _)| *buffer != 0)
    }

    fn require(kept: bool, rule: &str, buffer: pg_sys::Buffer) {
        if !kept {
            eprintln!(
                "TRAP: {rule} (buffer {buffer}; locked are {:?})",
                HELD.get()
            );
            std::process::abort();
        }
    }

    /// A lock is about to be waited for.
    pub fn wanted(buffer: pg_sys::Buffer, mode: Mode) {
        require(
            held().all(|(other, _)| other != buffer),
            "a page is locked twice",
            buffer,
        );
        match mode {
            Mode::Share | Mode::Exclusive => require(
                held().all(|(_, exclusive)| exclusive),
                "a reader waits for a second lock",
                buffer,
            ),
            Mode::Cleanup => must_be_none("waits for a cleanup lock with a lock"),
        }
    }

    /// A lock has been taken.
    pub fn taken(buffer: pg_sys::Buffer, exclusive: bool) {
        let mut all = HELD.get();
        let free = all.iter_mut().find(|(buffer, _)| *buffer == 0);
        require(free.is_some(), "too many locks", buffer);
        if let Some(free) = free {
            *free = (buffer, exclusive);
        }
        HELD.set(all);
    }

    /// A lock is about to be released, by us or by the abort of the transaction.
    pub fn given_back(buffer: pg_sys::Buffer) {
        let mut all = HELD.get();
        let place = all.iter_mut().find(|(other, _)| *other == buffer);
        require(place.is_some(), "releases a lock that it has not", buffer);
        if let Some(place) = place {
            *place = (0, false);
        }
        HELD.set(all);
    }

    /// A page is about to be changed.
    pub fn must_be_exclusive(buffer: pg_sys::Buffer) {
        require(
            held().any(|lock| lock == (buffer, true)),
            "changes a page without an exclusive lock",
            buffer,
        );
    }

    /// Something is about to be done that nobody may wait for. Interrupts are none
    /// of it: PostgreSQL holds them off under a lock.
    pub fn must_be_none(what: &str) {
        require(held().next().is_none(), what, 0);
    }
}

pub use tracker::{given_back, must_be_exclusive, must_be_none, taken, wanted};
