//! Deleting the entries of dead tuples, and giving pages back.
//!
//! Bulk delete walks the leaves from left to right. Splits move entries right
//! only, so none escapes; and only one VACUUM at a time works on an index, so
//! pages leave the chain by its own hand alone.

use super::ahead::Ahead;
use super::descend::{Target, fences};
use super::{Scratch, Tree, fits, publish};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::memory::reserved;
use crate::model::{Choice, Model};
use crate::page::{self, DeadRows, Kind, LeafView, leaf_capacity};
use crate::planted;
use crate::store::{Image, PageGuard, PageStore, Place, Record};

/// What a bulk delete has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteStats {
    /// Entries removed.
    pub removed: u64,
    /// Entries left, as counted on the way.
    pub remaining: u64,
    /// Pages merged away and freed.
    pub freed: u32,
}

/// What the physical pass over all pages has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scavenged {
    /// Pages of the index.
    pub pages: u32,
    /// Pages in nobody's use, all known to the store now.
    pub free: u32,
    /// Leaves.
    pub leaves: u32,
    /// Entries of all leaves.
    pub entries: u64,
}

/// Lets a vacuum delay or a cancel request take effect. Called while no lock
/// is held.
pub type Pause<'a> = dyn FnMut() -> Result<()> + 'a;

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Removes all entries whose rows `rows` says are dead, and merges leaves that are
    /// left with little. It may be asked twice for an entry, and before the leaf is
    /// locked. Every leaf is cleanup-locked once, so that when this
    /// returns no scan holds a TID of a removed entry together with its pin.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chain of leaves is damaged; what `pause`
    /// returns.
    pub fn bulk_delete(
        &self,
        rows: &mut dyn DeadRows,
        scratch: &mut Scratch<V>,
        pause: &mut Pause<'_>,
        stats: &mut DeleteStats,
    ) -> Result<()> {
        let capacity = leaf_capacity::<V>(self.store().page_size());
        let mut block = self.meta()?.first_leaf;
        let mut low = Pos::MIN;
        let mut left = None;
        let mut ahead = Ahead::default();
        loop {
            if ahead.is_due() {
                ahead.read(self, block, &mut scratch.edit, rows, pause)?;
            }
            pause()?;
            let corrupt = |what| Error::Corrupt { block, what };
            let early = if planted::is("stale_right_link") {
                let page = self.store().read(block)?.ok_or(corrupt("no page"))?;
                let header = page::header(&page, block)?;
                Some((header.right, fences::<V>(&page, &header).1))
            } else {
                None
            };
            let guard = self
                .store()
                .write_cleanup(block)?
                .ok_or(corrupt("the chain of leaves leads out of the index"))?;
            let header = page::header(&guard, block)?;
            if header.kind != Kind::Leaf {
                return Err(corrupt("the chain of leaves leads to another page"));
            }
            let leaf = LeafView::<V>::parse(&guard, block, header)?;
            // Ascending fences also end a walk along links in a circle.
            if leaf.low() != low || leaf.high().is_some_and(|high| high <= low) {
                return Err(corrupt("a leaf does not start where its neighbour ends"));
            }
            let entries = leaf.entries();
            let mut answers = ahead.of(block, rows);
            let removed = fits(scratch.edit.plan_delete(&leaf, &mut answers), block)?;
            ahead.leave();
            let mut used = leaf.used();
            if removed > 0 {
                self.write_deleted(&guard, &leaf, scratch)?;
                let delta = scratch.edit.delta.len() * Pos::<V>::BYTES;
                used = scratch.edit.footprint() + delta;
            }
            let (right, high) = early.unwrap_or((header.right, leaf.high()));
            drop(guard);
            if header.split_incomplete() {
                self.finish_split(block, scratch)?;
            }
            if removed > 0 {
                self.store().reached(Place::LeafCleaned)?;
            }
            stats.removed += removed as u64;
            stats.remaining += (entries - removed.min(entries)) as u64;
            let merged = match left {
                Some(left) if used <= capacity / 2 => {
                    fits(self.merge_leaf(left, block, scratch), block)?
                }
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
                Some(_) => return Err(corrupt("a leaf lacks its right sibling")),
                None => break,
            }
        }
        // Also if nothing was merged: the VACUUM before may have been cancelled
        // when it came to this.
        self.shrink(scratch, pause, stats)
    }

    /// Logs a leaf as it was planned without some of its entries.
    pub(super) fn write_deleted(
        &self,
        guard: &S::Exclusive,
        leaf: &LeafView<'_, V>,
        scratch: &Scratch<V>,
    ) -> Result<()> {
        let pieces = 0..scratch.edit.pieces().len();
        let mut record = self.store().begin()?;
        let image = record.register(guard, Image::Delta)?;
        let image = record.image(image);
        let (frame, delta) = (super::insert::frame_of(leaf), &scratch.edit.delta);
        let written = scratch.edit.write(guard, pieces, delta, &frame, image);
        fits(written, guard.block())?;
        record.commit()
    }

    /// Looks at every page of the index: finds free pages again that the store
    /// has forgotten, frees pages of models that were never published, and
    /// counts the rest.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a page that is not one of an index; what `pause`
    /// returns.
    pub fn scavenge(&self, pause: &mut Pause<'_>) -> Result<Scavenged> {
        let version = self.meta()?.model_version;
        let mut found = Scavenged {
            pages: self.store().pages()?,
            ..Scavenged::default()
        };
        for block in 1..found.pages {
            pause()?;
            let Some(guard) = self.store().read(block)? else {
                break;
            };
            let header = page::header(&guard, block)?;
            match header.kind {
                Kind::New | Kind::Free => {
                    drop(guard);
                    if !planted::is("free_page_lost") {
                        self.store().note_free(block)?;
                    }
                    found.free += 1;
                }
                Kind::Leaf => {
                    found.leaves += 1;
                    found.entries += LeafView::<V>::parse(&guard, block, header)?.entries() as u64;
                }
                Kind::Model => {
                    let current = page::read_model_page(&guard, block)?
                        .is_none_or(|part| part.version == version);
                    drop(guard);
                    if !current && publish::free_model_page(self.store(), block, version)?.is_some()
                    {
                        found.free += 1;
                    }
                }
                Kind::Meta | Kind::Inner => {}
            }
        }
        Ok(found)
    }

    /// Trains a new model if the leaves have changed so much that the old one
    /// is out of date, and publishes it. Returns whether it did. `leaves` is
    /// their present number. Comes after [`Tree::scavenge`]: a chain that an
    /// error has cut short bears the version of the next model.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what reading and writing pages can raise.
    pub fn refresh_model(&self, choice: Choice, leaves: u32) -> Result<bool> {
        let meta = self.meta()?;
        let trained = meta.model_leaves;
        let drift = leaves.abs_diff(trained);
        let missing = meta.model_head == INVALID_BLOCK;
        if leaves < 2 || (!missing && drift <= trained / 10) || (missing && leaves < 3) {
            return Ok(false);
        }
        let Some(map) = self.list_children(1, usize::MAX)? else {
            return Ok(false);
        };
        let mut keys = reserved(map.len())?;
        keys.extend(map.iter().map(|(low, _)| low.model_key()));
        let model = Model::train(choice, &keys)?;
        let leaves = u32::try_from(map.len()).unwrap_or(u32::MAX);
        publish::publish_model(self.store(), &model, leaves)?;
        self.router().borrow_mut().reset();
        Ok(true)
    }

    /// Blocks of a level from left to right, each with its fill (children).
    pub(crate) fn first_of_level(&self, level: u8) -> Result<Option<Block>> {
        let lock = |block| self.store().read(block);
        let found = self.descend(level, &Target::At(Pos::MIN), &lock)?;
        Ok(found.map(|(guard, header)| {
            debug_assert_eq!(fences::<V>(&guard, &header).0, Pos::MIN);
            guard.block()
        }))
    }
}
