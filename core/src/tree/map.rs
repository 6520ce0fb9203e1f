//! The pages of one level of an index, left to right: their low fences and blocks.
//!
//! Nearly all fences begin a key: their TID is 0 and their rank the same. Both are
//! stored once for all of them until one differs, so that as much memory serves
//! nearly twice the pages, and a search looks at fewer cache lines.

use core::ops::Range;

use crate::error::{Error, Result};
use crate::key::{Block, Pos};
use crate::memory::{reserve, reserved};

/// Low fences in ascending order, and the pages that they are of.
#[derive(Clone, Debug)]
pub(crate) struct Map<const V: usize> {
    /// The lanes of the fences.
    lanes: Vec<[u64; V]>,
    /// Ranks and TIDs of the fences, as [`Pos::tail`] has them; empty as long as all
    /// but the first have `tail`.
    tails: Vec<u64>,
    /// Rank and TID of the first fence.
    first: u64,
    /// Rank and TID of all others, where `tails` is empty.
    tail: u64,
    blocks: Vec<Block>,
}

impl<const V: usize> Map<V> {
    /// No page.
    pub(crate) const EMPTY: Self = Self {
        lanes: Vec::new(),
        tails: Vec::new(),
        first: 0,
        tail: 0,
        blocks: Vec::new(),
    };

    /// Bytes that a page takes as long as ranks and TIDs are stored once.
    pub(crate) const PAGE_BYTES: usize = size_of::<[u64; V]>() + size_of::<Block>();

    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes that the pages take.
    pub(crate) fn bytes(&self) -> usize {
        let tail = if self.tails.is_empty() {
            0
        } else {
            size_of::<u64>()
        };
        self.len() * (Self::PAGE_BYTES + tail)
    }

    /// Bytes of memory in use.
    pub(crate) fn room(&self) -> usize {
        self.lanes.capacity() * size_of::<[u64; V]>()
            + self.tails.capacity() * size_of::<u64>()
            + self.blocks.capacity() * size_of::<Block>()
    }

    /// The low fence of a page.
    pub(crate) fn low(&self, index: usize) -> Option<Pos<V>> {
        let lanes = *self.lanes.get(index)?;
        let tail = match self.tails.get(index) {
            Some(tail) => *tail,
            None if index == 0 => self.first,
            None => self.tail,
        };
        Some(Pos::of(lanes, tail))
    }

    /// The low fence of the last page.
    pub(crate) fn last(&self) -> Option<Pos<V>> {
        self.low(self.len().checked_sub(1)?)
    }

    pub(crate) fn block(&self, index: usize) -> Option<Block> {
        self.blocks.get(index).copied()
    }

    pub(crate) fn set_block(&mut self, index: usize, block: Block) {
        if let Some(known) = self.blocks.get_mut(index) {
            *known = block;
        }
    }

    /// All pages in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pos<V>, Block)> {
        let lows = (0..self.len()).filter_map(|index| self.low(index));
        lows.zip(self.blocks.iter().copied())
    }

    /// Makes room for `n` more pages.
    pub(crate) fn reserve(&mut self, n: usize) -> Result<()> {
        reserve(&mut self.lanes, n)?;
        reserve(&mut self.blocks, n)?;
        if !self.tails.is_empty() {
            reserve(&mut self.tails, n)?;
        }
        Ok(())
    }

    /// Gives back what room is left.
    pub(crate) fn shrink(&mut self) {
        self.lanes.shrink_to_fit();
        self.tails.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }

    /// Adds the page behind all others.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn push(&mut self, low: Pos<V>, block: Block) -> Result<()> {
        self.insert(self.len(), low, block)
    }

    /// Adds a page at `index`, at most the number of pages.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn insert(&mut self, index: usize, low: Pos<V>, block: Block) -> Result<()> {
        debug_assert!(index <= self.len());
        room_for_one(&mut self.lanes)?;
        room_for_one(&mut self.blocks)?;
        let tail = low.tail();
        if self.tails.is_empty() {
            match (self.len(), index) {
                (0, _) => self.first = tail,
                (1, 1) => self.tail = tail,
                (_, 1..) if self.tail == tail => {}
                _ => self.spread()?,
            }
        }
        if !self.tails.is_empty() {
            room_for_one(&mut self.tails)?;
            self.tails.insert(index, tail);
        }
        self.lanes.insert(index, low.vals);
        self.blocks.insert(index, block);
        Ok(())
    }

    /// Whether a page whose fence is `low` fits into `limit` bytes with those there.
    pub(crate) fn fits(&self, low: &Pos<V>, limit: usize) -> bool {
        let alike = self.tails.is_empty() && (self.len() < 2 || self.tail == low.tail());
        let tail = if alike { 0 } else { size_of::<u64>() };
        (self.len() + 1) * (Self::PAGE_BYTES + tail) <= limit
    }

    /// Stores rank and TID of each fence.
    #[cold]
    fn spread(&mut self) -> Result<()> {
        let mut tails = reserved(self.lanes.capacity())?;
        tails.resize(self.len(), self.tail);
        if let Some(first) = tails.first_mut() {
            *first = self.first;
        }
        self.tails = tails;
        Ok(())
    }

    /// From `from` on, the first page that does not begin below `high` (`None`: past all).
    pub(crate) fn end(&self, from: usize, high: Option<&Pos<V>>) -> usize {
        let Some(high) = high else {
            return self.len();
        };
        from + count(self.len().saturating_sub(from), Some(0), |i| {
            self.low(from + i).is_some_and(|low| low < *high)
        })
    }

    /// Removes pages other than the first.
    pub(crate) fn remove(&mut self, gone: Range<usize>) {
        debug_assert!(gone.start > 0 && gone.end <= self.len());
        self.lanes.drain(gone.clone());
        self.blocks.drain(gone.clone());
        if !self.tails.is_empty() {
            self.tails.drain(gone);
        }
    }

    /// Index of the last low fence at or below `pos` (strictly below, if so asked),
    /// looked for around `guess`.
    pub(crate) fn find(&self, pos: &Pos<V>, strict: bool, guess: Option<usize>) -> Option<usize> {
        let below = |low: Pos<V>| if strict { low < *pos } else { low <= *pos };
        // The first fence can have another rank than all others.
        let lanes = self.lanes.get(1..)?;
        let guess = guess.map(|guess| guess.saturating_sub(1));
        let shared = Pos::<V>::of(pos.vals, self.tail);
        let found = if !self.tails.is_empty() {
            count(lanes.len(), guess, |i| self.low(i + 1).is_some_and(below))
        } else if shared.rank != pos.rank {
            if shared.rank < pos.rank {
                lanes.len()
            } else {
                0
            }
        } else if below(shared) {
            count(lanes.len(), guess, |i| {
                lanes.get(i).is_some_and(|low| *low <= pos.vals)
            })
        } else {
            count(lanes.len(), guess, |i| {
                lanes.get(i).is_some_and(|low| *low < pos.vals)
            })
        };
        (found > 0 || self.low(0).is_some_and(below)).then_some(found)
    }
}

/// How many of `n` ordered elements come before all that are not `below`. A galloping
/// search from `guess`, or else a binary search.
#[inline]
fn count(n: usize, guess: Option<usize>, below: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, n);
    if let Some(guess) = guess.map(|guess| guess.min(n.saturating_sub(1))) {
        // An interval around the guess that contains the end of those below.
        let mut step = 1;
        if below(guess) {
            from = guess + 1;
            while from + step <= n && below(from + step - 1) {
                from += step;
                step *= 2;
            }
            to = (from + step).min(n);
        } else {
            to = guess;
            while to >= step && !below(to - step) {
                to -= step;
                step *= 2;
            }
            from = to.saturating_sub(step);
        }
    }
    while from < to {
        let middle = usize::midpoint(from, to);
        if below(middle) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

/// Makes room for one more element, and some if there is none: less than doubling what
/// is there, so that a map of nearly all the memory that it may take stays near it.
fn room_for_one<T>(v: &mut Vec<T>) -> Result<()> {
    if v.len() < v.capacity() {
        return Ok(());
    }
    let more = v.len() / 8 + 1;
    v.try_reserve_exact(more).map_err(|_| Error::OutOfMemory {
        bytes: (v.len() + more).saturating_mul(size_of::<T>()),
    })
}
