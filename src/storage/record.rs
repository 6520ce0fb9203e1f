//! Records of up to four pages over generic WAL.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use omen_core::store::{Image, RECORD_PAGES, Record};
use omen_core::{Error, Result};
use pgrx::pg_sys;

use super::buffer::Exclusive;
use super::store::PAGE_SIZE;

const _: () = assert!(RECORD_PAGES == pg_sys::MAX_GENERIC_XLOG_PAGES as usize);

/// A generic WAL record under construction. Dropped without
/// [`Record::commit`], it leaves the pages as they are.
#[derive(Debug)]
pub struct GenericRecord<'a> {
    state: *mut pg_sys::GenericXLogState,
    images: [*mut u8; RECORD_PAGES],
    count: usize,
    store: PhantomData<&'a ()>,
}

impl GenericRecord<'_> {
    /// Starts a record.
    ///
    /// # Safety
    /// `index` is open and stays so while the record is under construction.
    pub unsafe fn start(index: pg_sys::Relation) -> Self {
        Self {
            // SAFETY: the caller's promise.
            state: unsafe { pg_sys::GenericXLogStart(index) },
            images: [core::ptr::null_mut(); RECORD_PAGES],
            count: 0,
            store: PhantomData,
        }
    }
}

impl Record for GenericRecord<'_> {
    type Exclusive = Exclusive;

    fn register(&mut self, page: &Exclusive, image: Image) -> Result<usize> {
        let index = self.count;
        let slot = self.images.get_mut(index).ok_or(Error::Full)?;
        let flags = match image {
            Image::Delta => 0,
            Image::Full => pg_sys::GENERIC_XLOG_FULL_IMAGE.cast_signed(),
        };
        // SAFETY: the record is under construction and the buffer is
        // exclusively locked.
        let copy = unsafe { pg_sys::GenericXLogRegisterBuffer(self.state, page.buffer(), flags) };
        *slot = copy.cast();
        self.count += 1;
        Ok(index)
    }

    fn image(&mut self, index: usize) -> &mut [u8] {
        match self.images.get(index) {
            // SAFETY: GenericXLogRegisterBuffer returned a copy of one page,
            // which lives as long as the record and is borrowed through it.
            Some(&image) if !image.is_null() => unsafe {
                core::slice::from_raw_parts_mut(image, PAGE_SIZE)
            },
            _ => &mut [],
        }
    }

    fn commit(self) -> Result<()> {
        let state = ManuallyDrop::new(self).state;
        // SAFETY: the record is under construction, and ends here. The pages
        // are locked by guards that outlive this call, as the trait asks.
        unsafe { pg_sys::GenericXLogFinish(state) };
        Ok(())
    }
}

impl Drop for GenericRecord<'_> {
    fn drop(&mut self) {
        // While an ERROR unwinds, the memory context frees the copies.
        if !std::thread::panicking() {
            // SAFETY: the record is under construction; this only frees it.
            unsafe { pg_sys::GenericXLogAbort(self.state) };
        }
    }
}
