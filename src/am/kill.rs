//! Dropping entries whose rows a scan has found dead.
//!
//! nbtree marks them on its pages, without a record. Here they leave the leaf, by a
//! record, as soon as their line pointers in the heap are dead.

use core::cell::Cell;

use omen_core::Result;
use omen_core::tree::{Scan, Tree};
use pgrx::pg_sys;

use super::heap::{KilledRows, prune};
use super::state::{IndexState, with_scratch};
use crate::storage::{PgStore, Pin};

/// Dead entries from which on a record is worth its while: passing so many again
/// costs about as much.
const LEAST: usize = 16;
/// Chances that are let pass at most after one that came to nothing.
const MAX_PASSED: u16 = 255;

/// How many chances to drop something are let pass: twice as many as before, each
/// time that nothing can be dropped.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    left: Cell<u16>,
    last: Cell<u16>,
}

impl Patience {
    /// Whether this chance is one to take.
    fn is_over(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0
    }

    /// What came of it.
    fn note(&self, dropped: usize) {
        let next = match dropped {
            0 => (2 * self.last.get() + 1).min(MAX_PASSED),
            _ => 0,
        };
        self.left.set(next);
        self.last.set(next);
    }
}

/// Whether a scan has met enough dead rows for [`drop_killed`].
#[inline]
pub(super) fn is_due<const V: usize>(scan: &Scan<Pin, V>) -> bool {
    scan.killed() >= LEAST
}

/// Drops what a scan has noted as dead, if it is worth its while and can be done
/// without waiting for anybody; or forgets it. Nothing is locked.
///
/// # Safety
/// Index and table are open, and the index is the state's. The table is NULL if the
/// scan does not know it.
#[cold]
pub(super) unsafe fn drop_killed<const V: usize>(
    state: &IndexState<V>,
    scan: &mut Scan<Pin, V>,
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
) -> Result<()> {
    if heap.is_null() || !state.patience.is_over() {
        scan.forget_killed();
        return Ok(());
    }
    // SAFETY: the caller's promise.
    let (store, mut rows) = unsafe { (PgStore::new(index, &state.known), KilledRows::of(heap)) };
    let dropped = with_scratch(|scratch| {
        // SAFETY: the caller's promise.
        unsafe { prune(heap, scan.killed_rows()) };
        let tree = Tree::new(&store, &state.router);
        scan.drop_killed(&tree, LEAST, scratch, &mut rows)
    })?;
    state.patience.note(dropped);
    Ok(())
}
