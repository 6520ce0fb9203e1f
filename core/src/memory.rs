//! Memory that may not be there: an allocator that fails aborts the server, so
//! what grows with data is asked for first.

use crate::error::{Error, Result};

/// An empty vector with room for `n` elements.
pub(crate) fn reserved<T>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    reserve(&mut v, n)?;
    Ok(v)
}

/// Makes room for `n` more elements.
pub(crate) fn reserve<T>(v: &mut Vec<T>, n: usize) -> Result<()> {
    v.try_reserve(n).map_err(|_| Error::OutOfMemory {
        bytes: n.saturating_mul(size_of::<T>()),
    })
}
