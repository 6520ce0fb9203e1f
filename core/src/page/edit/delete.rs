//! Deleting entries in place.

use super::{EditScratch, Piece};
use crate::codec::MAX_VALUES;
use crate::error::Error;
use crate::error::Result;
use crate::key::{Pos, Tid};
use crate::page::block::BlockView;
use crate::page::block::encode_block;
use crate::page::block::max_block_entries;
use crate::page::leaf::{LeafView, MAX_DELTA};

/// Says which rows are dead.
pub trait DeadRows {
    /// Sets `dead[i]` to whether row `tids[i]` is dead. Both are of the same length.
    fn ask(&mut self, tids: &[Tid], dead: &mut [bool]);
}

impl<F: FnMut(Tid) -> bool> DeadRows for F {
    fn ask(&mut self, tids: &[Tid], dead: &mut [bool]) {
        for (tid, dead) in tids.iter().zip(dead) {
            *dead = self(*tid);
        }
    }
}

impl<const V: usize> EditScratch<V> {
    /// Plans the leaf without the entries that `rows` says are dead. Returns how many
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
        rows: &mut dyn DeadRows,
    ) -> Result<usize> {
        self.clear();
        self.load_delta(leaf);
        let mut removed = self.drop_from_delta(rows);
        for index in 0..leaf.blocks() {
            let view = leaf.view(index)?;
            let lost = self.mark_dead(&view, rows);
            self.delete_from(leaf, index, &view, lost)?;
            removed += lost;
        }
        Ok(removed)
    }

    /// Adds the TIDs of the leaf's entries to `tids`, in the order in which
    /// [`EditScratch::plan_delete`] asks for them. False if that makes more than
    /// `most`; then some may be missing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a block does not decode.
    pub fn list_tids(
        &mut self,
        leaf: &LeafView<'_, V>,
        tids: &mut Vec<u64>,
        most: usize,
    ) -> Result<bool> {
        self.load_delta(leaf);
        if tids.len() + self.delta.len() > most {
            return Ok(false);
        }
        tids.extend(self.delta.iter().map(|pos| pos.tid));
        for index in 0..leaf.blocks() {
            let view = leaf.view(index)?;
            if tids.len() + view.len() > most {
                return Ok(false);
            }
            each_chunk(&view, |_, some| tids.extend_from_slice(some));
        }
        Ok(true)
    }

    /// Takes the dead out of `self.delta`, and returns how many they are.
    fn drop_from_delta(&mut self, rows: &mut dyn DeadRows) -> usize {
        let before = self.delta.len();
        let (mut tids, mut dead) = ([0; MAX_DELTA], [false; MAX_DELTA]);
        let (tids, dead) = (&mut tids[..before], &mut dead[..before]);
        for (tid, pos) in tids.iter_mut().zip(&self.delta) {
            *tid = pos.tid;
        }
        rows.ask(tids, dead);
        let mut dead = dead.iter();
        self.delta.retain(|_| dead.next() != Some(&true));
        before - self.delta.len()
    }

    /// Fills the survivor bitmap of a block into `self.dead`; returns how many
    /// entries it loses.
    fn mark_dead(&mut self, view: &BlockView<'_, V>, rows: &mut dyn DeadRows) -> usize {
        let mut lost = 0;
        let bits = &mut self.dead[..view.len().div_ceil(8)];
        bits.fill(0);
        let mut room = [false; MAX_VALUES];
        each_chunk(view, |places, tids| {
            let dead = &mut room[..tids.len()];
            rows.ask(tids, dead);
            for (i, dead) in places.iter().zip(dead) {
                lost += usize::from(*dead);
                bits[usize::from(*i) / 8] |= u8::from(!*dead) << (i % 8);
            }
        });
        lost
    }

    /// As [`EditScratch::mark_dead`], of the entries `named` (sorted): those alone
    /// are looked for, however long the block is.
    fn mark_named(&mut self, view: &BlockView<'_, V>, named: &[Pos<V>]) -> usize {
        let n = view.len();
        let bits = &mut self.dead[..n.div_ceil(8)];
        match view.survivors() {
            Some(survivors) => bits.copy_from_slice(survivors),
            None => bits.fill(0xff),
        }
        if !n.is_multiple_of(8)
            && let Some(last) = bits.last_mut()
        {
            *last &= (1 << (n % 8)) - 1;
        }
        let (mut lost, mut at) = (0, 0);
        for pos in named {
            // What dies stands side by side, mostly.
            if at >= n || view.pos(at) != *pos {
                at = view.lower_bound(pos);
            }
            if at < n && view.pos(at) == *pos && survives(bits, at) {
                bits[at / 8] &= !(1 << (at % 8));
                lost += 1;
                at += 1;
            }
        }
        lost
    }

    /// Plans the leaf without those of its entries that are among `named` (sorted).
    /// Returns how many those are, and the rest as [`EditScratch::plan_delete`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a block does not decode.
    pub fn plan_drop(&mut self, leaf: &LeafView<'_, V>, named: &[Pos<V>]) -> Result<usize> {
        self.clear();
        self.load_delta(leaf);
        let before = self.delta.len();
        self.delta.retain(|pos| named.binary_search(pos).is_err());
        let mut removed = before - self.delta.len();
        let mut rest = named;
        for index in 0..leaf.blocks() {
            let mut mine = core::mem::take(&mut rest);
            if !mine.is_empty() && index + 1 < leaf.blocks() {
                let next = leaf.dir(index + 1)?.first;
                (mine, rest) = mine.split_at(mine.partition_point(|pos| *pos < next));
            }
            if mine.is_empty() {
                self.keep(leaf, index)?;
                continue;
            }
            let view = leaf.view(index)?;
            let lost = self.mark_named(&view, mine);
            self.delete_from(leaf, index, &view, lost)?;
            removed += lost;
        }
        Ok(removed)
    }

    /// Plans a block without the `lost` entries whose bit in `self.dead` is clear; if
    /// there are none, as it is. A line begins and ends where its survivors do.
    fn delete_from(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        lost: usize,
    ) -> Result<()> {
        if lost == 0 {
            return self.keep(leaf, index);
        }
        let dir = leaf.dir(index)?;
        let live = view.live() - lost;
        if live == 0 {
            return Ok(());
        }
        let (mut from, mut to) = (0, dir.n);
        if view.is_line() {
            let bits = &self.dead[..];
            from = (0..to).find(|&i| survives(bits, i)).unwrap_or(0);
            to = (from..to).rfind(|&i| survives(bits, i)).unwrap_or(from) + 1;
        }
        let before = if dir.survivors { dir.n.div_ceil(8) } else { 0 };
        let columns = Piece {
            first: view.pos(from),
            arena: false,
            at: dir.offset + before,
            len: dir.len.saturating_sub(before),
            n: to - from,
            skip: dir.skip + from,
            survivors: false,
            live,
        };
        if view.is_line() && columns.n == live {
            return self.push_piece(columns);
        }
        if live <= max_block_entries(self.page_size, V) && self.encode_survivors(view, &columns)? {
            return Ok(());
        }
        self.with_bitmap(leaf, from, columns)
    }

    /// Plans a block of its own for the survivors of a block whose columns are
    /// `columns`, if that is smaller. Returns whether it is.
    fn encode_survivors(&mut self, view: &BlockView<'_, V>, columns: &Piece<V>) -> Result<bool> {
        self.pending.clear();
        let mut from = columns.skip - view.skip();
        let to = from + columns.n;
        while from < to {
            let count = view.decode(from, to, &mut self.columns);
            for i in from..from + count {
                if survives(&self.dead, i) {
                    self.pending.push(self.columns.pos(i - from));
                }
            }
            from += count.max(1);
        }
        let with_bitmap = columns.len + columns.n.div_ceil(8);
        let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
        let encoded = encode_block(&self.pending, None, out);
        let first = self.pending.first().copied();
        self.pending.clear();
        let (Ok(len), Some(first)) = (encoded, first) else {
            return Ok(false);
        };
        let live = columns.live;
        if len + live.div_ceil(8) > with_bitmap {
            return Ok(false);
        }
        let piece = Piece {
            first,
            arena: true,
            at: self.used,
            len,
            n: live,
            skip: 0,
            survivors: false,
            live,
        };
        self.used += len;
        self.push_piece(piece)?;
        Ok(true)
    }

    /// Plans a block's columns with the survivor bitmap of their positions, the
    /// first of which is `from` in `self.dead`.
    fn with_bitmap(
        &mut self,
        leaf: &LeafView<'_, V>,
        from: usize,
        columns: Piece<V>,
    ) -> Result<()> {
        let bitmap = columns.n.div_ceil(8);
        let len = columns.len + bitmap;
        let bytes = leaf
            .page()
            .get(columns.at..columns.at + columns.len)
            .ok_or(leaf.corrupt("a block is shorter than its bitmap"))?;
        let out = self
            .arena
            .get_mut(self.used..self.used + len)
            .ok_or(Error::Full)?;
        let (head, tail) = out.split_at_mut(bitmap);
        let bits = &self.dead[..(from + columns.n).div_ceil(8)];
        for (at, byte) in (from / 8..).zip(head) {
            let next = bits.get(at + 1).copied().unwrap_or(0);
            let pair = u16::from_le_bytes([bits[at], next]);
            *byte = (pair >> (from % 8)).to_le_bytes()[0];
        }
        tail.copy_from_slice(bytes);
        let piece = Piece {
            arena: true,
            at: self.used,
            len,
            survivors: true,
            ..columns
        };
        self.used += len;
        self.push_piece(piece)
    }
}

/// Calls `each` with positions and TIDs of the entries that are still there, some at a
/// time.
fn each_chunk<const V: usize>(view: &BlockView<'_, V>, mut each: impl FnMut(&[u16], &[Tid])) {
    let (mut places, mut tids) = ([0u16; MAX_VALUES], [0; MAX_VALUES]);
    for from in (0..view.len()).step_by(MAX_VALUES) {
        let n = MAX_VALUES.min(view.len() - from);
        view.decode_tids(from, &mut tids[..n]);
        let mut count = 0;
        for (i, place) in (0..n).zip(from..) {
            if view.survives(place) {
                // Positions are below 8,192.
                places[count] = place as u16;
                tids[count] = tids[i];
                count += 1;
            }
        }
        each(&places[..count], &tids[..count]);
    }
}

/// Whether position `i` is set in a survivor bitmap.
fn survives(bits: &[u8], i: usize) -> bool {
    bits[i / 8] >> (i % 8) & 1 == 1
}
