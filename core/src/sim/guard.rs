//! Locked and pinned pages.

use super::SimStore;
use crate::key::Block;
use crate::store::PageGuard;
use std::ops::Deref;
use std::sync::Arc;

/// A locked page.
pub struct SimGuard {
    pub(super) store: SimStore,
    pub(super) block: Block,
    pub(super) exclusive: bool,
    pub(super) bytes: Arc<Vec<u8>>,
    /// The pin outlives the lock.
    keep_pin: bool,
}

impl SimGuard {
    /// Takes over a lock and a pin.
    pub(super) fn new(
        store: &SimStore,
        block: Block,
        exclusive: bool,
        bytes: Arc<Vec<u8>>,
    ) -> Self {
        Self {
            store: store.clone(),
            block,
            exclusive,
            bytes,
            keep_pin: false,
        }
    }
}

impl Deref for SimGuard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for SimGuard {
    fn drop(&mut self) {
        self.store
            .release(self.block, self.exclusive, self.keep_pin);
    }
}

impl PageGuard for SimGuard {
    type Pin = SimPin;

    fn block(&self) -> Block {
        self.block
    }

    fn into_pin(mut self) -> SimPin {
        self.keep_pin = true;
        SimPin {
            store: self.store.clone(),
            block: self.block,
        }
    }

    fn expect_reads(&self) {
        self.store.world().expected += 1;
    }
}

/// A pin without a lock.
pub struct SimPin {
    store: SimStore,
    block: Block,
}

impl Drop for SimPin {
    fn drop(&mut self) {
        if let Some(page) = self.store.world().pages.get_mut(self.block as usize) {
            page.pins -= 1;
        }
        if let Some(scheduler) = &self.store.scheduler {
            scheduler.unblock_all();
        }
    }
}
