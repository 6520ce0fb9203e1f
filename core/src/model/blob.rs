//! The persisted form of a model.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic `OmMd` |
//! | 4..6 | version of the form, little endian |
//! | 6..10 | CRC-32 (IEEE) of the body, little endian |
//! | 10.. | body: the [`Model`] in bincode 2, standard configuration |
//!
//! The checksum says that the bytes are those written. Against bytes that were
//! forged, reading checks what predictions rely on: they stay in range and end,
//! whatever the parameters. A forged error bound is beyond telling, and a wrong
//! hint costs only a descent.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use super::Model;
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"OmMd";

/// The version of the form that is written, and the only one that is read.
const VERSION: u16 = 2;

const HEADER: usize = 10;

/// The most bytes that decoding may count: PostgreSQL allocates no larger piece
/// of memory either.
const LIMIT: usize = 1 << 30;

fn config() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    config::standard().with_limit::<LIMIT>()
}

/// Why bytes are not a model. The text suits the detail of a WARNING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobError {
    /// Fewer bytes than a header has.
    TooShort,
    /// Not the bytes of a model at all.
    Magic,
    /// Written in a form that is not known.
    Version(u16),
    /// The bytes are not those that were written.
    Checksum,
    /// The checksum is right, the contents are not a model.
    Decode,
}

impl core::fmt::Display for BlobError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort => f.write_str("the stored model is cut short"),
            Self::Magic => f.write_str("the stored bytes are not a model"),
            Self::Version(v) => write!(f, "version {v} of the stored model is not known"),
            Self::Checksum => f.write_str("the stored model does not match its checksum"),
            Self::Decode => f.write_str("the stored model contradicts itself"),
        }
    }
}

impl core::error::Error for BlobError {}

/// The bytes of a model.
///
/// # Errors
/// [`Error::OutOfMemory`]; [`Error::Full`] for a model of more than 1 GiB, which
/// [`from_blob`] would refuse to read.
pub fn to_blob(model: &Model) -> Result<Vec<u8>> {
    // In memory no field takes less than bincode counts for it.
    if model.bytes() >= LIMIT {
        return Err(Error::Full);
    }
    let mut out = Growing {
        bytes: Vec::new(),
        failed: None,
    };
    let done = out
        .write(&[0; HEADER])
        .and_then(|()| bincode::serde::encode_into_writer(model, &mut out, config()));
    if done.is_err() {
        // The writer is all that can fail.
        return Err(out.failed.unwrap_or(Error::Full));
    }
    let mut bytes = out.bytes;
    if let Some((header, body)) = bytes.split_first_chunk_mut::<HEADER>() {
        let crc = crc32fast::hash(body).to_le_bytes();
        let version = VERSION.to_le_bytes();
        let fields = MAGIC.iter().chain(&version).chain(&crc);
        header
            .iter_mut()
            .zip(fields)
            .for_each(|(to, from)| *to = *from);
    }
    Ok(bytes)
}

/// The model that [`to_blob`] wrote. Never panics, and takes memory in
/// proportion to the length of `bytes`, whatever they claim.
///
/// # Errors
/// See [`BlobError`].
pub fn from_blob(bytes: &[u8]) -> core::result::Result<Model, BlobError> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(BlobError::TooShort)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(BlobError::TooShort)?;
    let (crc, body) = rest.split_first_chunk::<4>().ok_or(BlobError::TooShort)?;
    if *magic != MAGIC {
        return Err(BlobError::Magic);
    }
    match u16::from_le_bytes(*version) {
        VERSION => {}
        other => return Err(BlobError::Version(other)),
    }
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(BlobError::Checksum);
    }
    match bincode::serde::decode_from_slice(body, config()) {
        Ok((model, read)) if read == body.len() => Ok(model),
        _ => Err(BlobError::Decode),
    }
}

/// A byte vector that reports that memory is short instead of aborting.
struct Growing {
    bytes: Vec<u8>,
    failed: Option<Error>,
}

impl Writer for Growing {
    fn write(&mut self, bytes: &[u8]) -> core::result::Result<(), EncodeError> {
        if self.bytes.try_reserve(bytes.len()).is_err() {
            let bytes = self.bytes.len().saturating_add(bytes.len());
            self.failed = Some(Error::OutOfMemory { bytes });
            return Err(EncodeError::Other("out of memory"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads a sequence without trusting the length that it claims, and without
/// aborting when memory is short: an element takes memory once its bytes have
/// been seen.
pub(super) fn read_vec<'de, D, T>(from: D) -> core::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Elements<T>(core::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(
            self,
            mut seq: A,
        ) -> core::result::Result<Self::Value, A::Error> {
            let mut made = Vec::new();
            while let Some(element) = seq.next_element()? {
                super::push(&mut made, element).map_err(A::Error::custom)?;
            }
            Ok(made)
        }
    }

    from.deserialize_seq(Elements(core::marker::PhantomData))
}
