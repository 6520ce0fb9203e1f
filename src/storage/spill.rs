//! Temporary files for runs of a sort. PostgreSQL counts them against
//! `temp_file_limit`, spreads them over `temp_tablespaces` and removes them
//! when the transaction ends.

use pgrx::pg_sys;

/// A temporary file being written.
#[derive(Debug)]
pub struct SpillFile {
    file: *mut pg_sys::BufFile,
}

impl SpillFile {
    /// Creates a file whose memory is in `context`.
    ///
    /// # Safety
    /// `context` and the current resource owner outlive the file.
    pub unsafe fn create(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(context);
            let file = pg_sys::BufFileCreateTemp(false);
            pg_sys::MemoryContextSwitchTo(before);
            Self { file }
        }
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: the file is open; the bytes are only read.
        unsafe { pg_sys::BufFileWrite(self.file, start, bytes.len()) };
    }

    /// Goes over to reading, from the start.
    pub fn into_reader(self) -> SpillReader {
        // SAFETY: the file is open. 0 is SEEK_SET; going back to the start of
        // a file does not fail once it was flushed.
        unsafe { pg_sys::BufFileSeek(self.file, 0, 0, 0) };
        let file = core::mem::ManuallyDrop::new(self).file;
        SpillReader { file }
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        close(self.file);
    }
}

/// A temporary file being read.
#[derive(Debug)]
pub struct SpillReader {
    file: *mut pg_sys::BufFile,
}

impl SpillReader {
    /// Fills `bytes`; an ERROR if the file is shorter.
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        let start = bytes.as_mut_ptr().cast();
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        {
            // SAFETY: the file is open and the bytes can be written.
            let got = unsafe { pg_sys::BufFileRead(self.file, start, bytes.len()) };
            if got != bytes.len() {
                pgrx::error!(
                    "could not read from temporary file: read only {got} of {} bytes",
                    bytes.len()
                );
            }
        }
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        // SAFETY: the file is open and the bytes can be written.
        unsafe {
            pg_sys::BufFileReadExact(self.file, start, bytes.len());
        }
    }
}

impl Drop for SpillReader {
    fn drop(&mut self) {
        close(self.file);
    }
}

fn close(file: *mut pg_sys::BufFile) {
    // While an ERROR unwinds, the end of the transaction closes the file.
    if !std::thread::panicking() {
        // SAFETY: the file is open, and this is its only close.
        unsafe { pg_sys::BufFileClose(file) };
    }
}
