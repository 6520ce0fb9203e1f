//! Inserting an entry: into the delta area of the leaf that owns it, which is
//! folded when it is full; a leaf that cannot be folded is split.

use super::descend::{Target, fences};
use super::{MAX_DESCENTS, Scratch, Tree, fits};
use crate::error::{Error, Result};
use crate::key::{INVALID_BLOCK, Pos, Tid};
use crate::page::{
    self, DeltaAppend, FLAG_HIGH_INFINITE, FLAG_SPLIT_INCOMPLETE, Header, LeafFrame, LeafView,
    delta_capacity, leaf_capacity,
};
use crate::planted;
use crate::store::{Image, PageGuard, PageStore, Place, Record};

/// Entries of one leaf whose heap tuples are looked at before a fold or split.
pub(crate) const MAX_DEAD_CHECK: usize = 1024;

/// How a leaf that fills up is treated.
#[derive(Clone, Copy, Debug)]
pub struct InsertOptions {
    /// Percent of a leaf that appends fill before a new one is begun, 10..=100.
    pub fillfactor: u32,
}

/// Tells which heap tuples are known to be dead to everybody.
pub trait Liveness {
    /// Sets `dead[i]` where `tids[i]`'s line pointer is dead. `fresh` are those
    /// of the leaf's newest entries: what died lately is near them. Called under
    /// the exclusive lock of the leaf that holds the entries.
    ///
    /// # Errors
    /// What reading the heap can raise.
    fn mark_dead(&mut self, fresh: &[Tid], tids: &[Tid], dead: &mut [bool]) -> Result<()>;
}

/// No heap to ask: nothing is known to be dead.
#[derive(Clone, Copy, Debug)]
pub struct NoDead;

impl Liveness for NoDead {
    fn mark_dead(&mut self, _: &[Tid], _: &[Tid], _: &mut [bool]) -> Result<()> {
        Ok(())
    }
}

/// The frame of a leaf that is written anew.
pub(crate) fn frame_of<const V: usize>(leaf: &LeafView<'_, V>) -> LeafFrame<V> {
    let header = leaf.header();
    let one = u32::from(!planted::is("rewrite_uncounted"));
    let (rewrites, wrapped) = header.rewrites.overflowing_add(one);
    LeafFrame {
        low: leaf.low(),
        high: leaf.high(),
        flags: header.flags & !FLAG_HIGH_INFINITE,
        left: header.left,
        right: header.right,
        // Both together are never the same again.
        generation: header.generation.wrapping_add(u32::from(wrapped)),
        rewrites,
    }
}

/// New entries of one leaf that its delta area takes even when it was folded just
/// now. Of more, a rewrite at once is cheaper.
fn few(page_size: usize) -> usize {
    delta_capacity(page_size) / 4
}

/// Whether dead entries are worth looking for in a leaf that is appended to, before
/// it is full: if `delta`, its newest entries in order, has versions of one row, if
/// the leaf is the only one, or if all of its entries can be asked about for the last
/// time. To look at the newest pages of a large table more often, while others insert
/// into them, holds up all who append.
fn is_likely_to_have_dead<const V: usize>(leaf: &LeafView<'_, V>, delta: &[Pos<V>]) -> bool {
    let mut next = delta.iter().skip(1);
    let after_next = MAX_DEAD_CHECK + 1 - delta_capacity(leaf.page().len());
    leaf.header().left == INVALID_BLOCK
        || (after_next..=MAX_DEAD_CHECK).contains(&leaf.entries())
        || delta
            .iter()
            .any(|pos| next.next().is_some_and(|next| pos.same_key(next)))
}

/// Plans the fold of a leaf whose delta area, `batch` among it, is loaded; without
/// what was found to be dead, if that was asked of all its entries.
fn plan<const V: usize>(
    leaf: &LeafView<'_, V>,
    batch: &[Pos<V>],
    drops: bool,
    scratch: &mut Scratch<V>,
) -> Result<()> {
    if !drops {
        return scratch.edit.plan_fold(leaf);
    }
    let mut visited = 0;
    let (tids, dead) = (&scratch.tids, &scratch.dead);
    scratch.edit.plan_survivors(leaf, &mut |pos| {
        // Nobody has asked about the new ones.
        if batch.binary_search(pos).is_ok() {
            return true;
        }
        visited += 1;
        let asked = tids.get(visited - 1) == Some(&pos.tid);
        !(asked && dead.get(visited - 1).copied().unwrap_or(false))
    })
}

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Inserts an entry. When it returns, the entry is logged and can be found.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the index is damaged, [`Error::OutOfMemory`].
    pub fn insert(
        &self,
        pos: Pos<V>,
        options: InsertOptions,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<()> {
        let inserted = self.insert_some(&[pos], options, scratch, liveness)?;
        debug_assert_eq!(inserted, 1);
        Ok(())
    }

    /// Inserts the first of `entries`, and those behind it that go into the same
    /// leaf by the same record. Returns how many, at least one: they are logged and
    /// can be found. `entries` ascend, and there is one at least.
    ///
    /// # Errors
    /// As for [`Tree::insert`]; nothing is inserted then.
    pub fn insert_some(
        &self,
        entries: &[Pos<V>],
        options: InsertOptions,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<usize> {
        let Some(&pos) = entries.first() else {
            return Ok(0);
        };
        let lock = |block| self.store.write(block);
        // Each round but the last splits a page or finishes a split.
        for _ in 0..MAX_DESCENTS {
            let (mut guard, header) = self.find_leaf(&Target::At(pos), &lock)?;
            let leaf = LeafView::<V>::parse(&guard, guard.block(), header)?;
            let behind = |high| entries.partition_point(|pos| *pos < high);
            let mine = leaf.high().map_or(entries.len(), behind).max(1);
            let mut mine = entries.get(..mine).unwrap_or(entries);
            let mut append = mine.len() > few(self.store.page_size()) && header.high_infinite();
            if append && let Some(last) = leaf.last()?.filter(|last| pos < *last) {
                // Those that come late go by themselves, so that the others are an append.
                mine = mine
                    .get(..mine.partition_point(|pos| *pos < last))
                    .unwrap_or(mine);
                append = false;
            }
            if mine.len() <= leaf.delta_room() && !append {
                let append = DeltaAppend::new(&guard, mine, &mut scratch.append);
                self.store.amend(&mut guard, &append.edits())?;
                return Ok(mine.len());
            }
            let block = guard.block();
            let folded = self.fold_and_insert(&guard, mine, options, scratch, liveness);
            let inserted = fits(folded, block)?;
            if inserted > 0 {
                return Ok(inserted);
            }
            if header.split_incomplete() {
                drop(guard);
            } else {
                fits(self.split_leaf(guard, header, pos, scratch), block)?;
                self.store.reached(Place::LeafSplit)?;
            }
            self.finish_split(block, scratch)?;
        }
        Err(Error::Corrupt {
            block: 0,
            what: "a leaf stays full however often it is split",
        })
    }

    /// Folds the delta area. Of the leaf's new entries `mine`, few go into the
    /// empty delta area; of many, as many as have room are folded as well. Returns
    /// how many; 0, with nothing written: the leaf has to be split.
    fn fold_and_insert(
        &self,
        guard: &S::Exclusive,
        mut mine: &[Pos<V>],
        options: InsertOptions,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<usize> {
        let leaf = LeafView::<V>::read(guard, guard.block())?;
        let Some(first) = mine.first() else {
            return Ok(0);
        };
        let capacity = leaf_capacity::<V>(self.store.page_size());
        let at_end = leaf.header().high_infinite() && leaf.last()?.is_none_or(|last| last < *first);
        // A fold rewrites all that it hits: it has to make room for many more.
        let delta = delta_capacity(self.store.page_size()) * Pos::<V>::BYTES;
        let (limit, room) = if at_end {
            (capacity * options.fillfactor as usize / 100, delta / 4)
        } else {
            (capacity, delta / 2)
        };
        scratch.edit.load_delta(&leaf);
        scratch.dead.clear();
        let sought = !at_end
            || leaf.folded_size() + room > limit
            || is_likely_to_have_dead(&leaf, &scratch.edit.delta);
        let drops = sought && self.find_dead(&leaf, scratch, liveness)?;
        let doomed = drops || scratch.dead.contains(&true);
        // From few entries in blocks nothing follows for many others.
        let known = leaf.entries() > 2 * leaf.delta_len();
        if !at_end && !doomed && known && leaf.folded_size() + room > limit {
            return Ok(0);
        }
        let least = few(self.store.page_size());
        // How many of the new ones are folded; 0: they go into the delta area.
        let mut folded = 0;
        if mine.len() > least {
            let most = if at_end && known {
                // They are likely to take as much as those before them.
                let free = limit.saturating_sub(room + leaf.folded_size());
                (free * 5 / 4 * leaf.entries() / leaf.folded_size().max(1)).max(least + 1)
            } else {
                mine.len()
            };
            folded = scratch.edit.add_to_delta(mine.get(..most).unwrap_or(mine));
        }
        loop {
            let batch = mine.get(..folded).unwrap_or(&[]);
            let planned = plan(&leaf, batch, drops, scratch);
            let all = scratch.edit.pieces().len();
            let pieces = match planned {
                Ok(()) => scratch.edit.pieces_within(limit.saturating_sub(room)),
                Err(Error::Full) => 0,
                Err(error) => return Err(error),
            };
            let next = scratch.edit.pieces().get(pieces).map(|piece| piece.first());
            let whole = planned.is_ok() && pieces == all;
            let inserted = match next {
                _ if whole && folded == 0 => mine.len(),
                _ if whole => folded,
                // What comes in order need not come to its end.
                Some(next) if at_end && planned.is_ok() => batch.partition_point(|pos| *pos < next),
                _ => 0,
            };
            if inserted > 0 {
                let delta = if folded == 0 { mine } else { &[] };
                self.write_fold(guard, &leaf, pieces, delta, scratch)?;
                return Ok(inserted);
            }
            // A leaf that is rather empty is not split.
            let split = match at_end {
                true => folded <= least && leaf.entries() > 0,
                false => folded == 0 || known && leaf.folded_size() > limit / 2,
            };
            let fewer = if split || folded <= least {
                0
            } else {
                folded / 2
            };
            scratch.edit.take_from_delta(mine, folded, fewer);
            if split {
                return Ok(0);
            }
            if fewer == 0 {
                let some = if at_end { least } else { 1 };
                mine = mine.get(..some).unwrap_or(mine);
            }
            folded = fewer;
        }
    }

    fn write_fold(
        &self,
        guard: &S::Exclusive,
        leaf: &LeafView<'_, V>,
        pieces: usize,
        delta: &[Pos<V>],
        scratch: &Scratch<V>,
    ) -> Result<()> {
        let mut record = self.store.begin()?;
        let image = record.register(guard, Image::Delta)?;
        let image = record.image(image);
        scratch
            .edit
            .write(guard, 0..pieces, delta, &frame_of(leaf), image)?;
        record.commit()
    }

    /// Asks which entries of the leaf are dead. True: some are, `scratch.dead`
    /// says which, in the order of all entries. On a leaf of many entries only
    /// those are asked about that the fold touches, since new versions of a row
    /// stand beside the old ones; the scratch knows then what to drop.
    fn find_dead(
        &self,
        leaf: &LeafView<'_, V>,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<bool> {
        let all = leaf.entries() <= MAX_DEAD_CHECK;
        scratch.tids.clear();
        if all {
            let tids = &mut scratch.tids;
            scratch.edit.for_each(leaf, &mut |pos| {
                if tids.len() < MAX_DEAD_CHECK {
                    tids.push(pos.tid);
                }
            })?;
        } else {
            let tids = &mut scratch.tids;
            scratch
                .edit
                .for_each_touched(leaf, MAX_DEAD_CHECK, &mut |tid| tids.push(tid))?;
        }
        scratch.dead.clear();
        scratch.dead.resize(scratch.tids.len(), false);
        scratch.fresh.clear();
        let fresh = scratch.edit.delta.iter().map(|pos| pos.tid);
        scratch.fresh.extend(fresh.take(MAX_DEAD_CHECK));
        liveness.mark_dead(&scratch.fresh, &scratch.tids, &mut scratch.dead)?;
        if !scratch.dead.contains(&true) {
            return Ok(false);
        }
        if !all {
            scratch.edit.doom(&scratch.tids, &scratch.dead);
        }
        Ok(all)
    }

    /// Splits a leaf that is full. The caller finishes the split, and looks for
    /// its place again.
    fn split_leaf(
        &self,
        guard: S::Exclusive,
        header: Header,
        pos: Pos<V>,
        scratch: &mut Scratch<V>,
    ) -> Result<()> {
        let leaf = LeafView::<V>::parse(&guard, guard.block(), header)?;
        let last = leaf.last()?;
        let at_end = header.high_infinite() && last.is_none_or(|last| last < pos);
        let (left_pieces, separator) = if at_end {
            // An append: the left page is sealed as full as it is.
            scratch.edit.load_delta(&leaf);
            let folded = scratch.edit.plan_fold(&leaf);
            let capacity = leaf_capacity::<V>(self.store.page_size());
            if folded.is_ok() && scratch.edit.footprint() <= capacity {
                scratch.edit.delta.clear();
            } else {
                scratch.edit.plan_keep(&leaf)?;
            }
            let same = last.is_some_and(|last| last.same_key(&pos));
            let separator = if same { pos } else { pos.key_start() };
            (scratch.edit.pieces().len(), separator)
        } else {
            scratch.edit.plan_split(&leaf)?
        };
        let frame = frame_of(&leaf);
        // In this order: who has a page that is new in the tree waits for nobody.
        let sibling = self.lock_right(&guard, &header)?;
        let new = self.store.allocate()?;
        scratch.edit.delta.sort_unstable();
        let delta = &scratch.edit.delta;
        let (delta_left, mut delta_right) =
            delta.split_at(delta.partition_point(|p| *p < separator));
        if planted::is("split_drops_entry") {
            delta_right = delta_right.get(1..).unwrap_or(&[]);
        }
        let all = scratch.edit.pieces().len();

        let mut record = self.store.begin()?;
        let left_image = record.register(&guard, Image::Delta)?;
        let mut left = LeafFrame {
            high: Some(separator),
            right: new.block(),
            flags: FLAG_SPLIT_INCOMPLETE,
            ..frame
        };
        if planted::is("lost_right_link") {
            left.right = header.right;
        }
        if planted::is("fence_off_by_one") {
            left.high = Some(separator.next());
        }
        let image = record.image(left_image);
        scratch
            .edit
            .write(&guard, 0..left_pieces, delta_left, &left, image)?;
        let right_image = record.register(&new, Image::Full)?;
        let right = LeafFrame {
            low: separator,
            high: leaf.high(),
            flags: 0,
            left: guard.block(),
            right: header.right,
            generation: super::split::generation(&new),
            rewrites: 0,
        };
        let image = record.image(right_image);
        scratch
            .edit
            .write(&guard, left_pieces..all, delta_right, &right, image)?;
        if let Some(sibling) = &sibling
            && !planted::is("unregistered_sibling")
        {
            let image = record.register(sibling, Image::Delta)?;
            page::set_left(record.image(image), new.block());
        }
        record.commit()?;
        self.router
            .borrow_mut()
            .learn(0, separator, leaf.high(), new.block());
        Ok(())
    }

    /// Locks the right sibling of a page whose lock is held: it cannot go away
    /// meanwhile, because whoever merges it locks its left sibling first. So if
    /// the link leads to another page, the index is damaged.
    pub(crate) fn lock_right(
        &self,
        page: &S::Exclusive,
        header: &Header,
    ) -> Result<Option<S::Exclusive>> {
        let block = header.right;
        if block == INVALID_BLOCK {
            return Ok(None);
        }
        let corrupt = |what| Error::Corrupt { block, what };
        if block == page.block() || self.is_held(block) {
            return Err(corrupt("right links run in a circle"));
        }
        let right = self
            .store
            .write(block)?
            .ok_or(corrupt("a right link leads out of the index"))?;
        let found = page::header(&right, block)?;
        if found.kind != header.kind || found.level != header.level {
            return Err(corrupt(
                "a right link leads to a page of another kind or level",
            ));
        }
        let (low, high) = fences::<V>(&right, &found);
        if fences::<V>(page, header).1 != Some(low) || high.is_some_and(|high| high <= low) {
            return Err(corrupt(
                "a page does not start where its left neighbour ends",
            ));
        }
        Ok(Some(right))
    }
}
