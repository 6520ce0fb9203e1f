//! The seam to whatever keeps the pages: PostgreSQL's buffer manager, or the
//! simulator of the tests.
//!
//! The algorithms in [`crate::tree`] see pages only through these traits. The
//! store promises what PostgreSQL's buffers and generic WAL promise: content
//! locks, pins, cleanup locks, and records that change up to four pages
//! atomically, in memory and across a crash.

use crate::error::Result;
use crate::key::Block;
use core::ops::Deref;

/// Pages that one record can change.
pub const RECORD_PAGES: usize = 4;

/// How a page is registered with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The page is known to recovery; the difference to its present contents
    /// is logged.
    Delta,
    /// The page is new or recycled: it is logged whole, so that recovery does
    /// not need what was there before.
    Full,
}

/// Bytes that replace those at `at` of a page.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Offset in the page.
    pub at: usize,
    /// The new bytes.
    pub bytes: &'a [u8],
}

/// Edits of one record, at most.
pub const RECORD_EDITS: usize = 3;

/// A state that is seldom seen: a change of several records is half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A leaf is split, its parent does not know.
    LeafSplit,
    /// An inner page is split, its parent does not know.
    InnerSplit,
    /// VACUUM has cleaned a leaf, and has not merged it.
    LeafCleaned,
    /// A page is free, the free space map does not know.
    PageFreed,
    /// A new model is written, the meta page does not name it.
    ModelWritten,
    /// A new model is named, the old one's pages are not free.
    ModelPublished,
}

/// A pinned page under a content lock. Dereferences to its bytes. Dropping it
/// releases the lock and the pin.
pub trait PageGuard: Deref<Target = [u8]> {
    /// A pin without a lock. Dropping it releases the pin.
    type Pin;

    /// The page's number.
    fn block(&self) -> Block;

    /// Releases the lock and keeps the pin.
    fn into_pin(self) -> Self::Pin;

    /// The page is going to be read to one end, in pieces: a hint, for who can fetch it
    /// faster at once.
    fn expect_reads(&self) {}
}

/// A set of changes to at most [`RECORD_PAGES`] pages, all or nothing.
/// Dropping it uncommitted leaves the pages as they were.
pub trait Record {
    /// The exclusive lock guard of the store.
    type Exclusive;

    /// Adds an exclusively locked page, and returns the index of its image.
    /// The image starts as a copy of the page. A page is added once. The locks
    /// must be held until the record is committed.
    fn register(&mut self, page: &Self::Exclusive, image: Image) -> Result<usize>;

    /// The image to change, as returned by [`Record::register`].
    fn image(&mut self, index: usize) -> &mut [u8];

    /// Applies and logs all images.
    fn commit(self) -> Result<()>;
}

/// Pages, their locks and their log.
///
/// Lock order (checked by the simulator): siblings left to right, then child
/// to parent, the meta page last. A reader holds one lock at a time. Waiting
/// for a cleanup lock is allowed only while no content lock is held.
pub trait PageStore {
    /// A pin without a lock.
    type Pin;
    /// A page under a share lock.
    type Shared: PageGuard<Pin = Self::Pin>;
    /// A page under an exclusive (or cleanup) lock.
    type Exclusive: PageGuard<Pin = Self::Pin>;
    /// A record under construction.
    type Record<'a>: Record<Exclusive = Self::Exclusive>
    where
        Self: 'a;

    /// Bytes of a page, 512 to 8192 and more.
    fn page_size(&self) -> usize;

    /// Pages of the index as last seen, at least as many as any link on a page
    /// names. Grows only.
    fn pages(&self) -> Result<Block>;

    /// Pins and share-locks a page. `None`: the index has no such page (a
    /// stale hint).
    fn read(&self, block: Block) -> Result<Option<Self::Shared>>;

    /// Pins and exclusively locks a page. `None` as in [`PageStore::read`].
    fn write(&self, block: Block) -> Result<Option<Self::Exclusive>>;

    /// As [`PageStore::write`], but never waits: `None` also when another lock is
    /// in the way.
    fn try_write(&self, block: Block) -> Result<Option<Self::Exclusive>>;

    /// As [`PageStore::write`], and waits until nobody else has a pin.
    fn write_cleanup(&self, block: Block) -> Result<Option<Self::Exclusive>>;

    /// As [`PageStore::write_cleanup`], but never waits: `None` also when
    /// another lock or pin is in the way.
    fn try_write_cleanup(&self, block: Block) -> Result<Option<Self::Exclusive>>;

    /// A page that is in nobody's use, new or recycled, exclusively locked.
    /// It was found free or new under that very lock. Never waits for a lock
    /// that somebody else holds for long.
    fn allocate(&self) -> Result<Self::Exclusive>;

    /// Notes that a page is free. A hint: it need not survive a crash.
    fn note_free(&self, block: Block) -> Result<()>;

    /// Starts a record.
    fn begin(&self) -> Result<Self::Record<'_>>;

    /// Changes a few bytes of a page in place, as a record of their own: at most
    /// [`RECORD_EDITS`] edits, each within the page. A record of images costs a
    /// copy of the page and a comparison of all its bytes. An
    /// edit that moves the bounds of the page's hole comes with edits of
    /// all that the hole gives up. The page is not new to recovery.
    ///
    /// # Errors
    /// [`crate::Error::Full`], with nothing changed, for other edits.
    fn amend(&self, page: &mut Self::Exclusive, edits: &[Edit<'_>]) -> Result<()>;

    /// A place between two records, at which tests stop, fail or kill the caller.
    /// Nothing is locked.
    fn reached(&self, place: Place) -> Result<()> {
        let _ = place;
        Ok(())
    }

    /// Lets the store act on a cancel request or a vacuum delay. Called
    /// outside of all locks, in every loop that can be long.
    fn breathe(&self) -> Result<()>;
}
