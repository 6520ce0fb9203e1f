//! Where the pages of an index go while it is built: the main fork, logged as
//! a whole at the end, or the init fork of an unlogged index, logged page by
//! page.

use omen_core::tree::PageSink;
use omen_core::{Block, Result};
use pgrx::check_for_interrupts;
use pgrx::pg_sys;

use super::buffer::{Exclusive, Pin};
use super::relation::needs_wal;
use super::store::PAGE_SIZE;

/// Locks page `block` of a fork that nobody else sees, adding it if it is the
/// one behind the last.
///
/// # Safety
/// `index` is open, and nobody else reads or writes the fork.
unsafe fn page_of(
    index: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    block: Block,
    blocks: &mut Block,
) -> Exclusive {
    let (number, mode) = if block < *blocks {
        (block, pg_sys::ReadBufferMode::RBM_NORMAL)
    } else {
        // Nobody extends the fork meanwhile: no extension lock.
        *blocks += 1;
        let mode = pg_sys::ReadBufferMode::RBM_ZERO_AND_LOCK;
        (pg_sys::InvalidBlockNumber, mode)
    };
    // SAFETY: the index is open; the pin is taken over, and with it the lock
    // that RBM_ZERO_AND_LOCK has taken.
    unsafe {
        let buffer = pg_sys::ReadBufferExtended(index, fork, number, mode, core::ptr::null_mut());
        let pin = Pin::new(buffer);
        if mode == pg_sys::ReadBufferMode::RBM_NORMAL {
            pin.exclusive(block)
        } else {
            Exclusive::new(pin, block)
        }
    }
}

/// The main fork of an index that is being built.
#[derive(Debug)]
pub struct NewFork {
    index: pg_sys::Relation,
    blocks: Block,
}

impl NewFork {
    /// The main fork of `index`, which is empty.
    ///
    /// # Safety
    /// `index` stays open while the result is used, and nobody else reads or
    /// writes it.
    pub unsafe fn new(index: pg_sys::Relation) -> Self {
        Self { index, blocks: 0 }
    }

    /// Logs all pages, unless the index is not logged or will be synced at
    /// commit instead.
    pub fn log(self) {
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the index is open, and has as many pages as were written.
        unsafe {
            if needs_wal(self.index) {
                pg_sys::log_newpage_range(self.index, fork, 0, self.blocks, true);
            }
        }
    }
}

impl PageSink for NewFork {
    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn put(&mut self, block: Block, page: &[u8]) -> Result<()> {
        check_for_interrupts!();
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: by the contract of `new`.
        let mut guard = unsafe { page_of(self.index, fork, block, &mut self.blocks) };
        guard.bytes_mut().copy_from_slice(page);
        // SAFETY: the buffer is pinned and exclusively locked.
        unsafe { pg_sys::MarkBufferDirty(guard.buffer()) };
        Ok(())
    }
}

/// The init fork of an unlogged index: what the index is reset to after a
/// crash.
#[derive(Debug)]
pub struct EmptyFork {
    index: pg_sys::Relation,
    blocks: Block,
}

impl EmptyFork {
    /// The init fork of `index`, which exists and is empty.
    ///
    /// # Safety
    /// As for [`NewFork::new`].
    pub unsafe fn new(index: pg_sys::Relation) -> Self {
        Self { index, blocks: 0 }
    }
}

impl PageSink for EmptyFork {
    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn put(&mut self, block: Block, page: &[u8]) -> Result<()> {
        let fork = pg_sys::ForkNumber::INIT_FORKNUM;
        // SAFETY: by the contract of `new`.
        let mut guard = unsafe { page_of(self.index, fork, block, &mut self.blocks) };
        // SAFETY: the buffer is pinned and exclusively locked. Change and
        // record form a critical section: an ERROR in between is a PANIC.
        unsafe {
            pg_sys::CritSectionCount += 1;
            guard.bytes_mut().copy_from_slice(page);
            pg_sys::MarkBufferDirty(guard.buffer());
            pg_sys::log_newpage_buffer(guard.buffer(), true);
            pg_sys::CritSectionCount -= 1;
        }
        Ok(())
    }
}
