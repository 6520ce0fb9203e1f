//! Dropping entries whose rows a scan has found dead.
//!
//! nbtree marks them on its pages, without a record. Here they leave the leaf, by a
//! record, as soon as they are enough and their line pointers in the heap are dead. Until
//! then the session passes those that it knows.

use core::cell::Cell;

use omen_core::Result;
use omen_core::tree::{Scan, Tree};
use pgrx::pg_sys;

use super::heap::{KilledRows, Turn, prune};
use super::state::{IndexState, with_scratch};
use crate::storage::{PgStore, Pin};

/// Dead entries from which on a record is worth its while: looking at the rows of so
/// many again costs about as much.
const LEAST: usize = 16;
/// Entries that the session knows to be dead, and no more looks at, from which on a
/// record is worth its while. Fewer leave room in the first batch of a scan.
const MANY: usize = 32;
/// Dead rows of one heap page from which on it is pruned at the first chance: that is
/// a record as well. Pages with fewer, as a queue leaves behind, have their turn once a
/// chance has come to nothing, or their entries would be passed for good.
const FEW_ROWS: usize = 4;
/// Chances that are let pass at most after one that came to nothing.
const MAX_PASSED: u16 = 254;

/// How many chances to drop something are let pass: twice as many as before and two
/// more, each time that nothing can be dropped. The number is even, so that queries
/// which come by turns are all tried.
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

    /// Whether the last chance that was taken came to nothing.
    fn is_tried(&self) -> bool {
        self.last.get() > 0
    }

    /// What came of it.
    fn note(&self, dropped: usize) {
        let next = match dropped {
            0 => (2 * self.last.get() + 2).min(MAX_PASSED),
            _ => 0,
        };
        self.left.set(next);
        self.last.set(next);
    }
}

/// Remembers what a scan has noted as dead, and drops what is known to be dead, if it
/// is worth its while and can be done without waiting for anybody. Nothing is locked.
///
/// # Safety
/// Index and table are open, and the index is the state's. The table is NULL if the
/// scan does not know it.
#[inline(never)]
pub(super) unsafe fn settle<const V: usize>(
    state: &IndexState<V>,
    scan: &mut Scan<Pin, V>,
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
) -> Result<()> {
    // A scan that starts over notes some again. Many are met again until they can be
    // dropped: only who meets them tries.
    let many_known =
        scan.killed_rows().len() < LEAST && scan.remember_killed(&state.router) >= MANY;
    let enough = many_known || scan.killed() >= LEAST;
    if !enough || heap.is_null() || !state.patience.is_over() {
        scan.forget_killed();
        return Ok(());
    }
    if many_known {
        scan.recall_killed(&state.router);
    }
    let turn = Turn::next();
    // SAFETY: the caller's promise.
    let (store, mut rows) = unsafe {
        let store = PgStore::new(index, &state.known);
        (store, KilledRows::of(heap, turn))
    };
    let dropped = with_scratch(|scratch| {
        let few = if state.patience.is_tried() {
            1
        } else {
            FEW_ROWS
        };
        // SAFETY: the caller's promise.
        unsafe { prune(heap, scan.killed_rows(), few, turn) };
        let tree = Tree::new(&store, &state.router);
        scan.drop_killed(&tree, LEAST, scratch, &mut rows)
    })?;
    if let Some(dropped) = dropped {
        state.patience.note(dropped);
    }
    Ok(())
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::Patience;
    use pgrx::prelude::*;

    #[pg_test]
    fn patience_grows_and_tries_all_that_come_by_turns() {
        let patience = Patience::default();
        let mut tried = [0; 2];
        for chance in 0..2000 {
            if patience.is_over() {
                tried[chance % 2] += 1;
                patience.note(0);
            }
        }
        // 3, 7, 15 .. 255 chances from one try to the next.
        assert!(tried[0] + tried[1] < 20, "{tried:?}");
        assert!(tried[0] > 4 && tried[1] > 4, "{tried:?}");
        assert!(patience.is_tried());
        patience.note(1);
        assert!(patience.is_over() && !patience.is_tried());
    }
}
