//! Records of up to four pages over generic WAL.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use omen_core::store::{Edit, Image, RECORD_EDITS, RECORD_PAGES, Record};
use omen_core::{Error, Result, planted};
use pgrx::pg_sys;

use super::buffer::Exclusive;
use super::held;
use super::relation::needs_wal;
use super::store::PAGE_SIZE;

/// What writes a record, bound without pgrx's guard against `longjmp`: called
/// in a critical section only, where an ERROR is a PANIC.
mod direct {
    use core::ffi::{c_int, c_void};

    use pgrx::pg_sys;
    unsafe extern "C" {
        pub fn MarkBufferDirty(buffer: pg_sys::Buffer);
        pub fn XLogBeginInsert();
        pub fn XLogRegisterBuffer(block_id: u8, buffer: pg_sys::Buffer, flags: u8);
        // The length is unsigned from 16 on, and never large.
        pub fn XLogRegisterBufData(block_id: u8, data: *const c_void, len: c_int);
        pub fn XLogInsert(rmgr: pg_sys::RmgrId, info: u8) -> pg_sys::XLogRecPtr;
    }
}

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
        held::must_be_exclusive(page.buffer());
        let index = self.count;
        let slot = self.images.get_mut(index).ok_or(Error::Full)?;
        let flags = match image {
            Image::Full if planted::is("no_full_image") => 0,
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

/// What stands in front of each edit in a generic WAL record: its offset and length,
/// two bytes each (`writeFragment` in generic_xlog.c, the same in all supported
/// versions).
fn fragment_headers(edits: &[Edit<'_>]) -> Option<[[u16; 2]; RECORD_EDITS]> {
    let mut headers = [[0; 2]; RECORD_EDITS];
    if edits.len() > RECORD_EDITS {
        return None;
    }
    for (header, edit) in headers.iter_mut().zip(edits) {
        if edit.at + edit.bytes.len() > PAGE_SIZE {
            return None;
        }
        *header = [
            u16::try_from(edit.at).ok()?,
            u16::try_from(edit.bytes.len()).ok()?,
        ];
    }
    Some(headers)
}

/// Changes a page in place, under a generic WAL record of its own, which
/// `generic_redo` replays. `GenericXLogFinish` would write the same record, but
/// after copying the page and comparing all of it byte by byte.
///
/// # Errors
/// [`Error::Full`] for more edits than fit in a record, or outside of the page.
///
/// # Safety
/// `index` is open and the page is one of its; recovery knows the page, and the
/// edits cover what they take from its hole.
pub unsafe fn amend(
    index: pg_sys::Relation,
    page: &mut Exclusive,
    edits: &[Edit<'_>],
) -> Result<()> {
    const LSN: usize = core::mem::offset_of!(pg_sys::PageHeaderData, pd_lsn);
    const { assert!(LSN == 0) };
    let headers = fragment_headers(edits).ok_or(Error::Full)?;
    let buffer = page.buffer();
    held::must_be_exclusive(buffer);
    // SAFETY: the buffer is pinned and exclusively locked, and the index open.
    // Nothing in the critical section can panic. What is registered lives to
    // its end.
    unsafe {
        let logged = needs_wal(index) && !planted::is("append_not_logged");
        pg_sys::CritSectionCount += 1;
        let bytes = page.bytes_mut();
        for edit in edits {
            // `fragment_headers` has seen that it is within the page.
            let to = bytes.as_mut_ptr().add(edit.at);
            to.copy_from_nonoverlapping(edit.bytes.as_ptr(), edit.bytes.len());
        }
        direct::MarkBufferDirty(buffer);
        if logged {
            direct::XLogBeginInsert();
            direct::XLogRegisterBuffer(0, buffer, pg_sys::REGBUF_STANDARD as u8);
            for (index, (header, edit)) in headers.iter().zip(edits).enumerate() {
                if index == 1 && planted::is("count_not_logged") {
                    continue;
                }
                let bytes = (header.as_ptr().cast(), size_of_val(header));
                for (data, len) in [bytes, (edit.bytes.as_ptr().cast(), edit.bytes.len())] {
                    direct::XLogRegisterBufData(0, data, len as i32);
                }
            }
            let lsn = direct::XLogInsert(pg_sys::RmgrIds::RM_GENERIC_ID as u8, 0);
            // PageSetLSN: two 32-bit words, the upper half first.
            let halves = [(lsn >> 32) as u32, lsn as u32];
            bytes.as_mut_ptr().cast::<[u32; 2]>().write(halves);
        }
        pg_sys::CritSectionCount -= 1;
    }
    Ok(())
}
