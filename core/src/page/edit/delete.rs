//! Deleting entries in place.

use super::{EditScratch, Piece};
use crate::error::Error;
use crate::error::Result;
use crate::page::block::BlockView;
use crate::page::block::encode_block;
use crate::page::block::max_block_entries;
use crate::page::leaf::LeafView;

impl<const V: usize> EditScratch<V> {
    /// Plans the leaf without the entries that `dead` names. Returns how many
    /// those are; 0: there is nothing to write, and no plan. Afterwards
    /// `self.delta` holds what is left of the delta area.
    ///
    /// The plan never takes more room than the page did: a block that would
    /// grow gets a survivor bitmap, for which the reserve was kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a block does not decode.
    pub fn plan_delete(
        &mut self,
        leaf: &LeafView<'_, V>,
        dead: &mut dyn FnMut(u64) -> bool,
    ) -> Result<usize> {
        self.clear();
        let mut removed = 0;
        self.load_delta(leaf);
        let before = self.delta.len();
        self.delta.retain(|pos| !dead(pos.tid));
        removed += before - self.delta.len();
        for index in 0..leaf.blocks() {
            let view = leaf.view(index)?;
            let lost = self.mark_dead(&view, dead);
            if lost == 0 {
                self.keep(leaf, index)?;
            } else {
                self.delete_from(leaf, index, &view, lost)?;
            }
            removed += lost;
        }
        Ok(removed)
    }

    /// Fills the survivor bitmap of a block into `self.dead`; returns how many
    /// entries it loses.
    fn mark_dead(&mut self, view: &BlockView<'_, V>, dead: &mut dyn FnMut(u64) -> bool) -> usize {
        let n = view.len();
        let mut lost = 0;
        self.dead[..n.div_ceil(8)].fill(0);
        let mut from = 0;
        while from < n {
            let count = view.decode(from, n, &mut self.columns);
            for i in from..from + count {
                if view.survives(i) {
                    if dead(self.columns.pos(i - from).tid) {
                        lost += 1;
                    } else {
                        self.dead[i / 8] |= 1 << (i % 8);
                    }
                }
            }
            from += count.max(1);
        }
        lost
    }

    /// Plans a block without the entries whose bit in `self.dead` is clear.
    fn delete_from(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        lost: usize,
    ) -> Result<()> {
        let dir = leaf.dir(index)?;
        let live = view.live() - lost;
        if live == 0 {
            return Ok(());
        }
        let survives = |bits: &[u8], i: usize| bits[i / 8] >> (i % 8) & 1 == 1;
        let bits = &self.dead[..];
        let first = (0..dir.n).find(|&i| survives(bits, i)).unwrap_or(0);
        let last = (0..dir.n).rev().find(|&i| survives(bits, i)).unwrap_or(0);
        if view.is_line() && !dir.survivors && last + 1 - first == live {
            return self.slice(leaf, index, first, last + 1);
        }
        let bitmap = dir.n.div_ceil(8);
        let with_bitmap = if dir.survivors {
            dir.len
        } else {
            dir.len + bitmap
        };
        if live <= max_block_entries(self.page_size, V) {
            // Short enough for a block of its own, if that is smaller.
            self.pending.clear();
            let mut from = 0;
            while from < dir.n {
                let count = view.decode(from, dir.n, &mut self.columns);
                for i in from..from + count {
                    if survives(&self.dead, i) {
                        self.pending.push(self.columns.pos(i - from));
                    }
                }
                from += count.max(1);
            }
            let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
            if let Ok(len) = encode_block(&self.pending, None, out)
                && len + live.div_ceil(8) <= with_bitmap
            {
                let piece = Piece {
                    first: self.pending[0],
                    arena: true,
                    at: self.used,
                    len,
                    n: live,
                    skip: 0,
                    survivors: false,
                    live,
                };
                self.used += len;
                self.pending.clear();
                return self.push_piece(piece);
            }
            self.pending.clear();
        }
        let columns = leaf
            .page()
            .get(dir.offset + if dir.survivors { bitmap } else { 0 }..dir.offset + dir.len)
            .ok_or(leaf.corrupt("a block is shorter than its bitmap"))?;
        let out = self
            .arena
            .get_mut(self.used..self.used + with_bitmap)
            .ok_or(Error::Full)?;
        let (head, tail) = out.split_at_mut(bitmap);
        head.copy_from_slice(&self.dead[..bitmap]);
        tail.copy_from_slice(columns);
        let piece = Piece {
            first: dir.first,
            arena: true,
            at: self.used,
            len: with_bitmap,
            n: dir.n,
            skip: dir.skip,
            survivors: true,
            live,
        };
        self.used += with_bitmap;
        self.push_piece(piece)
    }
}
