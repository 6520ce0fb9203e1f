//! Merging sorted streams of entries: of this process' memory and files, and of
//! the workers of a parallel build.

use omen_core::{Error, Result, planted};

use super::entry::{Entry, bytes_of_mut, with_room};
use super::packed::{BLOCK, Unpacker};
use crate::storage::Receiver;

/// Entries that a worker sends at once, at most.
pub(super) const MESSAGE: usize = 1 << 11;

/// Where the entries of a stream come from.
enum Origin<const V: usize> {
    /// All are there already.
    Memory,
    File(Unpacker<V>),
    Worker(Receiver),
}

/// Ascending entries.
pub(super) struct Stream<const V: usize> {
    origin: Origin<V>,
    /// What was read; from `at` on, what comes next.
    entries: Vec<Entry<V>>,
    at: usize,
    /// Entries to be read yet.
    left: u64,
}

impl<const V: usize> Stream<V> {
    /// Entries that are in order.
    pub fn of_memory(entries: Vec<Entry<V>>) -> Self {
        Self {
            origin: Origin::Memory,
            entries,
            at: 0,
            left: 0,
        }
    }

    /// The `count` entries of a file.
    pub fn of_file(file: Unpacker<V>, count: u64) -> Result<Self> {
        Ok(Self {
            origin: Origin::File(file),
            entries: with_room(BLOCK)?,
            at: 0,
            left: count,
        })
    }

    /// The next `count` entries that a worker sends.
    pub fn of_worker(worker: Receiver, count: u64) -> Result<Self> {
        Ok(Self {
            origin: Origin::Worker(worker),
            entries: with_room(MESSAGE)?,
            at: 0,
            left: count,
        })
    }

    /// The entries that have been read and not been passed on.
    #[inline]
    fn ready(&self) -> &[Entry<V>] {
        self.entries.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<()> {
        self.at += count;
        if self.at >= self.entries.len() {
            self.read()?;
        }
        Ok(())
    }

    /// Reads the next entries, if there are any.
    fn read(&mut self) -> Result<()> {
        self.at = 0;
        self.entries.clear();
        if self.left == 0 {
            return Ok(());
        }
        // All lengths are within the room taken for the list.
        match &mut self.origin {
            Origin::Memory => {}
            Origin::File(file) => file.read(&mut self.entries),
            Origin::Worker(worker) => {
                let bytes = worker.receive()?;
                let count = bytes.len() / size_of::<Entry<V>>();
                self.entries.resize(count.min(MESSAGE), ([0; V], 0));
                let place = bytes_of_mut(&mut self.entries);
                if place.is_empty() || place.len() != bytes.len() {
                    return Err(Error::Stopped);
                }
                place.copy_from_slice(bytes);
            }
        }
        self.left = self.left.saturating_sub(self.entries.len() as u64);
        Ok(())
    }
}

/// Ascending streams that are read as one.
pub(super) struct Merge<const V: usize> {
    streams: Vec<Stream<V>>,
}

impl<const V: usize> Default for Merge<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const V: usize> Merge<V> {
    pub fn new() -> Self {
        Self {
            streams: Vec::new(),
        }
    }

    pub fn add(&mut self, stream: Stream<V>) -> Result<()> {
        let bytes = size_of::<Stream<V>>();
        self.streams
            .try_reserve(1)
            .map_err(|_| Error::OutOfMemory { bytes })?;
        self.streams.push(stream);
        Ok(())
    }

    /// Streams added.
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// Passes all entries to `each` in ascending order, as many at once as stand
    /// together in a stream.
    pub fn drain(mut self, mut each: impl FnMut(&[Entry<V>]) -> Result<()>) -> Result<()> {
        // The streams that have entries left, the one that comes next last.
        let mut order = with_room(self.streams.len())?;
        for index in 0..self.streams.len() {
            self.streams[index].skip(0)?;
            self.queue_up(&mut order, index);
        }
        while let Some(index) = order.pop() {
            let bound = order.last().and_then(|next| self.head(*next));
            let stream = &mut self.streams[index];
            loop {
                let ready = stream.ready();
                let count = bound.map_or(ready.len(), |bound| stretch(ready, &bound));
                let whole = count == ready.len();
                if count > 0 {
                    each(&ready[..count])?;
                    stream.skip(count)?;
                }
                if !whole || count == 0 {
                    break;
                }
            }
            self.queue_up(&mut order, index);
        }
        Ok(())
    }

    #[inline]
    fn head(&self, index: usize) -> Option<Entry<V>> {
        self.streams.get(index)?.ready().first().copied()
    }

    /// Puts a stream where it belongs by its next entry, if it has one.
    #[inline]
    fn queue_up(&self, order: &mut Vec<usize>, index: usize) {
        if let Some(head) = self.head(index) {
            let before = |other: &usize| self.head(*other).is_some_and(|other| other > head);
            order.insert(order.partition_point(before), index);
        }
    }
}

/// How many of the ascending entries are not above `bound`. Those of random keys
/// are few, those of keys in heap order many: hence the galloping.
#[inline]
fn stretch<const V: usize>(entries: &[Entry<V>], bound: &Entry<V>) -> usize {
    let all = entries.last().is_some_and(|last| last <= bound);
    if all || planted::is("streams_not_merged") {
        return entries.len();
    }
    let mut low = 0;
    let mut step = 1;
    while entries
        .get(low + step - 1)
        .is_some_and(|entry| entry <= bound)
    {
        low += step;
        step *= 2;
    }
    let rest = entries.get(low..).unwrap_or_default();
    let within = rest.get(..step - 1).unwrap_or(rest);
    low + within.partition_point(|entry| entry <= bound)
}
