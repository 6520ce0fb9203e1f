//! Blocks made of entries that come in order: bulk loads.

use super::{EditScratch, Piece, SMALL_BLOCK};
use crate::codec::MAX_VALUES;
use crate::error::Error;
use crate::error::Result;
use crate::key::Pos;
use crate::page::block::encode_block;
use crate::page::leaf::dir_bytes;

/// How much of [`crate::page::leaf_capacity`] is to be filled, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    target: usize,
    most: usize,
}

impl Fill {
    /// Up to `target`, the reserve included.
    #[must_use]
    pub const fn up_to(target: usize) -> Self {
        Self {
            target,
            most: target,
        }
    }

    /// Up to `target`; and up to `most` by a reserve that is small beside the blocks.
    /// That of lines is not, and is what inserts need that break them.
    #[must_use]
    pub const fn with_reserve(target: usize, most: usize) -> Self {
        Self { target, most }
    }

    /// What a leaf with this `footprint` may take at most. It contains the `reserve`.
    fn limit(&self, footprint: usize, reserve: usize) -> usize {
        let small = reserve.min((footprint - reserve) / 16);
        (self.target + small).min(self.most.max(self.target))
    }
}

impl<const V: usize> EditScratch<V> {
    /// Whether the pieces take more than they are to fill.
    #[must_use]
    pub fn exceeds(&self, fill: &Fill) -> bool {
        let footprint = self.footprint();
        footprint > fill.limit(footprint, self.reserve())
    }

    fn reserve(&self) -> usize {
        self.pieces.iter().map(Piece::reserve).sum()
    }

    /// Adds an entry behind all pending ones. True: enough for a block are
    /// pending, and the caller has to call [`EditScratch::seal_within`] before it
    /// adds another.
    pub fn add_pending(&mut self, pos: Pos<V>) -> bool {
        self.pending.push(pos);
        self.pending.len() >= 2 * MAX_VALUES
    }

    /// The first entry that is pending.
    #[must_use]
    pub fn first_pending(&self) -> Option<Pos<V>> {
        self.pending.first().copied()
    }

    /// Makes a block of the first pending entries, of fewer than usual if that
    /// fills the page as far as it is to be. Returns its last entry;
    /// `None`: not even a small block fits behind the pieces there are. All
    /// pieces are in the arena.
    ///
    /// # Errors
    /// [`Error::Full`] if nothing is pending.
    pub fn seal_within(&mut self, fill: &Fill) -> Result<Option<Pos<V>>> {
        let mut n = self.cut(true);
        let base = self.footprint();
        let lengthens = self.continues(&[], n);
        // The first block of a page is taken as it is.
        let mut fits = lengthens || base == 0;
        while !fits {
            let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
            let len = encode_block(&self.pending[..n], None, out)?;
            let footprint = dir_bytes::<V>() + len + n.div_ceil(8);
            let reserve = self.reserve() + n.div_ceil(8);
            let limit = fill.limit(base + footprint, reserve);
            fits = base + footprint <= limit;
            if fits {
                break;
            }
            let smaller = n * limit.saturating_sub(base) / footprint;
            if smaller < SMALL_BLOCK {
                return Ok(None);
            }
            n = smaller.min(n - 1);
        }
        let last = self
            .pending
            .get(n.wrapping_sub(1))
            .copied()
            .ok_or(Error::Full)?;
        if lengthens {
            self.add_to_line(n);
        } else {
            self.seal(&[], n)?;
        }
        Ok(Some(last))
    }

    /// Forgets the first `n` pieces, and moves the others to the start of the
    /// arena.
    pub fn drop_pieces(&mut self, n: usize) {
        self.pieces.drain(..n.min(self.pieces.len()));
        let mut used = 0;
        for piece in &mut self.pieces {
            self.arena.copy_within(piece.at..piece.at + piece.len, used);
            piece.at = used;
            used += piece.len;
        }
        self.used = used;
    }

    /// Adds an entry to the plan, behind all others. Keeps a block's worth
    /// pending; [`EditScratch::finish`] seals it.
    ///
    /// # Errors
    /// [`Error::Full`] if the arena is full.
    pub fn push(&mut self, page: &[u8], pos: Pos<V>) -> Result<()> {
        self.pending.push(pos);
        if self.pending.len() >= 2 * MAX_VALUES {
            let n = self.cut(true);
            self.seal(page, n)?;
        }
        Ok(())
    }

    /// Seals what is pending.
    ///
    /// # Errors
    /// [`Error::Full`] if the arena is full.
    pub fn finish(&mut self, page: &[u8]) -> Result<()> {
        self.flush(page, true)
    }
}
