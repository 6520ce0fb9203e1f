//! Sorting the entries of a build within `maintenance_work_mem`.

use core::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use omen_core::key::Tid;
use omen_core::{Error, Result};
use pgrx::check_for_interrupts;
use pgrx::pg_sys;

use crate::storage::{SpillFile, SpillReader};

/// An entry without its null rank: key lanes, then heap TID.
pub(super) type Entry<const V: usize> = ([u64; V], Tid);

/// Entries sorted at once, between two looks at interrupts: some tenths of a
/// second.
const SORT_PIECE: usize = 1 << 22;
/// Entries of a run that are read or written at once.
const CHUNK: usize = 512;
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
    run_ascending: bool,
    /// All entries ever added are in order.
    ascending: bool,
    last: Option<Entry<V>>,
    count: u64,
    runs: Vec<Run<V>>,
    context: pg_sys::MemoryContext,
}

impl<const V: usize> Sorter<V> {
    /// A sorter that takes at most `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            entries: Vec::new(),
            limit: (bytes / size_of::<Entry<V>>()).max(MIN_ENTRIES),
            run_ascending: true,
            ascending: true,
            last: None,
            count: 0,
            runs: Vec::new(),
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
        if self.last.is_some_and(|last| entry < last) {
            self.ascending = false;
            self.run_ascending &= self.entries.is_empty();
        }
        self.last = Some(entry);
        self.entries.push(entry);
        self.count += 1;
        Ok(())
    }

    /// Takes more memory, or else writes what there is to a file.
    #[cold]
    fn make_room(&mut self) -> Result<()> {
        let held = self.entries.len();
        let more = held.max(MIN_ENTRIES).min(self.limit - held);
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
        if !self.run_ascending {
            sort(&mut self.entries);
            self.run_ascending = true;
        }
    }

    /// Writes the entries held to a file of their own.
    fn spill(&mut self) -> Result<()> {
        self.sort();
        let mut run = RunWriter::new(self.context)?;
        for entry in self.entries.drain(..) {
            run.push(entry);
        }
        self.keep(run)?;
        if self.runs.len() >= MAX_RUNS {
            let mut all = RunWriter::new(self.context)?;
            merge(core::mem::take(&mut self.runs), &mut |entry| {
                all.push(entry);
                Ok(())
            })?;
            self.keep(all)?;
        }
        Ok(())
    }

    fn keep(&mut self, run: RunWriter<V>) -> Result<()> {
        let bytes = size_of::<Run<V>>();
        self.runs
            .try_reserve(1)
            .map_err(|_| Error::OutOfMemory { bytes })?;
        self.runs.push(run.finish()?);
        Ok(())
    }

    /// Puts the entries in order, as far as that is done before they are
    /// returned.
    pub fn prepare(&mut self) -> Result<()> {
        if self.runs.is_empty() {
            self.sort();
        } else {
            if !self.entries.is_empty() {
                self.spill()?;
            }
            self.entries = Vec::new();
        }
        Ok(())
    }

    /// Passes all entries to `each`, in ascending order. After
    /// [`Sorter::prepare`].
    pub fn drain(mut self, each: &mut dyn FnMut(Entry<V>) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            return self.entries.drain(..).try_for_each(each);
        }
        if self.ascending {
            for mut run in self.runs {
                while let Some(entry) = run.next() {
                    each(entry)?;
                }
            }
            return Ok(());
        }
        merge(self.runs, each)
    }
}

/// Sorts, looking at interrupts now and then.
fn sort<const V: usize>(entries: &mut [Entry<V>]) {
    check_for_interrupts!();
    if entries.len() <= SORT_PIECE {
        entries.sort_unstable();
        return;
    }
    let middle = entries.len() / 2;
    let (low, _, high) = entries.select_nth_unstable(middle);
    sort(low);
    sort(high);
}

/// Passes the entries of sorted runs to `each`, in ascending order.
fn merge<const V: usize>(
    mut runs: Vec<Run<V>>,
    each: &mut dyn FnMut(Entry<V>) -> Result<()>,
) -> Result<()> {
    let mut heads = BinaryHeap::new();
    let bytes = runs.len() * size_of::<Reverse<(Entry<V>, usize)>>();
    heads
        .try_reserve(runs.len())
        .map_err(|_| Error::OutOfMemory { bytes })?;
    for (index, run) in runs.iter_mut().enumerate() {
        if let Some(entry) = run.next() {
            heads.push(Reverse((entry, index)));
        }
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((entry, index)) = *head;
        each(entry)?;
        match runs.get_mut(index).and_then(Run::next) {
            Some(next) => *head = Reverse((next, index)),
            None => {
                PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

/// A sorted run being written.
struct RunWriter<const V: usize> {
    file: SpillFile,
    bytes: Vec<u8>,
    count: u64,
}

impl<const V: usize> RunWriter<V> {
    fn new(context: pg_sys::MemoryContext) -> Result<Self> {
        Ok(Self {
            bytes: chunk_buffer::<V>()?,
            // SAFETY: the context is that of the build, which the file does
            // not outlive.
            file: unsafe { SpillFile::create(context) },
            count: 0,
        })
    }

    fn push(&mut self, (vals, tid): Entry<V>) {
        for word in vals.iter().chain([&tid]) {
            self.bytes.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        if self.bytes.len() == CHUNK * entry_bytes::<V>() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        check_for_interrupts!();
        self.file.write(&self.bytes);
        self.bytes.clear();
    }

    fn finish(mut self) -> Result<Run<V>> {
        self.flush();
        Ok(Run {
            file: self.file.into_reader(),
            bytes: self.bytes,
            at: 0,
            left: self.count,
        })
    }
}

/// A sorted run being read.
struct Run<const V: usize> {
    file: SpillReader,
    bytes: Vec<u8>,
    at: usize,
    /// Entries that are still in the file.
    left: u64,
}

impl<const V: usize> Run<V> {
    #[inline]
    fn next(&mut self) -> Option<Entry<V>> {
        if self.at == self.bytes.len() {
            self.fill();
        }
        let end = self.at + entry_bytes::<V>();
        let (words, _) = self.bytes.get(self.at..end)?.as_chunks::<8>();
        let (tid, vals) = words.split_last()?;
        self.at = end;
        let lane = |lane| vals.get(lane).map_or(0, |word| u64::from_ne_bytes(*word));
        Some((core::array::from_fn(lane), u64::from_ne_bytes(*tid)))
    }

    fn fill(&mut self) {
        let count = self.left.min(CHUNK as u64);
        self.left -= count;
        self.at = 0;
        // Within what chunk_buffer has reserved.
        self.bytes.resize(count as usize * entry_bytes::<V>(), 0);
        self.file.read_exact(&mut self.bytes);
    }
}

const fn entry_bytes<const V: usize>() -> usize {
    8 * V + 8
}

fn chunk_buffer<const V: usize>() -> Result<Vec<u8>> {
    let bytes = CHUNK * entry_bytes::<V>();
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(bytes)
        .map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(buffer)
}
