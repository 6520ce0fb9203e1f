//! What the fuzz targets share: indexes to start from, beside the set of their
//! entries, and edits of pages as the input asks for them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::collections::BTreeSet;

use omen_core::key::{Pos, Tid};
use omen_core::model::Choice;
use omen_core::sim::{ALL_KEYS, ALL_ROWS, Keys, Lanes, Rng, Rows, SimSink, SimStore, Source};
use omen_core::store::PageStore;
use omen_core::tree::{
    BulkLoader, BulkOptions, DeleteStats, InsertOptions, NoDead, Router, Scratch, Tree, Witness,
};
use omen_core::{Block, Error, Result};

/// Ends the process where more is asked for at one time than any page or blob is
/// worth, which libFuzzer sees as a crash. Its own limit works with a sanitizer only.
struct Bounded;

/// Bytes of an allocation at most.
const MOST_BYTES: usize = 64 << 20;

// SAFETY: all is the system's; to abort is no answer.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_BYTES {
            eprintln!("an allocation of {} bytes", layout.size());
            std::process::abort();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// How full leaves that grow at the end of an index get.
pub const FILL: InsertOptions = InsertOptions { fillfactor: 90 };

/// An index and the entries that it should hold.
pub struct Index<const V: usize> {
    /// The pages.
    pub store: SimStore,
    /// What the session knows of them.
    pub router: RefCell<Router<V>>,
    /// Room for writers.
    pub scratch: Scratch<V>,
    /// The entries.
    pub set: BTreeSet<Pos<V>>,
}

impl<const V: usize> Index<V> {
    /// An index of the first `n` entries of a source.
    pub fn load(page_size: usize, fillfactor: u32, source: &mut Source, n: usize) -> Self {
        let store = SimStore::new(page_size);
        let options = BulkOptions {
            fillfactor,
            model: Choice::Pla,
            key_code: 1,
            ordering: 0,
        };
        let sink = SimSink(store.clone());
        let mut loader = BulkLoader::<_, V>::new(sink, options).expect("memory");
        let entries = source.sorted(n);
        for entry in &entries {
            loader.push(*entry).expect("in order");
        }
        loader.finish().expect("an index");
        Self::over(store, entries.into_iter().collect())
    }

    /// The index in a store, for a session that knows nothing of it.
    pub fn over(store: SimStore, set: BTreeSet<Pos<V>>) -> Self {
        Self {
            router: RefCell::new(Router::new(1 << 14)),
            scratch: Scratch::new(store.page_size()).expect("memory"),
            store,
            set,
        }
    }

    /// The same index in a store of its own.
    pub fn copy(&self) -> Self {
        Self::over(self.store.copy(), self.set.clone())
    }

    /// The tree.
    pub fn tree(&self) -> Tree<'_, SimStore, V> {
        Tree::new(&self.store, &self.router)
    }

    /// Inserts an entry into the tree alone.
    pub fn try_insert(&mut self, pos: Pos<V>) -> Result<()> {
        let tree = Tree::new(&self.store, &self.router);
        tree.insert(pos, FILL, &mut self.scratch, &mut NoDead)
    }

    /// Inserts an entry, if it is not there yet.
    pub fn insert(&mut self, pos: Pos<V>) {
        if self.set.insert(pos) {
            self.try_insert(pos).expect("inserts");
        }
    }

    /// Inserts entries that ascend and are not there yet.
    pub fn insert_all(&mut self, entries: &[Pos<V>]) {
        let tree = Tree::new(&self.store, &self.router);
        let mut rest = entries;
        while !rest.is_empty() {
            let inserted = tree
                .insert_some(rest, FILL, &mut self.scratch, &mut NoDead)
                .expect("inserts");
            assert!(inserted > 0);
            rest = &rest[inserted..];
        }
        self.set.extend(entries);
    }

    /// Deletes from the tree alone what `dead` names, and cleans up.
    pub fn try_vacuum(&mut self, dead: &mut dyn FnMut(Tid) -> bool) -> Result<()> {
        let tree = Tree::new(&self.store, &self.router);
        let mut stats = DeleteStats::default();
        let mut rows = |tid| dead(tid);
        tree.bulk_delete(&mut rows, &mut self.scratch, &mut || Ok(()), &mut stats)?;
        let found = tree.scavenge(&mut || Ok(()))?;
        tree.refresh_model(Choice::Auto, found.leaves)?;
        Ok(())
    }

    /// Deletes what `dead` names.
    pub fn vacuum(&mut self, dead: &mut dyn FnMut(Tid) -> bool) {
        self.try_vacuum(dead).expect("vacuums");
        self.set.retain(|pos| !dead(pos.tid));
    }
}

/// An index that has seen inserts and deletes: with delta areas, survivor
/// bitmaps, cut lines and free pages, as far as the kind of keys allows.
pub fn aged<const V: usize>(page_size: usize, fillfactor: u32, seed: u64, n: usize) -> Index<V> {
    let mut rng = Rng::new(seed);
    let keys = ALL_KEYS[seed as usize % ALL_KEYS.len()];
    // Rows in the order of arrival make the lines that leaves are cut from.
    let rows = if rng.once_in(2) {
        Rows::Heap(226)
    } else {
        ALL_ROWS[rng.index(ALL_ROWS.len())]
    };
    let mut source = Source::new(keys, rows, seed);
    source.lanes = [Lanes::First, Lanes::Last, Lanes::Noise][rng.index(3)];
    source.nulls = [0, 0, 9][rng.index(3)];
    let mut index = Index::load(page_size, fillfactor, &mut source, n);
    for pos in source.fresh(n / 6, &index.set) {
        index.insert(pos);
    }
    // A range of entries, which empties leaves, and others here and there.
    let gone = index.set.iter().skip(n / 3).take(n / 4);
    let mut dead: BTreeSet<Tid> = gone.map(|pos| pos.tid).collect();
    let others = index.set.iter().skip(2 * n / 3).map(|pos| pos.tid);
    dead.extend(others.filter(|_| rng.once_in(4)));
    index.vacuum(&mut |tid| dead.contains(&tid));
    for pos in source.fresh(n / 12, &index.set) {
        index.insert(pos);
    }
    index
}

/// An index without entries.
pub fn empty<const V: usize>(page_size: usize) -> Index<V> {
    Index::load(
        page_size,
        90,
        &mut Source::new(Keys::Serial, Rows::Odd, 0),
        0,
    )
}

/// Edits a page by a script of three bytes each: where, how, and what with.
/// Half of all places are in what the page says of itself. `other` is another
/// page of the same size.
pub fn edit_page(page: &mut [u8], other: &[u8], script: &[u8]) {
    let n = page.len();
    for step in script.as_chunks::<3>().0 {
        let [low, high, value] = *step;
        let word = usize::from(u16::from_le_bytes([low, high]));
        let at = if word & 0x8000 == 0 {
            word % n
        } else {
            // Bounds, fences, counts and the first of the directory; links,
            // kind, level, flags.
            match (word & 0xff) % 168 {
                field @ ..8 => 12 + field,
                field @ 8..144 => 24 + field - 8,
                field => n - 24 + field - 144,
            }
        };
        let to = (at + 1 + usize::from(value % 64)).min(n);
        match word >> 12 & 7 {
            0..=2 => page[at] = value,
            3 => page[at] ^= 1 << (value % 8),
            4 => page[at] = page[at].wrapping_add(value),
            5 => page[at..to].copy_from_slice(&other[at..to]),
            6 => page.copy_within(at..to, at.saturating_sub(to - at)),
            _ => page[at..to].fill(if value & 0x80 == 0 { 0 } else { 0xff }),
        }
    }
}

/// What an operation on a damaged index gives, if that is not an error that says
/// so.
pub fn tolerate<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Corrupt { .. } | Error::Version { .. }) => None,
        Err(error) => panic!("damage is reported as: {error}"),
    }
}

/// Keeps the entries that a check comes upon.
#[derive(Default)]
pub struct Collected<const V: usize>(pub Vec<Pos<V>>);

impl<const V: usize> Witness<V> for Collected<V> {
    fn leaf(&mut self, _: Block, entries: &[Pos<V>]) -> Result<()> {
        self.0.extend(entries);
        Ok(())
    }
}
