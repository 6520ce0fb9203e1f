//! The tree algorithms, over any [`PageStore`].
//!
//! A Lehman-Yao tree: each page owns the positions from its low fence up to its
//! high fence, and links to its siblings. A reader trusts no pointer: on
//! arrival it checks what the page is and whether it owns the position looked
//! for, and else walks right or descends again from the root. So hints (the
//! router's and remembered blocks) may be as stale as they like.

mod ahead;
mod bulk;
mod check;
mod descend;
mod drop_dead;
mod insert;
mod interval;
mod map;
mod merge;
mod publish;
mod route;
mod scan;
mod split;
mod stats;
#[cfg(test)]
mod tests;
mod vacuum;

pub use crate::page::DeadRows;
pub use bulk::{BulkLoader, BulkOptions, BulkResult, PageSink};
pub use check::{CheckReport, Witness, check, check_beside_writers};
pub use insert::{InsertOptions, Liveness, NoDead};
pub use interval::Interval;
pub use publish::{Loaded, free_model_page, load_model, publish_model, read_model};
pub use route::{Counters, Router};
pub use scan::{Batch, BitmapLookahead, LOOKAHEAD_PAGES, Lookahead, Mark, Reached, Scan, Turns};
pub use stats::{PageTally, tally_page};
pub use vacuum::{DeleteStats, Pause, Scavenged};

use crate::error::{Error, Result};
use crate::key::{Block, Pos};
use crate::page::EditScratch;
use crate::store::PageStore;
use core::cell::{Cell, RefCell};

/// Fresh descents after which pages that still do not fit together are taken
/// for damaged: concurrent splits and merges need one or two.
const MAX_DESCENTS: usize = 50;

/// Right links followed before a fresh descent is tried.
const MAX_HOPS: usize = 1000;

/// Entries that are dropped at once, of those that a scan has found dead.
pub const MAX_KILLED: usize = insert::MAX_DEAD_CHECK;

/// An index: its pages, and what this process has learned of them.
pub struct Tree<'a, S: PageStore, const V: usize> {
    store: &'a S,
    router: &'a RefCell<Router<V>>,
    /// Pages that this process has locked while it looks for another one. A
    /// stale or damaged pointer may lead back to them, and locking a page twice
    /// would never end.
    held: Cell<Held>,
}

/// Who merges pages holds three siblings when it turns to their parent; who
/// splits one holds a child.
const MAX_HELD: usize = 4;

#[derive(Clone, Copy)]
struct Held {
    blocks: [Block; MAX_HELD],
    len: usize,
}

impl<'a, S: PageStore, const V: usize> Tree<'a, S, V> {
    /// The tree in `store`, reached through `router`.
    pub fn new(store: &'a S, router: &'a RefCell<Router<V>>) -> Self {
        Self {
            store,
            router,
            held: Cell::new(Held {
                blocks: [0; MAX_HELD],
                len: 0,
            }),
        }
    }

    /// The store.
    pub fn store(&self) -> &'a S {
        self.store
    }

    fn holds_locks(&self) -> bool {
        self.held.get().len > 0
    }

    fn is_held(&self, block: Block) -> bool {
        let held = self.held.get();
        held.blocks.iter().take(held.len).any(|held| *held == block)
    }

    /// Runs `work` while `blocks` are known to be locked.
    fn with_held<T>(&self, blocks: &[Block], work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.held.get();
        let mut held = before;
        for block in blocks {
            let what = "too many pages are locked";
            *held.blocks.get_mut(held.len).ok_or(Error::Corrupt {
                block: *block,
                what,
            })? = *block;
            held.len += 1;
        }
        self.held.set(held);
        let result = work();
        self.held.set(before);
        result
    }

    /// The router.
    pub fn router(&self) -> &'a RefCell<Router<V>> {
        self.router
    }
}

/// What a sound page holds fits where a rewrite puts it. If it does not, page
/// `block` is damaged: its blocks overlap, or more are counted than it can have.
fn fits<T>(rewritten: Result<T>, block: Block) -> Result<T> {
    rewritten.map_err(|error| match error {
        Error::Full => {
            let what = "a page holds more than has room on it";
            Error::Corrupt { block, what }
        }
        error => error,
    })
}

/// Room for writers, allocated before any lock is taken.
pub struct Scratch<const V: usize> {
    pub(crate) edit: EditScratch<V>,
    pub(crate) items: Vec<(Pos<V>, Block)>,
    pub(crate) tids: Vec<u64>,
    pub(crate) fresh: Vec<u64>,
    pub(crate) dead: Vec<bool>,
    /// Entries as they stand in a delta area.
    pub(crate) append: Vec<u8>,
}

impl<const V: usize> Scratch<V> {
    /// Allocates the room for pages of `page_size` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(page_size: usize) -> Result<Self> {
        let mut items = Vec::new();
        let n = 2 * crate::page::inner_capacity::<V>(page_size) + 2;
        items.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
            bytes: n * size_of::<(Pos<V>, Block)>(),
        })?;
        let (mut tids, mut fresh) = (Vec::new(), Vec::new());
        for room in [&mut tids, &mut fresh] {
            let bytes = insert::MAX_DEAD_CHECK * 8;
            room.try_reserve_exact(insert::MAX_DEAD_CHECK)
                .map_err(|_| Error::OutOfMemory { bytes })?;
        }
        let mut append = Vec::new();
        let bytes = crate::page::delta_capacity(page_size) * Pos::<V>::BYTES;
        append
            .try_reserve_exact(bytes)
            .map_err(|_| Error::OutOfMemory { bytes })?;
        let mut dead = Vec::new();
        dead.try_reserve_exact(insert::MAX_DEAD_CHECK)
            .map_err(|_| Error::OutOfMemory {
                bytes: insert::MAX_DEAD_CHECK,
            })?;
        Ok(Self {
            edit: EditScratch::new(page_size)?,
            items,
            tids,
            fresh,
            dead,
            append,
        })
    }
}
