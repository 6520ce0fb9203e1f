//! What a scan has found dead on the way.

use super::Scan;
use crate::error::Result;
use crate::key::{Block, INVALID_BLOCK, Pos, Tid};
use crate::page::Header;
use crate::planted;
use crate::store::PageStore;
use crate::tree::insert::Liveness;
use crate::tree::route::Router;
use crate::tree::{MAX_KILLED, Scratch, Tree};
use core::cell::RefCell;

/// Entries that are remembered from the first on: what a scan meets that finds
/// little dead.
const FIRST_ROOM: usize = 32;
/// Dead entries of a leaf that a process remembers at most.
const MAX_KNOWN: usize = 256;

/// How a leaf was written last. As long as it is the same, all entries that were there
/// are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Writing {
    generation: u32,
    rewrites: u32,
}

impl Writing {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            generation: header.generation,
            rewrites: header.rewrites,
        }
    }
}

/// Entries of one leaf, whose rows are dead to everybody. Their places may have
/// changed since; what they are looked up with has not.
#[derive(Clone)]
pub(super) struct Killed<const V: usize> {
    block: Block,
    writing: Writing,
    entries: Vec<Pos<V>>,
}

impl<const V: usize> Killed<V> {
    pub(super) const NONE: Self = Self {
        block: INVALID_BLOCK,
        writing: Writing {
            generation: 0,
            rewrites: 0,
        },
        entries: Vec::new(),
    };

    fn is_of(&self, block: Block, writing: Writing) -> bool {
        let same = self.writing == writing || planted::is("known_dead_of_old_page");
        self.block == block && same
    }

    /// Notes an entry of a leaf. Those of another leaf are forgotten, and so is what
    /// there is no room for. If the leaf is written anew meanwhile, all are noted of it
    /// as it was for the first: they can be dropped, but say nothing of it as it is.
    fn note(&mut self, block: Block, writing: Writing, pos: Pos<V>) {
        if self.block != block || self.entries.is_empty() {
            self.entries.clear();
            self.block = block;
            self.writing = writing;
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

    /// Adds entries, as many as there is room for.
    fn add(&mut self, entries: &[Pos<V>], most: usize) {
        let room = most.saturating_sub(self.entries.len()).min(entries.len());
        if self.entries.try_reserve(room).is_ok() {
            self.entries.extend(entries.iter().take(room));
        }
        self.sort();
    }
}

/// What a process knows of dead rows: entries of one leaf, where it last met some that
/// were too few to be dropped. It need not look at these rows again.
///
/// nbtree marks such entries on the page (`LP_DEAD`), for everybody. Here a scan has
/// read the entry, and its row was seen to be dead to everybody after that. The TID
/// cannot be of another row before VACUUM has taken the entry out of the leaf, and then
/// that was written anew. So an entry of the leaf as it was written then is dead.
#[derive(Clone)]
pub(in crate::tree) struct KnownDead<const V: usize> {
    known: Killed<V>,
    /// Of what is known, ascending.
    tids: Vec<Tid>,
}

impl<const V: usize> KnownDead<V> {
    pub(in crate::tree) const NONE: Self = Self {
        known: Killed::NONE,
        tids: Vec::new(),
    };

    /// The rows that are known to be dead of a leaf as it was written then, ascending.
    #[inline]
    pub(super) fn of(&self, block: Block, writing: Writing) -> &[Tid] {
        if self.known.is_of(block, writing) {
            &self.tids
        } else {
            &[]
        }
    }

    pub(in crate::tree) fn bytes(&self) -> usize {
        self.known.entries.capacity() * size_of::<Pos<V>>()
            + self.tids.capacity() * size_of::<Tid>()
    }

    /// Adds what was noted in the leaf that is known. Of another leaf, that takes its
    /// place, and `noted` gets what was known of the one before.
    fn learn(&mut self, noted: &mut Killed<V>) {
        noted.sort();
        if self.known.is_of(noted.block, noted.writing) {
            self.known.add(&noted.entries, MAX_KNOWN);
            noted.entries.clear();
        } else if noted.block == self.known.block && noted.writing < self.known.writing {
            // It says nothing of the leaf any more.
            noted.entries.clear();
        } else {
            let before = self.known.block;
            core::mem::swap(&mut self.known, noted);
            self.known.entries.truncate(MAX_KNOWN);
            if before == self.known.block {
                // They are gone, or will be met again.
                noted.entries.clear();
            }
        }
        self.tids.clear();
        if self.tids.try_reserve(self.known.entries.len()).is_ok() {
            self.tids
                .extend(self.known.entries.iter().map(|pos| pos.tid));
        }
        self.tids.sort_unstable();
    }
}

impl<P, const V: usize> Scan<P, V> {
    /// Notes that the row of the current entry is dead to everybody. A hint: nothing
    /// comes of it if memory is short. Cannot fail.
    #[inline(never)]
    pub fn kill(&mut self) {
        if let (Some(pos), Some(page)) = (self.current(), self.page) {
            self.killed.note(page.block, page.writing, pos);
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

    /// Lets this process pass from now on what was noted, if the rows were dead when they
    /// were looked at, after the scan had come to their entries. Returns how many entries
    /// are known to be dead of the leaf that is known then. What was known of another one
    /// is forgotten, and noted instead.
    pub fn remember_killed(&mut self, router: &RefCell<Router<V>>) -> usize {
        let known = &mut router.borrow_mut().known_dead;
        known.learn(&mut self.killed);
        known.tids.len()
    }

    /// Notes all entries that this process knows to be dead, and nothing else.
    pub fn recall_killed(&mut self, router: &RefCell<Router<V>>) {
        let known = &router.borrow().known_dead.known;
        (self.killed.block, self.killed.writing) = (known.block, known.writing);
        self.killed.entries.clear();
        self.killed.add(&known.entries, MAX_KNOWN);
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
        let Killed { block, entries, .. } = &mut self.killed;
        let dropped = tree.drop_dead(*block, entries, least, scratch, liveness);
        entries.clear();
        dropped
    }
}
