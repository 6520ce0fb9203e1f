//! What was sorted goes into a new tree, or to the leader of a parallel build.

use omen_core::Result;
use omen_core::key::Pos;
use omen_core::tree::{BulkLoader, BulkOptions, BulkResult, PageSink};
use pgrx::pg_sys;

use super::entry::Entry;
use super::merge::{Merge, Stream};
use super::{Phase, enter, report};
use crate::storage::Receiver;
use crate::types::KeyCodec;

/// Entries loaded between two reports of progress.
const REPORT_EVERY: u64 = 1 << 14;

/// Entries that a process has collected.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub values: u64,
    pub nulls: u64,
}

/// All entries of an index, or of a part of its table, in order.
pub(super) struct Sorted<const V: usize> {
    pub codec: KeyCodec<V>,
    pub counts: Counts,
    pub values: Merge<V>,
    /// NULLs have no lanes: only their TIDs differ.
    pub nulls: Merge<0>,
}

/// Where sorted entries go.
pub(super) trait Target<const V: usize> {
    fn values(&mut self, entries: &[Entry<V>]) -> Result<()>;
    fn nulls(&mut self, entries: &[Entry<0>]) -> Result<()>;
}

impl<const V: usize> Sorted<V> {
    /// Adds what a worker will send: its NULLs and values in the order of
    /// [`Sorted::drain`].
    pub fn add_worker(&mut self, worker: Receiver, counts: Counts) -> Result<()> {
        self.counts.values += counts.values;
        self.counts.nulls += counts.nulls;
        self.values.add(Stream::of_worker(worker, counts.values)?)?;
        self.nulls.add(Stream::of_worker(worker, counts.nulls)?)
    }

    /// Passes all entries on, in the order of the index.
    pub fn drain(self, target: &mut impl Target<V>) -> Result<()> {
        let Self {
            codec,
            values,
            nulls,
            ..
        } = self;
        if codec.ordering.nulls_first {
            nulls.drain(|entries| target.nulls(entries))?;
            values.drain(|entries| target.values(entries))
        } else {
            values.drain(|entries| target.values(entries))?;
            nulls.drain(|entries| target.nulls(entries))
        }
    }
}

/// A tree in the making.
struct Tree<K: PageSink, const V: usize> {
    loader: BulkLoader<K, V>,
    /// Null rank of a value.
    rank: u64,
    /// A NULL with any TID.
    null: Pos<V>,
    last: Option<Pos<V>>,
    done: u64,
}

impl<K: PageSink, const V: usize> Tree<K, V> {
    #[inline]
    fn push(&mut self, pos: Pos<V>) -> Result<()> {
        self.done += 1;
        if self.done.is_multiple_of(REPORT_EVERY) {
            let done = i64::try_from(self.done).unwrap_or(i64::MAX);
            report(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, done);
        }
        // The loader wants each entry once.
        if self.last.replace(pos) == Some(pos) {
            return Ok(());
        }
        self.loader.push(pos)
    }
}

impl<K: PageSink, const V: usize> Target<V> for Tree<K, V> {
    fn values(&mut self, entries: &[Entry<V>]) -> Result<()> {
        let rank = self.rank;
        entries
            .iter()
            .try_for_each(|&(vals, tid)| self.push(Pos { rank, vals, tid }))
    }

    fn nulls(&mut self, entries: &[Entry<0>]) -> Result<()> {
        let null = self.null;
        entries
            .iter()
            .try_for_each(|&([], tid)| self.push(Pos { tid, ..null }))
    }
}

/// Loads sorted entries into a new tree.
pub(super) fn load<const V: usize, K: PageSink>(
    sorted: Sorted<V>,
    sink: K,
    options: BulkOptions,
) -> Result<(BulkResult, K)> {
    enter(Phase::Load);
    let total = sorted.counts.values + sorted.counts.nulls;
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, total);
    let mut tree = Tree {
        loader: BulkLoader::new(sink, options)?,
        rank: sorted.codec.ordering.value_rank(),
        // SAFETY: a NULL's datum is not looked at.
        null: unsafe { sorted.codec.encode(pg_sys::Datum::from(0), true, 0) },
        last: None,
        done: 0,
    };
    sorted.drain(&mut tree)?;
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, total);
    enter(Phase::Train);
    tree.loader.finish_into_sink()
}
