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
    room: Vec<u8>,
}

impl<const V: usize> LeafChecker<V> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            columns: Box::default(),
            room: Vec::new(),
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
            if !leaf.is_closed(index, &mut self.room)? {
                return Err(leaf.corrupt("a block's entries depend on what stands behind it"));
            }
            if view.live() == 0 {
                return Err(leaf.corrupt("a block has no entries left"));
            }
            reserved += if dir.survivors { 0 } else { dir.n.div_ceil(8) };
            reserve(&mut self.entries, view.len())?;
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut self.columns);
                for i in 0..count {
                    let pos = self.columns.pos(i);
                    let (first, behind) = view.equal_range(&pos);
                    if pos != view.pos(from + i)
                        || view.lower_bound(&pos) != from + i
                        || !(first..behind).contains(&(from + i))
                    {
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

#[cfg(test)]
mod tests {
    use super::LeafChecker;
    use crate::INVALID_BLOCK;
    use crate::key::Pos;
    use crate::page::{EditScratch, Fill, LeafFrame, LeafView};

    const SIZE: usize = 1024;

    fn frame() -> LeafFrame<1> {
        LeafFrame {
            low: Pos::MIN,
            high: None,
            flags: 0,
            left: INVALID_BLOCK,
            right: INVALID_BLOCK,
            generation: 0,
            rewrites: 0,
        }
    }

    /// A leaf of several blocks whose rows stand in key order but for some.
    fn leaf_with_exceptions(edit: &mut EditScratch<1>) -> Vec<u8> {
        let mut page = vec![0; SIZE];
        for i in 0..120u64 {
            let row = if i % 11 == 5 { 9000 - 70 * i } else { i };
            let pos = Pos {
                rank: 0,
                vals: [1000 + 3 * i],
                tid: (row / 40) << 16 | (row % 40 + 1),
            };
            edit.add_pending(pos);
            if i % 40 == 39 {
                edit.seal_within(&Fill::up_to(SIZE)).unwrap();
            }
        }
        let all = 0..edit.pieces().len();
        edit.write(&[], all, &[], &frame(), &mut page).unwrap();
        page
    }

    /// Whatever a bit of it is changed to: a leaf that is called sound has the
    /// same entries after a rewrite.
    #[test]
    fn a_sound_leaf_is_rewritten_as_it_was() {
        let mut edit = EditScratch::new(SIZE).unwrap();
        let page = leaf_with_exceptions(&mut edit);
        let mut checker = LeafChecker::<1>::new();
        let (mut sound, mut open) = (0, 0);
        for bit in 0..8 * SIZE {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let held = match checker.entries(&damaged, 1) {
                Ok(entries) => entries.to_vec(),
                Err(error) => {
                    open += usize::from(error.to_string().contains("stands behind"));
                    continue;
                }
            };
            sound += 1;
            let leaf = LeafView::<1>::read(&damaged, 1).unwrap();
            edit.load_delta(&leaf);
            if edit.plan_delete(&leaf, &mut |tid| tid % 3 == 0).is_err() {
                continue;
            }
            let delta = edit.delta.clone();
            let mut image = vec![0; SIZE];
            let all = 0..edit.pieces().len();
            edit.write(&damaged, all, &delta, &frame(), &mut image)
                .unwrap();
            let wanted: Vec<_> = held.into_iter().filter(|pos| pos.tid % 3 > 0).collect();
            assert_eq!(checker.entries(&image, 1).unwrap(), wanted, "bit {bit}");
        }
        assert!(sound > 100 && open > 10, "{sound} sound, {open} open");
    }
}
