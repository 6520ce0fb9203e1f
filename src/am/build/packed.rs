//! Sorted runs in files: entries in blocks as leaves have them, each behind the number
//! of its bytes and of its entries. Keys in heap order take next to nothing so, and
//! random ones about half of what they take in memory.

use omen_core::key::Pos;
use omen_core::page::{BlockView, Entries, encode_block};
use omen_core::{Error, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::entry::{Entry, with_room};
use crate::storage::{SpillFile, SpillReader};

/// Entries of a block.
pub(super) const BLOCK: usize = omen_core::codec::MAX_VALUES;
/// Bytes of a block at most: uncompressed, and what says so.
const MOST_BYTES: usize = 8192;
/// Bytes in front of a block.
const HEAD: usize = 4;
/// Bytes behind a block that let it be decoded faster.
const BEHIND: usize = 8;
/// Bytes that are written at once.
const WRITE: usize = 4 * MOST_BYTES;

/// A run being written.
pub(super) struct Packer<const V: usize> {
    file: SpillFile,
    block: Vec<Pos<V>>,
    bytes: Vec<u8>,
    /// Bytes that wait.
    used: usize,
}

impl<const V: usize> Packer<V> {
    /// # Safety
    /// As for [`SpillFile::create`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub unsafe fn create(context: pg_sys::MemoryContext) -> Result<Self> {
        // Lanes and TIDs of eight bytes, and the heads.
        const { assert!(BLOCK * (8 * V + 8) + 512 <= MOST_BYTES) };
        let mut bytes = with_room(WRITE)?;
        bytes.resize(WRITE, 0);
        let block = with_room(BLOCK)?;
        // SAFETY: the caller's promise.
        let file = unsafe { SpillFile::create(context) };
        Ok(Self {
            file,
            block,
            bytes,
            used: 0,
        })
    }

    /// Adds entries, which follow those before in order.
    pub fn write(&mut self, entries: &[Entry<V>]) -> Result<()> {
        for entries in entries.chunks(BLOCK) {
            if self.used + HEAD + MOST_BYTES > self.bytes.len() {
                self.flush();
            }
            self.block.clear();
            let block = entries
                .iter()
                .map(|&(vals, tid)| Pos { rank: 0, vals, tid });
            self.block.extend(block);
            let place = self.bytes.get_mut(self.used..).unwrap_or_default();
            let (head, body) = place.split_at_mut_checked(HEAD).ok_or(Error::Full)?;
            let len = encode_block(&self.block, None, body)?;
            let number = |number: usize| u16::try_from(number).map_err(|_| Error::Full);
            let (len_bytes, count_bytes) = head.split_at_mut(HEAD / 2);
            len_bytes.copy_from_slice(&number(len)?.to_ne_bytes());
            count_bytes.copy_from_slice(&number(entries.len())?.to_ne_bytes());
            self.used += HEAD + len;
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.file
            .write(self.bytes.get(..self.used).unwrap_or_default());
        self.used = 0;
    }

    /// Goes over to reading, from the start.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn finish(mut self) -> Result<Unpacker<V>> {
        self.flush();
        Ok(Unpacker {
            file: self.file.into_reader(),
            bytes: with_room(MOST_BYTES + BEHIND)?,
            columns: {
                let mut columns = with_room(1)?;
                columns.push(Entries::default());
                columns
            },
        })
    }
}

/// A run being read.
pub(super) struct Unpacker<const V: usize> {
    file: SpillReader,
    bytes: Vec<u8>,
    /// One; a list, because taking memory for that can fail without an abort.
    columns: Vec<Entries<V>>,
}

impl<const V: usize> Unpacker<V> {
    /// Adds the next entries, one to [`BLOCK`] of them, to `entries`.
    pub fn read(&mut self, entries: &mut Vec<Entry<V>>) {
        let mut head = [0; HEAD];
        self.file.read_exact(&mut head);
        let [len, count] = [[head[0], head[1]], [head[2], head[3]]]
            .map(|number| usize::from(u16::from_ne_bytes(number)));
        self.bytes.resize(len.min(MOST_BYTES) + BEHIND, 0);
        self.file
            .read_exact(self.bytes.get_mut(..len).unwrap_or_default());
        let block = BlockView::parse(&self.bytes, len, count, 0, false, false);
        let block = block.filter(|_| count <= BLOCK);
        let (Some(block), Some(columns)) = (block, self.columns.first_mut()) else {
            error!("could not read from temporary file: not what was written");
        };
        block.decode(0, count, columns);
        let read = (0..count).map(|i| {
            let pos = columns.pos(i);
            (pos.vals, pos.tid)
        });
        entries.extend(read);
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{Entry, Packer};
    use omen_core::Result;
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    fn read_back<const V: usize>(parts: &[&[Entry<V>]]) -> Result<Vec<Entry<V>>> {
        let count: usize = parts.iter().map(|part| part.len()).sum();
        // SAFETY: the context lives as long as the transaction.
        let mut packer = unsafe { Packer::create(pg_sys::CurrentMemoryContext)? };
        for part in parts {
            packer.write(part)?;
        }
        let mut unpacker = packer.finish()?;
        let mut entries = Vec::new();
        while entries.len() < count {
            unpacker.read(&mut entries);
        }
        Ok(entries)
    }

    #[pg_test]
    fn what_was_packed_is_read_back() {
        const LAST: u64 = (1 << 48) - 1;
        let noise = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let tid = |i: u64| ((i / 185) << 16) | (i % 185 + 1);
        let serial: Vec<Entry<1>> = (0..100_000).map(|i| ([i], tid(i))).collect();
        let mut wild: Vec<Entry<2>> = (0..100_001)
            .map(|i| ([noise(i), noise(i + 1)], noise(i) & LAST))
            .collect();
        wild.sort_unstable();
        let nulls: Vec<Entry<0>> = (0..3000).map(|i| ([], tid(i))).collect();
        let edges = [
            ([0], 0),
            ([0], LAST),
            ([u64::MAX], 0),
            ([u64::MAX], LAST),
            ([u64::MAX], LAST),
        ];
        let parts = [&wild[..1], &wild[1..700], &wild[700..]];
        assert!(read_back(&parts) == Ok(wild.clone()));
        assert!(read_back(&[&serial]) == Ok(serial.clone()));
        assert!(read_back(&[&nulls]) == Ok(nulls.clone()));
        assert_eq!(read_back(&[&edges[..]]), Ok(edges.to_vec()));
    }
}
