//! Little-endian fields of a page. Reads outside of the page give 0 and writes
//! outside of it are dropped: offsets are checked once, when a view is parsed.

use crate::key::{MAX_RANK, Pos, TID_END};

pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_le_bytes([a, b]),
        _ => 0,
    }
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4).and_then(|b| b.try_into().ok()) {
        Some(b) => u32::from_le_bytes(b),
        None => 0,
    }
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|b| b.try_into().ok()) {
        Some(b) => u64::from_le_bytes(b),
        None => 0,
    }
}

pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + field.len()) {
        target.copy_from_slice(field);
    }
}

pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_le_bytes());
}

/// Reads a position as [`write_pos`] laid it down: the lanes, then rank and
/// TID in one word ([`Pos::BYTES`] bytes).
#[must_use]
pub fn read_pos<const V: usize>(bytes: &[u8], at: usize) -> Pos<V> {
    let mut vals = [0; V];
    for (lane, val) in vals.iter_mut().enumerate() {
        *val = get_u64(bytes, at + 8 * lane);
    }
    Pos::of(vals, get_u64(bytes, at + 8 * V))
}

/// Writes a position. Ranks and TIDs are within their 16 and 48 bits: only
/// entries, fences and separators stand on pages, never bounds of scans.
pub fn write_pos<const V: usize>(bytes: &mut [u8], at: usize, pos: &Pos<V>) {
    debug_assert!(pos.rank <= MAX_RANK && pos.tid < TID_END);
    for (lane, val) in pos.vals.iter().enumerate() {
        put_u64(bytes, at + 8 * lane, *val);
    }
    put_u64(bytes, at + 8 * V, pos.tail());
}
