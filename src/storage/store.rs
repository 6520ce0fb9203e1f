//! An index's main fork as a [`PageStore`].

use core::marker::PhantomData;

use omen_core::store::{Edit, PageStore};
use omen_core::{Block, Result, page, planted};
use pgrx::check_for_interrupts;
use pgrx::pg_sys;

use super::buffer::{Exclusive, Pin, Shared, prefetch};
use super::known::Known;
use super::record::{GenericRecord, amend};
use super::relation::is_local;

/// Bytes of a page. In builds for tests only the first of each block are used:
/// some hundred rows make a tree of several levels then.
pub const PAGE_SIZE: usize = if cfg!(feature = "small_pages") {
    512
} else {
    pg_sys::BLCKSZ as usize
};

const MAIN: pg_sys::ForkNumber::Type = pg_sys::ForkNumber::MAIN_FORKNUM;

/// The pages of an open index.
#[derive(Debug)]
pub struct PgStore<'a> {
    index: pg_sys::Relation,
    known: &'a Known,
    /// Of the scan that reads, or NULL.
    snapshot: pg_sys::Snapshot,
    strategy: pg_sys::BufferAccessStrategy,
    relation: PhantomData<&'a pg_sys::RelationData>,
}

impl<'a> PgStore<'a> {
    /// The pages of `index`, of which `known` is known between calls.
    ///
    /// # Safety
    /// `index` is open and locked for `'a`, and is an omen index, the one that
    /// `known` is about.
    #[inline]
    pub unsafe fn new(index: pg_sys::Relation, known: &'a Known) -> Self {
        Self {
            index,
            known,
            snapshot: core::ptr::null_mut(),
            strategy: core::ptr::null_mut(),
            relation: PhantomData,
        }
    }

    /// Pages are read on behalf of a scan with this snapshot.
    ///
    /// # Safety
    /// `snapshot` is NULL or valid for `'a`.
    #[inline]
    #[must_use]
    pub unsafe fn for_scan(mut self, snapshot: pg_sys::Snapshot) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// Pages are read through a ring of buffers.
    ///
    /// # Safety
    /// `strategy` is NULL or valid for `'a`.
    #[must_use]
    pub unsafe fn with_strategy(mut self, strategy: pg_sys::BufferAccessStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The index.
    pub fn index(&self) -> pg_sys::Relation {
        self.index
    }

    /// Asks for the index's size.
    fn ask_blocks(&self) -> Block {
        // SAFETY: the index is open.
        let blocks = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.index, MAIN) };
        self.known.blocks.set(blocks);
        blocks
    }

    /// Pins a page. `None` if the index has no such page.
    #[inline]
    fn pin(&self, block: Block) -> Option<Pin> {
        if block >= self.known.blocks.get() && block >= self.ask_blocks() {
            return None;
        }
        // SAFETY: the index is open, and is what `known` is about.
        let recent = unsafe { self.known.pin(self.index, block) };
        if recent.is_some() {
            return recent;
        }
        // SAFETY: the index is open and has the page; the pin is taken over.
        unsafe {
            let buffer = pg_sys::ReadBufferExtended(
                self.index,
                MAIN,
                block,
                pg_sys::ReadBufferMode::RBM_NORMAL,
                self.strategy,
            );
            prefetch(buffer);
            if self.strategy.is_null() {
                self.known.note(block, buffer);
            }
            Some(Pin::new(buffer))
        }
    }

    /// Raises an ERROR if the page was changed after a snapshot that is older
    /// than `old_snapshot_threshold`.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    #[inline]
    fn test_for_old_snapshot(&self, page: &Shared) {
        // SAFETY: set when the server starts.
        if unsafe { pg_sys::old_snapshot_threshold } < 0 || self.snapshot.is_null() {
            return;
        }
        // SAFETY: the snapshot is valid, the page begins with its LSN: two
        // 32-bit words, the upper half first.
        unsafe {
            let snapshot = &*self.snapshot;
            let guarded = matches!(
                snapshot.snapshot_type,
                pg_sys::SnapshotType::SNAPSHOT_MVCC | pg_sys::SnapshotType::SNAPSHOT_TOAST
            );
            let [high, low] = page.as_ptr().cast::<[u32; 2]>().read();
            let lsn = u64::from(high) << 32 | u64::from(low);
            if guarded && snapshot.lsn != 0 && lsn > snapshot.lsn {
                pg_sys::TestForOldSnapshot_impl(self.snapshot, self.index);
            }
        }
    }

    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    #[inline]
    fn test_for_old_snapshot(&self, _: &Shared) {}

    /// Locks a page that the free space map names, if it is in fact free.
    fn take_free(&self, block: Block) -> Option<Exclusive> {
        let guard = self.pin(block)?.try_exclusive(block)?;
        let reusable = page::header(&guard, block).ok()?.reusable();
        (reusable || planted::is("free_space_map_trusted")).then_some(guard)
    }

    /// Adds a page to the index.
    fn extend(&self) -> Exclusive {
        let lock = pg_sys::ExclusiveLock.cast_signed();
        // SAFETY: the index is open. The new page is locked before the
        // extension lock is released, so nobody else gets hold of it. An ERROR
        // leaves the extension lock to the end of the transaction.
        unsafe {
            let local = is_local(self.index);
            if !local {
                pg_sys::LockRelationForExtension(self.index, lock);
            }
            let buffer = pg_sys::ReadBufferExtended(
                self.index,
                MAIN,
                pg_sys::InvalidBlockNumber,
                pg_sys::ReadBufferMode::RBM_ZERO_AND_LOCK,
                self.strategy,
            );
            let block = pg_sys::BufferGetBlockNumber(buffer);
            let page = Exclusive::new(Pin::new(buffer), block);
            if !local {
                pg_sys::UnlockRelationForExtension(self.index, lock);
            }
            if block >= self.known.blocks.get() {
                self.known.blocks.set(block + 1);
            }
            page
        }
    }
}

impl PageStore for PgStore<'_> {
    type Pin = Pin;
    type Shared = Shared;
    type Exclusive = Exclusive;
    type Record<'b>
        = GenericRecord<'b>
    where
        Self: 'b;

    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn pages(&self) -> Result<Block> {
        Ok(self.ask_blocks())
    }

    #[inline]
    fn read(&self, block: Block) -> Result<Option<Shared>> {
        let Some(pin) = self.pin(block) else {
            return Ok(None);
        };
        let page = pin.share(block);
        self.test_for_old_snapshot(&page);
        Ok(Some(page))
    }

    #[inline]
    fn write(&self, block: Block) -> Result<Option<Exclusive>> {
        if planted::is("locked_twice") {
            let _first = self.pin(block).map(|pin| pin.exclusive(block));
            return Ok(self.pin(block).map(|pin| pin.exclusive(block)));
        }
        Ok(self.pin(block).map(|pin| pin.exclusive(block)))
    }

    fn try_write(&self, block: Block) -> Result<Option<Exclusive>> {
        Ok(self.pin(block).and_then(|pin| pin.try_exclusive(block)))
    }

    fn write_cleanup(&self, block: Block) -> Result<Option<Exclusive>> {
        if planted::is("vacuum_ignores_pins") {
            return self.write(block);
        }
        Ok(self.pin(block).map(|pin| pin.cleanup(block)))
    }

    fn try_write_cleanup(&self, block: Block) -> Result<Option<Exclusive>> {
        Ok(self.pin(block).and_then(|pin| pin.try_cleanup(block)))
    }

    fn allocate(&self) -> Result<Exclusive> {
        loop {
            // SAFETY: the index is open. The map hands out a page once, and
            // is a hint: the page is looked at under its lock.
            let block = unsafe { pg_sys::GetFreeIndexPage(self.index) };
            if block == pg_sys::InvalidBlockNumber {
                return Ok(self.extend());
            }
            if let Some(page) = self.take_free(block) {
                return Ok(page);
            }
        }
    }

    fn note_free(&self, block: Block) -> Result<()> {
        // SAFETY: the index is open.
        unsafe { pg_sys::RecordFreeIndexPage(self.index, block) };
        Ok(())
    }

    fn begin(&self) -> Result<GenericRecord<'_>> {
        // SAFETY: the index stays open while the store is borrowed.
        Ok(unsafe { GenericRecord::start(self.index) })
    }

    #[inline]
    fn amend(&self, page: &mut Exclusive, edits: &[Edit<'_>]) -> Result<()> {
        // SAFETY: the index is open, and the page is one of its.
        unsafe { amend(self.index, page, edits) }
    }

    #[cfg(feature = "stop_points")]
    fn reached(&self, place: omen_core::store::Place) -> Result<()> {
        super::stop::reached(place);
        Ok(())
    }

    fn breathe(&self) -> Result<()> {
        check_for_interrupts!();
        Ok(())
    }
}

/// Every page that the core locks has its number from here.
const _: () = assert!(pg_sys::InvalidBlockNumber == omen_core::INVALID_BLOCK);
