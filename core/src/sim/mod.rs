//! A page store in memory for tests: it can stop after any record, as a crash
//! would, fail at any call, as PostgreSQL may, and run several actors in an order
//! that a seed decides.
//!
//! Locks, pins and records behave as PostgreSQL's: a page has readers or one
//! writer, a cleanup lock waits for all other pins, a record applies to all its
//! pages or to none. What the rules of locking forbid (locking a page twice,
//! two share locks at a time, waiting for a cleanup lock with a lock in hand,
//! changing a page outside of a record, links to pages that do not exist) is a
//! panic, and so is a deadlock.

mod fault;
mod guard;
mod random;
mod record;
mod schedule;
mod source;
mod world;

pub use fault::{FAULT, Failure};
pub use guard::{SimGuard, SimPin};
pub use random::Rng;
pub use record::SimRecord;
pub use schedule::{Actor, run_actors};
pub use source::{ALL_KEYS, ALL_ROWS, Keys, Lanes, Rows, Source};

use crate::error::{Error, Result};
use crate::key::Block;
use crate::page;
use crate::store::{Edit, Image, PageStore, RECORD_EDITS, Record};
use schedule::Scheduler;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use world::{SimPage, World};

/// The store. Clones share the pages; each belongs to one actor.
#[derive(Clone)]
pub struct SimStore {
    world: Arc<Mutex<World>>,
    scheduler: Option<Arc<Scheduler>>,
    actor: usize,
    page_size: usize,
}

impl SimStore {
    /// An empty store for one actor.
    #[must_use]
    pub fn new(page_size: usize) -> Self {
        Self::over(World::new(Vec::new()), page_size)
    }

    fn over(world: World, page_size: usize) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            scheduler: None,
            actor: 0,
            page_size,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the store when `records` more records have been committed: every
    /// later operation fails with [`Error::Stopped`].
    pub fn stop_after(&self, records: u64) {
        let mut world = self.world();
        world.stop_after = Some(world.commits + records);
    }

    /// Allows `locks` more locks to be taken: an operation that goes round in
    /// circles panics then.
    pub fn limit_locks(&self, locks: u64) {
        let mut world = self.world();
        world.most_locks = world.locks.saturating_add(locks);
    }

    /// Locks taken so far.
    #[must_use]
    pub fn locks(&self) -> u64 {
        self.world().locks
    }

    /// How often a page was said to be read to one end.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.world().expected
    }

    /// Pins held by anybody.
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.world().pages.iter().map(|page| page.pins).sum()
    }

    /// Whether this actor has locked a page.
    #[must_use]
    pub fn holds_lock(&self) -> bool {
        !self.world().held[self.actor].is_empty()
    }

    /// Records committed so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.world().commits
    }

    /// The store as recovery finds it: all committed records applied, all locks
    /// and pins gone, the list of free pages lost.
    #[must_use]
    pub fn recover(&self) -> Self {
        let world = self.world();
        let pages = world.pages.iter().map(|page| page.bytes.clone());
        let pages = pages.map(SimPage::new).collect();
        Self::over(World::new(pages), self.page_size)
    }

    /// The store as it is, for one actor.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = self.recover();
        copy.world().free.clone_from(&self.world().free);
        copy
    }

    /// Free pages that [`PageStore::allocate`] would hand out before it makes a
    /// new one.
    #[must_use]
    pub fn known_free(&self) -> usize {
        let world = self.world();
        let reusable = |block: &&Block| {
            let page = world.pages.get(**block as usize);
            page.is_some_and(|page| page::header(&page.bytes, **block).is_ok_and(|h| h.reusable()))
        };
        world.free.iter().filter(reusable).count()
    }

    /// The bytes of a page, whatever locks it has.
    #[must_use]
    pub fn bytes(&self, block: Block) -> Option<Vec<u8>> {
        self.world()
            .pages
            .get(block as usize)
            .map(|page| page.bytes.as_ref().clone())
    }

    /// Overwrites a page without a record: damage.
    pub fn overwrite(&self, block: Block, bytes: Vec<u8>) {
        let mut world = self.world();
        world.damaged = true;
        if let Some(page) = world.pages.get_mut(block as usize) {
            page.bytes = Arc::new(bytes);
        }
    }

    /// Lets other actors run: a point where this one may have to wait for
    /// something that is not of this store.
    pub fn yield_turn(&self) {
        if let Some(scheduler) = &self.scheduler {
            scheduler.switch(self.actor);
        }
    }

    /// Leaves the next turns to other actors, as far as they can run.
    pub fn sleep(&self, turns: u64) {
        if let Some(scheduler) = &self.scheduler {
            scheduler.sleep(self.actor, turns);
        }
    }

    fn acquire(&self, block: Block, mode: Mode) -> Result<Option<SimGuard>> {
        self.yield_turn();
        loop {
            let mut world = self.world();
            if world.stopped() {
                return Err(Error::Stopped);
            }
            world.locks += 1;
            assert!(
                world.locks <= world.most_locks,
                "so many locks that it looks like a circle"
            );
            let held = &world.held[self.actor];
            let conditional = matches!(mode, Mode::TryCleanup | Mode::TryExclusive);
            if held.iter().any(|(b, _)| *b == block) {
                assert!(conditional, "page {block} is locked twice");
                return Ok(None);
            }
            match mode {
                Mode::Share => assert!(
                    held.iter().all(|(_, exclusive)| *exclusive),
                    "a reader holds a second lock"
                ),
                Mode::Cleanup => assert!(held.is_empty(), "waits for a cleanup lock with a lock"),
                Mode::Exclusive => assert!(
                    held.iter().all(|(_, exclusive)| *exclusive),
                    "an exclusive lock behind a share lock"
                ),
                Mode::TryCleanup | Mode::TryExclusive => {}
            }
            if !world.damaged && !conditional {
                world.check_order(self.actor, block);
            }
            let Some(page) = world.pages.get_mut(block as usize) else {
                return Ok(None);
            };
            let free = match mode {
                Mode::Share => !page.writer,
                Mode::Exclusive | Mode::TryExclusive => !page.writer && page.readers == 0,
                Mode::Cleanup | Mode::TryCleanup => page.pins == 0,
            };
            if free {
                let exclusive = mode != Mode::Share;
                page.pins += 1;
                if exclusive {
                    page.writer = true;
                } else {
                    page.readers += 1;
                }
                let bytes = page.bytes.clone();
                world.held[self.actor].push((block, exclusive));
                return Ok(Some(SimGuard::new(self, block, exclusive, bytes)));
            }
            if conditional {
                return Ok(None);
            }
            drop(world);
            match &self.scheduler {
                Some(scheduler) => scheduler.block(self.actor),
                None => panic!("the only actor waits for a lock on page {block}"),
            }
        }
    }

    /// Locks a free page, or adds one.
    fn take_page(&self) -> Result<SimGuard> {
        loop {
            let Some(block) = self.world().free.pop() else {
                break;
            };
            if let Some(guard) = self.acquire(block, Mode::TryExclusive)?
                && page::header(&guard, block)?.reusable()
            {
                return Ok(guard);
            }
        }
        let mut world = self.world();
        if world.stopped() {
            return Err(Error::Stopped);
        }
        let block = Block::try_from(world.pages.len()).unwrap_or(Block::MAX);
        let bytes = Arc::new(vec![0; self.page_size]);
        world.pages.push(SimPage {
            writer: true,
            pins: 1,
            ..SimPage::new(bytes.clone())
        });
        world.held[self.actor].push((block, true));
        drop(world);
        Ok(SimGuard::new(self, block, true, bytes))
    }

    fn release(&self, block: Block, exclusive: bool, keep_pin: bool) {
        let mut world = self.world();
        world.held[self.actor].retain(|(b, _)| *b != block);
        if let Some(page) = world.pages.get_mut(block as usize) {
            if exclusive {
                page.writer = false;
            } else {
                page.readers -= 1;
            }
            if !keep_pin {
                page.pins -= 1;
            }
        }
        drop(world);
        if let Some(scheduler) = &self.scheduler {
            scheduler.unblock_all();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Share,
    Exclusive,
    Cleanup,
    TryCleanup,
    TryExclusive,
}

impl PageStore for SimStore {
    type Pin = SimPin;
    type Shared = SimGuard;
    type Exclusive = SimGuard;
    type Record<'a> = SimRecord;

    fn page_size(&self) -> usize {
        self.page_size
    }

    fn pages(&self) -> Result<Block> {
        self.call()?;
        Ok(Block::try_from(self.world().pages.len()).unwrap_or(Block::MAX))
    }

    fn read(&self, block: Block) -> Result<Option<SimGuard>> {
        self.call()?;
        self.acquire(block, Mode::Share)
    }

    fn write(&self, block: Block) -> Result<Option<SimGuard>> {
        self.call()?;
        self.acquire(block, Mode::Exclusive)
    }

    fn try_write(&self, block: Block) -> Result<Option<SimGuard>> {
        self.call()?;
        self.acquire(block, Mode::TryExclusive)
    }

    fn write_cleanup(&self, block: Block) -> Result<Option<SimGuard>> {
        self.call()?;
        self.acquire(block, Mode::Cleanup)
    }

    fn try_write_cleanup(&self, block: Block) -> Result<Option<SimGuard>> {
        self.call()?;
        self.acquire(block, Mode::TryCleanup)
    }

    fn allocate(&self) -> Result<SimGuard> {
        self.call()?;
        let page = self.take_page()?;
        // The map of free pages does not name it any more, or it is new.
        self.call()?;
        Ok(page)
    }

    fn note_free(&self, block: Block) -> Result<()> {
        self.call()?;
        let mut world = self.world();
        if !world.free.contains(&block) {
            world.free.push(block);
        }
        Ok(())
    }

    fn begin(&self) -> Result<SimRecord> {
        self.call()?;
        Ok(SimRecord::new(self))
    }

    fn amend(&self, page: &mut SimGuard, edits: &[Edit<'_>]) -> Result<()> {
        let outside = |edit: &Edit<'_>| edit.at + edit.bytes.len() > self.page_size;
        if edits.len() > RECORD_EDITS || edits.iter().any(outside) {
            return Err(Error::Full);
        }
        self.call()?;
        let mut record = SimRecord::new(self);
        let index = record.add(page, Image::Delta);
        let image = record.image(index);
        let hole = page::header(image, page.block)?;
        for edit in edits {
            image[edit.at..edit.at + edit.bytes.len()].copy_from_slice(edit.bytes);
        }
        let new = page::header(image, page.block)?;
        let given_up = (hole.lower..new.lower).chain(new.upper..hole.upper);
        let edited = |at| {
            let covers = |edit: &Edit<'_>| (edit.at..edit.at + edit.bytes.len()).contains(&at);
            edits.iter().any(covers)
        };
        assert!(
            given_up.into_iter().all(edited),
            "page {} has unlogged bytes from its hole",
            page.block
        );
        record.apply()?;
        page.bytes = Arc::new(self.bytes(page.block).unwrap_or_default());
        Ok(())
    }

    fn breathe(&self) -> Result<()> {
        self.call()?;
        self.yield_turn();
        if self.world().stopped() {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }
}

/// A sink that fills a store with the pages of a bulk load.
pub struct SimSink(pub SimStore);

impl crate::tree::PageSink for SimSink {
    fn page_size(&self) -> usize {
        self.0.page_size
    }

    fn put(&mut self, block: Block, page: &[u8]) -> Result<()> {
        let mut world = self.0.world();
        let index = block as usize;
        assert!(index <= world.pages.len(), "pages are written in order");
        let bytes = Arc::new(page.to_vec());
        if index == world.pages.len() {
            world.pages.push(SimPage::new(bytes));
        } else {
            world.pages[index].bytes = bytes;
        }
        Ok(())
    }
}
