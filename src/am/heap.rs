//! Which heap tuples are known to be dead.

use core::mem::offset_of;
use core::sync::atomic::{AtomicUsize, Ordering};

use omen_core::Result;
use omen_core::key::Tid;
use omen_core::store::PageGuard;
use omen_core::tree::Liveness;
use pgrx::pg_sys;

use crate::storage::Pin;

/// Entries of one heap page from which on it is worth a look.
const MIN_ENTRIES: u16 = 4;
/// Heap pages looked at for one leaf.
const MAX_PAGES: usize = 24;
/// Of these, heap pages of the leaf's newest entries.
const FRESH_PAGES: usize = 8;
/// Heap pages looked at, at most, for entries that a scan has found dead.
const MAX_KILLED_PAGES: usize = 64;
/// Entries that are asked about at once.
const MAX_CANDIDATES: usize = 1024;
/// Counters of entries by a hash of their heap page, before any is counted
/// exactly: entries of a shuffled table end here.
const COUNTERS: usize = 4096;
/// Heap pages that are counted exactly.
const SLOTS: usize = 256;
/// Slots that are tried for one page.
const MAX_PROBES: usize = 16;
/// Times that a lock on a heap page is tried.
const MAX_TRIES: usize = 4;
/// Of a line pointer whose tuple is dead and gone.
const LP_DEAD: u32 = pg_sys::LP_DEAD;

/// Line pointers of the heap that are marked dead. Pruning marks them when no
/// snapshot, on a standby neither, can see the tuple any more; so the entries
/// may go at once. Looked at under the lock of the leaf as nbtree does
/// (`_bt_delitems_delete_check`), and only in pages that many entries of the
/// leaf point to: one row updated again and again.
#[derive(Debug)]
pub(super) struct HeapLiveness {
    heap: pg_sys::Relation,
}

impl HeapLiveness {
    /// Line pointers of `heap`.
    ///
    /// # Safety
    /// `heap` stays open and locked while the result is used.
    pub unsafe fn new(heap: pg_sys::Relation) -> Self {
        Self { heap }
    }

    /// Marks those of `tids` that are dead line pointers of one heap page, of
    /// the ones that `candidates` number. The page is not waited for, because others
    /// wait for the leaf: if somebody uses it for long, to read it even, since there
    /// is no share lock to be had without waiting, nothing is marked.
    fn look(&self, block: u32, tids: &[Tid], candidates: &[u16], dead: &mut [bool]) {
        // SAFETY: the table is open and has the page.
        let pin = || unsafe { Pin::new(pg_sys::ReadBuffer(self.heap, block)) };
        let Some(page) = (0..MAX_TRIES).find_map(|_| pin().try_exclusive(block)) else {
            return;
        };
        for index in candidates.iter().copied().map(usize::from) {
            if let (Some(tid), Some(dead)) = (tids.get(index), dead.get_mut(index))
                && tid >> 16 == u64::from(block)
            {
                *dead = line_pointer_flags(page.whole(), (tid & 0xffff) as usize) == Some(LP_DEAD);
            }
        }
    }
}

/// The line pointers of rows that a scan has just found dead, of [`MAX_KILLED_PAGES`]
/// pages: those are at hand.
#[derive(Debug)]
pub(super) struct KilledRows {
    heap: HeapLiveness,
    turn: Turn,
}

impl KilledRows {
    /// Of `heap`.
    ///
    /// # Safety
    /// As for [`HeapLiveness::new`].
    pub unsafe fn of(heap: pg_sys::Relation, turn: Turn) -> Self {
        // SAFETY: the caller's promise.
        let heap = unsafe { HeapLiveness::new(heap) };
        Self { heap, turn }
    }
}

/// Whether a table stores its rows as PostgreSQL's own heap does.
///
/// # Safety
/// `table` is open.
pub(crate) unsafe fn is_heap(table: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*table).rd_tableam == pg_sys::GetHeapamTableAmRoutine() }
}

/// The flags of a line pointer of a heap page; `None` if the page has none of
/// this number. PostgreSQL's own accessors are inline functions.
pub(crate) fn line_pointer_flags(page: &[u8], offset: usize) -> Option<u32> {
    const LOWER: usize = offset_of!(pg_sys::PageHeaderData, pd_lower);
    const FIRST: usize = offset_of!(pg_sys::PageHeaderData, pd_linp);
    let lower = u16::from_ne_bytes(page.get(LOWER..LOWER + 2)?.try_into().ok()?);
    let pointers = page.get(FIRST..usize::from(lower))?;
    let at = 4 * offset.checked_sub(1)?;
    let word = u32::from_ne_bytes(pointers.get(at..at + 4)?.try_into().ok()?);
    // 15 bits of place, 2 of flags, 15 of length, from either end.
    Some(word >> 15 & 3)
}

impl Liveness for HeapLiveness {
    fn mark_dead(&mut self, fresh: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        // SAFETY: the table is open.
        if !unsafe { is_heap(self.heap) } {
            return Ok(());
        }
        let (pages, count) = pages_to_look_at(fresh, tids);
        if count == 0 {
            return Ok(());
        }
        let pages = pages.get(..count).unwrap_or(&[]);
        let mut candidates = [0; MAX_CANDIDATES];
        let candidates = entries_near(pages, tids, &mut candidates);
        let blocks = blocks_of(self.heap);
        for block in pages.iter().copied().filter(|block| *block < blocks) {
            self.look(block, tids, candidates, dead);
        }
        Ok(())
    }
}

impl Liveness for KilledRows {
    fn mark_dead(&mut self, _: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()> {
        let heap = self.heap.heap;
        let mut order = [0; MAX_CANDIDATES];
        let candidates = order.iter_mut().zip(0..).take(tids.len());
        candidates.for_each(|(slot, index)| *slot = index);
        let order = order.get_mut(..tids.len()).unwrap_or(&mut []);
        let page = |index: &u16| tids.get(usize::from(*index)).map_or(0, |tid| tid >> 16);
        order.sort_unstable_by_key(page);
        self.turn.rotate(order, page);
        // SAFETY: the table is open.
        if !unsafe { is_heap(heap) } {
            return Ok(());
        }
        let blocks = blocks_of(heap);
        let pages = order.chunk_by(|a, b| page(a) == page(b));
        for same in pages.take(MAX_KILLED_PAGES) {
            let block = same.first().map_or(0, page);
            if let Ok(block) = u32::try_from(block)
                && block < blocks
            {
                self.heap.look(block, tids, same, dead);
            }
        }
        Ok(())
    }
}

/// Where a search among sorted rows begins. Each chance has another: pages of which
/// nothing comes must not keep others from being looked at for good. Pruning and looking
/// share one, or they would be at different pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn(usize);

impl Turn {
    /// The next.
    pub fn next() -> Self {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        Self(TURN.fetch_add(97, Ordering::Relaxed))
    }

    /// Turns a list that is sorted by page so that it begins with another page.
    fn rotate<T>(self, sorted: &mut [T], page: impl Fn(&T) -> u64) {
        if let Some(first) = sorted.get(self.0 % sorted.len().max(1)).map(&page) {
            let start = sorted.partition_point(|item| page(item) < first);
            sorted.rotate_left(start);
        }
    }
}

/// The pages of a table.
fn blocks_of(heap: pg_sys::Relation) -> u32 {
    let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: the table is open.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(heap, fork) }
}

/// Lets the heap prune pages on which `few` of `rows`, or more, are dead and not pruned:
/// only then are their line pointers dead. By itself it prunes a page that is read
/// only if less than a tenth of it is free, or if an update has found it full and
/// noted so; so it is noted. That is a hint, which nobody logs. At most [`MAX_PAGES`]
/// are pruned, of those that [`KilledRows`] looks at in the same `turn`.
///
/// # Safety
/// `heap` is open, and nothing is locked.
pub(super) unsafe fn prune(
    heap: pg_sys::Relation,
    rows: impl Iterator<Item = Tid>,
    few: usize,
    turn: Turn,
) {
    // SAFETY: the table is open.
    if !unsafe { is_heap(heap) } {
        return;
    }
    let mut tids = [0; MAX_CANDIDATES];
    let count = tids
        .iter_mut()
        .zip(rows)
        .map(|(slot, tid)| *slot = tid)
        .count();
    let tids = tids.get_mut(..count).unwrap_or(&mut []);
    tids.sort_unstable();
    let blocks = blocks_of(heap);
    let page = |tid: &Tid| tid >> 16;
    turn.rotate(tids, page);
    let mut left = MAX_PAGES;
    for same in tids
        .chunk_by(|a, b| page(a) == page(b))
        .take(MAX_KILLED_PAGES)
    {
        if left > 0
            && same.len() >= few
            && let Some(block) = same.first().and_then(|tid| u32::try_from(page(tid)).ok())
            && block < blocks
        {
            // SAFETY: the table is open and has the page.
            let pruned = unsafe { prune_page(heap, block, same, few) };
            left -= usize::from(pruned);
        }
    }
}

/// Whether the heap was told to prune the page.
///
/// # Safety
/// As for [`prune`]; the table has page `block`.
unsafe fn prune_page(heap: pg_sys::Relation, block: u32, tids: &[Tid], few: usize) -> bool {
    const FLAGS: usize = offset_of!(pg_sys::PageHeaderData, pd_flags);
    // SAFETY: the caller's promise.
    let pin = unsafe { Pin::new(pg_sys::ReadBuffer(heap, block)) };
    let Some(mut page) = pin.try_exclusive(block) else {
        return false;
    };
    let flags = |tid: &Tid| line_pointer_flags(page.whole(), (tid & 0xffff) as usize);
    let unpruned = |tid: &&Tid| flags(tid).is_some_and(|flags| flags != LP_DEAD);
    if tids.iter().filter(unpruned).count() < few {
        return false;
    }
    let full = (pg_sys::PD_PAGE_FULL as u16).to_ne_bytes();
    let header = page.bytes_mut().get_mut(FLAGS..FLAGS + 2);
    if let Some(header) = header {
        header.iter_mut().zip(full).for_each(|(to, bit)| *to |= bit);
    }
    let buffer = page.buffer();
    let _pin = page.into_pin();
    // SAFETY: the buffer is one of the table, pinned and not locked.
    unsafe { pg_sys::heap_page_prune_opt(heap, buffer) };
    true
}

/// The heap pages to look at, and their number: first those that several of
/// `fresh` point to, then those that most of `tids` point to.
fn pages_to_look_at(fresh: &[Tid], tids: &[Tid]) -> ([u32; MAX_PAGES], usize) {
    let mut pages = [0; MAX_PAGES];
    let mut count = 0;
    for (tids, limit) in [(fresh, FRESH_PAGES), (tids, MAX_PAGES)] {
        for (entries, block) in busiest_pages(tids) {
            let known = pages.iter().take(count).any(|page| *page == block);
            if entries > 0 && !known && count < limit {
                if let Some(slot) = pages.get_mut(count) {
                    *slot = block;
                }
                count += 1;
            }
        }
    }
    (pages, count)
}

/// The indexes of those of `tids` that may be in one of the heap pages.
fn entries_near<'a>(pages: &[u32], tids: &[Tid], room: &'a mut [u16; MAX_CANDIDATES]) -> &'a [u16] {
    let mut chosen = [false; COUNTERS];
    for block in pages {
        chosen[hash(*block) % COUNTERS] = true;
    }
    let mut count = 0;
    for (index, tid) in (0..).zip(tids.iter().take(MAX_CANDIDATES)) {
        // Written always and counted if it is one: no branch to mispredict.
        room[count % MAX_CANDIDATES] = index;
        count += usize::from(chosen[hash((tid >> 16) as u32) % COUNTERS]);
    }
    room.get(..count).unwrap_or(&[])
}

/// A number for a heap page, evenly spread over 16 bits.
fn hash(block: u32) -> usize {
    (block.wrapping_mul(0x9e37_79b9) >> 16) as usize
}

/// The heap pages that most of `tids` point to, each behind the number of them,
/// most first; numbers of 0 are at the end. Of more than [`SLOTS`] pages with
/// several entries some are not found.
fn busiest_pages(tids: &[Tid]) -> [(u16, u32); MAX_PAGES] {
    let mut best = [(0u16, 0u32); MAX_PAGES];
    let mut counters = [0u8; COUNTERS];
    let mut most = 0;
    for tid in tids {
        let counter = &mut counters[hash((tid >> 16) as u32) % COUNTERS];
        *counter = counter.saturating_add(1);
        most = most.max(*counter);
    }
    if u16::from(most) < MIN_ENTRIES {
        return best;
    }
    let mut counts = [(0u32, 0u16); SLOTS];
    for tid in tids {
        let block = (tid >> 16) as u32;
        let hash = hash(block);
        if u16::from(counters[hash % COUNTERS]) < MIN_ENTRIES {
            continue;
        }
        for step in 0..MAX_PROBES {
            let slot = &mut counts[(hash + step) % SLOTS];
            if slot.1 == 0 || slot.0 == block {
                *slot = (block, slot.1.saturating_add(1));
                break;
            }
        }
    }
    for (block, count) in counts {
        let last = best.last().map_or(0, |last| last.0);
        if count >= MIN_ENTRIES && count > last {
            best[MAX_PAGES - 1] = (count, block);
            best.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
    best
}
