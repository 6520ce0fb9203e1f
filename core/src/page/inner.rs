//! Inner pages: separators and children, in the same blocks as on leaves.
//!
//! The first separator of a page is its low fence. An entry's child owns the
//! positions from its separator up to the next one, or to the page's high
//! fence.

use super::block::{BlockView, encode_block, max_block_entries};
use super::bytes::{get_u16, read_pos};
use super::header::{self, Header, Kind, PAGE_HEADER, SPECIAL, set_left, set_right};
use super::leaf::{
    DirEntry, LeafFrame, counts_at, dir_at, dir_bytes, set_high, write_counts, write_dir,
};
use crate::codec::MAX_VALUES;
use crate::error::{Error, Result};
use crate::key::{Block, Pos};

/// The most children of an inner page: twice what fits in the worst encoding,
/// so that both halves of a split page always fit.
#[must_use]
pub fn inner_capacity<const V: usize>(page_size: usize) -> usize {
    2 * raw_capacity::<V>(page_size)
}

/// Children that fit in the worst encoding: frames of reference as wide as
/// the fields (lanes, rank of 2 bytes, TID of 6, child of 4), with headers.
fn raw_capacity<const V: usize>(page_size: usize) -> usize {
    let entry = 8 * V + 12;
    let headers = 14 * (V + 3) + 2 + dir_bytes::<V>();
    let n = max_block_entries(page_size, V + 1);
    let block = n * entry + headers;
    let room = page_size - SPECIAL - dir_at::<V>();
    room / block * n + (room % block).saturating_sub(headers) / entry
}

/// A child of an inner page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<const V: usize> {
    /// The child's low fence.
    pub separator: Pos<V>,
    /// The child.
    pub block: Block,
    /// The next separator or the page's high fence: where the child ends, or the
    /// pages split from it that have no downlink yet. `None` is +infinity.
    pub end: Option<Pos<V>>,
}

/// A parsed inner page.
#[derive(Clone, Copy)]
pub struct InnerView<'a, const V: usize> {
    page: &'a [u8],
    block: Block,
    header: Header,
    blocks: usize,
}

impl<'a, const V: usize> InnerView<'a, V> {
    /// Parses a page whose header says that it is an inner page.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its counts contradict its bounds.
    pub fn parse(page: &'a [u8], block: Block, header: Header) -> Result<Self> {
        let corrupt = |what| Error::Corrupt { block, what };
        if header.kind != Kind::Inner {
            return Err(corrupt("not an inner page"));
        }
        let blocks = usize::from(get_u16(page, counts_at::<V>() + 6));
        if blocks == 0 || dir_at::<V>() + blocks * dir_bytes::<V>() != header.lower {
            return Err(corrupt("inner page counts do not fit the page"));
        }
        Ok(Self {
            page,
            block,
            header,
            blocks,
        })
    }

    /// The page's header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
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

    /// Error for damage found on this page.
    #[must_use]
    pub fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt {
            block: self.block,
            what,
        }
    }

    fn view(&self, index: usize) -> Result<(Pos<V>, BlockView<'a, V>)> {
        let at = dir_at::<V>() + index * dir_bytes::<V>();
        let fields = at + Pos::<V>::BYTES;
        let offset = usize::from(get_u16(self.page, fields));
        let len = usize::from(get_u16(self.page, fields + 2));
        let n = usize::from(get_u16(self.page, fields + 4));
        if index >= self.blocks
            || offset < self.header.upper
            || offset + len > self.header.special
            || n > MAX_VALUES
        {
            return Err(self.corrupt("a block lies outside of its inner page"));
        }
        let view = self
            .page
            .get(offset..)
            .and_then(|b| BlockView::parse(b, len, n, 0, false, true))
            .ok_or(self.corrupt("a block of an inner page does not decode"))?;
        Ok((read_pos(self.page, at), view))
    }

    /// The child with the greatest separator at or below `target`. `target` is at or above the low fence.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page is damaged.
    pub fn child(&self, target: &Pos<V>) -> Result<Child<V>> {
        let (mut from, mut to) = (0, self.blocks);
        while from < to {
            let middle = usize::midpoint(from, to);
            if read_pos::<V>(self.page, dir_at::<V>() + middle * dir_bytes::<V>()) <= *target {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        let index = from.saturating_sub(1);
        let (_, view) = self.view(index)?;
        let at = view.lower_bound(target);
        let at = if at < view.len() && view.pos(at) == *target {
            at
        } else {
            at.wrapping_sub(1)
        };
        if at >= view.len() {
            return Err(self.corrupt("no child covers a position of the page"));
        }
        self.child_at(index, &view, at)
    }

    /// The child with the greatest separator below `target` (`None`:
    /// +infinity). `target` is above the low fence.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page is damaged.
    pub fn child_below(&self, target: Option<&Pos<V>>) -> Result<Child<V>> {
        let mut index = self.blocks;
        if let Some(target) = target {
            let (mut from, mut to) = (0, self.blocks);
            while from < to {
                let middle = usize::midpoint(from, to);
                if read_pos::<V>(self.page, dir_at::<V>() + middle * dir_bytes::<V>()) < *target {
                    from = middle + 1;
                } else {
                    to = middle;
                }
            }
            index = from;
        }
        let index = index.saturating_sub(1);
        let (_, view) = self.view(index)?;
        let at = target
            .map_or(view.len(), |t| view.lower_bound(t))
            .wrapping_sub(1);
        if at >= view.len() {
            return Err(self.corrupt("no child lies below a position of the page"));
        }
        self.child_at(index, &view, at)
    }

    fn child_at(&self, index: usize, view: &BlockView<'_, V>, at: usize) -> Result<Child<V>> {
        let end = if at + 1 < view.len() {
            Some(view.pos(at + 1))
        } else if index + 1 < self.blocks {
            let next = dir_at::<V>() + (index + 1) * dir_bytes::<V>();
            Some(read_pos(self.page, next))
        } else {
            self.high()
        };
        let block = self.checked_child(view.child(at))?;
        Ok(Child {
            separator: view.pos(at),
            block,
            end,
        })
    }

    fn checked_child(&self, child: u64) -> Result<Block> {
        match Block::try_from(child) {
            Ok(child) if child != crate::key::INVALID_BLOCK && child != 0 => Ok(child),
            _ => Err(self.corrupt("an impossible child")),
        }
    }

    /// Appends all separators and children to `out`, which has room for
    /// [`inner_capacity`] of them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the page is damaged or holds too many.
    pub fn load(&self, out: &mut Vec<(Pos<V>, Block)>) -> Result<()> {
        let limit = out.len() + inner_capacity::<V>(self.page.len());
        for index in 0..self.blocks {
            let (_, view) = self.view(index)?;
            for i in 0..view.len() {
                if out.len() == limit {
                    return Err(self.corrupt("too many children"));
                }
                out.push((view.pos(i), self.checked_child(view.child(i))?));
            }
        }
        Ok(())
    }
}

/// Writes separators and children as an inner page.
///
/// # Errors
/// [`Error::Full`] if they do not fit or are more than [`inner_capacity`]; the
/// image is unusable then.
pub fn write_inner<const V: usize>(
    items: &[(Pos<V>, Block)],
    level: u8,
    frame: &LeafFrame<V>,
    image: &mut [u8],
) -> Result<()> {
    if items.is_empty() || items.len() > inner_capacity::<V>(image.len()) {
        return Err(Error::Full);
    }
    header::init(image, Kind::Inner, level, frame.generation);
    set_left(image, frame.left);
    set_right(image, frame.right);
    super::bytes::write_pos(image, PAGE_HEADER, &frame.low);
    set_high(image, frame.flags, frame.high);
    let chunk = max_block_entries(image.len(), V + 1);
    let blocks = items.len().div_ceil(chunk);
    let lower = dir_at::<V>() + blocks * dir_bytes::<V>();
    let mut upper = image.len() - SPECIAL;
    let mut bytes = [0u8; MAX_VALUES * 48];
    let mut entries = [Pos::<V>::MIN; MAX_VALUES];
    let mut children = [0u64; MAX_VALUES];
    for (index, part) in items.chunks(chunk).enumerate() {
        for (i, (pos, child)) in part.iter().enumerate() {
            entries[i] = *pos;
            children[i] = u64::from(*child);
        }
        let len = encode_block(
            &entries[..part.len()],
            Some(&children[..part.len()]),
            &mut bytes,
        )?;
        upper = upper
            .checked_sub(len)
            .filter(|&upper| upper >= lower)
            .ok_or(Error::Full)?;
        image
            .get_mut(upper..upper + len)
            .ok_or(Error::Full)?
            .copy_from_slice(bytes.get(..len).ok_or(Error::Full)?);
        let dir = DirEntry {
            first: part[0].0,
            offset: upper,
            len,
            n: part.len(),
            skip: 0,
            survivors: false,
        };
        write_dir(image, index, &dir);
    }
    write_counts::<V>(image, items.len(), 0, blocks);
    header::set_upper(image, upper);
    header::set_lower(image, lower);
    Ok(())
}
