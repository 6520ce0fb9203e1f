//! A block: a run of consecutive entries of one page, stored column by column.
//!
//! The bytes of a block are the bitmap of survivors (only where entries were
//! deleted in place); a byte with the length of the heads; the heads: of the columns
//! of the null rank and of each lane, the number of rows per heap page, of the column
//! of row ordinals, and on inner pages of the column of children; and the bodies of
//! these columns in the same order. Who looks up one entry finds the heads side
//! by side.
//!
//! A heap TID is stored as a *row ordinal* `block * K + offset - 1`, with K the
//! largest offset that the block's TIDs have: rows that were inserted in key
//! order have consecutive ordinals. Where an offset is 0 or implausibly large K
//! is 0 and the column holds the TIDs as they are.

use core::hint::black_box;

use crate::codec::{self, Column, Encoded, MAX_LINE, MAX_VALUES};
use crate::error::{Error, Result};
use crate::key::{Pos, TID_END, Tid};
use crate::planted;

/// Beyond this offset a TID is not of PostgreSQL's heap (at most 291 tuples a
/// page of 8 KiB, 1,170 of 32 KiB), and ordinals would waste bits.
const MAX_ROWS_PER_PAGE: u64 = 2048;

/// The most entries that one encoded block takes, so that even raw it fills at
/// most half of a page: then a page of one block can always be folded.
#[must_use]
pub fn max_block_entries(page_size: usize, lanes: usize) -> usize {
    let raw = 8 * lanes + 7;
    let mut n = MAX_VALUES;
    while n > 8 && n * raw > page_size / 2 {
        n /= 2;
    }
    n
}

/// Reusable columns: entries in columnar form, at most [`MAX_VALUES`].
#[derive(Clone)]
pub struct Entries<const V: usize> {
    ranks: [u64; MAX_VALUES],
    vals: [[u64; MAX_VALUES]; V],
    tids: [u64; MAX_VALUES],
}

impl<const V: usize> Default for Entries<V> {
    fn default() -> Self {
        Self {
            ranks: [0; MAX_VALUES],
            vals: [[0; MAX_VALUES]; V],
            tids: [0; MAX_VALUES],
        }
    }
}

impl<const V: usize> Entries<V> {
    /// The entry at `i`, as the last decode left it.
    #[must_use]
    pub fn pos(&self, i: usize) -> Pos<V> {
        let i = i % MAX_VALUES;
        let mut vals = [0; V];
        for (val, column) in vals.iter_mut().zip(&self.vals) {
            *val = column[i];
        }
        Pos {
            rank: self.ranks[i],
            vals,
            tid: self.tids[i],
        }
    }
}

/// Where entries are decoded to: columns of the same length.
pub(crate) struct Columns<'a, const V: usize> {
    pub(crate) ranks: &'a mut [u64],
    pub(crate) vals: [&'a mut [u64]; V],
    pub(crate) tids: &'a mut [u64],
}

/// Splits a row ordinal into block and offset without a division: exact for
/// ordinals below 2^48 and K up to [`MAX_ROWS_PER_PAGE`] (Granlund and
/// Montgomery, "Division by invariant integers using multiplication", 1994).
///
/// Of ordinals below 2^31 a reciprocal of 32 bits is as exact: K times it exceeds its
/// power of two, 2^31 times the least power that K does not exceed, by less than K.
#[derive(Clone, Copy, Debug)]
struct Rows {
    k: u64,
    reciprocal: u64,
}

/// Bits of ordinals that products of 32 bits suffice for.
const NARROW: u32 = 31;

impl Rows {
    fn new(k: u64) -> Self {
        let reciprocal = if k < 2 { 0 } else { u64::MAX / k + 1 };
        Self { k, reciprocal }
    }

    fn ordinal(self, tid: Tid) -> u64 {
        if self.k == 0 {
            tid
        } else {
            (tid >> 16) * self.k + (tid & 0xffff).wrapping_sub(1)
        }
    }

    fn tid(self, ordinal: u64) -> Tid {
        let tid = match self.k {
            0 => ordinal,
            1 => ordinal << 16 | 1,
            k => {
                let block = ((u128::from(ordinal) * u128::from(self.reciprocal)) >> 64) as u64;
                block << 16 | ordinal.wrapping_sub(block.wrapping_mul(k)).wrapping_add(1)
            }
        };
        tid & (TID_END - 1)
    }

    /// Replaces ordinals by their TIDs.
    fn tids(self, ordinals: &mut [u64]) {
        let all = ordinals.iter().fold(0, |all, ordinal| all | ordinal);
        if self.k < 2 || all >= 1 << NARROW {
            ordinals.iter_mut().for_each(|row| *row = self.tid(*row));
            return;
        }
        // Products of 32 bits each: processors make several at once.
        let shift = NARROW + (u64::BITS - (self.k - 1).leading_zeros());
        let dropped = u64::BITS - shift;
        let reciprocal = (self.reciprocal + ((1 << dropped) - 1)) >> dropped;
        let (reciprocal, rest) = (reciprocal as u32, 0x1_0000 - self.k as u32);
        for row in ordinals {
            let block = (u64::from(*row as u32) * u64::from(reciprocal)) >> shift;
            *row += u64::from(block as u32) * u64::from(rest) + 1;
        }
    }

    /// The TIDs of consecutive ordinals from `first` on, page by page.
    fn run(self, first: u64, tids: &mut [Tid]) {
        let last = first.saturating_add(tids.len() as u64);
        if self.k == 0 || last >= self.k << 32 {
            for (i, tid) in tids.iter_mut().enumerate() {
                *tid = self.tid(first.wrapping_add(i as u64));
            }
            return;
        }
        let mut at = self.tid(first);
        let mut rest = tids;
        while !rest.is_empty() {
            let left = (self.k + 1).saturating_sub(at & 0xffff).max(1);
            let (page, more) = rest.split_at_mut(rest.len().min(left as usize));
            for (tid, row) in page.iter_mut().zip(at..) {
                *tid = row;
            }
            at = ((at >> 16) + 1) << 16 | 1;
            rest = more;
        }
    }

    /// The least ordinal whose TID is at or above `tid`, which need not be one
    /// that K can express.
    fn bound(self, tid: Tid) -> u64 {
        if self.k == 0 {
            return tid;
        }
        let offset = tid & 0xffff;
        (tid >> 16) * self.k + offset.saturating_sub(1).min(self.k)
    }
}

/// Encodes entries (1..=[`MAX_VALUES`], ascending) at the start of `out`, and
/// their children if this is a block of an inner page. Returns the bytes
/// written.
///
/// # Errors
/// [`Error::Full`] if `out` is too short.
pub fn encode_block<const V: usize>(
    entries: &[Pos<V>],
    children: Option<&[u64]>,
    out: &mut [u8],
) -> Result<usize> {
    let mut column = [0u64; MAX_VALUES];
    let n = entries.len();
    let column = column.get_mut(..n).ok_or(Error::Full)?;
    let mut writer = Writer::new(out)?;
    for (slot, entry) in column.iter_mut().zip(entries) {
        *slot = entry.rank;
    }
    writer.column(column)?;
    for lane in 0..V {
        for (slot, entry) in column.iter_mut().zip(entries) {
            *slot = entry.vals[lane];
        }
        writer.column(column)?;
    }
    let mut k = 0;
    let mut plausible = true;
    for entry in entries {
        let offset = entry.tid & 0xffff;
        plausible &= offset != 0 && offset <= MAX_ROWS_PER_PAGE;
        k = k.max(offset);
    }
    let rows = Rows::new(if plausible { k } else { 0 });
    for (slot, entry) in column.iter_mut().zip(entries) {
        *slot = rows.ordinal(entry.tid);
    }
    writer.rows(rows)?;
    writer.column(column)?;
    if let Some(children) = children {
        writer.column(children)?;
    }
    writer.finish()
}

/// Writes the heads and bodies of a block's columns.
struct Writer<'a> {
    out: &'a mut [u8],
    /// End of the heads.
    heads: usize,
    /// End of the bodies.
    at: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8]) -> Result<Self> {
        if out.is_empty() {
            return Err(Error::Full);
        }
        Ok(Self {
            out,
            heads: 1,
            at: 1,
        })
    }

    fn column(&mut self, values: &[u64]) -> Result<()> {
        let rest = self.out.get_mut(self.at..).ok_or(Error::Full)?;
        let Encoded { head, len, .. } = codec::encode(values, rest)?;
        self.move_to_heads(head);
        self.at += len;
        Ok(())
    }

    /// K goes in front of the ordinals; it is at most 2,048.
    fn rows(&mut self, rows: Rows) -> Result<()> {
        #[allow(clippy::cast_possible_truncation)]
        let k = (rows.k as u16).to_le_bytes();
        self.out
            .get_mut(self.at..self.at + k.len())
            .ok_or(Error::Full)?
            .copy_from_slice(&k);
        self.move_to_heads(k.len());
        self.at += k.len();
        Ok(())
    }

    /// Moves the `len` bytes behind the bodies to the end of the heads.
    fn move_to_heads(&mut self, len: usize) {
        if let Some(part) = self.out.get_mut(self.heads..self.at + len) {
            part.rotate_right(len);
        }
        self.heads += len;
    }

    /// Bytes of the block.
    fn finish(self) -> Result<usize> {
        let heads = u8::try_from(self.heads - 1).map_err(|_| Error::Full)?;
        *self.out.first_mut().ok_or(Error::Full)? = heads;
        Ok(self.at)
    }
}

/// A parsed block.
#[derive(Clone, Copy)]
pub struct BlockView<'a, const V: usize> {
    n: usize,
    skip: usize,
    survivors: Option<&'a [u8]>,
    rank: Column<'a>,
    vals: [Column<'a>; V],
    rows: Rows,
    tids: Column<'a>,
    children: Option<Column<'a>>,
}

impl<'a, const V: usize> BlockView<'a, V> {
    /// Parses a block of positions `skip..skip + n`. `bytes` starts with the
    /// block and may go on behind its `len` bytes. `None` if malformed.
    #[must_use]
    pub fn parse(
        bytes: &'a [u8],
        len: usize,
        n: usize,
        skip: usize,
        survivors: bool,
        children: bool,
    ) -> Option<Self> {
        if n == 0 || skip + n > MAX_LINE || len > bytes.len() {
            return None;
        }
        let total = skip + n;
        let mut at = 0;
        let bitmap = if survivors {
            at = n.div_ceil(8);
            Some(bytes.get(..at)?)
        } else {
            None
        };
        let heads = usize::from(*bytes.get(at)?);
        at += 1;
        let bodies = at + heads;
        let mut body = bodies;
        let mut next = |at: &mut usize| Column::parse_parts(bytes, at, &mut body, total);
        let rank = next(&mut at)?;
        let mut vals = [rank; V];
        for val in &mut vals {
            *val = next(&mut at)?;
        }
        let k = u64::from(super::bytes::get_u16(bytes, at));
        at += 2;
        if k > MAX_ROWS_PER_PAGE {
            return None;
        }
        let tids = next(&mut at)?;
        let children = if children { Some(next(&mut at)?) } else { None };
        if at != bodies || body != len {
            return None;
        }
        let view = Self {
            n,
            skip,
            survivors: bitmap,
            rank,
            vals,
            rows: Rows::new(k),
            tids,
            children,
        };
        if skip != 0 && !view.is_line() {
            return None;
        }
        Some(view)
    }

    /// Positions of the block, survivors or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Never: blocks have entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether no column takes any bits per entry.
    #[must_use]
    pub fn is_line(&self) -> bool {
        self.rank.is_line()
            && self.vals.iter().all(Column::is_line)
            && self.tids.is_line()
            && self.children.is_none()
    }

    /// Whether the entry at `i` is still there.
    #[must_use]
    pub fn survives(&self, i: usize) -> bool {
        match self.survivors {
            None => true,
            Some(bits) => bits.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1),
        }
    }

    /// Whether entries were deleted from the block in place.
    #[must_use]
    pub fn has_survivor_bitmap(&self) -> bool {
        self.survivors.is_some()
    }

    /// The bitmap of what is still there, if entries were deleted in place.
    #[must_use]
    pub fn survivors(&self) -> Option<&'a [u8]> {
        self.survivors
    }

    /// Positions of the columns in front of the block's first.
    #[must_use]
    pub fn skip(&self) -> usize {
        self.skip
    }

    /// Entries that are still there.
    #[must_use]
    pub fn live(&self) -> usize {
        match self.survivors {
            None => self.n,
            Some(bits) => {
                let all: u32 = bits.iter().map(|b| b.count_ones()).sum();
                // A damaged bitmap may go on behind the last position.
                let beyond = (self.n..bits.len() * 8).filter(|&i| self.survives(i));
                let padding = if planted::is("padding_counted") {
                    0
                } else {
                    beyond.count()
                };
                (all as usize - padding).min(self.n)
            }
        }
    }

    /// The entry at position `i < len()`.
    #[must_use]
    pub fn pos(&self, i: usize) -> Pos<V> {
        let i = i + self.skip;
        let mut vals = [0; V];
        for (val, column) in vals.iter_mut().zip(&self.vals) {
            *val = column.get(i);
        }
        Pos {
            rank: self.rank.get(i) & 0xffff,
            vals,
            tid: self.rows.tid(self.tids.get(i)),
        }
    }

    /// The heap TID of the entry at position `i < len()`.
    #[must_use]
    pub fn tid(&self, i: usize) -> Tid {
        self.rows.tid(self.tids.get(i + self.skip))
    }

    /// The child at position `i` (inner pages).
    #[must_use]
    pub fn child(&self, i: usize) -> u64 {
        self.children.map_or(u64::MAX, |c| c.get(i))
    }

    /// The codecs of the lanes and, last, of the row ordinals.
    pub fn codecs(&self) -> impl Iterator<Item = codec::Codec> + '_ {
        self.vals
            .iter()
            .map(Column::codec)
            .chain(core::iter::once(self.tids.codec()))
    }

    /// Decodes positions `from..to` (at most [`MAX_VALUES`] of them) to the
    /// start of `out`, dead ones included. Returns how many.
    pub fn decode(&self, from: usize, to: usize, out: &mut Entries<V>) -> usize {
        let to = to.min(self.n).min(from + MAX_VALUES);
        let count = to.saturating_sub(from);
        let columns = Columns {
            ranks: &mut out.ranks[..count],
            vals: out.vals.each_mut().map(|vals| &mut vals[..count]),
            tids: &mut out.tids[..count],
        };
        self.decode_into(from, columns);
        count
    }

    /// How many of `entries` a line would have behind its last position. Of a block that
    /// is none: 0.
    pub(crate) fn continued_by(&self, entries: &[Pos<V>]) -> usize {
        const PIECE: usize = 64;
        if !self.is_line() {
            return 0;
        }
        let (mut ranks, mut vals, mut tids) = ([0; PIECE], [[0; PIECE]; V], [0; PIECE]);
        let mut same = 0;
        for piece in entries.chunks(PIECE) {
            let count = piece.len();
            let columns = Columns {
                ranks: &mut ranks[..count],
                vals: vals.each_mut().map(|vals| &mut vals[..count]),
                tids: &mut tids[..count],
            };
            self.decode_into(self.n + same, columns);
            let is_same = |(i, pos): &(usize, &Pos<V>)| {
                let mut lanes = pos.vals.iter().zip(&vals);
                pos.rank == ranks[*i]
                    && lanes.all(|(val, vals)| *val == vals[*i])
                    && pos.tid == tids[*i]
            };
            let more = piece.iter().enumerate().take_while(is_same).count();
            same += more;
            if more < count {
                break;
            }
        }
        same
    }

    /// Decodes the positions from `from` on, dead ones included, as many as `out` has
    /// room for.
    pub(crate) fn decode_into(&self, from: usize, out: Columns<'_, V>) {
        let at = from + self.skip;
        match self.rank.constant() {
            Some(rank) => out.ranks.fill(rank & 0xffff),
            None => {
                self.rank.decode(at, out.ranks);
                out.ranks.iter_mut().for_each(|rank| *rank &= 0xffff);
            }
        }
        for (column, vals) in self.vals.iter().zip(out.vals) {
            column.decode(at, vals);
        }
        self.decode_tids(from, out.tids);
    }

    /// Decodes the TIDs at the positions from `from` on, of dead entries too, as many
    /// as `out` has room for.
    pub(crate) fn decode_tids(&self, from: usize, out: &mut [Tid]) {
        let at = from + self.skip;
        if let Some(first) = self.tids.consecutive(at) {
            self.rows.run(first, out);
            return;
        }
        self.tids.decode(at, out);
        self.rows.tids(out);
    }

    /// The first position in `0..=len()` whose entry, dead or not, is at or
    /// above `target`.
    #[must_use]
    pub fn lower_bound(&self, target: &Pos<V>) -> usize {
        let at = match self.search(target, |_| ()) {
            Ok((from, _)) if target.tid == 0 => from,
            Ok((from, to)) => self.tids.lower_bound(from, to, self.rows.bound(target.tid)),
            Err(at) => at,
        };
        at - self.skip
    }

    /// The positions of the entries, dead or not, that have the key of `target`, from
    /// the first to behind the last; if there are none, twice where they would be.
    #[must_use]
    pub fn equal_range(&self, target: &Pos<V>) -> (usize, usize) {
        // The TID is asked for next, and is not in the CPU's cache mostly: reading it,
        // or a neighbour, at once saves waiting for it after the key.
        let touch = |i| _ = black_box(self.tids.get(i));
        let (from, to) = self.search(target, touch).unwrap_or_else(|at| (at, at));
        (from - self.skip, to - self.skip)
    }

    /// As [`Self::equal_range`], by positions of the columns.
    ///
    /// # Errors
    /// Where entries with this key would be.
    fn search(
        &self,
        target: &Pos<V>,
        near: impl Fn(usize),
    ) -> core::result::Result<(usize, usize), usize> {
        let (from, to) = (self.skip, self.skip + self.n);
        let mut range = self.rank.equal_range(from, to, target.rank, |_| ())?;
        for (column, x) in self.vals.iter().zip(target.vals) {
            range = column.equal_range(range.0, range.1, x, &near)?;
        }
        Ok(range)
    }
}
