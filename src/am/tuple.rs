//! Heap TIDs and index tuples as PostgreSQL has them.

use core::ops::Range;

use omen_core::key::{Pos, Tid};
use omen_core::tree::Batch;
use pgrx::pg_sys;

use crate::types::{Integer, KeyCodec, KeyType};

/// The core's TID of an item pointer.
#[inline]
pub(crate) fn tid_of(pointer: &pg_sys::ItemPointerData) -> Tid {
    let block = u64::from(pointer.ip_blkid.bi_hi) << 16 | u64::from(pointer.ip_blkid.bi_lo);
    block << 16 | u64::from(pointer.ip_posid)
}

/// The item pointer of the core's TID.
#[inline]
pub(crate) fn pointer_of(tid: Tid) -> pg_sys::ItemPointerData {
    // 48 bits, 16 to each field.
    pg_sys::ItemPointerData {
        ip_blkid: pg_sys::BlockIdData {
            bi_hi: (tid >> 32) as u16,
            bi_lo: (tid >> 16) as u16,
        },
        ip_posid: tid as u16,
    }
}

const HEADER: usize = size_of::<pg_sys::IndexTupleData>();
/// Where the value of a tuple begins: MAXALIGN of the header.
const DATA: usize = 8;
/// Size of a tuple that is NULL: MAXALIGN of header and null bitmap.
const NULL_SIZE: usize = 16;
const MAX_SIZE: usize = DATA + 16;

const _: () = assert!(HEADER == DATA);

/// An index tuple of an integer that is not NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct IntegerTuple {
    /// An `IndexTupleData`, as one number: several are made at once then.
    header: u64,
    value: [u8; 8],
}

const _: () = assert!(size_of::<IntegerTuple>() == DATA + 8);

impl IntegerTuple {
    #[inline]
    fn new(tid: Tid, value: [u8; 8]) -> Self {
        let info = size_of::<Self>() as u64;
        // Four fields of 16 bits, in the order of the memory.
        let header = if cfg!(target_endian = "big") {
            tid << 16 | info
        } else {
            info << 48 | (tid & 0xffff) << 32 | tid & 0xffff_0000 | tid >> 32
        };
        Self { header, value }
    }

    #[inline]
    pub fn tid(&self) -> pg_sys::ItemPointerData {
        // SAFETY: a tuple begins with its header.
        unsafe { (*self.as_index_tuple()).t_tid }
    }

    /// The tuple as a callback hands it out. It is only read, and only until the next
    /// call.
    #[inline]
    pub fn as_index_tuple(&self) -> pg_sys::IndexTuple {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Tuples that are formed at once: as many as stay in the processor's nearest cache until
/// they have been handed out.
const FORMED: usize = 128;

/// The index tuples of some entries of a batch, formed at once: a scan of many rows has
/// little to do for each of them.
#[derive(Debug)]
pub(super) struct BatchTuples {
    /// As [`TupleBuffer`]'s.
    integer: Option<Integer>,
    tuples: Vec<IntegerTuple>,
    /// The entries for which that has been tried.
    tried: Range<usize>,
}

impl BatchTuples {
    pub fn new<const V: usize>(codec: &KeyCodec<V>) -> Self {
        Self {
            integer: codec.integer(),
            tuples: Vec::new(),
            tried: 0..0,
        }
    }

    /// The tuples of some entries of the batch, from the first on as far as they have
    /// been formed.
    #[inline]
    pub fn get(&self, some: Range<usize>) -> &[IntegerTuple] {
        let from = some.start.wrapping_sub(self.tried.start);
        let formed = self.tuples.get(from..).unwrap_or_default();
        formed.get(..some.len()).unwrap_or(formed)
    }

    /// To be called whenever there is another batch.
    #[inline]
    pub fn clear(&mut self) {
        self.tuples.clear();
        self.tried = 0..0;
    }

    /// Forms tuples of a batch from the entry at `from` on, unless that has been tried
    /// for this entry, some key is no integer or NULL, or memory is short.
    #[inline]
    pub fn form<const V: usize>(&mut self, batch: &Batch<V>, from: usize) {
        if from < batch.len() && !self.tried.contains(&from) {
            self.form_some(batch, from..batch.len().min(from + FORMED));
        }
    }

    #[inline(never)]
    fn form_some<const V: usize>(&mut self, batch: &Batch<V>, some: Range<usize>) {
        self.tuples.clear();
        self.tried = some.clone();
        let columns = [batch.ranks(), batch.tids(), batch.vals(0)];
        let columns = columns.map(|column| column.get(some.clone()));
        let (Some(integer), [Some(ranks), Some(tids), Some(lanes)]) = (self.integer, columns)
        else {
            return;
        };
        if !integer.have_rank(ranks) || self.tuples.try_reserve(FORMED).is_err() {
            return;
        }
        let tuple = |(tid, lane): (&Tid, &u64)| IntegerTuple::new(*tid, integer.bytes(*lane));
        self.tuples.extend(tids.iter().zip(lanes).map(tuple));
    }
}

/// An index tuple of one column, in memory of its own, for rows that are returned one
/// at a time.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct TupleBuffer {
    bytes: [u8; MAX_SIZE],
    /// What a uuid's datum points to.
    uuid: [u8; 16],
    /// How integers are made, the most common keys; `None` for the other types.
    integer: Option<Integer>,
}

impl TupleBuffer {
    pub fn new<const V: usize>(codec: &KeyCodec<V>) -> Self {
        Self {
            bytes: [0; MAX_SIZE],
            uuid: [0; 16],
            integer: codec.integer(),
        }
    }

    /// Forms the tuple of an entry. The result is valid until the next call.
    #[inline]
    pub fn form<const V: usize>(
        &mut self,
        codec: &KeyCodec<V>,
        pos: &Pos<V>,
    ) -> pg_sys::IndexTuple {
        let lane = self.integer.and_then(|integer| integer.lane(pos));
        match (self.integer, lane) {
            (Some(integer), Some(lane)) => {
                let size = self.put(&integer.bytes(lane));
                self.tuple(pos.tid, size)
            }
            _ => self.form_other(codec, pos),
        }
    }

    #[inline(never)]
    fn form_other<const V: usize>(
        &mut self,
        codec: &KeyCodec<V>,
        pos: &Pos<V>,
    ) -> pg_sys::IndexTuple {
        let (datum, is_null) = codec.decode(pos, &mut self.uuid);
        let info = if is_null {
            // All bits of the bitmap 0: the column is NULL.
            self.bytes[HEADER..NULL_SIZE].fill(0);
            NULL_SIZE as u16 | pg_sys::INDEX_NULL_MASK as u16
        } else {
            let word = datum.value() as u64;
            match codec.key_type {
                KeyType::Float4 => self.put(&(word as u32).to_ne_bytes()),
                KeyType::Uuid => {
                    let uuid = self.uuid;
                    self.put(&uuid)
                }
                // All else takes eight bytes; integers have been made above.
                _ => self.put(&word.to_ne_bytes()),
            }
        };
        self.tuple(pos.tid, info)
    }

    /// Puts the header down.
    #[inline]
    fn tuple(&mut self, tid: Tid, info: u16) -> pg_sys::IndexTuple {
        let tuple: *mut pg_sys::IndexTupleData = self.bytes.as_mut_ptr().cast();
        // SAFETY: the buffer is aligned and larger than the header.
        unsafe {
            (*tuple).t_tid = pointer_of(tid);
            (*tuple).t_info = info;
        }
        tuple
    }

    /// Puts the value down, and returns the size of the tuple: a multiple of
    /// MAXALIGN, as `index_form_tuple` makes it.
    #[inline]
    fn put(&mut self, value: &[u8]) -> u16 {
        if let Some(place) = self.bytes.get_mut(DATA..DATA + value.len()) {
            place.copy_from_slice(value);
        }
        (DATA + value.len()).next_multiple_of(8) as u16
    }
}
