//! What can go wrong below the access method.

use crate::key::Block;

/// The result of every fallible operation of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// Why an operation could not be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A page contradicts itself, or fresh descents keep meeting pages that
    /// contradict each other. The index needs a REINDEX.
    Corrupt {
        /// The page in question.
        block: Block,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The index was written by a version of the format that is not known.
    Version {
        /// The version found in the meta page.
        found: u32,
    },
    /// Memory for `bytes` bytes could not be had.
    OutOfMemory {
        /// The size asked for.
        bytes: usize,
    },
    /// A write did not fit into its buffer. Callers size buffers so that this
    /// says "try another form", never "give up".
    Full,
    /// The store stopped serving: a simulated crash.
    Stopped,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Corrupt { block, what } => write!(f, "block {block}: {what}"),
            Self::Version { found } => write!(f, "format version {found} is not known"),
            Self::OutOfMemory { bytes } => write!(f, "{bytes} bytes of memory are not available"),
            Self::Full => f.write_str("the encoding does not fit"),
            Self::Stopped => f.write_str("the page store has stopped"),
        }
    }
}

impl core::error::Error for Error {}
