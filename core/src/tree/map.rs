//! The pages of one level of an index, left to right: their low fences and blocks.
//!
//! Most fences begin a key: their TID is 0 and their rank the same. These are stored
//! once for all of them, and those of other fences beside, so that as much memory serves
//! about twice the pages, and a search looks at fewer cache lines.

use core::ops::Range;

use crate::error::{Error, Result};
use crate::key::{Block, Pos};
use crate::memory::{reserve, reserved};

/// Low fences in ascending order, and the pages that they are of.
#[derive(Clone, Debug)]
pub(crate) struct Map<const V: usize> {
    /// The lanes of the fences.
    lanes: Vec<[u64; V]>,
    tails: Tails,
    blocks: Vec<Block>,
}

/// Ranks and TIDs of the fences, as [`Pos::tail`] has them.
#[derive(Clone, Debug)]
enum Tails {
    /// All have the same, with a TID of 0, but those that are listed in order. Only the
    /// first page can have another rank, so that the lanes of all others are in order.
    Shared { tail: u64, odd: Vec<Odd> },
    /// Of each fence.
    Each(Vec<u64>),
}

/// A fence that has another rank or TID than most.
#[derive(Clone, Copy, Debug)]
struct Odd {
    page: u32,
    tail: u64,
}

/// How the tail of a fence is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Shared,
    Odd,
    Each,
}

/// So many fences can be odd whatever the number of pages is.
const FEW: usize = 256;

impl<const V: usize> Map<V> {
    /// No page.
    pub(crate) const EMPTY: Self = Self {
        lanes: Vec::new(),
        tails: Tails::Shared {
            tail: 0,
            odd: Vec::new(),
        },
        blocks: Vec::new(),
    };

    /// Bytes that a page takes where rank and TID are stored once.
    pub(crate) const PAGE_BYTES: usize = size_of::<[u64; V]>() + size_of::<Block>();

    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes that the pages take.
    pub(crate) fn bytes(&self) -> usize {
        let tails = match &self.tails {
            Tails::Shared { odd, .. } => size_of_val(odd.as_slice()),
            Tails::Each(tails) => size_of_val(tails.as_slice()),
        };
        self.len() * Self::PAGE_BYTES + tails
    }

    /// Bytes of memory in use.
    pub(crate) fn room(&self) -> usize {
        let tails = match &self.tails {
            Tails::Shared { odd, .. } => odd.capacity() * size_of::<Odd>(),
            Tails::Each(tails) => tails.capacity() * size_of::<u64>(),
        };
        self.lanes.capacity() * size_of::<[u64; V]>()
            + self.blocks.capacity() * size_of::<Block>()
            + tails
    }

    /// The low fence of a page.
    pub(crate) fn low(&self, index: usize) -> Option<Pos<V>> {
        let lanes = *self.lanes.get(index)?;
        let tail = match &self.tails {
            Tails::Shared { tail, odd } => match odd.get(behind(odd, index)) {
                Some(other) if other.page as usize == index => other.tail,
                _ => *tail,
            },
            Tails::Each(tails) => *tails.get(index)?,
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
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn reserve(&mut self, n: usize) -> Result<()> {
        reserve(&mut self.lanes, n)?;
        reserve(&mut self.blocks, n)?;
        match &mut self.tails {
            Tails::Shared { .. } => Ok(()),
            Tails::Each(tails) => reserve(tails, n),
        }
    }

    /// Gives back what room is left.
    pub(crate) fn shrink(&mut self) {
        self.lanes.shrink_to_fit();
        self.blocks.shrink_to_fit();
        match &mut self.tails {
            Tails::Shared { odd, .. } => odd.shrink_to_fit(),
            Tails::Each(tails) => tails.shrink_to_fit(),
        }
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
        let place = self.place(index, &low);
        if place == Place::Each {
            self.spread()?;
        }
        let (shared, first) = (self.shared(index, &low), self.tails_differ(index, &low));
        match &mut self.tails {
            Tails::Shared { tail, odd } => {
                if first {
                    room_for_one(odd)?;
                    let (page, tail) = (0, *tail);
                    odd.push(Odd { page, tail });
                }
                *tail = shared;
                room_for_one(odd)?;
                let at = behind(odd, index);
                odd.iter_mut().skip(at).for_each(|odd| odd.page += 1);
                if place == Place::Odd {
                    let (page, tail) = (index as u32, low.tail());
                    odd.insert(at, Odd { page, tail });
                }
            }
            Tails::Each(tails) => {
                room_for_one(tails)?;
                tails.insert(index, low.tail());
            }
        }
        self.lanes.insert(index, low.vals);
        self.blocks.insert(index, block);
        Ok(())
    }

    /// What the tails that are shared are with a new page at `index`: the second page says
    /// it, for the first can have another rank than all others.
    fn shared(&self, index: usize, low: &Pos<V>) -> u64 {
        match &self.tails {
            Tails::Shared { tail, .. } if self.len() > 1 || index < self.len() => *tail,
            _ => low.key_start().tail(),
        }
    }

    /// Whether a new page at `index` makes the first one odd.
    fn tails_differ(&self, index: usize, low: &Pos<V>) -> bool {
        match &self.tails {
            Tails::Shared { tail, odd } => {
                self.len() == 1 && odd.is_empty() && self.shared(index, low) != *tail
            }
            Tails::Each(_) => false,
        }
    }

    /// How the fence of a new page at `index` is stored.
    fn place(&self, index: usize, low: &Pos<V>) -> Place {
        let Tails::Shared { odd, .. } = &self.tails else {
            return Place::Each;
        };
        let tail = self.shared(index, low);
        if index == 0 && !self.is_empty() {
            Place::Each
        } else if low.tail() == tail {
            Place::Shared
        } else if low.key_start().tail() == tail && odd.len() < FEW.max(self.len() / 4) {
            Place::Odd
        } else {
            Place::Each
        }
    }

    /// Whether a page at `index` with this fence fits into `limit` bytes with those there.
    pub(crate) fn fits(&self, index: usize, low: &Pos<V>, limit: usize) -> bool {
        let pages = self.len() + 1;
        let place = self.place(index, low);
        let bytes = if place == Place::Each {
            pages * (Self::PAGE_BYTES + size_of::<u64>())
        } else {
            let first = usize::from(self.tails_differ(index, low));
            let odd = first + usize::from(place == Place::Odd);
            self.bytes() + Self::PAGE_BYTES + odd * size_of::<Odd>()
        };
        bytes <= limit
    }

    /// Stores rank and TID of each fence.
    #[cold]
    fn spread(&mut self) -> Result<()> {
        if let Tails::Shared { tail, odd } = &self.tails {
            let mut tails = reserved(self.lanes.capacity())?;
            tails.resize(self.len(), *tail);
            for odd in odd {
                if let Some(tail) = tails.get_mut(odd.page as usize) {
                    *tail = odd.tail;
                }
            }
            self.tails = Tails::Each(tails);
        }
        Ok(())
    }

    /// Removes pages other than the first.
    pub(crate) fn remove(&mut self, gone: Range<usize>) {
        debug_assert!(gone.start > 0 && gone.end <= self.len());
        self.lanes.drain(gone.clone());
        self.blocks.drain(gone.clone());
        match &mut self.tails {
            Tails::Shared { odd, .. } => {
                let at = behind(odd, gone.start);
                odd.drain(at..behind(odd, gone.end));
                let fewer = gone.len() as u32;
                odd.iter_mut().skip(at).for_each(|odd| odd.page -= fewer);
            }
            Tails::Each(tails) => _ = tails.drain(gone),
        }
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

    /// Index of the last low fence at or below `pos` (strictly below, if so asked),
    /// looked for around `guess`.
    pub(crate) fn find(&self, pos: &Pos<V>, strict: bool, guess: Option<usize>) -> Option<usize> {
        let below = |low: Pos<V>| if strict { low < *pos } else { low <= *pos };
        // The first fence can have another rank than all others.
        let lanes = self.lanes.get(1..)?;
        let n = lanes.len();
        let guess = guess.map(|guess| guess.saturating_sub(1));
        let less = |i: usize| lanes.get(i).is_some_and(|low| *low < pos.vals);
        let found = match &self.tails {
            Tails::Each(_) => count(n, guess, |i| self.low(i + 1).is_some_and(below)),
            Tails::Shared { tail, odd } => {
                let shared = Pos::<V>::of(pos.vals, *tail);
                if shared.rank != pos.rank {
                    if shared.rank < pos.rank { n } else { 0 }
                } else if odd.last().is_some_and(|odd| odd.page > 0) {
                    let equal = count(n, guess, less);
                    let rest = lanes.get(equal..).unwrap_or(&[]);
                    equal
                        + count(rest.len(), Some(0), |i| {
                            rest.get(i).is_some_and(|low| *low == pos.vals)
                                && self.low(equal + i + 1).is_some_and(below)
                        })
                } else if below(shared) {
                    count(n, guess, |i| {
                        lanes.get(i).is_some_and(|low| *low <= pos.vals)
                    })
                } else {
                    count(n, guess, less)
                }
            }
        };
        (found > 0 || self.low(0).is_some_and(below)).then_some(found)
    }
}

/// Odd pages in front of a page.
fn behind(odd: &[Odd], page: usize) -> usize {
    odd.partition_point(|odd| (odd.page as usize) < page)
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
