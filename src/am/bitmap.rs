//! Heap TIDs into a bitmap.

use core::mem::MaybeUninit;

use omen_core::key::Tid;
use pgrx::pg_sys;

use super::tuple::pointer_of;

/// TIDs added at once.
const CHUNK: usize = 256;

/// A bitmap being filled.
#[derive(Debug)]
pub(super) struct Bitmap {
    bitmap: *mut pg_sys::TIDBitmap,
    added: i64,
}

impl Bitmap {
    /// A bitmap to fill.
    ///
    /// # Safety
    /// `bitmap` is valid while the result is used.
    pub unsafe fn new(bitmap: *mut pg_sys::TIDBitmap) -> Self {
        Self { bitmap, added: 0 }
    }

    /// TIDs added so far.
    pub fn added(&self) -> i64 {
        self.added
    }

    /// Adds TIDs; with `recheck`, the conditions are evaluated again for them.
    pub fn add(&mut self, tids: &[Tid], recheck: bool) {
        let mut chunk = [const { MaybeUninit::<pg_sys::ItemPointerData>::uninit() }; CHUNK];
        for tids in tids.chunks(CHUNK) {
            for (slot, tid) in chunk.iter_mut().zip(tids) {
                slot.write(pointer_of(*tid));
            }
            self.flush(&mut chunk, tids.len(), recheck);
        }
    }

    fn flush(
        &mut self,
        chunk: &mut [MaybeUninit<pg_sys::ItemPointerData>; CHUNK],
        filled: usize,
        recheck: bool,
    ) {
        let count = i32::try_from(filled).unwrap_or(0);
        if count > 0 {
            // SAFETY: the bitmap is valid and the first `count` are filled.
            unsafe {
                pg_sys::tbm_add_tuples(self.bitmap, chunk.as_mut_ptr().cast(), count, recheck);
            }
            self.added += i64::from(count);
        }
    }
}
