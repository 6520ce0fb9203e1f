//! Merging a page that holds little into its left neighbour, and shrinking the
//! root. Only VACUUM does this.
//!
//! One record covers {left, page, right sibling, parent}. A running scan is not
//! in the way: it trusts no pointer, its position is an interval, and a leaf
//! that is pinned by a scan is left alone.

use super::descend::{Target, fences};
use super::split::inner_frame;
use super::vacuum::{DeleteStats, Pause};
use super::{MAX_DESCENTS, Scratch, Tree};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{
    self, Header, InnerView, Kind, LeafView, delta_capacity, init_free, inner_capacity,
    leaf_capacity, set_left, write_inner,
};
use crate::planted;
use crate::store::{Image, PageGuard, PageStore, Place, Record};

/// Two adjacent pages and those that a merge of them changes besides.
struct Pair<G> {
    left: G,
    left_header: Header,
    page: G,
    header: Header,
    sibling: Option<G>,
    parent: G,
    parent_header: Header,
}

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Locks the pages of a merge, and takes the page's downlink out of
    /// `scratch.items`, the parent's children. `None`: they cannot be merged
    /// (now).
    fn lock_pair(
        &self,
        left: Block,
        block: Block,
        level: u8,
        scratch: &mut Scratch<V>,
    ) -> Result<Option<Pair<S::Exclusive>>> {
        let kind = if level == 0 { Kind::Leaf } else { Kind::Inner };
        let fits = |header: &Header| {
            header.kind == kind && header.level == level && !header.split_incomplete()
        };
        let Some(left) = self.store().write(left)? else {
            return Ok(None);
        };
        let left_header = page::header(&left, left.block())?;
        if !fits(&left_header) || left_header.right != block || block == left.block() {
            return Ok(None);
        }
        // A leaf that somebody has pinned keeps its entries, and an inner page its
        // children: whoever pins it is about to insert a downlink.
        let page = if planted::is("merge_despite_pins") {
            self.store().try_write(block)?
        } else {
            self.store().try_write_cleanup(block)?
        };
        let Some(page) = page else {
            return Ok(None);
        };
        let header = page::header(&page, block)?;
        let (low, _) = fences::<V>(&page, &header);
        if !fits(&header) || fences::<V>(&left, &left_header).1 != Some(low) {
            return Ok(None);
        }
        let sibling = self.with_held(&[left.block()], || self.lock_right(&page, &header))?;
        // Descending with locks in hand: no pointer read from the meta page on
        // is out of date, because only VACUUM, this process, frees pages.
        let held = [left.block(), block, header.right];
        let Some((parent, parent_header)) = self.with_held(&held, || {
            self.descend(level + 1, &Target::At(low), &|b| self.store().write(b))
        })?
        else {
            return Ok(None);
        };
        scratch.items.clear();
        let view = InnerView::<V>::parse(&parent, parent.block(), parent_header)?;
        view.load(&mut scratch.items)?;
        match scratch
            .items
            .binary_search_by(|(separator, _)| separator.cmp(&low))
        {
            Ok(at)
                if at > 0
                    && scratch
                        .items
                        .get(at)
                        .is_some_and(|(_, child)| *child == block)
                    && scratch
                        .items
                        .get(at - 1)
                        .is_some_and(|(_, c)| *c == left.block()) =>
            {
                scratch.items.remove(at);
            }
            _ => return Ok(None),
        }
        Ok(Some(Pair {
            left,
            left_header,
            page,
            header,
            sibling,
            parent,
            parent_header,
        }))
    }

    /// Adds everything to the record but the left page. False: the parent,
    /// though it loses a child, would not fit its page any more.
    fn unlink(
        &self,
        pair: &Pair<S::Exclusive>,
        record: &mut S::Record<'_>,
        items: &[(Pos<V>, Block)],
    ) -> Result<bool> {
        let image = record.register(&pair.parent, Image::Delta)?;
        let frame = inner_frame(&pair.parent, &pair.parent_header);
        match write_inner(items, pair.parent_header.level, &frame, record.image(image)) {
            Ok(()) => {}
            Err(Error::Full) => return Ok(false),
            Err(error) => return Err(error),
        }
        let image = record.register(&pair.page, Image::Delta)?;
        init_free(record.image(image), pair.header.generation);
        if let Some(sibling) = &pair.sibling {
            let image = record.register(sibling, Image::Delta)?;
            set_left(record.image(image), pair.left.block());
        }
        Ok(true)
    }

    /// Merges a leaf into its left neighbour, if the result is at most three
    /// quarters full and nobody is in the way. Returns whether it did.
    pub(crate) fn merge_leaf(
        &self,
        left: Block,
        block: Block,
        scratch: &mut Scratch<V>,
    ) -> Result<bool> {
        let Some(pair) = self.lock_pair(left, block, 0, scratch)? else {
            return Ok(false);
        };
        let left_leaf = LeafView::<V>::parse(&pair.left, left, pair.left_header)?;
        let leaf = LeafView::<V>::parse(&pair.page, block, pair.header)?;
        let size = self.store().page_size();
        if left_leaf.used() + leaf.used() > leaf_capacity::<V>(size) * 3 / 4
            || left_leaf.delta_len() + leaf.delta_len() > delta_capacity(size)
        {
            return Ok(false);
        }
        scratch.edit.clear();
        scratch.edit.delta.clear();
        scratch.edit.plan_join(&left_leaf)?;
        scratch.edit.plan_join(&leaf)?;
        let mut frame = super::insert::frame_of(&left_leaf);
        frame.high = leaf.high();
        frame.right = pair.header.right;
        let mut record = self.store().begin()?;
        if !self.unlink(&pair, &mut record, &scratch.items)? {
            return Ok(false);
        }
        let image = record.register(&pair.left, Image::Delta)?;
        let pieces = 0..scratch.edit.pieces().len();
        let delta = &scratch.edit.delta;
        scratch
            .edit
            .write(&pair.left, pieces, delta, &frame, record.image(image))?;
        record.commit()?;
        let low = leaf.low();
        drop(pair);
        self.router().borrow_mut().forget(&low);
        self.store().reached(Place::PageFreed)?;
        self.store().note_free(block)?;
        Ok(true)
    }

    /// Merges an inner page into its left neighbour, as [`Tree::merge_leaf`].
    fn merge_inner(
        &self,
        left: Block,
        block: Block,
        level: u8,
        scratch: &mut Scratch<V>,
    ) -> Result<bool> {
        let Some(pair) = self.lock_pair(left, block, level, scratch)? else {
            return Ok(false);
        };
        let mut record = self.store().begin()?;
        if !self.unlink(&pair, &mut record, &scratch.items)? {
            return Ok(false);
        }
        scratch.items.clear();
        InnerView::<V>::parse(&pair.left, left, pair.left_header)?.load(&mut scratch.items)?;
        InnerView::<V>::parse(&pair.page, block, pair.header)?.load(&mut scratch.items)?;
        if scratch.items.len() > inner_capacity::<V>(self.store().page_size()) * 3 / 4 {
            return Ok(false);
        }
        let mut frame = inner_frame::<V>(&pair.left, &pair.left_header);
        frame.high = fences::<V>(&pair.page, &pair.header).1;
        frame.right = pair.header.right;
        let image = record.register(&pair.left, Image::Delta)?;
        match write_inner(&scratch.items, level, &frame, record.image(image)) {
            Ok(()) => {}
            Err(Error::Full) => return Ok(false),
            Err(error) => return Err(error),
        }
        record.commit()?;
        drop(pair);
        self.store().note_free(block)?;
        Ok(true)
    }

    /// Merges inner pages that have few children left, level by level, and
    /// takes away roots that have one.
    pub(crate) fn shrink(
        &self,
        scratch: &mut Scratch<V>,
        pause: &mut Pause<'_>,
        stats: &mut DeleteStats,
    ) -> Result<()> {
        let few = inner_capacity::<V>(self.store().page_size()) / 4;
        for level in 1..self.meta()?.root_level {
            let Some(mut block) = self.first_of_level(level)? else {
                break;
            };
            let mut left = None;
            let mut low = Pos::MIN;
            loop {
                pause()?;
                let Some(guard) = self.store().read(block)? else {
                    break;
                };
                let header = page::header(&guard, block)?;
                if header.kind != Kind::Inner || header.level != level {
                    break;
                }
                let view = InnerView::<V>::parse(&guard, block, header)?;
                if view.low() != low || view.high().is_some_and(|high| high <= low) {
                    let what = "an inner page does not start where its neighbour ends";
                    return Err(Error::Corrupt { block, what });
                }
                scratch.items.clear();
                view.load(&mut scratch.items)?;
                let (right, high) = (header.right, view.high());
                let few_left = scratch.items.len() <= few;
                drop(guard);
                if header.split_incomplete() {
                    self.finish_split(block, scratch)?;
                }
                let merged = match left {
                    Some(left) if few_left => self.merge_inner(left, block, level, scratch)?,
                    _ => false,
                };
                if merged {
                    stats.freed += 1;
                } else {
                    left = Some(block);
                }
                match high {
                    Some(high) if right != INVALID_BLOCK => {
                        low = high;
                        block = right;
                    }
                    _ => break,
                }
            }
        }
        for _ in 0..MAX_DESCENTS {
            pause()?;
            if !self.shrink_root(scratch)? {
                break;
            }
            stats.freed += 1;
        }
        Ok(())
    }

    /// Makes the only child of the root the root. Returns whether it did.
    fn shrink_root(&self, scratch: &mut Scratch<V>) -> Result<bool> {
        let meta = self.meta()?;
        if meta.root_level == 0 {
            return Ok(false);
        }
        let child = {
            let Some(guard) = self.store().read(meta.root)? else {
                return Ok(false);
            };
            match self.only_child(&guard, meta.root, meta.root_level, scratch)? {
                Some(child) => child,
                None => return Ok(false),
            }
        };
        let Some(child) = self.store().write(child)? else {
            return Ok(false);
        };
        let header = page::header(&child, child.block())?;
        let alone = matches!(header.kind, Kind::Leaf | Kind::Inner)
            && header.level + 1 == meta.root_level
            && header.left == INVALID_BLOCK
            && header.high_infinite()
            && !header.split_incomplete();
        if !alone || child.block() == meta.root {
            return Ok(false);
        }
        // Not if somebody has found in it the parent of a page that was split.
        let Some(root) = self.store().try_write_cleanup(meta.root)? else {
            return Ok(false);
        };
        if self.only_child(&root, meta.root, meta.root_level, scratch)? != Some(child.block()) {
            return Ok(false);
        }
        let root_header = page::header(&root, meta.root)?;
        let Some(guard) = self.store().write(0)? else {
            return Ok(false);
        };
        let mut now = page::read_meta(&guard)?;
        if now.root != meta.root || now.root_level != meta.root_level {
            return Ok(false);
        }
        now.root = child.block();
        now.root_level = header.level;
        let mut record = self.store().begin()?;
        let image = record.register(&root, Image::Delta)?;
        init_free(record.image(image), root_header.generation);
        let image = record.register(&guard, Image::Delta)?;
        page::write_meta(record.image(image), &now);
        record.commit()?;
        drop((guard, root, child));
        self.router()
            .borrow_mut()
            .set_root(Some((now.root, now.root_level)));
        self.store().note_free(meta.root)?;
        Ok(true)
    }

    /// The only child of an inner page that is alone on its level.
    fn only_child(
        &self,
        guard: &[u8],
        block: Block,
        level: u8,
        scratch: &mut Scratch<V>,
    ) -> Result<Option<Block>> {
        let header = page::header(guard, block)?;
        if header.kind != Kind::Inner
            || header.level != level
            || header.left != INVALID_BLOCK
            || !header.high_infinite()
            || header.split_incomplete()
        {
            return Ok(None);
        }
        scratch.items.clear();
        InnerView::<V>::parse(guard, block, header)?.load(&mut scratch.items)?;
        match scratch.items.as_slice() {
            [(_, child)] => Ok(Some(*child)),
            _ => Ok(None),
        }
    }
}
