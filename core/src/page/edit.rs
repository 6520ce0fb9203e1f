//! Rewriting a leaf: folding its delta area into blocks, deleting entries,
//! splitting and joining.
//!
//! A rewrite first *plans* the new page as a list of pieces, each a block of
//! the old page taken over verbatim or a new one in the scratch arena, and then
//! writes the pieces out. Planning does not touch the page and allocates
//! nothing, so it runs under the page's lock.

use super::block::{BlockView, Entries, encode_block, max_block_entries};
use super::header::{self, SPECIAL};
use super::leaf::{
    DirEntry, LeafFrame, LeafView, append_delta, dir_at, dir_bytes, init_leaf, write_counts,
    write_dir,
};
use crate::codec::{MAX_LINE, MAX_VALUES};
use crate::error::{Error, Result};
use crate::key::Pos;

/// Equal keys in a row from which on a block ends where the key changes: the
/// TIDs of one key ascend, those of two do not.
const LONG_RUN: usize = 64;

/// A bulk load does not cut blocks shorter than this to fill a page.
const SMALL_BLOCK: usize = 16;

/// The most TIDs that a fold can drop.
const MAX_DOOMED: usize = 1024;

/// A block of the page to be.
#[derive(Clone, Copy, Debug)]
pub struct Piece<const V: usize> {
    first: Pos<V>,
    /// In the arena, or on the old page.
    arena: bool,
    at: usize,
    len: usize,
    n: usize,
    skip: usize,
    survivors: bool,
    live: usize,
}

impl<const V: usize> Piece<V> {
    fn reserve(&self) -> usize {
        if self.survivors {
            0
        } else {
            self.n.div_ceil(8)
        }
    }

    /// Bytes that the piece takes of [`super::leaf_capacity`], the reserve for
    /// its survivor bitmap included.
    #[must_use]
    pub fn footprint(&self) -> usize {
        dir_bytes::<V>() + self.len + self.reserve()
    }

    /// Entries of the piece.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// The lower end of the piece.
    #[must_use]
    pub fn first(&self) -> Pos<V> {
        self.first
    }
}

/// Room for planning rewrites, allocated before any lock is taken.
pub struct EditScratch<const V: usize> {
    page_size: usize,
    arena: Vec<u8>,
    used: usize,
    pieces: Vec<Piece<V>>,
    pending: Vec<Pos<V>>,
    /// The delta area, sorted.
    pub delta: Vec<Pos<V>>,
    columns: Box<Entries<V>>,
    dead: Vec<u8>,
    /// TIDs that a fold drops, sorted.
    doomed: Vec<u64>,
}

fn reserved<T>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
        bytes: n.saturating_mul(size_of::<T>()),
    })?;
    Ok(v)
}

impl<const V: usize> EditScratch<V> {
    /// Allocates the room for pages of `page_size` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(page_size: usize) -> Result<Self> {
        let mut arena = reserved(4 * page_size)?;
        arena.resize(4 * page_size, 0);
        let mut dead = reserved(8 * page_size)?;
        dead.resize(8 * page_size, 0);
        Ok(Self {
            page_size,
            arena,
            used: 0,
            pieces: reserved(page_size / 4)?,
            pending: reserved(4 * MAX_VALUES)?,
            delta: reserved(page_size / 4)?,
            columns: Box::default(),
            dead,
            doomed: reserved(MAX_DOOMED)?,
        })
    }

    /// The planned pieces.
    #[must_use]
    pub fn pieces(&self) -> &[Piece<V>] {
        &self.pieces
    }

    /// Forgets the plan.
    pub fn clear(&mut self) {
        self.used = 0;
        self.pieces.clear();
        self.pending.clear();
    }

    /// Bytes that the planned pieces take of [`super::leaf_capacity`].
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.pieces.iter().map(Piece::footprint).sum()
    }

    /// Copies the delta area of a leaf to `self.delta`, sorted.
    pub fn load_delta(&mut self, leaf: &LeafView<'_, V>) {
        self.doomed.clear();
        self.delta.clear();
        for index in 0..leaf.delta_len().min(self.delta.capacity()) {
            self.delta.push(leaf.delta(index));
        }
        self.delta.sort_unstable();
    }

    fn push_piece(&mut self, piece: Piece<V>) -> Result<()> {
        if self.pieces.len() == self.pieces.capacity() {
            return Err(Error::Full);
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn piece_bytes<'a>(&'a self, piece: &Piece<V>, page: &'a [u8]) -> &'a [u8] {
        let source = if piece.arena {
            self.arena.as_slice()
        } else {
            page
        };
        source.get(piece.at..).unwrap_or(&[])
    }

    fn piece_view<'a>(&'a self, piece: &Piece<V>, page: &'a [u8]) -> Option<BlockView<'a, V>> {
        let bytes = self.piece_bytes(piece, page);
        BlockView::parse(
            bytes,
            piece.len,
            piece.n,
            piece.skip,
            piece.survivors,
            false,
        )
    }

    /// Takes over a block of the old page as it is.
    fn keep(&mut self, leaf: &LeafView<'_, V>, index: usize) -> Result<()> {
        let dir = leaf.dir(index)?;
        let live = if dir.survivors {
            leaf.view(index)?.live()
        } else {
            dir.n
        };
        self.push_piece(Piece {
            first: dir.first,
            arena: false,
            at: dir.offset,
            len: dir.len,
            n: dir.n,
            skip: dir.skip,
            survivors: dir.survivors,
            live,
        })
    }

    /// Takes over positions `from..to` of a line.
    fn slice(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        from: usize,
        to: usize,
    ) -> Result<()> {
        let dir = leaf.dir(index)?;
        let view = leaf.view(index)?;
        self.push_piece(Piece {
            first: view.pos(from),
            arena: false,
            at: dir.offset,
            len: dir.len,
            n: to - from,
            skip: dir.skip + from,
            survivors: false,
            live: to - from,
        })
    }

    /// How many of the first pending entries make the next block.
    fn cut(&self, greedy: bool) -> usize {
        let max = max_block_entries(self.page_size, V);
        let len = self.pending.len();
        let limit = if greedy || len <= max {
            len.min(max)
        } else {
            len.div_ceil(len.div_ceil(max))
        };
        let mut run = 0;
        for i in 1..limit {
            if !self.pending[i].same_key(&self.pending[run]) {
                if i - run >= LONG_RUN {
                    return if run == 0 { i } else { run };
                }
                run = i;
            }
        }
        if run > 0 && limit - run >= LONG_RUN {
            run
        } else {
            limit
        }
    }

    /// Encodes the first `n` pending entries as a piece, or lengthens the line
    /// in front of them.
    fn seal(&mut self, page: &[u8], n: usize) -> Result<()> {
        let first = self.pending[0];
        if let Some(last) = self.pieces.last().copied()
            && self.extends(&last, page, n)
        {
            if let Some(piece) = self.pieces.last_mut() {
                piece.n += n;
                piece.live += n;
            }
        } else {
            let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
            let len = encode_block(&self.pending[..n], None, out)?;
            let piece = Piece {
                first,
                arena: true,
                at: self.used,
                len,
                n,
                skip: 0,
                survivors: false,
                live: n,
            };
            self.used += len;
            self.push_piece(piece)?;
        }
        self.pending.drain(..n);
        Ok(())
    }

    fn extends(&self, piece: &Piece<V>, page: &[u8], n: usize) -> bool {
        if piece.survivors || piece.skip + piece.n + n > MAX_LINE {
            return false;
        }
        let Some(view) = self.piece_view(piece, page) else {
            return false;
        };
        view.is_line()
            && self.pending[..n]
                .iter()
                .enumerate()
                .all(|(i, pos)| view.pos(piece.n + i) == *pos)
    }

    fn flush(&mut self, page: &[u8], greedy: bool) -> Result<()> {
        while !self.pending.is_empty() {
            let n = self.cut(greedy);
            self.seal(page, n)?;
        }
        Ok(())
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
    /// fills the page up to `target` bytes of footprint. Returns its last entry;
    /// `None`: not even a small block fits behind the pieces there are. All
    /// pieces are in the arena.
    ///
    /// # Errors
    /// [`Error::Full`] if nothing is pending.
    pub fn seal_within(&mut self, target: usize) -> Result<Option<Pos<V>>> {
        let mut n = self.cut(true);
        let base = self.footprint();
        let lengthens = self
            .pieces
            .last()
            .is_some_and(|last| self.extends(last, &[], n));
        // The first block of a page is taken as it is.
        let mut fits = lengthens || base == 0;
        while !fits {
            let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
            let len = encode_block(&self.pending[..n], None, out)?;
            let footprint = dir_bytes::<V>() + len + n.div_ceil(8);
            fits = base + footprint <= target;
            if fits {
                break;
            }
            let smaller = n * target.saturating_sub(base) / footprint;
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
        self.seal(&[], n)?;
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

    /// Plans the leaf with `self.delta` (sorted) folded into its blocks.
    ///
    /// # Errors
    /// [`Error::Full`] if the result takes far more than a page.
    pub fn plan_fold(&mut self, leaf: &LeafView<'_, V>) -> Result<()> {
        self.clear();
        let delta = core::mem::take(&mut self.delta);
        let planned = self.fold(leaf, &delta);
        self.delta = delta;
        planned
    }

    fn fold(&mut self, leaf: &LeafView<'_, V>, delta: &[Pos<V>]) -> Result<()> {
        let page = leaf.page();
        let max = max_block_entries(self.page_size, V);
        let mut rest = delta;
        let mut greedy = true;
        for index in 0..leaf.blocks() {
            let mine = if index + 1 < leaf.blocks() {
                let next = leaf.dir(index + 1)?.first;
                let count = rest.partition_point(|pos| *pos < next);
                let (mine, behind) = rest.split_at(count);
                rest = behind;
                mine
            } else {
                core::mem::take(&mut rest)
            };
            let view = leaf.view(index)?;
            if mine.is_empty() {
                let live = view.live();
                let small = live <= max / 4 && self.pending.len() + live <= max;
                if small && !self.pending.is_empty() {
                    // Few survivors may be spread over many positions.
                    for from in (0..view.len()).step_by(MAX_VALUES) {
                        self.merge(leaf, &view, from, from + MAX_VALUES, &[])?;
                    }
                } else {
                    self.flush(page, greedy)?;
                    self.keep(leaf, index)?;
                }
                greedy = true;
                continue;
            }
            let last = view.pos(view.len() - 1);
            let append = mine.first().is_some_and(|pos| *pos > last);
            // What may hold doomed entries is decoded.
            let whole = self.doomed.is_empty() || view.len() > MAX_VALUES;
            if append && whole && !view.has_survivor_bitmap() && view.is_line() {
                self.flush(page, greedy)?;
                greedy = true;
                self.lengthen(leaf, index, &view, mine)?;
                continue;
            }
            if append && whole && view.live() >= max {
                self.flush(page, greedy)?;
                self.keep(leaf, index)?;
                greedy = true;
                self.merge(leaf, &view, 0, 0, mine)?;
                continue;
            }
            greedy = append && index + 1 == leaf.blocks();
            self.fold_windows(leaf, index, &view, mine, greedy)?;
        }
        if leaf.blocks() == 0 {
            for chunk in rest.chunks(MAX_VALUES) {
                self.pending.extend_from_slice(chunk);
                self.spill(page, true)?;
            }
        }
        self.flush(page, greedy)
    }

    /// Seals blocks while more than two of them are pending.
    fn spill(&mut self, page: &[u8], greedy: bool) -> Result<()> {
        while self.pending.len() > 2 * MAX_VALUES {
            let n = self.cut(greedy);
            self.seal(page, n)?;
        }
        Ok(())
    }

    /// Appends `mine` to a line: as far as they continue it, by counting.
    fn lengthen(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        mine: &[Pos<V>],
    ) -> Result<()> {
        let dir = leaf.dir(index)?;
        let room = MAX_LINE - (dir.skip + dir.n);
        let more = mine
            .iter()
            .take(room)
            .enumerate()
            .take_while(|(i, pos)| view.pos(dir.n + i) == **pos)
            .count();
        let max = max_block_entries(self.page_size, V);
        if more < mine.len() && dir.n + more < max / 2 {
            return self.merge(leaf, view, 0, view.len(), mine);
        }
        self.keep(leaf, index)?;
        if let Some(piece) = self.pieces.last_mut() {
            piece.n += more;
            piece.live += more;
        }
        self.pending
            .extend_from_slice(mine.get(more..).unwrap_or(&[]));
        Ok(())
    }

    /// Merges `mine` into a block, window by window: of a long line, only
    /// windows that are hit are decoded.
    fn fold_windows(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        mine: &[Pos<V>],
        greedy: bool,
    ) -> Result<()> {
        let mut rest = mine;
        let mut kept = 0..0;
        let mut from = 0;
        while from < view.len() {
            let to = (from + MAX_VALUES).min(view.len());
            let hit = if to == view.len() {
                core::mem::take(&mut rest)
            } else {
                let next = view.pos(to);
                let count = rest.partition_point(|pos| *pos < next);
                let (hit, behind) = rest.split_at(count);
                rest = behind;
                hit
            };
            let whole_line = view.len() > MAX_VALUES && !view.has_survivor_bitmap();
            if hit.is_empty() && whole_line {
                if kept.is_empty() {
                    self.flush(leaf.page(), greedy)?;
                    kept = from..to;
                } else {
                    kept.end = to;
                }
            } else {
                if !kept.is_empty() {
                    self.slice(leaf, index, kept.start, kept.end)?;
                    kept = 0..0;
                }
                self.merge(leaf, view, from, to, hit)?;
            }
            from = to;
        }
        if !kept.is_empty() {
            self.slice(leaf, index, kept.start, kept.end)?;
        }
        Ok(())
    }

    /// Merges the survivors of positions `from..to` (at most [`MAX_VALUES`])
    /// with `mine` into what is pending.
    fn merge(
        &mut self,
        leaf: &LeafView<'_, V>,
        view: &BlockView<'_, V>,
        from: usize,
        to: usize,
        mine: &[Pos<V>],
    ) -> Result<()> {
        self.spill(leaf.page(), false)?;
        let count = view.decode(from, to, &mut self.columns);
        let mut mine = mine.iter().copied().peekable();
        for i in 0..count {
            if !view.survives(from + i) {
                continue;
            }
            let pos = self.columns.pos(i);
            while let Some(new) = mine.next_if(|new| *new < pos) {
                self.pending.push(new);
            }
            if self.doomed.is_empty() || self.doomed.binary_search(&pos.tid).is_err() {
                self.pending.push(pos);
            }
        }
        self.pending.extend(mine);
        Ok(())
    }

    /// Visits the TIDs that a fold of `self.delta` (sorted) touches: those of
    /// the delta area, and of the blocks that it falls into or ends at, of
    /// which it takes as many as fit in `room` TIDs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a block does not decode.
    pub fn for_each_touched(
        &self,
        leaf: &LeafView<'_, V>,
        room: usize,
        visit: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut columns = Entries::default();
        let mut left = room;
        for pos in self.delta.iter().take(room) {
            visit(pos.tid);
            left -= 1;
        }
        let mut last = None;
        for pos in &self.delta {
            let index = leaf.find(pos);
            if leaf.blocks() == 0 || last == Some(index) {
                continue;
            }
            last = Some(index);
            let view = leaf.view(index)?;
            if view.len() > left.min(MAX_VALUES) {
                continue;
            }
            let count = view.decode(0, view.len(), &mut columns);
            for i in (0..count).filter(|i| view.survives(*i)) {
                visit(columns.pos(i).tid);
            }
            left -= count;
        }
        Ok(())
    }

    /// Lets the next fold drop the entries that `tids` and `dead`, side by
    /// side, say are dead, from the delta area and from the blocks that it
    /// decodes.
    pub fn doom(&mut self, tids: &[u64], dead: &[bool]) {
        self.doomed.clear();
        for (tid, _) in tids
            .iter()
            .zip(dead)
            .filter(|(_, dead)| **dead)
            .take(MAX_DOOMED)
        {
            self.doomed.push(*tid);
        }
        self.doomed.sort_unstable();
        let doomed = &self.doomed;
        self.delta
            .retain(|pos| doomed.binary_search(&pos.tid).is_err());
    }

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

    /// Visits all entries of a leaf in order. `self.delta` holds its delta area,
    /// sorted.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a block does not decode.
    pub fn for_each(&self, leaf: &LeafView<'_, V>, visit: &mut dyn FnMut(Pos<V>)) -> Result<()> {
        let mut columns = Entries::default();
        let mut delta = self.delta.iter().copied().peekable();
        for index in 0..leaf.blocks() {
            let view = leaf.view(index)?;
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut columns);
                for i in 0..count {
                    if view.survives(from + i) {
                        let pos = columns.pos(i);
                        while let Some(new) = delta.next_if(|new| *new < pos) {
                            visit(new);
                        }
                        visit(pos);
                    }
                }
            }
        }
        delta.for_each(visit);
        Ok(())
    }

    /// Plans the leaf with its delta area (`self.delta`, sorted) folded, and
    /// without the entries that `keep` refuses; it is asked in order.
    ///
    /// # Errors
    /// [`Error::Full`] if the result takes far more than a page.
    pub fn plan_survivors(
        &mut self,
        leaf: &LeafView<'_, V>,
        keep: &mut dyn FnMut(&Pos<V>) -> bool,
    ) -> Result<()> {
        self.clear();
        let mut columns = Entries::default();
        let delta = core::mem::take(&mut self.delta);
        let mut rest = delta.iter().copied().peekable();
        let mut planned = Ok(());
        let page = leaf.page();
        'blocks: for index in 0..leaf.blocks() {
            let view = match leaf.view(index) {
                Ok(view) => view,
                Err(error) => {
                    planned = Err(error);
                    break;
                }
            };
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut columns);
                for i in (0..count).filter(|i| view.survives(from + i)) {
                    let pos = columns.pos(i);
                    while planned.is_ok() && rest.peek().is_some_and(|new| *new < pos) {
                        planned = self.keep_if(page, rest.next(), keep);
                    }
                    if planned.is_ok() {
                        planned = self.keep_if(page, Some(pos), keep);
                    }
                    if planned.is_err() {
                        break 'blocks;
                    }
                }
            }
        }
        while planned.is_ok() && rest.peek().is_some() {
            planned = self.keep_if(page, rest.next(), keep);
        }
        self.delta = delta;
        planned?;
        self.finish(page)
    }

    fn keep_if(
        &mut self,
        page: &[u8],
        pos: Option<Pos<V>>,
        keep: &mut dyn FnMut(&Pos<V>) -> bool,
    ) -> Result<()> {
        match pos {
            Some(pos) if keep(&pos) => self.push(page, pos),
            _ => Ok(()),
        }
    }

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

    /// As [`EditScratch::seal`], but never by lengthening the piece before.
    fn seal_alone(&mut self, n: usize) -> Result<()> {
        let out = self.arena.get_mut(self.used..).ok_or(Error::Full)?;
        let len = encode_block(&self.pending[..n], None, out)?;
        let piece = Piece {
            first: self.pending[0],
            arena: true,
            at: self.used,
            len,
            n,
            skip: 0,
            survivors: false,
            live: n,
        };
        self.used += len;
        self.push_piece(piece)?;
        self.pending.drain(..n);
        Ok(())
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

    /// Writes `pieces` of the plan and `delta` as a leaf. `old` is the page
    /// that the plan was made for.
    ///
    /// # Errors
    /// [`Error::Full`] if they do not fit: the image is unusable then.
    pub fn write(
        &self,
        old: &[u8],
        pieces: core::ops::Range<usize>,
        delta: &[Pos<V>],
        frame: &LeafFrame<V>,
        image: &mut [u8],
    ) -> Result<()> {
        let pieces = self.pieces.get(pieces).ok_or(Error::Full)?;
        write_pieces(old, &self.arena, pieces, delta, frame, image)
    }
}

/// Writes pieces and a delta area as a leaf.
///
/// # Errors
/// [`Error::Full`] if they do not fit.
pub fn write_pieces<const V: usize>(
    old: &[u8],
    arena: &[u8],
    pieces: &[Piece<V>],
    delta: &[Pos<V>],
    frame: &LeafFrame<V>,
    image: &mut [u8],
) -> Result<()> {
    init_leaf(image, frame);
    let mut upper = image.len() - SPECIAL;
    let lower = dir_at::<V>() + pieces.len() * dir_bytes::<V>();
    let (mut entries, mut reserve) = (0, 0);
    for (index, piece) in pieces.iter().enumerate() {
        let source = if piece.arena { arena } else { old };
        let bytes = source
            .get(piece.at..piece.at + piece.len)
            .ok_or(Error::Full)?;
        upper = upper.checked_sub(piece.len).ok_or(Error::Full)?;
        image
            .get_mut(upper..upper + piece.len)
            .ok_or(Error::Full)?
            .copy_from_slice(bytes);
        let dir = DirEntry {
            first: piece.first,
            offset: upper,
            len: piece.len,
            n: piece.n,
            skip: piece.skip,
            survivors: piece.survivors,
        };
        if lower > upper {
            return Err(Error::Full);
        }
        write_dir(image, index, &dir);
        entries += piece.live;
        reserve += piece.reserve();
    }
    if lower + delta.len() * Pos::<V>::BYTES + reserve > upper {
        return Err(Error::Full);
    }
    write_counts::<V>(image, entries, reserve, pieces.len());
    header::set_upper(image, upper);
    header::set_lower(image, lower);
    for pos in delta {
        append_delta(image, pos);
    }
    Ok(())
}
