//! Sorting the entries of a build within `maintenance_work_mem`.

use omen_core::{Error, Result, planted};
use pgrx::check_for_interrupts;
use pgrx::pg_sys;

use super::entry::{Entry, collect, with_room};
use super::merge::{Merge, Stream};
use super::packed::Packer;
use crate::am::sort::sort;

/// Entries of a run that are written between two looks at interrupts.
const CHUNK: usize = 1 << 12;
/// Runs from which on they are merged into one.
const MAX_RUNS: usize = 256;
/// Entries that memory is always taken for.
const MIN_ENTRIES: usize = 4096;

/// Collects entries, and returns them in ascending order. What does not fit
/// its share of memory goes to temporary files, as sorted runs.
pub(super) struct Sorter<const V: usize> {
    entries: Vec<Entry<V>>,
    /// Entries to hold at most.
    limit: usize,
    /// The entries held are in order.
    ascending: bool,
    count: u64,
    runs: Merge<V>,
    context: pg_sys::MemoryContext,
}

impl<const V: usize> Sorter<V> {
    /// A sorter that takes at most `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            entries: Vec::new(),
            limit: (bytes / size_of::<Entry<V>>()).max(MIN_ENTRIES),
            ascending: true,
            count: 0,
            runs: Merge::new(),
            // SAFETY: set as long as the backend lives.
            context: unsafe { pg_sys::CurrentMemoryContext },
        }
    }

    /// Entries added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds an entry.
    #[inline]
    pub fn add(&mut self, entry: Entry<V>) -> Result<()> {
        if self.entries.len() == self.entries.capacity() {
            self.make_room()?;
        }
        self.ascending &= self.entries.last().is_none_or(|last| *last <= entry);
        self.entries.push(entry);
        self.count += 1;
        Ok(())
    }

    /// Takes more memory, or else writes what there is to a file.
    #[cold]
    fn make_room(&mut self) -> Result<()> {
        let held = self.entries.len();
        let more = held.max(MIN_ENTRIES).min(self.limit - held);
        if planted::is("allocation_aborts") {
            self.entries.reserve_exact(more);
        }
        if more > 0 && self.entries.try_reserve_exact(more).is_ok() {
            return Ok(());
        }
        if held == 0 {
            let bytes = more * size_of::<Entry<V>>();
            return Err(Error::OutOfMemory { bytes });
        }
        self.limit = held;
        self.spill()
    }

    fn sort(&mut self) {
        if !self.ascending {
            sort(&mut self.entries);
            self.ascending = true;
        }
    }

    /// Writes the entries held to a file of their own.
    fn spill(&mut self) -> Result<()> {
        self.sort();
        let mut run = Run::new(self.context)?;
        run.write(&self.entries)?;
        self.entries.clear();
        self.runs.add(run.finish()?)?;
        if self.runs.count() >= MAX_RUNS {
            let mut all = Run::new(self.context)?;
            let mut waiting = with_room(CHUNK)?;
            let mut write = |entries: &mut Vec<Entry<V>>| {
                all.write(entries)?;
                entries.clear();
                Ok(())
            };
            core::mem::take(&mut self.runs)
                .drain(|entries| collect(&mut waiting, CHUNK, entries, &mut write))?;
            write(&mut waiting)?;
            self.runs.add(all.finish()?)?;
        }
        Ok(())
    }

    /// All entries, in ascending order as they are read.
    pub fn finish(mut self) -> Result<Merge<V>> {
        if self.runs.count() > 0 && !self.entries.is_empty() {
            self.spill()?;
        }
        self.sort();
        let mut sorted = self.runs;
        if !self.entries.is_empty() {
            sorted.add(Stream::of_memory(self.entries))?;
        }
        Ok(sorted)
    }
}

/// A sorted run being written.
struct Run<const V: usize> {
    file: Packer<V>,
    count: u64,
}

impl<const V: usize> Run<V> {
    fn new(context: pg_sys::MemoryContext) -> Result<Self> {
        Ok(Self {
            // SAFETY: the context is that of the build, which the file does
            // not outlive.
            file: unsafe { Packer::create(context)? },
            count: 0,
        })
    }

    fn write(&mut self, entries: &[Entry<V>]) -> Result<()> {
        for chunk in entries.chunks(CHUNK) {
            check_for_interrupts!();
            self.file.write(chunk)?;
        }
        self.count += entries.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<Stream<V>> {
        Stream::of_file(self.file.finish()?, self.count)
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{Entry, MAX_RUNS, MIN_ENTRIES, Sorter};
    use omen_core::Result;
    use pgrx::prelude::*;

    /// The entries in order, sorted in the least memory there can be, and the runs that
    /// were left to merge.
    fn sorted(entries: &[Entry<1>]) -> Result<(Vec<Entry<1>>, usize)> {
        let mut sorter = Sorter::<1>::new(0);
        entries.iter().try_for_each(|entry| sorter.add(*entry))?;
        assert_eq!(sorter.count(), entries.len() as u64);
        let runs = sorter.runs.count();
        let mut sorted = Vec::new();
        sorter.finish()?.drain(|entries| {
            sorted.extend_from_slice(entries);
            Ok(())
        })?;
        Ok((sorted, runs))
    }

    #[pg_test]
    fn more_runs_than_are_merged_at_once_lose_nothing() {
        let count = (MAX_RUNS + 4) * MIN_ENTRIES + 1;
        // Each key twice, with the same TID or with another.
        let entry = |i: usize| {
            let key = (i as u64 / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ([key], 1 << 16 | (1 + u64::from(i.is_multiple_of(3))))
        };
        let mut entries: Vec<Entry<1>> = (0..count).map(entry).collect();
        let result = sorted(&entries);
        entries.sort_unstable();
        assert!(result.is_ok_and(|(sorted, runs)| sorted == entries && runs < MAX_RUNS));
    }
}
