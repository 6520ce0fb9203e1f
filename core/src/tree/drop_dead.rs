//! Dropping entries that a scan has found dead, without waiting for VACUUM.

use super::{Scratch, Tree, fits};
use crate::error::Result;
use crate::key::{Block, Pos};
use crate::page::{self, Kind, LeafView};
use crate::planted;
use crate::store::{PageGuard, PageStore};
use crate::tree::insert::Liveness;

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Drops those of `named` (ascending, at most [`super::MAX_KILLED`]) that leaf
    /// `block` holds and whose rows `liveness` says are dead, if they are `least` or
    /// more. Returns how many were dropped, 0 if fewer are dead; `None` if that says
    /// nothing of the rows. Leaves in `named` those that are dead.
    ///
    /// It is asked under the leaf's exclusive lock, so what it says of an entry that
    /// is there holds while the entry is dropped: VACUUM would have to pass the leaf
    /// before it makes the line pointer reusable. Where the entries have moved or were
    /// dropped by somebody else, or the leaf is locked, nothing is done.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the leaf is damaged, and what `liveness` raises.
    /// Nothing is dropped then.
    pub fn drop_dead(
        &self,
        block: Block,
        named: &mut Vec<Pos<V>>,
        least: usize,
        scratch: &mut Scratch<V>,
        liveness: &mut impl Liveness,
    ) -> Result<Option<usize>> {
        let Some(guard) = self.store().try_write(block)? else {
            return Ok(None);
        };
        let header = page::header(&guard, block)?;
        if header.kind != Kind::Leaf {
            return Ok(None);
        }
        let leaf = LeafView::<V>::parse(&guard, block, header)?;
        let (low, high) = (leaf.low(), leaf.high());
        named.retain(|pos| low <= *pos && high.is_none_or(|high| *pos < high));
        if named.len() < least {
            return Ok(None);
        }
        scratch.tids.clear();
        scratch.tids.extend(named.iter().map(|pos| pos.tid));
        scratch.dead.clear();
        let unchecked = planted::is("killed_unchecked");
        scratch.dead.resize(scratch.tids.len(), unchecked);
        if !unchecked {
            liveness.mark_dead(&[], &scratch.tids, &mut scratch.dead)?;
        }
        let mut dead = scratch.dead.iter();
        named.retain(|_| dead.next().copied().unwrap_or(false));
        if named.len() < least {
            return Ok(Some(0));
        }
        let dropped = fits(scratch.edit.plan_drop(&leaf, named), guard.block())?;
        if dropped < least.max(1) {
            return Ok(None);
        }
        self.write_deleted(&guard, &leaf, scratch)?;
        Ok(Some(dropped))
    }
}
