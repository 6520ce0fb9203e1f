//! Asking for the rows of many leaves at once, in the order of the table.
//!
//! A bulk delete asks of each TID whether its row is dead. PostgreSQL looks it up
//! among all dead ones: up to 16 by a binary search (`vac_tid_reaped`, vacuum.c), from
//! 17 on in a radix tree. Where neighbours in the index are far apart in the table, each
//! lookup goes its own way through memory, and together they are most of the VACUUM's
//! time. In the order of the table one lookup goes nearly the way of the one before.
//!
//! An answer is taken for the TID alone that was asked for, so leaves may change as
//! they like until the bulk delete comes to them. It stays true so long: which rows are
//! dead is settled before a bulk delete begins, and none of their TIDs is used again
//! before it has ended.
//!
//! Leaves that are not in shared buffers are read twice, the second time from the
//! operating system's cache.

use super::Tree;
use crate::error::Result;
use crate::key::{Block, INVALID_BLOCK, Tid};
use crate::page::{self, DeadRows, EditScratch, Kind, LeafView};
use crate::planted;
use crate::store::PageStore;
use crate::tree::Pause;

/// Entries that are read ahead at most, 16 bytes each. The more, the nearer to each
/// other they are in the table. Tests come to the end of that often.
const MOST_ENTRIES: usize = if cfg!(test) { 300 } else { 1 << 18 };
/// Leaves that are read ahead at most.
const MOST_LEAVES: usize = 1 << 10;
/// Rows that are asked for in one call.
const AT_ONCE: usize = if cfg!(test) { 40 } else { 1024 };
/// So many entries that a leaf has lost since it was read are looked past.
const MOST_LOST: usize = 256;
/// One entry in so many may turn back in the table for asking in the order of the index
/// to be as good.
const NEAR: usize = 4;
/// Fewer entries say nothing of the others.
const FEW: usize = 32;

/// What was answered for the leaves ahead of a bulk delete.
#[derive(Default)]
pub(super) struct Ahead {
    /// For each entry its TID and, in the lowest bit, whether that is dead. Before the
    /// answer the TID alone.
    answers: Vec<u64>,
    /// Pages of the table and places in `answers`, in the order of the pages.
    order: Vec<u64>,
    /// Leaves, and where the answers for their entries begin.
    leaves: Vec<(Block, usize)>,
    /// The next of `leaves` to be looked at.
    next: usize,
    /// The answers for what is left of the present leaf.
    at: usize,
    end: usize,
    /// Of the entries that there was no answer for, in the last leaves.
    way: Way,
    /// Whether reading ahead pays.
    scattered: bool,
    /// Leaves to go before that is looked at again, and how many they were at first.
    rest: usize,
    last_rest: usize,
}

/// How the order of the index goes through the table.
#[derive(Default)]
struct Way {
    page: u64,
    upwards: bool,
    entries: usize,
    turns: usize,
}

impl Way {
    /// Goes to a row. Lookups of rows on one page or the next are near each other, and
    /// so are those of rows further apart as long as it goes on in one direction.
    #[inline]
    fn go_to(&mut self, tid: Tid) {
        let page = tid >> 16;
        let upwards = page > self.page;
        let far = page.abs_diff(self.page) > 1;
        self.entries += 1;
        self.turns += usize::from(far && upwards != self.upwards);
        if far {
            self.upwards = upwards;
        }
        self.page = page;
    }

    fn is_winding(&self) -> bool {
        self.entries >= FEW && self.turns > self.entries / NEAR
    }
}

/// The place in an element of [`Ahead::order`].
const fn place(entry: u64) -> usize {
    (entry & 0xffff_ffff) as usize
}

impl Ahead {
    /// Whether [`Self::read`] should be called for the leaf that comes next.
    pub(super) fn is_due(&self) -> bool {
        self.scattered && self.next >= self.leaves.len()
    }

    /// Reads leaves from `block` on, and asks `rows` for all of their entries. Nothing
    /// is locked while it is asked. Without memory it does nothing.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if a leaf is damaged; what `pause` returns.
    #[cold]
    pub(super) fn read<S: PageStore, const V: usize>(
        &mut self,
        tree: &Tree<'_, S, V>,
        block: Block,
        edit: &mut EditScratch<V>,
        rows: &mut dyn DeadRows,
        pause: &mut Pause<'_>,
    ) -> Result<()> {
        self.scattered = false;
        self.next = 0;
        self.leaves.clear();
        self.answers.clear();
        self.order.clear();
        let room = self.answers.try_reserve_exact(MOST_ENTRIES).is_ok()
            && self.order.try_reserve_exact(MOST_ENTRIES).is_ok()
            && self.leaves.try_reserve_exact(MOST_LEAVES).is_ok();
        let mut at = if room { block } else { INVALID_BLOCK };
        while at != INVALID_BLOCK && self.leaves.len() < MOST_LEAVES {
            pause()?;
            let Some(guard) = tree.store().read(at)? else {
                break;
            };
            let header = page::header(&guard, at)?;
            if header.kind != Kind::Leaf {
                break;
            }
            let leaf = LeafView::<V>::parse(&guard, at, header)?;
            let first = self.answers.len();
            if !edit.list_tids(&leaf, &mut self.answers, MOST_ENTRIES)? {
                self.answers.truncate(first);
                break;
            }
            self.leaves.push((at, first));
            at = header.right;
        }
        let mut way = Way::default();
        for (place, tid) in (0..).zip(&self.answers) {
            way.go_to(*tid);
            self.order.push(tid >> 16 << 32 | place);
        }
        self.scattered = way.is_winding();
        if !self.scattered {
            // It was one leaf among others. The next one may be so, too.
            self.last_rest = self.leaves.len().max(2 * self.last_rest);
            self.rest = self.last_rest;
            self.leaves.clear();
            return Ok(());
        }
        self.last_rest = 0;
        self.order.sort_unstable();
        let (mut tids, mut dead) = ([0; AT_ONCE], [false; AT_ONCE]);
        for some in self.order.chunks(AT_ONCE) {
            pause()?;
            let (tids, dead) = (&mut tids[..some.len()], &mut dead[..some.len()]);
            for (tid, entry) in tids.iter_mut().zip(some) {
                *tid = self.answers[place(*entry)];
            }
            rows.ask(tids, dead);
            for ((entry, tid), dead) in some.iter().zip(tids).zip(dead) {
                self.answers[place(*entry)] = *tid << 1 | u64::from(*dead);
            }
        }
        Ok(())
    }

    /// The bulk delete comes to the entries of leaf `block`: what was answered for
    /// them, and `rows` for the others.
    pub(super) fn of<'a>(&'a mut self, block: Block, rows: &'a mut dyn DeadRows) -> Answers<'a> {
        (self.at, self.end) = (0, 0);
        if let Some((leaf, at)) = self.leaves.get(self.next)
            && *leaf == block
        {
            let next = self.leaves.get(self.next + 1);
            (self.at, self.end) = (*at, next.map_or(self.answers.len(), |(_, at)| *at));
            self.next += 1;
        }
        Answers { ahead: self, rows }
    }

    /// The bulk delete has seen all of the present leaf.
    pub(super) fn leave(&mut self) {
        if self.way.entries < FEW {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
        } else {
            self.scattered |= self.way.is_winding();
        }
        self.way = Way::default();
    }
}

/// Who says which entries of a leaf are dead.
pub(super) struct Answers<'a> {
    ahead: &'a mut Ahead,
    rows: &'a mut dyn DeadRows,
}

impl DeadRows for Answers<'_> {
    fn ask(&mut self, tids: &[Tid], dead: &mut [bool]) {
        let Some(first) = tids.first() else { return };
        let ahead = &mut *self.ahead;
        let left = ahead.answers.get(ahead.at..ahead.end).unwrap_or_default();
        let is_for =
            |answer: &u64, tid: &Tid| answer >> 1 == *tid || planted::is("answer_for_another");
        // The leaf may have lost some in front of these by now.
        let mut near = left.iter().take(MOST_LOST);
        let skipped = near.position(|answer| is_for(answer, first));
        let answers = skipped.and_then(|skipped| left.get(skipped..)?.get(..tids.len()));
        if let (Some(skipped), Some(answers)) = (skipped, answers)
            && answers
                .iter()
                .zip(tids)
                .all(|(answer, tid)| is_for(answer, tid))
        {
            for (dead, answer) in dead.iter_mut().zip(answers) {
                *dead = answer & 1 == 1;
            }
            ahead.at += skipped + tids.len();
            return;
        }
        for tid in tids {
            ahead.way.go_to(*tid);
        }
        self.rows.ask(tids, dead);
    }
}
