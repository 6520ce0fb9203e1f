//! What a session knows of the pages of an index: how many there are, and in which
//! buffers they were last. All of it may be out of date.

use core::cell::{Cell, RefCell};

use omen_core::Block;
use pgrx::pg_sys;

use super::buffer::{Pin, prefetch};

/// Of so many reads of remembered buffers one looks the page up as others do:
/// `ReadRecentBuffer` does not count as a use of the buffer, and a page that seems
/// not to be used is the first to go.
const LOOK_UP_EVERY: u8 = 8;

/// What is known of the pages of one index.
#[derive(Debug, Default)]
pub struct Known {
    /// Pages of the index when somebody last asked; 0: nobody has. It never shrinks
    /// but by a change of the file or by TRUNCATE of this session's own making.
    pub blocks: Cell<Block>,
    /// Buffers by block, 0 where none is known.
    buffers: RefCell<Vec<pg_sys::Buffer>>,
    /// Most of them to remember.
    most: Cell<usize>,
    reads: Cell<u8>,
}

impl Known {
    /// Takes no more than `bytes` of memory from here on.
    pub fn set_limit(&self, bytes: usize) {
        self.most.set(bytes / size_of::<pg_sys::Buffer>());
        let mut buffers = self.buffers.borrow_mut();
        buffers.truncate(self.most.get());
        buffers.shrink_to_fit();
    }

    /// Pins a page of `index` where it was last, without looking it up.
    ///
    /// # Safety
    /// `index` is the open index that all this is known of.
    #[inline]
    pub unsafe fn pin(&self, index: pg_sys::Relation, block: Block) -> Option<Pin> {
        let buffer = *self.buffers.borrow().get(block as usize)?;
        if buffer == 0 {
            return None;
        }
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        // SAFETY: it was the number of a buffer once, and they stay.
        unsafe { prefetch(buffer) };
        if reads.is_multiple_of(LOOK_UP_EVERY) {
            return None;
        }
        // SAFETY: the index is open, and the buffer is one of this server's: what
        // it holds is compared. The pin is taken over.
        unsafe { read_recent(index, block, buffer).then(|| Pin::new(buffer)) }
    }

    /// Remembers where a page is.
    #[inline]
    pub fn note(&self, block: Block, buffer: pg_sys::Buffer) {
        let mut buffers = self.buffers.borrow_mut();
        match buffers.get_mut(block as usize) {
            Some(known) => *known = buffer,
            None => self.grow(&mut buffers, block as usize, buffer),
        }
    }

    #[cold]
    fn grow(&self, buffers: &mut Vec<pg_sys::Buffer>, block: usize, buffer: pg_sys::Buffer) {
        let pages = (self.blocks.get() as usize).max(block + 1);
        let more = pages.min(self.most.get()).saturating_sub(buffers.len());
        // Without memory for it, it is looked up the next time.
        if block < self.most.get() && buffers.try_reserve_exact(more).is_ok() {
            buffers.resize(buffers.len() + more, 0);
            buffers[block] = buffer;
        }
    }
}

/// `ReadRecentBuffer` on the main fork.
///
/// # Safety
/// `index` is open.
#[inline]
unsafe fn read_recent(index: pg_sys::Relation, block: Block, buffer: pg_sys::Buffer) -> bool {
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let file = (*index).rd_node;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let file = (*index).rd_locator;
        pg_sys::ReadRecentBuffer(file, fork, block, buffer)
    }
}
