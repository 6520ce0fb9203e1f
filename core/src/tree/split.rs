//! Finishing splits: the downlink of a new right page goes into the parent,
//! which may have to be split first, up to a new root.
//!
//! A split is two records. The first makes the right page and flags the left
//! one SPLIT_INCOMPLETE; the tree is whole at that point, readers reach the
//! right page through the right link. The second inserts the downlink and
//! clears the flag. Whoever comes between, after a crash too, can write the
//! second record.

use super::descend::{Target, fences};
use super::{MAX_DESCENTS, Scratch, Tree};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{
    self, FLAG_HIGH_INFINITE, FLAG_SPLIT_INCOMPLETE, Header, InnerView, Kind, LeafFrame,
    write_inner,
};
use crate::store::{Image, PageGuard, PageStore, Record};

/// The generation that a page made of this new or free one goes on with.
pub(crate) fn generation(page: &[u8]) -> u32 {
    page::header(page, 0).map_or(0, |h| if h.kind == Kind::New { 0 } else { h.generation })
}

/// The frame of an inner page as it stands.
pub(crate) fn inner_frame<const V: usize>(page: &[u8], header: &Header) -> LeafFrame<V> {
    let (low, high) = fences::<V>(page, header);
    LeafFrame {
        low,
        high,
        flags: header.flags & !FLAG_HIGH_INFINITE,
        left: header.left,
        right: header.right,
        generation: header.generation,
    }
}

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Inserts the downlink of a page's right sibling, if that is still
    /// missing. No lock may be held, but those of pages below `block`.
    pub(crate) fn finish_split(&self, block: Block, scratch: &mut Scratch<V>) -> Result<()> {
        let lock = |block| self.store.write(block);
        for _ in 0..MAX_DESCENTS {
            let Some(child) = self.store.write(block)? else { return Ok(()) };
            let header = page::header(&child, block)?;
            let tree_page = matches!(header.kind, Kind::Leaf | Kind::Inner);
            if !tree_page || !header.split_incomplete() {
                return Ok(());
            }
            let corrupt = |what| Error::Corrupt { block, what };
            let (_, Some(separator)) = fences::<V>(&child, &header) else {
                return Err(corrupt("a page without a right sibling is flagged as split"));
            };
            let level = header.level.checked_add(1).ok_or(corrupt("the tree is too high"))?;
            let Some((parent, parent_header)) = self
                .with_held(&[block], || self.descend(level, &Target::At(separator), &lock))?
            else {
                match self.grow_root(&child, &header, separator)? {
                    Grown::Done => return Ok(()),
                    Grown::Retry => {}
                    Grown::First(root) => {
                        drop(child);
                        self.finish_split(root, scratch)?;
                    }
                }
                continue;
            };
            scratch.items.clear();
            let view = InnerView::<V>::parse(&parent, parent.block(), parent_header)?;
            view.load(&mut scratch.items)?;
            match scratch.items.binary_search_by(|(low, _)| low.cmp(&separator)) {
                Ok(_) => return Err(corrupt("a page flagged as split has its downlink")),
                Err(at) => scratch.items.insert(at, (separator, header.right)),
            }
            let mut record = self.store.begin()?;
            let image = record.register(&parent, Image::Delta)?;
            let frame = inner_frame(&parent, &parent_header);
            match write_inner(&scratch.items, level, &frame, record.image(image)) {
                Ok(()) => {
                    let image = record.register(&child, Image::Delta)?;
                    let flags = header.flags & !FLAG_SPLIT_INCOMPLETE;
                    page::set_flags(record.image(image), flags);
                    return record.commit();
                }
                Err(Error::Full) => {
                    drop(record);
                    self.with_held(&[block], || {
                        self.split_inner(parent, &parent_header, separator, scratch)
                    })?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Corrupt { block, what: "the parent of a split page cannot be found" })
    }

    /// Splits an inner page that cannot take `separator`. It keeps its lock on
    /// nothing: the caller looks for the parent again.
    fn split_inner(
        &self,
        guard: S::Exclusive,
        header: &Header,
        separator: Pos<V>,
        scratch: &mut Scratch<V>,
    ) -> Result<()> {
        let block = guard.block();
        if header.split_incomplete() {
            drop(guard);
            return self.finish_split(block, scratch);
        }
        scratch.items.clear();
        InnerView::<V>::parse(&guard, block, *header)?.load(&mut scratch.items)?;
        let n = scratch.items.len();
        if n < 2 {
            return Err(Error::Corrupt { block, what: "a full inner page has one child" });
        }
        let at_end = header.high_infinite()
            && scratch.items.last().is_some_and(|(low, _)| *low < separator);
        let new = self.store.allocate()?;
        let sibling = match header.right {
            INVALID_BLOCK => None,
            right if right == block => {
                return Err(Error::Corrupt { block, what: "a right link leads to its own page" });
            }
            right => Some(self.lock_right(right)?),
        };
        // Appends leave full pages behind, if the shorter page still fits.
        let mut cuts = [n - 1, n / 2].into_iter().skip(usize::from(!at_end));
        loop {
            let cut = cuts.next().ok_or(Error::Full)?;
            let (left_items, right_items) = scratch.items.split_at(cut);
            let middle = right_items.first().ok_or(Error::Full)?.0;
            let frame = inner_frame::<V>(&guard, header);
            let mut record = self.store.begin()?;
            let image = record.register(&guard, Image::Delta)?;
            let left = LeafFrame {
                high: Some(middle),
                right: new.block(),
                flags: FLAG_SPLIT_INCOMPLETE,
                ..frame
            };
            match write_inner(left_items, header.level, &left, record.image(image)) {
                Ok(()) => {}
                Err(Error::Full) if cut > n / 2 => continue,
                Err(error) => return Err(error),
            }
            let image = record.register(&new, Image::Full)?;
            let right = LeafFrame {
                low: middle,
                high: frame.high,
                flags: 0,
                left: block,
                right: header.right,
                generation: generation(&new),
            };
            write_inner(right_items, header.level, &right, record.image(image))?;
            if let Some(sibling) = &sibling {
                let image = record.register(sibling, Image::Delta)?;
                page::set_left(record.image(image), new.block());
            }
            record.commit()?;
            break;
        }
        drop(sibling);
        drop(new);
        drop(guard);
        self.finish_split(block, scratch)
    }

    /// Makes a new root above a page that was split while it was the root.
    fn grow_root(
        &self,
        child: &S::Exclusive,
        header: &Header,
        separator: Pos<V>,
    ) -> Result<Grown> {
        let corrupt = |what| Error::Corrupt { block: 0, what };
        let new = self.store.allocate()?;
        let guard = self.store.write(0)?.ok_or(corrupt("the index has no meta page"))?;
        let mut meta = page::read_meta(&guard)?;
        if meta.root_level != header.level || meta.root != child.block() {
            let (root, same_level) = (meta.root, meta.root_level == header.level);
            drop(guard);
            let unused = new.block();
            drop(new);
            self.store.note_free(unused)?;
            self.router.borrow_mut().set_root(None);
            return Ok(if same_level { Grown::First(root) } else { Grown::Retry });
        }
        let level = header.level + 1;
        let items = [(Pos::MIN, child.block()), (separator, header.right)];
        let frame = LeafFrame {
            low: Pos::MIN,
            high: None,
            flags: 0,
            left: INVALID_BLOCK,
            right: INVALID_BLOCK,
            generation: generation(&new),
        };
        let mut record = self.store.begin()?;
        let image = record.register(&new, Image::Full)?;
        write_inner(&items, level, &frame, record.image(image))?;
        let image = record.register(child, Image::Delta)?;
        page::set_flags(record.image(image), header.flags & !FLAG_SPLIT_INCOMPLETE);
        let image = record.register(&guard, Image::Delta)?;
        meta.root = new.block();
        meta.root_level = level;
        page::write_meta(record.image(image), &meta);
        record.commit()?;
        self.router.borrow_mut().set_root(Some((meta.root, level)));
        Ok(Grown::Done)
    }
}

/// How an attempt to make a new root ended.
enum Grown {
    /// The root is made.
    Done,
    /// There is a higher root already.
    Retry,
    /// The root, a page left of the child on its level, has to be finished
    /// first.
    First(Block),
}
