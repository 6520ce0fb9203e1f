//! Pages of the visibility map, kept pinned by an index-only scan.
//!
//! The executor asks the visibility map for each row, and keeps the last page of it
//! pinned. Where neighbours in the index are far apart in the table that is another page
//! for every other row: each is looked up in the buffers then, pinned, and unpinned again.
//! A pin that the process has already costs less, most of all where several processes
//! would change the count of pins of the same few pages by turns.

use omen_core::key::Tid;
use pgrx::pg_sys;

use crate::am::heap::is_heap;
use crate::storage::Pin;

/// Pages at most, of which each is about a quarter of a gigabyte of the table. A process
/// finds eight pins at once and has to look for more (`REFCOUNT_ARRAY_ENTRIES`,
/// bufmgr.c).
const MOST: usize = 4;
/// Rows of a batch that are looked at; fewer are not worth it.
const ROWS: usize = 64;
/// Of these, rows on another page of the map than the one before, from which on pages are
/// held.
const CHANGES: usize = 8;
/// Pages of the table that a page of the map is about: two bits for each
/// (`HEAPBLOCKS_PER_PAGE`, visibilitymap.c).
const HEAP_PAGES: u64 = (pg_sys::BLCKSZ as u64 - PAGE_HEADER) * 4;
/// `MAXALIGN(SizeOfPageHeaderData)`.
const PAGE_HEADER: u64 = 24;

/// The pages that a scan holds, by their numbers in the map.
#[derive(Default)]
pub(super) struct MapPages {
    held: [Option<(u64, Pin)>; MOST],
}

impl MapPages {
    /// Lets go of all.
    #[inline]
    pub fn release(&mut self) {
        self.held = Default::default();
    }

    /// Holds the pages for the next of `rows`, those of a batch that are to come (forwards
    /// the first is next, backwards the last), if that is worth its while. They are held
    /// until [`Self::release`], or other pages are wanted instead.
    ///
    /// # Safety
    /// `heap` is open, or NULL. Nothing is locked.
    pub unsafe fn hold(&mut self, heap: pg_sys::Relation, rows: &[Tid], forward: bool) {
        let next = if forward {
            rows.first_chunk::<ROWS>()
        } else {
            rows.last_chunk::<ROWS>()
        };
        let Some(rows) = next else { return };
        let page = |tid: &Tid| (tid >> 16) / HEAP_PAGES;
        let changes = rows.array_windows().filter(|[a, b]| page(a) != page(b));
        // SAFETY: the caller's promise.
        if changes.count() < CHANGES || heap.is_null() || !unsafe { is_shared_heap(heap) } {
            return;
        }
        let wanted = |of: u64| rows.iter().any(|tid| page(tid) == of);
        for page in rows.iter().map(page) {
            if self.held.iter().flatten().any(|(held, _)| *held == page) {
                continue;
            }
            let is_free = |slot: &&mut Option<(u64, Pin)>| {
                slot.as_ref().is_none_or(|(held, _)| !wanted(*held))
            };
            let Some(slot) = self.held.iter_mut().find(is_free) else {
                break;
            };
            let Ok(block) = pg_sys::BlockNumber::try_from(page * HEAP_PAGES) else {
                break;
            };
            *slot = None;
            let mut buffer = pg_sys::InvalidBuffer.cast_signed();
            // SAFETY: the table is open. Who gets a buffer has a pin on it.
            unsafe {
                pg_sys::visibilitymap_get_status(heap, block, &raw mut buffer);
                if buffer == pg_sys::InvalidBuffer.cast_signed() {
                    // The map does not reach so far.
                    break;
                }
                *slot = Some((page, Pin::new(buffer)));
            }
        }
    }
}

/// Whether a table is a heap, and its pages in buffers whose pins are counted for all
/// processes.
///
/// # Safety
/// The table is open.
unsafe fn is_shared_heap(heap: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let persistence = (*(*heap).rd_rel).relpersistence as u8;
        is_heap(heap) && persistence != pg_sys::RELPERSISTENCE_TEMP
    }
}
