//! Rewriting a leaf: folding its delta area into blocks, deleting entries,
//! splitting and joining.
//!
//! A rewrite first *plans* the new page as a list of pieces, each a block of
//! the old page taken over verbatim or a new one in the scratch arena, and then
//! writes the pieces out. Planning does not touch the page and allocates
//! nothing, so it runs under the page's lock.

mod delete;
mod divide;
mod fold;
mod load;

pub use delete::DeadRows;
pub use load::Fill;

use crate::codec::{MAX_LINE, MAX_VALUES};
use crate::error::{Error, Result};
use crate::key::Pos;
use crate::memory::reserved;
use crate::page::block::{BlockView, Entries, encode_block, max_block_entries};
use crate::page::header::{self, SPECIAL};
use crate::page::leaf::{
    DirEntry, LeafFrame, LeafView, append_delta, dir_at, dir_bytes, init_leaf, write_counts,
    write_dir,
};
use crate::planted;

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
        if !planted::is("doomed_not_forgotten") {
            self.doomed.clear();
        }
        self.delta.clear();
        for index in 0..leaf.delta_len().min(self.delta.capacity()) {
            self.delta.push(leaf.delta(index));
        }
        self.delta.sort_unstable();
    }

    /// Adds the first of `entries` (sorted) to `self.delta`, as many as have room,
    /// and returns how many.
    pub fn add_to_delta(&mut self, entries: &[Pos<V>]) -> usize {
        let room = self.delta.capacity() - self.delta.len();
        let taken = entries.get(..room).unwrap_or(entries);
        self.delta.extend_from_slice(taken);
        self.delta.sort_unstable();
        taken.len()
    }

    /// Takes `entries[to..from]` out of `self.delta` again.
    pub fn take_from_delta(&mut self, entries: &[Pos<V>], from: usize, to: usize) {
        let out = entries.get(to..from).unwrap_or(&[]);
        self.delta.retain(|pos| out.binary_search(pos).is_err());
    }

    /// How many of the planned pieces, from the first on, take at most `limit` bytes
    /// of [`super::leaf_capacity`].
    #[must_use]
    pub fn pieces_within(&self, limit: usize) -> usize {
        let mut taken = 0;
        let more = self.pieces.iter().take_while(|piece| {
            taken += piece.footprint();
            taken <= limit
        });
        more.count()
    }

    /// Adds an entry to what is pending, and seals blocks while more than that has
    /// room for is.
    fn add(&mut self, page: &[u8], pos: Pos<V>, greedy: bool) -> Result<()> {
        if self.pending.len() == self.pending.capacity() {
            self.spill(page, greedy)?;
        }
        self.pending.push(pos);
        Ok(())
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
        if self.continues(page, n) {
            self.add_to_line(n);
            return Ok(());
        }
        self.seal_alone(n)
    }

    /// Adds the first `n` pending entries to the line in front of them, which they
    /// continue.
    fn add_to_line(&mut self, n: usize) {
        if let Some(piece) = self.pieces.last_mut() {
            piece.n += n;
            piece.live += n;
        }
        self.pending.drain(..n);
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

    /// Whether the last piece is a line that the first `n` pending entries continue.
    fn continues(&self, page: &[u8], n: usize) -> bool {
        let Some(piece) = self.pieces.last() else {
            return false;
        };
        if piece.survivors || piece.skip + piece.n + n > MAX_LINE {
            return false;
        }
        let view = self.piece_view(piece, page);
        view.is_some_and(|view| view.continued_by(&self.pending[..n]) == n)
    }

    fn flush(&mut self, page: &[u8], greedy: bool) -> Result<()> {
        while !self.pending.is_empty() {
            let n = self.cut(greedy);
            self.seal(page, n)?;
        }
        Ok(())
    }

    /// Seals blocks while more than two of them are pending.
    fn spill(&mut self, page: &[u8], greedy: bool) -> Result<()> {
        while self.pending.len() > 2 * MAX_VALUES {
            let n = self.cut(greedy);
            self.seal(page, n)?;
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
                self.add(leaf.page(), new, false)?;
            }
            if self.doomed.is_empty() || self.doomed.binary_search(&pos.tid).is_err() {
                self.add(leaf.page(), pos, false)?;
            }
        }
        for new in mine {
            self.add(leaf.page(), new, false)?;
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
        if !planted::is("no_reserve") {
            reserve += piece.reserve();
        }
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
