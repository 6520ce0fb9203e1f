//! Inserting many entries at once: those of one statement wait, and go into the
//! index sorted, leaf by leaf.
//!
//! Entries wait only while a statement goes on that inserts in bulk, as [`hooks`] know,
//! or [`adopt`] of a session's first one, and whose rows nobody looks for before its
//! end but this session itself: they are not committed, and no constraint depends on
//! them. They are inserted when they take too much memory, at the end of the statement
//! (but for a COPY that was adopted), and before anything in this session could look
//! for them: a scan of the index, another statement, the commit.
//! An entry is dropped when its subtransaction aborts, and in no other case before
//! its record is written.

mod adopt;
mod bulk;
mod hooks;
mod waiting;

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::hash::BuildHasherDefault;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::collections::HashMap;

use omen_core::key::Pos;
use omen_core::planted;
use pgrx::pg_sys;
use pgrx::pg_sys::SubTransactionId;

use super::options::insert_buffer;
use super::state::OidHasher;
pub(super) use adopt::adopts;
pub(crate) use hooks::install;
use waiting::Waiting;

/// What waits for one index, of any number of lanes.
trait AnyWaiting: Any {
    /// Bytes of memory.
    fn bytes(&self) -> usize;

    /// Whether nothing is left.
    fn is_empty(&self) -> bool;

    /// Inserts all entries. What an ERROR leaves is what was not inserted.
    ///
    /// # Safety
    /// A transaction is going on in which ERRORs can be raised.
    unsafe fn insert(&mut self);

    /// A subtransaction commits: its entries are its parent's.
    fn retag(&mut self, from: SubTransactionId, to: SubTransactionId);

    /// A subtransaction aborts: its entries are nobody's.
    fn discard(&mut self, of: SubTransactionId);
}

/// What waits, by the OID of the index.
type Indexes = HashMap<u32, Box<dyn AnyWaiting>, BuildHasherDefault<OidHasher>>;

/// A flag of the process, which has one thread. It is asked for each row, and costs
/// less than one of a thread.
struct Flag(AtomicBool);

impl Flag {
    const fn off() -> Self {
        Self(AtomicBool::new(false))
    }

    #[inline]
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    fn replace(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::Relaxed)
    }
}

/// Whether anything waits.
static ANY: Flag = Flag::off();
/// No row whose entry waits, or may come to wait, is of an earlier command than this.
static FIRST_COMMAND: AtomicU32 = AtomicU32::new(u32::MAX);
/// Whether a statement is going on whose entries may wait.
static ARMED: Flag = Flag::off();

thread_local! {
    static INDEXES: RefCell<Indexes> = RefCell::default();
    /// Bytes that all of it takes.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    /// Subtransactions that such a statement has begun, in that order.
    static ARMED_BY: RefCell<Vec<SubTransactionId>> = const { RefCell::new(Vec::new()) };
}

/// Whether entries may wait now.
#[inline]
pub(super) fn is_armed() -> bool {
    ARMED.get()
}

/// Whether any entry waits.
#[inline]
pub(super) fn is_any_waiting() -> bool {
    ANY.get()
}

/// Whether a scan with this snapshot could find a row whose entry waits: one of a
/// command before the snapshot's own. What the statement that goes on has inserted
/// its own scans do not see.
///
/// # Safety
/// `snapshot` is NULL or valid.
#[inline]
pub(super) unsafe fn is_awaited(snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's promise.
    ANY.get() && unsafe { sees_first_command(snapshot) } && !planted::is("waiting_overlooked")
}

/// As [`is_awaited`], for a query that begins: functions that its workers call may
/// take snapshots of their own, of the command that goes on now.
///
/// # Safety
/// As for [`is_awaited`].
#[inline]
unsafe fn is_awaited_by_query(snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's promise; asking for the command raises no ERROR.
    ANY.get()
        && unsafe {
            is_awaited(snapshot)
                || pg_sys::GetCurrentCommandId(false) > FIRST_COMMAND.load(Ordering::Relaxed)
                    && !planted::is("waiting_overlooked")
        }
}

/// # Safety
/// As for [`is_awaited`].
unsafe fn sees_first_command(snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the caller's promise.
    unsafe { snapshot.as_ref() }.is_none_or(|snapshot| {
        snapshot.snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC
            || snapshot.curcid > FIRST_COMMAND.load(Ordering::Relaxed)
    })
}

/// Lets an entry wait. False: there is no memory for it.
///
/// # Safety
/// Both relations are open, and locked to the end of the statement; the index is an
/// omen index of `V` lanes. ERRORs can be raised.
pub(super) unsafe fn keep<const V: usize>(
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
    pos: Pos<V>,
) -> bool {
    let kept = INDEXES.with_borrow_mut(|indexes| {
        indexes.try_reserve(1).ok()?;
        // SAFETY: the caller's promise.
        let (oid, new) = unsafe {
            let new = || Box::new(Waiting::<V>::of(index, heap)) as Box<dyn AnyWaiting>;
            ((*index).rd_id.to_u32(), new)
        };
        let waiting: &mut dyn Any = indexes.entry(oid).or_insert_with(new).as_mut();
        waiting.downcast_mut::<Waiting<V>>()?.push(pos)
    });
    let Some(more) = kept else {
        return false;
    };
    ANY.set(true);
    BYTES.set(BYTES.get() + more);
    if more > 0 && BYTES.get() > insert_buffer() {
        // SAFETY: the caller's promise.
        unsafe { insert_all() };
    }
    true
}

/// Takes something out, and puts back what an ERROR leaves of it.
struct Taken {
    oid: u32,
    waiting: Option<Box<dyn AnyWaiting>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let left = self.waiting.take().filter(|waiting| !waiting.is_empty());
        INDEXES.with_borrow_mut(|indexes| {
            if let Some(waiting) = left {
                BYTES.set(BYTES.get() + waiting.bytes());
                indexes.insert(self.oid, waiting);
            }
            ANY.set(!indexes.is_empty());
        });
    }
}

/// Counts anew what waits.
fn note(indexes: &Indexes) {
    ANY.set(!indexes.is_empty());
    BYTES.set(indexes.values().map(|waiting| waiting.bytes()).sum());
}

/// Inserts what waits for an index.
///
/// # Safety
/// A transaction is going on in which ERRORs can be raised, and no page is locked.
unsafe fn insert_of(oid: u32) {
    let Some(waiting) = INDEXES.with_borrow_mut(|indexes| indexes.remove(&oid)) else {
        return;
    };
    BYTES.set(BYTES.get().saturating_sub(waiting.bytes()));
    let mut taken = Taken {
        oid,
        waiting: Some(waiting),
    };
    if let Some(waiting) = &mut taken.waiting {
        // SAFETY: the caller's promise.
        unsafe { waiting.insert() };
    }
}

/// Inserts all that waits.
///
/// # Safety
/// As for [`insert_of`].
#[cold]
unsafe fn insert_all() {
    let first = || INDEXES.with_borrow(|indexes| indexes.keys().next().copied());
    while let Some(oid) = first() {
        // SAFETY: the caller's promise.
        unsafe { insert_of(oid) };
    }
}

/// Before anything looks for entries of any index.
///
/// # Safety
/// As for [`insert_of`].
#[inline]
pub(crate) unsafe fn settle_all() {
    if ANY.get() {
        // SAFETY: the caller's promise.
        unsafe { insert_all() };
    }
}

/// Before anything looks for entries of this index.
///
/// # Safety
/// As for [`insert_of`]; `index` is open.
#[inline]
pub(crate) unsafe fn settle(index: pg_sys::Relation) {
    if ANY.get() {
        // SAFETY: the caller's promise.
        unsafe { insert_of((*index).rd_id.to_u32()) };
    }
}

/// Before a scan looks for entries.
///
/// # Safety
/// As for [`settle`]; the scan's snapshot is NULL or valid.
#[inline]
pub(super) unsafe fn settle_for(scan: &pg_sys::IndexScanDescData) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_awaited(scan.xs_snapshot) {
            insert_of((*scan.indexRelation).rd_id.to_u32());
        }
    }
}

/// The index is built anew, with all entries.
///
/// # Safety
/// `index` is open.
pub(super) unsafe fn forget(index: pg_sys::Relation) {
    // SAFETY: the caller's promise.
    let oid = unsafe { (*index).rd_id.to_u32() };
    INDEXES.with_borrow_mut(|indexes| {
        indexes.remove(&oid);
        note(indexes);
    });
}

/// The transaction is over, one way or the other.
fn forget_all() {
    ARMED.set(false);
    adopt::forget();
    FIRST_COMMAND.store(u32::MAX, Ordering::Relaxed);
    ARMED_BY.with_borrow_mut(Vec::clear);
    INDEXES.with_borrow_mut(|indexes| {
        indexes.clear();
        note(indexes);
    });
}

fn for_each(change: impl Fn(&mut dyn AnyWaiting)) {
    INDEXES.with_borrow_mut(|indexes| {
        indexes
            .values_mut()
            .for_each(|waiting| change(waiting.as_mut()));
        indexes.retain(|_, waiting| !waiting.is_empty());
        note(indexes);
    });
}
