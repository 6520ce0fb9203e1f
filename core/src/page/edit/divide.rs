//! Splitting a leaf in two, and joining two leaves.

use super::{EditScratch, Piece};
use crate::codec::MAX_VALUES;
use crate::error::Error;
use crate::error::Result;
use crate::key::Pos;
use crate::page::block::BlockView;
use crate::page::block::max_block_entries;
use crate::page::leaf::LeafView;

impl<const V: usize> EditScratch<V> {
    /// Plans to take over all blocks of a leaf as they are, behind what is
    /// planned already. The blocks are copied to the arena, because the plan's
    /// page is another one.
    ///
    /// # Errors
    /// [`Error::Full`] if they are too many.
    pub fn plan_join(&mut self, leaf: &LeafView<'_, V>) -> Result<()> {
        for index in 0..leaf.blocks() {
            let dir = leaf.dir(index)?;
            let bytes = leaf
                .page()
                .get(dir.offset..dir.offset + dir.len)
                .ok_or(leaf.corrupt("a block lies outside of its leaf"))?;
            self.arena
                .get_mut(self.used..self.used + dir.len)
                .ok_or(Error::Full)?
                .copy_from_slice(bytes);
            self.keep(leaf, index)?;
            if let Some(piece) = self.pieces.last_mut() {
                piece.arena = true;
                piece.at = self.used;
            }
            self.used += dir.len;
        }
        for index in 0..leaf.delta_len() {
            if self.delta.len() == self.delta.capacity() {
                return Err(Error::Full);
            }
            self.delta.push(leaf.delta(index));
        }
        Ok(())
    }

    /// Plans to take over all blocks of a leaf as they are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the leaf is damaged.
    pub fn plan_keep(&mut self, leaf: &LeafView<'_, V>) -> Result<()> {
        self.clear();
        self.load_delta(leaf);
        for index in 0..leaf.blocks() {
            self.keep(leaf, index)?;
        }
        Ok(())
    }

    /// Plans a split in the middle: all blocks verbatim, the one block of a
    /// page that has no other cut in two. Returns how many of the pieces stay
    /// on the left, and the separator: above all entries on the left, at or
    /// below all on the right.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the leaf is damaged.
    pub fn plan_split(&mut self, leaf: &LeafView<'_, V>) -> Result<(usize, Pos<V>)> {
        self.plan_keep(leaf)?;
        let left = if self.pieces.len() >= 2 {
            let half = self.footprint() / 2;
            let mut sum = 0;
            let mut left = 0;
            for piece in &self.pieces {
                if left > 0 && sum + piece.footprint() / 2 > half {
                    break;
                }
                sum += piece.footprint();
                left += 1;
            }
            left.min(self.pieces.len() - 1)
        } else {
            self.halve(leaf)?
        };
        let first = self
            .pieces
            .get(left)
            .ok_or(leaf.corrupt("a leaf that has one entry cannot be split"))?
            .first;
        let before = self
            .pieces
            .get(left.wrapping_sub(1))
            .and_then(|piece| self.piece_view(piece, leaf.page()))
            .map(|view| view.pos(view.len() - 1))
            .ok_or(leaf.corrupt("a block does not decode"))?;
        let separator = if before.same_key(&first) {
            first
        } else {
            first.key_start()
        };
        if before >= separator {
            return Err(leaf.corrupt("blocks are out of order"));
        }
        Ok((left, separator))
    }

    /// Cuts the only block of a leaf in two pieces.
    fn halve(&mut self, leaf: &LeafView<'_, V>) -> Result<usize> {
        self.pieces.clear();
        let view = match leaf.blocks() {
            1 => leaf.view(0)?,
            _ => return Err(leaf.corrupt("a leaf without blocks cannot be split")),
        };
        let n = view.len();
        if n >= 2 && view.is_line() && !view.has_survivor_bitmap() {
            self.slice(leaf, 0, 0, n / 2)?;
            self.slice(leaf, 0, n / 2, n)?;
            return Ok(1);
        }
        // More than this may not fit the page when they are encoded anew.
        if view.live() > max_block_entries(self.page_size, V) {
            self.halve_survivors(leaf, &view)?;
            return Ok(1);
        }
        self.pending.clear();
        for from in (0..n).step_by(MAX_VALUES) {
            self.merge(leaf, &view, from, (from + MAX_VALUES).min(n), &[])?;
        }
        let half = self.pending.len() / 2;
        if half == 0 {
            return Err(leaf.corrupt("a leaf of one entry cannot be split"));
        }
        self.seal_alone(half)?;
        self.seal_alone(self.pending.len())?;
        Ok(1)
    }

    /// Cuts a long line with a survivor bitmap where half of its survivors are,
    /// each half with its part of the bitmap.
    fn halve_survivors(&mut self, leaf: &LeafView<'_, V>, view: &BlockView<'_, V>) -> Result<()> {
        let dir = leaf.dir(0)?;
        let bitmap = dir.n.div_ceil(8);
        let half = view.live() / 2;
        // The bitmap is cut between bytes: at most 7 survivors change sides.
        let mut seen = 0;
        let mut middle = 0;
        while middle < dir.n && (seen == 0 || seen + 8 <= half) {
            seen += (middle..dir.n.min(middle + 8))
                .filter(|&i| view.survives(i))
                .count();
            middle += 8;
        }
        if middle >= dir.n || seen == view.live() {
            return Err(leaf.corrupt("survivors of a block are miscounted"));
        }
        let columns = dir.offset + bitmap..dir.offset + dir.len;
        for (from, to) in [(0, middle), (middle, dir.n)] {
            let live = (from..to).filter(|&i| view.survives(i)).count();
            let bits = leaf
                .page()
                .get(dir.offset + from / 8..dir.offset + to.div_ceil(8));
            let (Some(bits), Some(columns)) = (bits, leaf.page().get(columns.clone())) else {
                return Err(leaf.corrupt("a block is shorter than its bitmap"));
            };
            let len = bits.len() + columns.len();
            let out = self
                .arena
                .get_mut(self.used..self.used + len)
                .ok_or(Error::Full)?;
            let (head, tail) = out.split_at_mut(bits.len());
            head.copy_from_slice(bits);
            tail.copy_from_slice(columns);
            self.push_piece(Piece {
                first: view.pos(from),
                arena: true,
                at: self.used,
                len,
                n: to - from,
                skip: dir.skip + from,
                survivors: true,
                live,
            })?;
            self.used += len;
        }
        Ok(())
    }
}
