//! The pages that all views of a store share, and the rules of locking.

use super::fault::Fault;
use crate::key::Block;
use crate::page::{self, Kind};
use std::sync::Arc;

pub(super) struct SimPage {
    pub bytes: Arc<Vec<u8>>,
    pub readers: u32,
    pub writer: bool,
    pub pins: u32,
}

impl SimPage {
    /// A page that nobody uses.
    pub(super) fn new(bytes: Arc<Vec<u8>>) -> Self {
        Self {
            bytes,
            readers: 0,
            writer: false,
            pins: 0,
        }
    }
}

pub(super) struct World {
    pub pages: Vec<SimPage>,
    pub free: Vec<Block>,
    pub commits: u64,
    pub stop_after: Option<u64>,
    /// Locks taken so far, and how many there may be.
    pub locks: u64,
    pub most_locks: u64,
    /// Pages that were said to be read to one end.
    pub expected: u64,
    /// Whether pages were changed behind the back of the tree: then pointers
    /// may lead anywhere, and the order of locks with them.
    pub damaged: bool,
    /// Blocks that each actor has locked, with whether exclusively.
    pub held: Vec<Vec<(Block, bool)>>,
    /// Which call of each actor is to fail.
    pub faults: Vec<Option<Fault>>,
}

impl World {
    /// A world of one actor.
    pub(super) fn new(pages: Vec<SimPage>) -> Self {
        let mut world = Self {
            pages,
            free: Vec::new(),
            commits: 0,
            stop_after: None,
            locks: 0,
            most_locks: u64::MAX,
            expected: 0,
            damaged: false,
            held: Vec::new(),
            faults: Vec::new(),
        };
        world.set_actors(1);
        world
    }

    /// Gives each of `n` actors a clean slate.
    pub(super) fn set_actors(&mut self, n: usize) {
        self.held = vec![Vec::new(); n];
        self.faults = vec![None; n];
    }

    /// Whether the store has crashed.
    pub(super) fn stopped(&self) -> bool {
        self.stop_after.is_some_and(|stop| self.commits >= stop)
    }

    /// Waiting for a page is allowed with locks in hand if it is the right
    /// sibling of one of them, on a level above all of them, or the meta page.
    pub(super) fn check_order(&self, actor: usize, block: Block) {
        let header = |block: Block| {
            let page = self.pages.get(block as usize)?;
            page::header(&page.bytes, block)
                .ok()
                .filter(|h| h.kind != Kind::New)
        };
        let Some(wanted) = header(block) else { return };
        let in_order = wanted.kind == Kind::Meta
            || self.held[actor]
                .iter()
                .filter_map(|(held, _)| header(*held))
                .all(|held| {
                    wanted.level > held.level
                        || self.held[actor].iter().any(|(b, _)| {
                            header(*b).is_some_and(|h| h.right == block && h.level == wanted.level)
                        }) && wanted.level == held.level
                });
        let held = &self.held[actor];
        assert!(
            in_order,
            "waits for page {block}, {wanted:?}, with locks on {held:?}"
        );
    }
}
