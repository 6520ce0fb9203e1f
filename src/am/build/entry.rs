//! Entries as a build sorts them, and their bytes in queues.

use core::mem::offset_of;

use omen_core::key::Tid;
use omen_core::{Error, Result};

/// An entry without its null rank: key lanes, then heap TID.
pub(super) type Entry<const V: usize> = ([u64; V], Tid);

/// Bytes of an entry: its words, and no padding.
const fn size<const V: usize>() -> usize {
    8 * V + 8
}

const _: () = assert!(size_of::<Entry<0>>() == size::<0>());
const _: () = assert!(size_of::<Entry<1>>() == size::<1>());
const _: () = assert!(size_of::<Entry<2>>() == size::<2>());
// A worker may have loaded a later build of the library than its leader.
const _: () = assert!(offset_of!(Entry<1>, 1) == 8 && offset_of!(Entry<2>, 1) == 16);

/// The bytes of entries: lanes, then TID, as the machine has them.
pub(super) fn bytes_of<const V: usize>(entries: &[Entry<V>]) -> &[u8] {
    // SAFETY: an entry has no padding.
    unsafe { core::slice::from_raw_parts(entries.as_ptr().cast(), size_of_val(entries)) }
}

/// The bytes of entries, to be replaced.
pub(super) fn bytes_of_mut<const V: usize>(entries: &mut [Entry<V>]) -> &mut [u8] {
    // SAFETY: an entry has no padding, and all bytes make an entry.
    unsafe { core::slice::from_raw_parts_mut(entries.as_mut_ptr().cast(), size_of_val(entries)) }
}

/// An empty list with room for `count` elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn with_room<T>(count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    list.try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(list)
}

/// Adds entries to those that wait, a list with room for `most`, and hands them on
/// whenever there are so many.
pub(super) fn collect<const V: usize>(
    waiting: &mut Vec<Entry<V>>,
    most: usize,
    mut entries: &[Entry<V>],
    mut full: impl FnMut(&mut Vec<Entry<V>>) -> Result<()>,
) -> Result<()> {
    while !entries.is_empty() {
        let room = most - waiting.len();
        let (now, later) = entries.split_at(room.min(entries.len()));
        waiting.extend_from_slice(now);
        entries = later;
        if waiting.len() == most {
            full(waiting)?;
        }
    }
    Ok(())
}
