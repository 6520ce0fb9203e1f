//! Leaf pages: fences, a directory of blocks, the delta area, and the blocks.
//!
//! ```text
//! | page header | low, high | counts | directory -> | delta -> |  hole  | <- blocks | special |
//!                                                    pd_lower ^        ^ pd_upper
//! ```
//!
//! The directory and the blocks are ordered and grow towards each other; the
//! delta area behind the directory takes new entries unsorted, and is folded
//! into blocks when it is full. The hole is never smaller than the *reserve*:
//! the bytes that survivor bitmaps of all blocks would take, so that VACUUM can
//! always delete in place.

use super::block::BlockView;
use super::bytes::{get_u16, get_u32, put_u16, put_u32, read_pos, write_pos};
use super::header::{
    self, FLAG_HIGH_INFINITE, Header, Kind, PAGE_HEADER, SPECIAL, header, set_flags, set_left,
    set_rewrites, set_right,
};
use crate::error::{Error, Result};
use crate::key::{Block, Pos};
use crate::memory::reserve;
use crate::store::{Edit, RECORD_EDITS};

const COUNTS: usize = 12;
const SURVIVORS: u16 = 0x8000;

const C_ENTRIES: usize = 0;
const C_RESERVE: usize = 4;
const C_BLOCKS: usize = 6;
const C_DELTA: usize = 8;

/// Bytes of a directory entry.
pub(crate) const fn dir_bytes<const V: usize>() -> usize {
    Pos::<V>::BYTES + 8
}

pub(crate) const fn counts_at<const V: usize>() -> usize {
    PAGE_HEADER + 2 * Pos::<V>::BYTES
}

pub(crate) const fn dir_at<const V: usize>() -> usize {
    counts_at::<V>() + COUNTS
}

/// Bytes of a leaf for directory, blocks, reserve and delta area.
#[must_use]
pub const fn leaf_capacity<const V: usize>(page_size: usize) -> usize {
    page_size - SPECIAL - dir_at::<V>()
}

/// Entries that any delta area has at most.
pub(crate) const MAX_DELTA: usize = 64;

/// The most entries of a delta area: lookups scan it from end to end.
#[must_use]
pub fn delta_capacity(page_size: usize) -> usize {
    (page_size / 128).clamp(4, MAX_DELTA)
}

/// The directory's record of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<const V: usize> {
    /// The entry at the block's first position; all its entries are at or
    /// above it.
    pub first: Pos<V>,
    /// Start of the block in the page.
    pub offset: usize,
    /// Bytes of the block.
    pub len: usize,
    /// Positions of the block.
    pub n: usize,
    /// Positions of its columns in front of the block's first.
    pub skip: usize,
    /// Whether a survivor bitmap stands in front of the columns.
    pub survivors: bool,
}

/// A parsed leaf.
#[derive(Clone, Copy)]
pub struct LeafView<'a, const V: usize> {
    page: &'a [u8],
    block: Block,
    header: Header,
    blocks: usize,
    delta: usize,
    reserve: usize,
}

impl<'a, const V: usize> LeafView<'a, V> {
    /// Parses a page whose header says that it is a leaf.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its counts contradict its bounds.
    pub fn parse(page: &'a [u8], block: Block, header: Header) -> Result<Self> {
        let corrupt = |what| Error::Corrupt { block, what };
        if header.kind != Kind::Leaf {
            return Err(corrupt("not a leaf"));
        }
        let counts = counts_at::<V>();
        let blocks = usize::from(get_u16(page, counts + C_BLOCKS));
        let delta = usize::from(get_u16(page, counts + C_DELTA));
        let reserve = usize::from(get_u16(page, counts + C_RESERVE));
        let lower = dir_at::<V>() + blocks * dir_bytes::<V>() + delta * Pos::<V>::BYTES;
        if lower != header.lower
            || lower + reserve > header.upper
            || delta > delta_capacity(page.len())
        {
            return Err(corrupt("leaf counts do not fit the page"));
        }
        Ok(Self {
            page,
            block,
            header,
            blocks,
            delta,
            reserve,
        })
    }

    /// Reads a page that must be a leaf.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not, or contradicts itself.
    pub fn read(page: &'a [u8], block: Block) -> Result<Self> {
        Self::parse(page, block, header(page, block)?)
    }

    /// The page's header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The page's bytes.
    #[must_use]
    pub fn page(&self) -> &'a [u8] {
        self.page
    }

    /// Error for damage found on this page.
    #[must_use]
    pub fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt {
            block: self.block,
            what,
        }
    }

    /// Low fence, inclusive.
    #[must_use]
    pub fn low(&self) -> Pos<V> {
        read_pos(self.page, PAGE_HEADER)
    }

    /// High fence, exclusive; `None` is +infinity.
    #[must_use]
    pub fn high(&self) -> Option<Pos<V>> {
        if self.header.high_infinite() {
            None
        } else {
            Some(read_pos(self.page, PAGE_HEADER + Pos::<V>::BYTES))
        }
    }

    /// Blocks of the page.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Entries of the delta area.
    #[must_use]
    pub fn delta_len(&self) -> usize {
        self.delta
    }

    /// Entries in blocks and in the delta area.
    #[must_use]
    pub fn entries(&self) -> usize {
        get_u32(self.page, counts_at::<V>() + C_ENTRIES) as usize + self.delta
    }

    /// Bytes kept free for survivor bitmaps.
    #[must_use]
    pub fn reserve(&self) -> usize {
        self.reserve
    }

    /// Bytes of [`leaf_capacity`] in use, the reserve included.
    #[must_use]
    pub fn used(&self) -> usize {
        self.header.lower - dir_at::<V>() + self.reserve + self.header.special - self.header.upper
    }

    /// Bytes of [`leaf_capacity`] that the page takes with its delta area folded,
    /// if those entries take as much as the others.
    #[must_use]
    pub fn folded_size(&self) -> usize {
        let delta = self.delta * Pos::<V>::BYTES;
        let blocks = self.used() - delta;
        match self.entries() - self.delta {
            0 => delta,
            entries => blocks + blocks * self.delta / entries,
        }
    }

    /// Further entries that the delta area takes.
    #[must_use]
    pub fn delta_room(&self) -> usize {
        let free = self.header.upper - self.header.lower - self.reserve;
        (free / Pos::<V>::BYTES).min(delta_capacity(self.page.len()).saturating_sub(self.delta))
    }

    /// The directory's record of block `index < blocks()`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it points outside of the page's blocks.
    pub fn dir(&self, index: usize) -> Result<DirEntry<V>> {
        let at = dir_at::<V>() + index * dir_bytes::<V>();
        let fields = at + Pos::<V>::BYTES;
        let skip = get_u16(self.page, fields + 6);
        let entry = DirEntry {
            first: read_pos(self.page, at),
            offset: usize::from(get_u16(self.page, fields)),
            len: usize::from(get_u16(self.page, fields + 2)),
            n: usize::from(get_u16(self.page, fields + 4)),
            skip: usize::from(skip & !SURVIVORS),
            survivors: skip & SURVIVORS != 0,
        };
        if index >= self.blocks
            || entry.offset < self.header.upper
            || entry.offset + entry.len > self.header.special
        {
            return Err(self.corrupt("a block lies outside of its leaf"));
        }
        Ok(entry)
    }

    fn dir_first(&self, index: usize) -> Pos<V> {
        read_pos(self.page, dir_at::<V>() + index * dir_bytes::<V>())
    }

    /// Block `index < blocks()`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not decode.
    pub fn view(&self, index: usize) -> Result<BlockView<'a, V>> {
        let dir = self.dir(index)?;
        self.page
            .get(dir.offset..)
            .and_then(|b| BlockView::parse(b, dir.len, dir.n, dir.skip, dir.survivors, false))
            .ok_or(self.corrupt("a block does not decode"))
    }

    /// Whether the positions of block `index < blocks()` are the same whatever stands
    /// behind it: damage can make an encoding read on into its neighbour, whose bytes
    /// the next rewrite of the page changes. `room` is scratch.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the block does not decode, [`Error::OutOfMemory`].
    pub fn is_closed(&self, index: usize, room: &mut Vec<u8>) -> Result<bool> {
        let dir = self.dir(index)?;
        let view = self.view(index)?;
        let bytes = self.page.get(dir.offset..).unwrap_or(&[]);
        room.clear();
        reserve(room, bytes.len())?;
        let inverted = |(at, byte): (usize, &u8)| if at < dir.len { *byte } else { !byte };
        room.extend(bytes.iter().enumerate().map(inverted));
        let alone = BlockView::<V>::parse(room, dir.len, dir.n, dir.skip, dir.survivors, false);
        Ok(alone.is_some_and(|alone| (0..view.len()).all(|i| alone.pos(i) == view.pos(i))))
    }

    /// The last block whose first position is at or below `target`, or 0.
    #[must_use]
    pub fn find(&self, target: &Pos<V>) -> usize {
        let (mut from, mut to) = (0, self.blocks);
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.dir_first(middle) <= *target {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from.saturating_sub(1)
    }

    /// Entry `index < delta_len()` of the delta area.
    #[must_use]
    pub fn delta(&self, index: usize) -> Pos<V> {
        let at = dir_at::<V>() + self.blocks * dir_bytes::<V>() + index * Pos::<V>::BYTES;
        read_pos(self.page, at)
    }

    /// The greatest entry of the page. `None`: it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the last block does not decode.
    pub fn last(&self) -> Result<Option<Pos<V>>> {
        let mut last = match self.blocks {
            0 => None,
            n => {
                let block = self.view(n - 1)?;
                Some(block.pos(block.len() - 1))
            }
        };
        for index in 0..self.delta {
            last = last.max(Some(self.delta(index)));
        }
        Ok(last)
    }
}

/// What a leaf or inner page is made with.
#[derive(Clone, Copy, Debug)]
pub struct LeafFrame<const V: usize> {
    /// Low fence.
    pub low: Pos<V>,
    /// High fence; `None` is +infinity.
    pub high: Option<Pos<V>>,
    /// `FLAG_*`.
    pub flags: u8,
    /// Left sibling.
    pub left: Block,
    /// Right sibling.
    pub right: Block,
    /// How often the page was freed before.
    pub generation: u32,
    /// How often the leaf was written anew. Inner pages do not say.
    pub rewrites: u32,
}

/// Makes `page` an empty leaf. `flags` need not contain
/// [`FLAG_HIGH_INFINITE`], which follows from `high`.
pub fn init_leaf<const V: usize>(page: &mut [u8], frame: &LeafFrame<V>) {
    header::init(page, Kind::Leaf, 0, frame.generation);
    set_left(page, frame.left);
    set_right(page, frame.right);
    set_flags(page, frame.flags);
    set_rewrites(page, frame.rewrites);
    write_pos(page, PAGE_HEADER, &frame.low);
    set_high(page, frame.flags, frame.high);
    header::set_lower(page, dir_at::<V>());
}

/// Sets the high fence of a leaf or inner page and its flags.
pub fn set_high<const V: usize>(page: &mut [u8], flags: u8, high: Option<Pos<V>>) {
    let flags = flags & !FLAG_HIGH_INFINITE;
    match high {
        Some(high) => {
            write_pos(page, PAGE_HEADER + Pos::<V>::BYTES, &high);
            set_flags(page, flags);
        }
        None => {
            write_pos(page, PAGE_HEADER + Pos::<V>::BYTES, &Pos::<V>::MIN);
            set_flags(page, flags | FLAG_HIGH_INFINITE);
        }
    }
}

/// The bytes that append entries to the delta area of a leaf that has room for
/// them ([`LeafView::delta_room`]).
#[derive(Debug)]
pub struct DeltaAppend<'a> {
    lower: usize,
    new_lower: [u8; 2],
    new_count: [u8; 2],
    count_at: usize,
    entries: &'a [u8],
}

impl<'a> DeltaAppend<'a> {
    /// Appends `entries` to the delta area of `page`. `room` is scratch, with a
    /// capacity of their bytes.
    #[must_use]
    pub fn new<const V: usize>(page: &[u8], entries: &[Pos<V>], room: &'a mut Vec<u8>) -> Self {
        let lower = header::lower(page);
        let short = |x: usize| u16::try_from(x).unwrap_or(u16::MAX).to_le_bytes();
        let count_at = counts_at::<V>() + C_DELTA;
        let count = usize::from(get_u16(page, count_at));
        room.clear();
        room.resize(entries.len() * Pos::<V>::BYTES, 0);
        for (index, pos) in entries.iter().enumerate() {
            write_pos(room, index * Pos::<V>::BYTES, pos);
        }
        Self {
            lower,
            new_lower: short(lower + room.len()),
            new_count: short(count + entries.len()),
            count_at,
            entries: room,
        }
    }

    /// What changes on the page.
    #[must_use]
    pub fn edits(&self) -> [Edit<'_>; RECORD_EDITS] {
        let edit = |at, bytes| Edit { at, bytes };
        [
            edit(header::PD_LOWER, &self.new_lower),
            edit(self.count_at, &self.new_count),
            edit(self.lower, self.entries),
        ]
    }
}

/// Appends an entry to the delta area of a leaf's image.
pub fn append_delta<const V: usize>(page: &mut [u8], pos: &Pos<V>) {
    let lower = header::lower(page);
    let count_at = counts_at::<V>() + C_DELTA;
    let count = get_u16(page, count_at);
    write_pos(page, lower, pos);
    put_u16(page, count_at, count.saturating_add(1));
    header::set_lower(page, lower + Pos::<V>::BYTES);
}

pub(crate) fn write_dir<const V: usize>(page: &mut [u8], index: usize, dir: &DirEntry<V>) {
    let at = dir_at::<V>() + index * dir_bytes::<V>();
    let fields = at + Pos::<V>::BYTES;
    let short = |x: usize| u16::try_from(x).unwrap_or(u16::MAX);
    write_pos(page, at, &dir.first);
    put_u16(page, fields, short(dir.offset));
    put_u16(page, fields + 2, short(dir.len));
    put_u16(page, fields + 4, short(dir.n));
    put_u16(
        page,
        fields + 6,
        short(dir.skip) | if dir.survivors { SURVIVORS } else { 0 },
    );
}

pub(crate) fn write_counts<const V: usize>(
    page: &mut [u8],
    entries: usize,
    reserve: usize,
    blocks: usize,
) {
    let at = counts_at::<V>();
    put_u32(
        page,
        at + C_ENTRIES,
        u32::try_from(entries).unwrap_or(u32::MAX),
    );
    put_u16(
        page,
        at + C_RESERVE,
        u16::try_from(reserve).unwrap_or(u16::MAX),
    );
    put_u16(
        page,
        at + C_BLOCKS,
        u16::try_from(blocks).unwrap_or(u16::MAX),
    );
}
