//! Verifying the contents of one leaf.

use crate::codec::MAX_VALUES;
use crate::error::{Error, Result};
use crate::key::{Block, Pos};
use crate::memory::reserve;
use crate::page::{Entries, LeafView, delta_capacity};

/// Room for the entries of a leaf.
pub(super) struct LeafChecker<const V: usize> {
    entries: Vec<Pos<V>>,
    columns: Box<Entries<V>>,
}

impl<const V: usize> LeafChecker<V> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            columns: Box::default(),
        }
    }

    /// Checks that a page is a leaf that agrees with itself. Returns its
    /// entries in order.
    pub(super) fn entries(&mut self, page: &[u8], block: Block) -> Result<&[Pos<V>]> {
        let leaf = LeafView::<V>::read(page, block)?;
        self.entries.clear();
        self.load_blocks(&leaf)?;
        let corrupt = |what| Err(Error::Corrupt { block, what });
        if self.entries.windows(2).any(|pair| pair[0] >= pair[1]) {
            return corrupt("entries are out of order");
        }
        reserve(&mut self.entries, delta_capacity(page.len()))?;
        let delta = (0..leaf.delta_len()).map(|i| leaf.delta(i));
        self.entries.extend(delta);
        if self.entries.len() != leaf.entries() {
            return corrupt("entries are miscounted");
        }
        self.entries.sort_unstable();
        if self.entries.windows(2).any(|pair| pair[0] == pair[1]) {
            return corrupt("an entry stands twice");
        }
        let (low, high) = (leaf.low(), leaf.high());
        let below = self.entries.first().is_some_and(|first| *first < low);
        let beyond = |last: &Pos<V>| high.is_some_and(|high| *last >= high);
        if below || self.entries.last().is_some_and(beyond) {
            return corrupt("an entry lies outside of the fences");
        }
        Ok(&self.entries)
    }

    /// Checks the directory and the blocks, and collects their entries.
    fn load_blocks(&mut self, leaf: &LeafView<'_, V>) -> Result<()> {
        let mut reserved = 0;
        let mut upper = leaf.header().special;
        for index in 0..leaf.blocks() {
            let dir = leaf.dir(index)?;
            let view = leaf.view(index)?;
            if dir.first != view.pos(0) {
                return Err(leaf.corrupt("a block does not start where the directory says"));
            }
            if dir.offset + dir.len != upper {
                return Err(leaf.corrupt("blocks overlap or leave a gap"));
            }
            upper = dir.offset;
            if view.live() == 0 {
                return Err(leaf.corrupt("a block has no entries left"));
            }
            reserved += if dir.survivors { 0 } else { dir.n.div_ceil(8) };
            reserve(&mut self.entries, view.len())?;
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut self.columns);
                for i in 0..count {
                    let pos = self.columns.pos(i);
                    if pos != view.pos(from + i) || view.lower_bound(&pos) != from + i {
                        return Err(leaf.corrupt("an entry is not found where it is"));
                    }
                    if view.survives(from + i) {
                        self.entries.push(pos);
                    }
                }
            }
        }
        if upper != leaf.header().upper || reserved != leaf.reserve() {
            let what = "the bounds of the blocks are not what the header says";
            return Err(leaf.corrupt(what));
        }
        Ok(())
    }
}
