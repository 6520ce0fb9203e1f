//! Folding the delta area into blocks, with what is dead left out.

use super::{EditScratch, MAX_DOOMED};
use crate::codec::MAX_LINE;
use crate::codec::MAX_VALUES;
use crate::error::Result;
use crate::key::Pos;
use crate::page::block::BlockView;
use crate::page::block::Entries;
use crate::page::block::max_block_entries;
use crate::page::leaf::LeafView;

impl<const V: usize> EditScratch<V> {
    /// Plans the leaf with `self.delta` (sorted) folded into its blocks.
    ///
    /// # Errors
    /// [`crate::Error::Full`] if the result takes far more than a page.
    pub fn plan_fold(&mut self, leaf: &LeafView<'_, V>) -> Result<()> {
        self.clear();
        let delta = core::mem::take(&mut self.delta);
        let planned = self.fold(leaf, &delta);
        self.delta = delta;
        planned
    }

    fn fold(&mut self, leaf: &LeafView<'_, V>, delta: &[Pos<V>]) -> Result<()> {
        let page = leaf.page();
        let max = max_block_entries(self.page_size, V);
        let mut rest = delta;
        let mut greedy = true;
        for index in 0..leaf.blocks() {
            let mine = if index + 1 < leaf.blocks() {
                let next = leaf.dir(index + 1)?.first;
                let count = rest.partition_point(|pos| *pos < next);
                let (mine, behind) = rest.split_at(count);
                rest = behind;
                mine
            } else {
                core::mem::take(&mut rest)
            };
            let view = leaf.view(index)?;
            if mine.is_empty() {
                let live = view.live();
                let small = live <= max / 4 && self.pending.len() + live <= max;
                if small && !self.pending.is_empty() {
                    // Few survivors may be spread over many positions.
                    for from in (0..view.len()).step_by(MAX_VALUES) {
                        self.merge(leaf, &view, from, from + MAX_VALUES, &[])?;
                    }
                } else {
                    self.flush(page, greedy)?;
                    self.keep(leaf, index)?;
                }
                greedy = true;
                continue;
            }
            let last = view.pos(view.len() - 1);
            let append = mine.first().is_some_and(|pos| *pos > last);
            // What may hold doomed entries is decoded.
            let whole = self.doomed.is_empty() || view.len() > MAX_VALUES;
            if append && whole && !view.has_survivor_bitmap() && view.is_line() {
                self.flush(page, greedy)?;
                greedy = true;
                self.lengthen(leaf, index, &view, mine)?;
                continue;
            }
            if append && whole && view.live() >= max {
                self.flush(page, greedy)?;
                self.keep(leaf, index)?;
                greedy = true;
                self.merge(leaf, &view, 0, 0, mine)?;
                continue;
            }
            greedy = append && index + 1 == leaf.blocks();
            self.fold_windows(leaf, index, &view, mine, greedy)?;
        }
        if leaf.blocks() == 0 {
            for chunk in rest.chunks(MAX_VALUES) {
                self.pending.extend_from_slice(chunk);
                self.spill(page, true)?;
            }
        }
        self.flush(page, greedy)
    }

    /// Appends `mine` to a line: as far as they continue it, by counting.
    fn lengthen(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        mine: &[Pos<V>],
    ) -> Result<()> {
        let dir = leaf.dir(index)?;
        let room = MAX_LINE - (dir.skip + dir.n);
        let more = view.continued_by(mine.get(..room).unwrap_or(mine));
        let max = max_block_entries(self.page_size, V);
        if more < mine.len() && dir.n + more < max / 2 {
            return self.merge(leaf, view, 0, view.len(), mine);
        }
        self.keep(leaf, index)?;
        if let Some(piece) = self.pieces.last_mut() {
            piece.n += more;
            piece.live += more;
        }
        for pos in mine.get(more..).unwrap_or(&[]) {
            self.add(leaf.page(), *pos, true)?;
        }
        Ok(())
    }

    /// Merges `mine` into a block, window by window: of a long line, only
    /// windows that are hit are decoded.
    fn fold_windows(
        &mut self,
        leaf: &LeafView<'_, V>,
        index: usize,
        view: &BlockView<'_, V>,
        mine: &[Pos<V>],
        greedy: bool,
    ) -> Result<()> {
        let mut rest = mine;
        let mut kept = 0..0;
        let mut from = 0;
        while from < view.len() {
            let to = (from + MAX_VALUES).min(view.len());
            let hit = if to == view.len() {
                core::mem::take(&mut rest)
            } else {
                let next = view.pos(to);
                let count = rest.partition_point(|pos| *pos < next);
                let (hit, behind) = rest.split_at(count);
                rest = behind;
                hit
            };
            let whole_line = view.len() > MAX_VALUES && !view.has_survivor_bitmap();
            if hit.is_empty() && whole_line {
                if kept.is_empty() {
                    self.flush(leaf.page(), greedy)?;
                    kept = from..to;
                } else {
                    kept.end = to;
                }
            } else {
                if !kept.is_empty() {
                    self.slice(leaf, index, kept.start, kept.end)?;
                    kept = 0..0;
                }
                self.merge(leaf, view, from, to, hit)?;
            }
            from = to;
        }
        if !kept.is_empty() {
            self.slice(leaf, index, kept.start, kept.end)?;
        }
        Ok(())
    }

    /// Visits the TIDs that a fold of `self.delta` (sorted) touches: those of
    /// the delta area, and of the blocks that it falls into or ends at, of
    /// which it takes as many as fit in `room` TIDs.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if a block does not decode.
    pub fn for_each_touched(
        &self,
        leaf: &LeafView<'_, V>,
        room: usize,
        visit: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut columns = Entries::default();
        let mut left = room;
        for pos in self.delta.iter().take(room) {
            visit(pos.tid);
            left -= 1;
        }
        let mut last = None;
        for pos in &self.delta {
            let index = leaf.find(pos);
            if leaf.blocks() == 0 || last == Some(index) {
                continue;
            }
            last = Some(index);
            let view = leaf.view(index)?;
            if view.len() > left.min(MAX_VALUES) {
                continue;
            }
            let count = view.decode(0, view.len(), &mut columns);
            for i in (0..count).filter(|i| view.survives(*i)) {
                visit(columns.pos(i).tid);
            }
            left -= count;
        }
        Ok(())
    }

    /// Lets the next fold drop the entries that `tids` and `dead`, side by
    /// side, say are dead, from the delta area and from the blocks that it
    /// decodes.
    pub fn doom(&mut self, tids: &[u64], dead: &[bool]) {
        self.doomed.clear();
        for (tid, _) in tids
            .iter()
            .zip(dead)
            .filter(|(_, dead)| **dead)
            .take(MAX_DOOMED)
        {
            self.doomed.push(*tid);
        }
        self.doomed.sort_unstable();
        let doomed = &self.doomed;
        self.delta
            .retain(|pos| doomed.binary_search(&pos.tid).is_err());
    }

    /// Visits all entries of a leaf in order. `self.delta` holds its delta area,
    /// sorted.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if a block does not decode.
    pub fn for_each(&self, leaf: &LeafView<'_, V>, visit: &mut dyn FnMut(Pos<V>)) -> Result<()> {
        let mut columns = Entries::default();
        let mut delta = self.delta.iter().copied().peekable();
        for index in 0..leaf.blocks() {
            let view = leaf.view(index)?;
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut columns);
                for i in 0..count {
                    if view.survives(from + i) {
                        let pos = columns.pos(i);
                        while let Some(new) = delta.next_if(|new| *new < pos) {
                            visit(new);
                        }
                        visit(pos);
                    }
                }
            }
        }
        delta.for_each(visit);
        Ok(())
    }

    /// Plans the leaf with its delta area (`self.delta`, sorted) folded, and
    /// without the entries that `keep` refuses; it is asked in order.
    ///
    /// # Errors
    /// [`crate::Error::Full`] if the result takes far more than a page.
    pub fn plan_survivors(
        &mut self,
        leaf: &LeafView<'_, V>,
        keep: &mut dyn FnMut(&Pos<V>) -> bool,
    ) -> Result<()> {
        self.clear();
        let mut columns = Entries::default();
        let delta = core::mem::take(&mut self.delta);
        let mut rest = delta.iter().copied().peekable();
        let mut planned = Ok(());
        let page = leaf.page();
        'blocks: for index in 0..leaf.blocks() {
            let view = match leaf.view(index) {
                Ok(view) => view,
                Err(error) => {
                    planned = Err(error);
                    break;
                }
            };
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut columns);
                for i in (0..count).filter(|i| view.survives(from + i)) {
                    let pos = columns.pos(i);
                    while planned.is_ok() && rest.peek().is_some_and(|new| *new < pos) {
                        planned = self.keep_if(page, rest.next(), keep);
                    }
                    if planned.is_ok() {
                        planned = self.keep_if(page, Some(pos), keep);
                    }
                    if planned.is_err() {
                        break 'blocks;
                    }
                }
            }
        }
        while planned.is_ok() && rest.peek().is_some() {
            planned = self.keep_if(page, rest.next(), keep);
        }
        self.delta = delta;
        planned?;
        self.finish(page)
    }

    fn keep_if(
        &mut self,
        page: &[u8],
        pos: Option<Pos<V>>,
        keep: &mut dyn FnMut(&Pos<V>) -> bool,
    ) -> Result<()> {
        match pos {
            Some(pos) if keep(&pos) => self.push(page, pos),
            _ => Ok(()),
        }
    }
}
