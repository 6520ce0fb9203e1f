//! Queues in shared memory from the workers of a parallel build to their leader.
//! Waiting for the other end checks for interrupts.

use omen_core::{Error, Result};
use pgrx::pg_sys;

/// The end of a queue that one worker writes to.
#[derive(Debug)]
pub struct Sender {
    handle: *mut pg_sys::shm_mq_handle,
}

impl Sender {
    /// Attaches this process to the queue at `queue`.
    ///
    /// # Safety
    /// There is a queue of `segment` that nobody else writes to. The segment stays
    /// attached while the result is used.
    pub unsafe fn attach(queue: *mut pg_sys::shm_mq, segment: *mut pg_sys::dsm_segment) -> Self {
        // SAFETY: the caller's promise.
        let handle = unsafe {
            pg_sys::shm_mq_set_sender(queue, pg_sys::MyProc);
            pg_sys::shm_mq_attach(queue, segment, core::ptr::null_mut())
        };
        Self { handle }
    }

    /// Sends a message, and waits for room in the queue if need be.
    ///
    /// # Errors
    /// [`Error::Stopped`] if nobody is there to receive it.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        let (bytes, start) = (message.len(), message.as_ptr().cast());
        // SAFETY: the queue is attached; the message is only read.
        #[cfg(feature = "pg14")]
        let result = unsafe { pg_sys::shm_mq_send(self.handle, bytes, start, false) };
        // SAFETY: as above.
        #[cfg(not(feature = "pg14"))]
        let result = unsafe { pg_sys::shm_mq_send(self.handle, bytes, start, false, true) };
        if result == pg_sys::shm_mq_result::SHM_MQ_SUCCESS {
            Ok(())
        } else {
            Err(Error::Stopped)
        }
    }
}

/// The end of a queue that the leader reads.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    handle: *mut pg_sys::shm_mq_handle,
}

impl Receiver {
    /// Makes a queue of `bytes` bytes at `address`, to be read by this process.
    ///
    /// # Safety
    /// The memory belongs to `segment`, is aligned to `MAXALIGN`, and nobody else
    /// knows it yet. The result and its copies are used while the segment is
    /// attached.
    pub unsafe fn create(
        address: *mut core::ffi::c_void,
        bytes: usize,
        segment: *mut pg_sys::dsm_segment,
    ) -> Self {
        // SAFETY: the caller's promise.
        let handle = unsafe {
            let queue = pg_sys::shm_mq_create(address, bytes);
            pg_sys::shm_mq_set_receiver(queue, pg_sys::MyProc);
            pg_sys::shm_mq_attach(queue, segment, core::ptr::null_mut())
        };
        Self { handle }
    }

    /// Says who sends, so that nobody waits for a process that has not started.
    ///
    /// # Safety
    /// `worker` is the handle of the process, and lives as long as the queue.
    pub unsafe fn expect(&mut self, worker: *mut pg_sys::BackgroundWorkerHandle) {
        // SAFETY: the caller's promise.
        unsafe { pg_sys::shm_mq_set_handle(self.handle, worker) };
    }

    /// The next message, which is waited for.
    ///
    /// # Errors
    /// [`Error::Stopped`] if there are no more.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let (mut bytes, mut start) = (0, core::ptr::null_mut());
        // SAFETY: the queue is attached. The message stays where it is until the
        // next call: no copy of the receiver is used meanwhile, since who merges
        // streams copies each message at once.
        unsafe {
            let result = pg_sys::shm_mq_receive(self.handle, &mut bytes, &mut start, false);
            if result != pg_sys::shm_mq_result::SHM_MQ_SUCCESS {
                return Err(Error::Stopped);
            }
            Ok(core::slice::from_raw_parts(start.cast(), bytes))
        }
    }

    /// Lets the sender know that nothing more will be received.
    ///
    /// # Safety
    /// No copy of the receiver is used any more.
    pub unsafe fn detach(self) {
        // SAFETY: the caller's promise; the queue is attached.
        unsafe { pg_sys::shm_mq_detach(self.handle) };
    }
}
