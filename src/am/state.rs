//! What a session knows of the indexes that it uses: how their keys are coded,
//! and the router to their leaves.
//!
//! Kept by OID, for as long as the relation cache says nothing else: another
//! file number (REINDEX, TRUNCATE) or an invalidation (ALTER, an in-place truncation
//! in this session, most VACUUMs) makes the next use start afresh. All
//! of it is a hint, is checked when it is loaded, or names the state of a page of which
//! it is true (the dead rows that the router remembers), so that using it for a
//! moment longer does no harm: a scan keeps what it began with. Only a build in the
//! same file lets pages begin anew; it forgets the index.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;
use std::rc::Rc;

use omen_core::page::{self, Meta};
use omen_core::store::PageStore;
use omen_core::tree::{Counters, Loaded, Router, Scratch, read_model};
use omen_core::{Error, INVALID_BLOCK, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::kill::Patience;
use super::options::router_memory;
use crate::storage::{Known, PAGE_SIZE, PgStore, file_number, in_index, index_name};
use crate::types::{KeyCodec, KeyType, Ordering};

/// Indexes that a session remembers.
const MAX_INDEXES: usize = 256;

/// What a session knows of one index.
pub(crate) struct IndexState<const V: usize> {
    /// Values to positions and back.
    pub codec: KeyCodec<V>,
    /// Positions to leaves.
    pub router: RefCell<Router<V>>,
    /// The index's pages.
    pub known: Known,
    /// When scans try to drop what they find dead.
    pub patience: Patience,
    /// The setting that the router was bounded by, in kB.
    memory: Cell<i32>,
    /// Loads of the router whose model was looked at.
    loads: Cell<u64>,
}

struct Slot {
    file: u32,
    stale: Cell<bool>,
    used: u64,
    /// An `IndexState` of the index's lanes.
    state: Rc<dyn Any>,
}

/// OIDs are spread well enough as they are.
#[derive(Default)]
pub(super) struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Default)]
struct Cache {
    slots: HashMap<u32, Slot, BuildHasherDefault<OidHasher>>,
    clock: u64,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// An invalidation came while the cache was in use.
    static ALL_STALE: Cell<bool> = const { Cell::new(false) };
    /// Room for writers of one and of two lanes.
    static SCRATCH: RefCell<[Option<Box<dyn Any>>; 2]> = const { RefCell::new([None, None]) };
}

/// The relation cache dropped a relation, or all if `relid` is invalid. Only
/// sets flags: nothing may fail or allocate in here.
unsafe extern "C-unwind" fn on_invalidation(_: pg_sys::Datum, relid: pg_sys::Oid) {
    let done = CACHE.try_with(|cache| match cache.try_borrow() {
        Ok(cache) if relid == pg_sys::InvalidOid => {
            cache.slots.values().for_each(|slot| slot.stale.set(true));
        }
        Ok(cache) => {
            if let Some(slot) = cache.slots.get(&relid.to_u32()) {
                slot.stale.set(true);
            }
        }
        Err(_) => ALL_STALE.set(true),
    });
    debug_assert!(done.is_ok() || std::thread::panicking());
}

/// The type of the index's key column; an ERROR if it has none that is known,
/// which only an operator class made by hand can cause.
///
/// # Safety
/// `index` is an open omen index.
pub(crate) unsafe fn key_type(index: pg_sys::Relation) -> KeyType {
    // SAFETY: an index has one key column at least.
    let oid = unsafe { *(*index).rd_opcintype };
    KeyType::from_oid(oid).unwrap_or_else(|| {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "access method \"omen\" does not support type {}",
                oid.to_u32()
            ),
            "The operator class is not one of extension omendb_index."
        );
    })
}

/// The direction of the index's key column.
///
/// # Safety
/// As for [`key_type`].
pub(crate) unsafe fn ordering(index: pg_sys::Relation) -> Ordering {
    // SAFETY: an index has one key column at least.
    Ordering::from_indoption(unsafe { *(*index).rd_indoption })
}

/// The direction as the meta page has it.
pub(crate) fn ordering_code(ordering: Ordering) -> u8 {
    u8::from(ordering.desc) | u8::from(ordering.nulls_first) << 1
}

/// Bytes that a router and what is known of the pages may take by the session's
/// setting: enough for as many leaves, where the router needs least for one.
fn shares<const V: usize>(memory: i32) -> (usize, usize) {
    let bytes = usize::try_from(memory).unwrap_or(0) * 1024;
    let known = size_of::<pg_sys::Buffer>();
    let known = bytes / (Router::<V>::PAGE_BYTES + known) * known;
    (bytes - known, known)
}

/// Reads the meta page.
pub(crate) fn read_meta(store: &PgStore<'_>) -> Result<Meta> {
    let what = "the index has no meta page";
    let page = store.read(0)?.ok_or(Error::Corrupt { block: 0, what })?;
    page::read_meta(&page)
}

impl<const V: usize> IndexState<V> {
    /// What is known of `index`, from its meta page.
    ///
    /// # Safety
    /// `index` is an open and locked omen index of `V` lanes.
    unsafe fn load(index: pg_sys::Relation, counters: Counters) -> Result<Self> {
        // SAFETY: the caller's promise.
        let (key_type, ordering) = unsafe { (key_type(index), ordering(index)) };
        let memory = router_memory();
        let (router_bytes, known_bytes) = shares::<V>(memory);
        let mut router = Router::new(router_bytes);
        router.counters = counters;
        let state = Self {
            codec: KeyCodec { key_type, ordering },
            loads: Cell::new(counters.loads),
            router: RefCell::new(router),
            known: Known::default(),
            patience: Patience::default(),
            memory: Cell::new(memory),
        };
        state.known.set_limit(known_bytes);
        // SAFETY: the caller's promise.
        let meta = read_meta(&unsafe { PgStore::new(index, &state.known) })?;
        let lanes = usize::from(meta.lanes);
        let fits =
            (meta.key_code, meta.ordering, lanes) == (key_type.code(), ordering_code(ordering), V);
        if !fits || key_type.lanes() != V {
            let what = "the meta page is that of an index on another type or order";
            return Err(Error::Corrupt { block: 0, what });
        }
        Ok(state)
    }

    /// Says so, once per load of the router, if the index has a model that
    /// cannot be used. Called when no page is locked.
    #[inline]
    pub fn warn_of_damage(&self, store: &PgStore<'_>) -> Result<()> {
        let loads = self.router.borrow().counters.loads;
        if loads == self.loads.get() {
            return Ok(());
        }
        self.loads.set(loads);
        self.look_at_model(store)
    }

    #[cold]
    fn look_at_model(&self, store: &PgStore<'_>) -> Result<()> {
        let router = self.router.borrow();
        if router.model().is_some() || router.level() > 0 {
            return Ok(());
        }
        drop(router);
        let meta = read_meta(store)?;
        if meta.model_head == INVALID_BLOCK {
            return Ok(());
        }
        let reason = match read_model(store, &meta)? {
            Loaded::Damaged(what) => what.to_owned(),
            Loaded::Blob(error) => error.to_string(),
            Loaded::Model(_) | Loaded::None => return Ok(()),
        };
        // SAFETY: the store's index is open.
        let name = unsafe { index_name(store.index()) };
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
            format!("model of index \"{name}\" cannot be used: {reason}"),
            "The index serves without it. REINDEX makes a new model."
        );
        Ok(())
    }
}

/// What the session knows of an index.
///
/// # Safety
/// `index` is an open and locked omen index of `V` lanes.
#[inline]
pub(crate) unsafe fn state_of<const V: usize>(index: pg_sys::Relation) -> Rc<IndexState<V>> {
    // SAFETY: the caller's promise.
    let (oid, file) = unsafe { ((*index).rd_id.to_u32(), file_number(index)) };
    let known = CACHE.with_borrow_mut(|cache| {
        if ALL_STALE.replace(false) {
            cache.slots.values().for_each(|slot| slot.stale.set(true));
        }
        cache.clock += 1;
        let clock = cache.clock;
        let slot = cache.slots.get_mut(&oid)?;
        slot.used = clock;
        let current = slot.file == file && !slot.stale.get();
        current.then(|| Rc::clone(&slot.state))
    });
    let state = match known.and_then(|state| state.downcast::<IndexState<V>>().ok()) {
        Some(state) => state,
        // SAFETY: the caller's promise.
        None => unsafe { remember(index, oid, file) },
    };
    let memory = router_memory();
    if memory != state.memory.get() {
        state.memory.set(memory);
        let (router_bytes, known_bytes) = shares::<V>(memory);
        state.router.borrow_mut().set_limit(router_bytes);
        state.known.set_limit(known_bytes);
    }
    state
}

/// Loads what there is to know of an index, and keeps it.
#[cold]
unsafe fn remember<const V: usize>(
    index: pg_sys::Relation,
    oid: u32,
    file: u32,
) -> Rc<IndexState<V>> {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never
        // unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::from(0));
        }
    }
    let before = CACHE.with_borrow_mut(|cache| cache.slots.remove(&oid));
    let counters = before
        .and_then(|slot| slot.state.downcast::<IndexState<V>>().ok())
        .map_or_else(Counters::default, |state| state.router.borrow().counters);
    // SAFETY: the caller's promise.
    let state = Rc::new(unsafe { in_index(index, IndexState::<V>::load(index, counters)) });
    CACHE.with_borrow_mut(|cache| {
        if cache.slots.len() >= MAX_INDEXES {
            let oldest = cache.slots.iter().min_by_key(|(_, slot)| slot.used);
            if let Some(oldest) = oldest.map(|(oid, _)| *oid) {
                cache.slots.remove(&oldest);
            }
        }
        let slot = Slot {
            file,
            stale: Cell::new(false),
            used: cache.clock,
            state: state.clone(),
        };
        cache.slots.insert(oid, slot);
    });
    state
}

/// Forgets an index whose pages are written anew.
///
/// # Safety
/// `index` is open.
pub(crate) unsafe fn forget(index: pg_sys::Relation) {
    // SAFETY: the caller's promise.
    let oid = unsafe { (*index).rd_id.to_u32() };
    CACHE.with_borrow_mut(|cache| cache.slots.remove(&oid));
}

/// Runs `work` with the session's room for writers. Should `work` panic, the
/// room goes with it: what an unfinished plan leaves in there is no room to
/// start from.
pub(crate) fn with_scratch<const V: usize, T>(
    work: impl FnOnce(&mut Scratch<V>) -> Result<T>,
) -> Result<T> {
    let slot = V - 1;
    let kept = SCRATCH.with_borrow_mut(|all| all.get_mut(slot).and_then(Option::take));
    let mut room = match kept.and_then(|room| room.downcast::<Scratch<V>>().ok()) {
        Some(room) => room,
        None => Box::new(Scratch::<V>::new(PAGE_SIZE)?),
    };
    let result = work(&mut room);
    SCRATCH.with_borrow_mut(|all| {
        if let Some(slot) = all.get_mut(slot) {
            *slot = Some(room);
        }
    });
    result
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::shares;
    use omen_core::tree::Router;
    use pgrx::prelude::*;

    #[pg_test]
    fn router_and_known_pages_are_of_as_many_leaves() {
        let leaves = |bytes: usize, (router, known): (usize, usize)| {
            (router / bytes, known / size_of::<pg_sys::Buffer>())
        };
        let one = leaves(Router::<1>::PAGE_BYTES, shares::<1>(4096));
        assert_eq!(one, (262_144, 262_144));
        let two = leaves(Router::<2>::PAGE_BYTES, shares::<2>(4096));
        assert_eq!(two, (174_762, 174_762));
        let (router, known) = shares::<2>(4096);
        assert_eq!(router + known, 4 << 20);
        assert_eq!(shares::<1>(0), (0, 0));
    }
}
