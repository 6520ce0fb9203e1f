//! Finishing splits: the downlink of a new right page goes into the parent,
//! which may have to be split first, up to a new root.
//!
//! A split is two records. The first makes the right page and flags the left
//! one SPLIT_INCOMPLETE; the tree is whole at that point, readers reach the
//! right page through the right link. The second inserts the downlink and
//! clears the flag. Whoever comes between, after a crash too, can write the
//! second record.

use super::descend::{Arrival, Promise, Target, arrive, fences};
use super::{MAX_DESCENTS, Scratch, Tree, fits};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{
    self, FLAG_HIGH_INFINITE, FLAG_SPLIT_INCOMPLETE, Header, InnerView, Kind, LeafFrame,
    write_inner,
};
use crate::planted;
use crate::store::{Image, PageGuard, PageStore, Place, Record};

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
        rewrites: 0,
    }
}

/// What a page with the missing downlink of its right sibling says of it: the
/// separator, and the level of the parent.
fn owed<const V: usize>(
    page: &[u8],
    block: Block,
    header: &Header,
) -> Result<Option<(Pos<V>, u8)>> {
    let corrupt = |what| Error::Corrupt { block, what };
    if !matches!(header.kind, Kind::Leaf | Kind::Inner)
        || !header.split_incomplete()
        || planted::is("split_never_finished")
    {
        return Ok(None);
    }
    let (_, Some(separator)) = fences::<V>(page, header) else {
        return Err(corrupt(
            "a page without a right sibling is flagged as split",
        ));
    };
    let level = header
        .level
        .checked_add(1)
        .ok_or(corrupt("the tree is too high"))?;
    Ok(Some((separator, level)))
}

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Inserts the downlink of a page's right sibling, if that is still
    /// missing. No lock may be held.
    ///
    /// The parent is looked for with no lock in hand: a pointer that is out of
    /// date may lead to a page that was freed and is used again, below or left
    /// of the child, and to wait for that with the child locked can be a
    /// deadlock. Once found, its pin keeps the parent from being freed.
    pub(crate) fn finish_split(&self, block: Block, scratch: &mut Scratch<V>) -> Result<()> {
        for _ in 0..MAX_DESCENTS {
            let debt = {
                let Some(child) = self.store.read(block)? else {
                    return Ok(());
                };
                owed::<V>(&child, block, &page::header(&child, block)?)?
            };
            let Some((separator, level)) = debt else {
                return Ok(());
            };
            let pinned = self
                .descend(level, &Target::At(separator), &|block| {
                    self.store.read(block)
                })?
                .map(|(parent, _)| (parent.block(), parent.into_pin()));
            let Some(child) = self.store.write(block)? else {
                return Ok(());
            };
            let header = page::header(&child, block)?;
            if owed::<V>(&child, block, &header)? != debt {
                continue;
            }
            let Some((parent, pin)) = pinned else {
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
            let found = self.with_held(&[block], || self.lock_parent(parent, level, separator))?;
            let Some((parent, parent_header)) = found else {
                continue;
            };
            let corrupt = |what| Error::Corrupt { block, what };
            scratch.items.clear();
            let view = InnerView::<V>::parse(&parent, parent.block(), parent_header)?;
            view.load(&mut scratch.items)?;
            match scratch
                .items
                .binary_search_by(|(low, _)| low.cmp(&separator))
            {
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
                Err(Error::Full) => {}
                Err(error) => return Err(error),
            }
            // The parent is split first, by itself; then everything is looked
            // for again.
            drop(record);
            let full = parent.block();
            let split = !parent_header.split_incomplete();
            if split {
                let done = self.with_held(&[block], || {
                    self.split_inner(parent, &parent_header, separator, scratch)
                });
                fits(done, full)?;
            } else {
                drop(parent);
            }
            drop((child, pin));
            if split {
                self.store.reached(Place::InnerSplit)?;
            }
            self.finish_split(full, scratch)?;
        }
        Err(Error::Corrupt {
            block,
            what: "the parent of a split page cannot be found",
        })
    }

    /// Locks the owner of `separator` from a pinned page of its level on, while
    /// the child's lock is held. `None`: it has to be looked for again.
    fn lock_parent(
        &self,
        block: Block,
        level: u8,
        separator: Pos<V>,
    ) -> Result<Option<(S::Exclusive, Header)>> {
        if self.is_held(block) {
            return Ok(None);
        }
        let Some(mut page) = self.store.write(block)? else {
            return Ok(None);
        };
        loop {
            let header = page::header(&page, page.block())?;
            match arrive::<V>(
                &page,
                &header,
                level,
                &Target::At(separator),
                &Promise::NOTHING,
            ) {
                Arrival::Owns => return Ok(Some((page, header))),
                Arrival::Stale => return Ok(None),
                // The left page is let go when the right one is locked.
                Arrival::Right(_) => match self.lock_right(&page, &header)? {
                    Some(right) => page = right,
                    None => return Ok(None),
                },
            }
        }
    }

    /// Splits an inner page that cannot take `separator`, and whose own split is
    /// finished. The caller finishes the new one.
    fn split_inner(
        &self,
        guard: S::Exclusive,
        header: &Header,
        separator: Pos<V>,
        scratch: &mut Scratch<V>,
    ) -> Result<()> {
        let block = guard.block();
        scratch.items.clear();
        InnerView::<V>::parse(&guard, block, *header)?.load(&mut scratch.items)?;
        let n = scratch.items.len();
        if n < 2 {
            return Err(Error::Corrupt {
                block,
                what: "a full inner page has one child",
            });
        }
        let at_end = header.high_infinite()
            && scratch
                .items
                .last()
                .is_some_and(|(low, _)| *low < separator);
        let sibling = self.lock_right(&guard, header)?;
        let new = self.store.allocate()?;
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
                rewrites: 0,
            };
            write_inner(right_items, header.level, &right, record.image(image))?;
            if let Some(sibling) = &sibling {
                let image = record.register(sibling, Image::Delta)?;
                page::set_left(record.image(image), new.block());
            }
            return record.commit();
        }
    }

    /// Makes a new root above a page that was split while it was the root.
    fn grow_root(&self, child: &S::Exclusive, header: &Header, separator: Pos<V>) -> Result<Grown> {
        let corrupt = |what| Error::Corrupt { block: 0, what };
        let new = self.store.allocate()?;
        let guard = self
            .store
            .write(0)?
            .ok_or(corrupt("the index has no meta page"))?;
        let mut meta = page::read_meta(&guard)?;
        if meta.root_level != header.level || meta.root != child.block() {
            let (root, same_level) = (meta.root, meta.root_level == header.level);
            drop(guard);
            let unused = new.block();
            drop(new);
            self.store.note_free(unused)?;
            self.router.borrow_mut().set_root(None);
            return Ok(if same_level {
                Grown::First(root)
            } else {
                Grown::Retry
            });
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
            rewrites: 0,
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
