//! What a scan has found dead on the way.

use super::Scan;
use crate::error::Result;
use crate::key::{Block, INVALID_BLOCK, Pos, Tid};
use crate::store::PageStore;
use crate::tree::insert::Liveness;
use crate::tree::{MAX_KILLED, Scratch, Tree};

/// Entries that are remembered from the first on: what a scan meets that finds
/// little dead.
const FIRST_ROOM: usize = 32;

/// Entries of one leaf, whose rows are dead to everybody. Their places may have
/// changed since; what they are looked up with has not.
pub(super) struct Killed<const V: usize> {
    block: Block,
    entries: Vec<Pos<V>>,
}

impl<const V: usize> Killed<V> {
    pub(super) const NONE: Self = Self {
        block: INVALID_BLOCK,
        entries: Vec::new(),
    };

    /// Notes an entry of a leaf. Those of another leaf are forgotten, and so is what
    /// there is no room for.
    fn note(&mut self, block: Block, pos: Pos<V>) {
        if self.block != block {
            self.entries.clear();
            self.block = block;
        }
        let room = self.entries.capacity() > self.entries.len()
            || self.entries.try_reserve(FIRST_ROOM).is_ok();
        if room && !self.is_full() {
            self.entries.push(pos);
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_KILLED
    }

    /// Puts the entries in order. A scan that starts over finds some again.
    fn sort(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }
}

impl<P, const V: usize> Scan<P, V> {
    /// Notes that the row of the current entry is dead to everybody. A hint: nothing
    /// comes of it if memory is short. Cannot fail.
    #[inline(never)]
    pub fn kill(&mut self) {
        if let (Some(pos), Some(page)) = (self.current(), self.page) {
            self.killed.note(page.block, pos);
        }
    }

    /// Entries that were noted, some of them twice.
    #[inline]
    #[must_use]
    pub fn killed(&self) -> usize {
        self.killed.entries.len()
    }

    /// Whether it is time to drop what was noted, or to forget it: the scan has gone
    /// to another leaf, or no more can be noted.
    #[must_use]
    pub fn has_left_killed(&self) -> bool {
        let elsewhere = |block| block != self.killed.block;
        self.killed.is_full() || self.page.is_none_or(|page| elsewhere(page.block))
    }

    /// The rows of what was noted, in the order of the entries, each once.
    pub fn killed_rows(&mut self) -> impl ExactSizeIterator<Item = Tid> + '_ {
        self.killed.sort();
        self.killed.entries.iter().map(|pos| pos.tid)
    }

    /// Forgets what was noted.
    pub fn forget_killed(&mut self) {
        self.killed.entries.clear();
    }

    /// Drops what was noted and is dead still, as [`Tree::drop_dead`], and forgets
    /// all of it.
    ///
    /// # Errors
    /// As [`Tree::drop_dead`].
    pub fn drop_killed<S: PageStore<Pin = P>>(
        &mut self,
        tree: &Tree<'_, S, V>,
        least: usize,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<Option<usize>> {
        self.killed.sort();
        let Killed { block, entries } = &mut self.killed;
        let dropped = tree.drop_dead(*block, entries, least, scratch, liveness);
        entries.clear();
        dropped
    }
}
