//! The router: a process's own map from a position to the page that owns it.
//!
//! It holds the low fences and block numbers of all leaves, as the parents of
//! the leaves listed them when it was loaded, kept up by what later descents
//! meet. The learned model says where in that list a key is: the prediction is
//! corrected by a galloping search around it, so that a model that is somewhat
//! out of date costs a few comparisons. Where the index has more leaves than
//! the router may hold, it routes to the inner pages above them.
//!
//! All of it is a hint: pages say themselves what they own.

use super::descend::{Pointer, Promise};
use super::map::Map;
use super::scan::KnownDead;
use crate::key::{Block, Pos};
use crate::model::Model;
use core::cell::Cell;

/// How often the router took a process to the right page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Descents that the router answered with the page that owns the key.
    pub hits: u64,
    /// Descents that had to walk right from the router's page.
    pub hops: u64,
    /// Descents from the root: the router knew nothing, or named a page that
    /// does not own the key.
    pub falls: u64,
    /// Times that the router was loaded.
    pub loads: u64,
    /// Of the hits and hops, those whose place the model predicted.
    pub predicted: u64,
}

/// A process's map of an index.
#[derive(Clone)]
pub struct Router<const V: usize> {
    /// Level of the pages that are routed to: 0, leaves.
    level: u8,
    map: Map<V>,
    model: Option<Model>,
    root: Option<(Block, u8)>,
    /// The most bytes that the map may take.
    limit: usize,
    enabled: bool,
    misses: u64,
    uses: u64,
    cold: u32,
    /// The map had no room for a page that it was told of. If the parents do not list
    /// it, as long as its split is not finished, loading them again does not help, and
    /// has to be paid for by more misses.
    refused: bool,
    /// Predictions of the model since the last lookup was counted.
    asked: Cell<u64>,
    /// What scans have found dead and nobody has dropped: no hint, but true of the leaf as
    /// it was written then.
    pub(super) known_dead: KnownDead<V>,
    /// What was counted since the process started.
    pub counters: Counters,
}

impl<const V: usize> Router<V> {
    /// Bytes that a page takes in the map; up to 8 more in a large one where pages
    /// begin among the entries of one key, or some with NULLs and some with values.
    pub const PAGE_BYTES: usize = Map::<V>::PAGE_BYTES;

    /// An empty router whose map takes at most `bytes` bytes, but for the room that it
    /// grows by.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            level: 0,
            map: Map::EMPTY,
            model: None,
            root: None,
            limit: bytes,
            enabled: bytes >= Self::PAGE_BYTES,
            misses: 0,
            uses: 0,
            cold: 0,
            refused: false,
            asked: Cell::new(0),
            known_dead: KnownDead::NONE,
            counters: Counters::default(),
        }
    }

    /// Forgets the index, but not the counters.
    pub fn reset(&mut self) {
        self.map = Map::EMPTY;
        self.model = None;
        self.root = None;
        self.known_dead = KnownDead::NONE;
        self.misses = 0;
        self.uses = 0;
        self.cold = 0;
        self.refused = false;
        self.enabled = self.limit >= Self::PAGE_BYTES;
    }

    /// Sets the most bytes that the map may take. 0 turns the router off.
    pub fn set_limit(&mut self, bytes: usize) {
        if bytes != self.limit {
            self.limit = bytes;
            self.reset();
        }
    }

    /// Bytes that the router takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.room() + self.model.as_ref().map_or(0, Model::bytes) + self.known_dead.bytes()
    }

    /// Whether the router may hold anything.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether the router holds a map.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        !self.map.is_empty()
    }

    /// The model in use.
    #[must_use]
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// Level of the pages that the router names, 0 for leaves.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Pages that the router knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the router knows no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Stops loading, until the router is reset: no level of the index fits.
    pub(crate) fn give_up(&mut self) {
        self.reset();
        self.enabled = false;
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn root(&self) -> Option<(Block, u8)> {
        self.root
    }

    pub(crate) fn set_root(&mut self, root: Option<(Block, u8)>) {
        self.root = root;
    }

    /// Whether it is time to load the map: at once where it is small, else
    /// when the descents saved will pay for the pages to be read, and again
    /// when too many hints have missed.
    pub(crate) fn wants_load(&mut self, pages_to_read: u32) -> bool {
        if !self.enabled {
            return false;
        }
        if self.map.is_empty() {
            self.cold += 1;
            return self.cold > pages_to_read / 4;
        }
        let patience = if self.refused { self.map.len() / 64 } else { 0 };
        self.misses > (patience as u64).max(64) && self.misses * 16 > self.uses
    }

    /// Takes a map of the pages of `level`.
    pub(crate) fn install(&mut self, level: u8, mut map: Map<V>, model: Option<Model>) {
        map.shrink();
        self.level = level;
        self.map = map;
        self.model = if level == 0 { model } else { None };
        self.misses = 0;
        self.uses = 0;
        self.cold = 0;
        self.refused = false;
        self.counters.loads += 1;
    }

    /// Index of the last low fence at or below `pos` (strictly below, if so
    /// asked).
    fn find(&self, pos: &Pos<V>, strict: bool) -> Option<usize> {
        let guess = self.model.as_ref().map(|model| {
            self.asked.set(self.asked.get() + 1);
            model.predict(pos.model_key())
        });
        self.map.find(pos, strict, guess)
    }

    fn pointer(&self, index: usize) -> Option<Pointer<V>> {
        let promise = Promise {
            low: Some(self.map.low(index)?),
            end: self.map.low(index + 1),
        };
        Some(Pointer {
            block: self.map.block(index)?,
            level: self.level,
            promise,
        })
    }

    /// The page that owned `pos` when the router last heard of it.
    pub(crate) fn route(&self, pos: &Pos<V>) -> Option<Pointer<V>> {
        self.find(pos, false).and_then(|index| self.pointer(index))
    }

    /// The page that owned the positions right below `pos`, or the last page
    /// for +infinity.
    pub(crate) fn route_below(&self, pos: Option<&Pos<V>>) -> Option<Pointer<V>> {
        match pos {
            Some(pos) => self.find(pos, true).and_then(|index| self.pointer(index)),
            None => self.pointer(self.map.len().checked_sub(1)?),
        }
    }

    pub(crate) fn hit(&mut self) {
        self.uses += 1;
        self.counters.hits += 1;
        self.counters.predicted += u64::from(self.asked.take() > 0);
    }

    /// The router's page was so many pages in front of the right one.
    pub(crate) fn hopped(&mut self, hops: usize) {
        self.uses += 1;
        self.misses += hops as u64;
        self.counters.hops += 1;
        self.counters.predicted += u64::from(self.asked.take() > 0);
    }

    pub(crate) fn fell(&mut self) {
        self.uses += 1;
        self.counters.falls += 1;
        if !self.map.is_empty() {
            self.misses += 1;
        }
    }

    /// Learns that `block` at `level` owns the positions from `low` up to
    /// `high` (`None`: to the end): pages known to begin in between are gone.
    pub(crate) fn learn(&mut self, level: u8, low: Pos<V>, high: Option<Pos<V>>, block: Block) {
        if self.map.is_empty() || level != self.level {
            return;
        }
        let at = match self.find(&low, false) {
            Some(i) if self.map.low(i) == Some(low) => {
                self.map.set_block(i, block);
                i
            }
            found => {
                let at = found.map_or(0, |i| i + 1);
                let full = !self.map.fits(at, &low, self.limit);
                if full || self.map.insert(at, low, block).is_err() {
                    self.refused = true;
                    return;
                }
                at
            }
        };
        self.asked.set(0);
        let gone = self.map.end(at + 1, high.as_ref());
        self.map.remove(at + 1..gone);
    }

    /// Forgets the page that the router named for `pos`, unless it is the only
    /// one: it did not own `pos`.
    pub(crate) fn forget(&mut self, pos: &Pos<V>) {
        if let Some(i) = self.find(pos, false)
            && i > 0
        {
            self.map.remove(i..i + 1);
        }
    }
}
