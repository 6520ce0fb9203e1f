//! Guards over pinned and locked buffers.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};

use omen_core::Block;
use omen_core::store::PageGuard;
use pgrx::pg_sys;

use super::held::{self, Mode};
use super::store::PAGE_SIZE;

/// Functions of the buffer manager that are called for every page. They are
/// bound without pgrx's guard against `longjmp`, because they raise no ERROR
/// when they are used as here: releasing touches only locks and pins that the
/// process has, and an LWLock is waited for without regard to interrupts
/// (their ERRORs are for unknown modes, locks not held, and more than 200
/// LWLocks). `amgettuple`, which has no guard either, relies on that when it lets go
/// of a scan's last pin.
mod direct {
    use pgrx::pg_sys;
    unsafe extern "C" {
        pub fn LockBuffer(buffer: pg_sys::Buffer, mode: core::ffi::c_int);
        pub fn UnlockReleaseBuffer(buffer: pg_sys::Buffer);
        pub fn ReleaseBuffer(buffer: pg_sys::Buffer);
    }
}

thread_local! {
    /// Pins that are dropped now are the resource owner's to release.
    static ABANDONED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `drop_all`, in which pins are forgotten: when memory contexts die in the
/// abort of a transaction, the resource owner has released them or will.
pub fn abandon(drop_all: impl FnOnce()) {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            ABANDONED.set(false);
        }
    }
    ABANDONED.set(true);
    let _done = Done;
    drop_all();
}

/// Whether guards have to leave their buffers alone.
fn hands_off() -> bool {
    std::thread::panicking() || ABANDONED.get()
}

/// Bytes that a processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Asks the CPU for the parts of a page that every reader looks at first, while the
/// buffer is being pinned and locked.
///
/// # Safety
/// `buffer` is the number of a buffer.
#[inline]
pub(super) unsafe fn prefetch(buffer: pg_sys::Buffer) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a buffer has a place in memory; prefetching reads nothing.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let page = pg_sys::BufferGetPage(buffer).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(page);
        _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(64));
        _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(PAGE_SIZE - 1));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = buffer;
}

/// Functions that may raise an ERROR, by `longjmp`: they are bound without pgrx's guard,
/// which costs more than they do. Who calls them has one guard around all of the calls,
/// and nothing within it that needs a drop.
mod unguarded {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn PrefetchBuffer(
            relation: pg_sys::Relation,
            fork: pg_sys::ForkNumber::Type,
            block: pg_sys::BlockNumber,
        ) -> pg_sys::PrefetchBufferResult;
        pub fn RelationGetNumberOfBlocksInFork(
            relation: pg_sys::Relation,
            fork: pg_sys::ForkNumber::Type,
        ) -> pg_sys::BlockNumber;
    }
}

/// The buffer that a page of a table is in, if it is in any that is shared, and
/// whether it is being read from now on: the operating system has been asked for it
/// (`PrefetchBuffer`, bufmgr.c). The buffer is not pinned, so it is a hint.
///
/// # Safety
/// `table` is open. An ERROR, as of a page that it does not have, is raised by
/// `longjmp`: there has to be a guard, and nothing within it that needs a drop.
pub unsafe fn request_page(
    table: pg_sys::Relation,
    block: pg_sys::BlockNumber,
) -> (Option<pg_sys::Buffer>, bool) {
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: the caller's promise.
    let found = unsafe { unguarded::PrefetchBuffer(table, fork, block) };
    let shared = (found.recent_buffer > 0).then_some(found.recent_buffer);
    (shared, found.initiated_io)
}

/// The number of pages of a table.
///
/// # Safety
/// As for [`request_page`].
pub unsafe fn pages_of(table: pg_sys::Relation) -> pg_sys::BlockNumber {
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: the caller's promise.
    unsafe { unguarded::RelationGetNumberOfBlocksInFork(table, fork) }
}

/// Asks the processor for what a scan of the table looks at first when it comes to a
/// row: the buffer's descriptor, the page's header and the row's line pointer.
///
/// # Safety
/// `buffer` is the number of a shared buffer.
pub unsafe fn prefetch_row(buffer: pg_sys::Buffer, offset: u16) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; prefetching reads nothing.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let index = (buffer - 1) as usize;
        _mm_prefetch::<_MM_HINT_T0>(pg_sys::BufferDescriptors.wrapping_add(index).cast());
        let page = pg_sys::BufferGetPage(buffer).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(page);
        _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(line_pointer_at(offset)));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (buffer, offset);
}

/// Asks the processor for a row of a table, where the line pointer says that it is.
/// Nobody keeps that from being changed meanwhile, or the buffer from being another
/// page's: then it is asked for in vain.
///
/// # Safety
/// `buffer` is the number of a shared buffer.
// Valgrind knows it by its name.
#[inline(never)]
pub unsafe fn prefetch_tuple(buffer: pg_sys::Buffer, offset: u16) {
    let at = line_pointer_at(offset);
    if at + 4 > HEAP_PAGE_SIZE {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise: buffers stay where they are, and the word is in
    // one, aligned.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let word = AtomicU32::from_ptr(page.wrapping_add(at).cast()).load(Ordering::Relaxed);
        // 15 bits of place come first.
        let place = word & 0x7fff;
        _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(place as usize % HEAP_PAGE_SIZE).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = buffer;
}

/// Of tables, also where pages of the index are small for tests.
const HEAP_PAGE_SIZE: usize = pg_sys::BLCKSZ as usize;

/// Where a page has a line pointer.
fn line_pointer_at(offset: u16) -> usize {
    const FIRST: usize = offset_of!(pg_sys::PageHeaderData, pd_linp);
    FIRST + 4 * usize::from(offset.saturating_sub(1))
}

/// A pinned buffer.
#[derive(Debug)]
pub struct Pin {
    buffer: pg_sys::Buffer,
}

impl Pin {
    /// Takes over a pin.
    ///
    /// # Safety
    /// The process has a pin on `buffer` that nothing else releases.
    pub unsafe fn new(buffer: pg_sys::Buffer) -> Self {
        Self { buffer }
    }

    /// Locks the buffer.
    fn lock(&self, mode: u32) {
        // SAFETY: the buffer is pinned, and the process has no lock on it: the
        // core never locks a page twice.
        unsafe { direct::LockBuffer(self.buffer, mode.cast_signed()) };
    }

    /// Share-locks the page.
    #[inline]
    pub fn share(self, block: Block) -> Shared {
        held::wanted(self.buffer, Mode::Share);
        self.lock(pg_sys::BUFFER_LOCK_SHARE);
        // SAFETY: the lock has just been taken.
        unsafe { Locked::new(self, block) }
    }

    /// Locks the page exclusively.
    #[inline]
    pub fn exclusive(self, block: Block) -> Exclusive {
        held::wanted(self.buffer, Mode::Exclusive);
        self.lock(pg_sys::BUFFER_LOCK_EXCLUSIVE);
        // SAFETY: the lock has just been taken.
        unsafe { Locked::new(self, block) }
    }

    /// Locks the page exclusively unless somebody else has a lock.
    pub fn try_exclusive(self, block: Block) -> Option<Exclusive> {
        // SAFETY: the buffer is pinned and not locked by this process.
        let locked = unsafe { pg_sys::ConditionalLockBuffer(self.buffer) };
        // SAFETY: the lock has just been taken.
        locked.then(|| unsafe { Locked::new(self, block) })
    }

    /// Locks the page exclusively once nobody else has a pin. May be
    /// interrupted by an ERROR.
    pub fn cleanup(self, block: Block) -> Exclusive {
        held::wanted(self.buffer, Mode::Cleanup);
        // SAFETY: the buffer is pinned and not locked by this process.
        unsafe { pg_sys::LockBufferForCleanup(self.buffer) };
        // SAFETY: the lock has just been taken.
        unsafe { Locked::new(self, block) }
    }

    /// As [`Pin::cleanup`], without waiting.
    pub fn try_cleanup(self, block: Block) -> Option<Exclusive> {
        // SAFETY: the buffer is pinned and not locked by this process.
        let locked = unsafe { pg_sys::ConditionalLockBufferForCleanup(self.buffer) };
        // SAFETY: the lock has just been taken.
        locked.then(|| unsafe { Locked::new(self, block) })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if !hands_off() {
            // SAFETY: the pin is the process's, and this is its only release.
            unsafe { direct::ReleaseBuffer(self.buffer) };
        }
    }
}

/// A kind of content lock.
pub trait LockKind {
    /// Whether it keeps readers out.
    const EXCLUSIVE: bool;
}

/// Marks a share lock.
#[derive(Debug)]
pub enum ShareLock {}
/// Marks an exclusive lock.
#[derive(Debug)]
pub enum ExclusiveLock {}

impl LockKind for ShareLock {
    const EXCLUSIVE: bool = false;
}

impl LockKind for ExclusiveLock {
    const EXCLUSIVE: bool = true;
}

/// A page under a share lock.
pub type Shared = Locked<ShareLock>;
/// A page under an exclusive lock.
pub type Exclusive = Locked<ExclusiveLock>;

/// A pinned and locked page. Dropping it releases both.
#[derive(Debug)]
pub struct Locked<M> {
    buffer: pg_sys::Buffer,
    block: Block,
    page: *const u8,
    mode: PhantomData<M>,
}

impl<M: LockKind> Locked<M> {
    /// Takes over a pin and a lock.
    ///
    /// # Safety
    /// The process has locked the buffer of `pin`, whose page is `block`.
    pub unsafe fn new(pin: Pin, block: Block) -> Self {
        let buffer = ManuallyDrop::new(pin).buffer;
        held::taken(buffer, M::EXCLUSIVE);
        // SAFETY: a pinned buffer has a place in memory.
        let page = unsafe { pg_sys::BufferGetPage(buffer) }.cast::<u8>();
        Self {
            buffer,
            block,
            page,
            mode: PhantomData,
        }
    }
}

impl<M> Locked<M> {
    /// The buffer, which stays this guard's.
    pub fn buffer(&self) -> pg_sys::Buffer {
        self.buffer
    }

    /// All bytes of the block, of which an index may use only the first
    /// [`PAGE_SIZE`].
    pub fn whole(&self) -> &[u8] {
        // SAFETY: as in `deref`.
        unsafe { core::slice::from_raw_parts(self.page, pg_sys::BLCKSZ as usize) }
    }
}

impl Exclusive {
    /// The page's bytes, to be changed in place: for pages that generic WAL
    /// does not log.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the exclusive lock keeps all others away.
        unsafe { core::slice::from_raw_parts_mut(self.page.cast_mut(), PAGE_SIZE) }
    }
}

impl<M> Deref for Locked<M> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: a pinned buffer stays in its place, and the content lock
        // keeps others from changing it (hint bits are not used in an index).
        unsafe { core::slice::from_raw_parts(self.page, PAGE_SIZE) }
    }
}

impl<M> PageGuard for Locked<M> {
    type Pin = Pin;

    fn block(&self) -> Block {
        self.block
    }

    fn into_pin(self) -> Pin {
        let buffer = ManuallyDrop::new(self).buffer;
        held::given_back(buffer);
        let unlock = pg_sys::BUFFER_LOCK_UNLOCK.cast_signed();
        // SAFETY: the lock and the pin are this guard's, which is not dropped.
        unsafe {
            direct::LockBuffer(buffer, unlock);
            Pin::new(buffer)
        }
    }

    /// A processor notices by itself that lines are read one after the other, but begins
    /// anew for each column of each block.
    #[inline]
    fn expect_reads(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in self.chunks(CACHE_LINE) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: prefetching reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

impl<M> Drop for Locked<M> {
    #[inline]
    fn drop(&mut self) {
        held::given_back(self.buffer);
        if !hands_off() {
            // SAFETY: the lock and the pin are this guard's.
            unsafe { direct::UnlockReleaseBuffer(self.buffer) };
        }
    }
}
