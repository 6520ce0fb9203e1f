//! Learned models: which leaf owns a key.
//!
//! A model is trained on the low fences of the leaves, in order, and maps a
//! key to a *position*: the ordinal of a leaf, counted from 0. What it answers
//! is a hint, and [`Model::error_bound`] says how far the hint can be off.
//!
//! **Position of a key.** The position of `k` is the index of the last trained
//! key that is at most `k`, and 0 when there is none. A key that occurs several
//! times in the trained keys has several positions, and the distance to it is
//! that to the nearest. A key strictly between two trained keys has one
//! position, the last index of the lower one, however often that one occurs.
//!
//! **The bound holds for every `u64`.** Positions are a step function and every
//! model is non-decreasing from one trained key up to the next. On such a
//! stretch the position is constant, so the error is largest at its ends, and
//! training evaluates the finished model at both (and at 0 and `u64::MAX`).
//! The bound is thus measured, not derived.
//!
//! **The first key.** The leftmost leaf's fence stands for minus infinity and
//! says nothing about the data. Unless the first key is duplicated, position 0
//! is exact for everything below the second key; so models start there, and a
//! far-off first fence costs no accuracy.
//!
//! **Arithmetic** is fixed-point on integers, in training too: the same keys
//! give the same model and the same predictions on every CPU.
//!
//! The kinds follow Kraska, Beutel, Chi, Dean and Polyzotis, "The Case for
//! Learned Index Structures", SIGMOD 2018 (RMI); Galakatos, Markovitch, Binnig,
//! Fonseca and Kraska, "FITing-Tree", SIGMOD 2019 (shrinking cone); Ferragina
//! and Vinciguerra, "The PGM-index", PVLDB 13(8), 2020 (error-bounded segments).

mod blob;
mod linear;
mod pla;
mod rmi;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::key::INVALID_BLOCK;
use linear::Linear;
use pla::Pla;
use rmi::Rmi;

pub use blob::{BlobError, from_blob, to_blob};
pub use pla::EPSILON;

/// The error, in leaves, up to which [`Choice::Auto`] takes any small model.
pub const AUTO_ERROR: usize = 4;

/// The largest error bound, in leaves, of a model that [`Choice::Auto`] chose.
pub const AUTO_ERROR_MAX: usize = 16;

/// The form of a trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelKind {
    /// One line through all keys.
    Linear,
    /// Recursive model index: a line that routes to one of many lines.
    Rmi,
    /// Error-bounded piecewise linear approximation.
    Pla,
}

impl ModelKind {
    /// The name as in the `model` reloption: `linear`, `rmi` or `pla`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Rmi => "rmi",
            Self::Pla => "pla",
        }
    }
}

/// Which model to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The smallest that is accurate enough, see [`Model::train`].
    Auto,
    /// [`ModelKind::Linear`].
    Linear,
    /// [`ModelKind::Rmi`].
    Rmi,
    /// [`ModelKind::Pla`] with an error of at most [`EPSILON`] leaves.
    Pla,
}

/// A trained model: key to leaf ordinal, with a measured error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Model {
    /// Number of keys trained on.
    trained: u32,
    /// The measured error bound, in leaves.
    error: u32,
    /// The position of every key below this one is 0.
    base: u64,
    /// Tells the keys trained on from others.
    fingerprint: u64,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Body {
    Linear(Linear),
    Rmi(Rmi),
    Pla(Pla),
}

impl Model {
    /// Trains on sorted keys; the position of `keys[i]` is `i`.
    ///
    /// [`Choice::Auto`] takes, in this order:
    /// 1. linear, when its error bound is at most [`AUTO_ERROR`];
    /// 2. of rmi with a bound of at most [`AUTO_ERROR`] and pla with epsilon 4,
    ///    the one of fewer bytes, where pla takes part only if it is moderate:
    ///    at most one segment for 16 keys, or 64 segments;
    /// 3. pla with epsilon 8 if that is moderate, otherwise pla with epsilon 16
    ///    (which cannot need more than one segment for 17 keys, plus one).
    ///
    /// So the bound of an automatic choice never exceeds [`AUTO_ERROR_MAX`],
    /// whatever the keys, duplicates included.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Corrupt`] without a block when the keys
    /// are not in order; [`Error::Full`] for more keys than there are block
    /// numbers (2^32 - 1).
    pub fn train(choice: Choice, keys: &[u64]) -> Result<Self> {
        if !keys.is_sorted() {
            return Err(Error::Corrupt {
                block: INVALID_BLOCK,
                what: "low fences out of order",
            });
        }
        if u32::try_from(keys.len()).is_err() {
            return Err(Error::Full);
        }
        match choice {
            Choice::Auto => Self::train_auto(keys),
            Choice::Linear => Self::train_linear(keys),
            Choice::Rmi => Self::train_rmi(keys),
            Choice::Pla => Self::train_pla(keys, EPSILON),
        }
    }

    fn train_auto(keys: &[u64]) -> Result<Self> {
        let linear = Self::train_linear(keys)?;
        if linear.error_bound() <= AUTO_ERROR {
            return Ok(linear);
        }
        let moderate = (keys.len() / 16).max(64);
        let rmi = Some(Self::train_rmi(keys)?).filter(|m| m.error_bound() <= AUTO_ERROR);
        let pla = Some(Self::train_pla(keys, 4)?).filter(|m| m.segments() <= moderate);
        match (rmi, pla) {
            (Some(rmi), Some(pla)) if rmi.bytes() < pla.bytes() => return Ok(rmi),
            (_, Some(pla)) => return Ok(pla),
            (Some(rmi), None) => return Ok(rmi),
            (None, None) => {}
        }
        let pla = Self::train_pla(keys, 8)?;
        if pla.segments() <= moderate {
            return Ok(pla);
        }
        Self::train_pla(keys, 16)
    }

    fn train_linear(keys: &[u64]) -> Result<Self> {
        let (first, tail) = without_first_fence(keys);
        Ok(Self::new(keys, Body::Linear(Linear::train(tail, first))))
    }

    fn train_rmi(keys: &[u64]) -> Result<Self> {
        let (first, tail) = without_first_fence(keys);
        Ok(Self::new(keys, Body::Rmi(Rmi::train(tail, first)?)))
    }

    fn train_pla(keys: &[u64], epsilon: u32) -> Result<Self> {
        let (first, tail) = without_first_fence(keys);
        Ok(Self::new(
            keys,
            Body::Pla(Pla::train(tail, first, epsilon)?),
        ))
    }

    /// Puts the parts together and measures the error.
    fn new(keys: &[u64], body: Body) -> Self {
        let (_, tail) = without_first_fence(keys);
        let base = tail.first().copied().unwrap_or(0);
        let mut model = Self {
            trained: ordinal(keys.len()),
            error: 0,
            base,
            fingerprint: fingerprint(keys),
            body,
        };
        let mut worst = 0;
        // One loop per kind, so that the kind is not dispatched per probe.
        match &mut model.body {
            Body::Linear(linear) => visit_extremes(keys, |key, at| {
                let said = if key < base { 0 } else { linear.predict(key) };
                worst = worst.max(at.distance(said));
            }),
            Body::Rmi(rmi) => worst = rmi.measure(keys, base),
            Body::Pla(pla) => visit_extremes(keys, |key, at| {
                let said = if key < base { 0 } else { pla.predict(key) };
                worst = worst.max(at.distance(said));
            }),
        }
        model.error = worst;
        model
    }

    /// The form of the model.
    #[must_use]
    pub fn kind(&self) -> ModelKind {
        match self.body {
            Body::Linear(_) => ModelKind::Linear,
            Body::Rmi(_) => ModelKind::Rmi,
            Body::Pla(_) => ModelKind::Pla,
        }
    }

    /// The predicted position of `key`, in `0..trained()`; 0 when there are no
    /// trained keys. At most [`Self::error_bound`] away from the position.
    #[inline]
    #[must_use]
    pub fn predict(&self, key: u64) -> usize {
        if key < self.base {
            return 0;
        }
        let said = match &self.body {
            Body::Linear(linear) => linear.predict(key),
            Body::Rmi(rmi) => rmi.predict(key),
            Body::Pla(pla) => pla.predict(key),
        };
        said.min(self.trained.saturating_sub(1)) as usize
    }

    /// The largest distance, in leaves, between the prediction and the position
    /// (see the module) of any key whatsoever, trained on or not; measured.
    ///
    /// Of a model that was read back it is what the writer measured.
    #[must_use]
    pub fn error_bound(&self) -> usize {
        self.error as usize
    }

    /// Whether the error bound is true for `keys`; `None` if the model was
    /// trained on others.
    #[must_use]
    pub fn holds_for(&self, keys: &[u64]) -> Option<bool> {
        if keys.len() != self.trained() || fingerprint(keys) != self.fingerprint {
            return None;
        }
        let mut worst = 0;
        visit_extremes(keys, |key, at| {
            worst = worst.max(at.distance(ordinal(self.predict(key))));
        });
        Some(worst <= self.error)
    }

    /// The same model with another claim.
    #[cfg(test)]
    pub(crate) fn with_error_bound(mut self, error: u32) -> Self {
        self.error = error;
        self
    }

    /// How many lines the model consists of: 1 for linear, the second-stage
    /// models of rmi, the segments of pla. A pla or rmi of no keys has 0.
    #[must_use]
    pub fn segments(&self) -> usize {
        match &self.body {
            Body::Linear(_) => 1,
            Body::Rmi(rmi) => rmi.stages(),
            Body::Pla(pla) => pla.segments(),
        }
    }

    /// How many keys the model was trained on.
    #[must_use]
    pub fn trained(&self) -> usize {
        self.trained as usize
    }

    /// Heap memory of the model in bytes, `size_of::<Model>()` not included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Linear(_) => 0,
            Body::Rmi(rmi) => rmi.bytes(),
            Body::Pla(pla) => pla.bytes(),
        }
    }
}

/// A model as it was read, before its parts are checked against each other.
#[derive(Deserialize)]
struct Unchecked {
    trained: u32,
    error: u32,
    base: u64,
    fingerprint: u64,
    body: Body,
}

impl TryFrom<Unchecked> for Model {
    type Error = &'static str;

    fn try_from(read: Unchecked) -> core::result::Result<Self, Self::Error> {
        let Unchecked {
            trained,
            error,
            base,
            fingerprint,
            body,
        } = read;
        if error > trained.saturating_sub(1) {
            return Err("error bound beyond the number of keys");
        }
        match &body {
            Body::Linear(_) => {}
            Body::Rmi(rmi) => rmi.check(trained)?,
            Body::Pla(pla) => pla.check(trained, base)?,
        }
        Ok(Self {
            trained,
            error,
            base,
            fingerprint,
            body,
        })
    }
}

/// The positions that are right for a key, both ends included.
#[derive(Clone, Copy)]
struct Target {
    first: u32,
    last: u32,
}

impl Target {
    fn distance(self, said: u32) -> u32 {
        self.first
            .saturating_sub(said)
            .max(said.saturating_sub(self.last))
    }

    /// `said` minus the nearest right position.
    fn residual(self, said: i64) -> i64 {
        let (first, last) = (i64::from(self.first), i64::from(self.last));
        said.saturating_sub(said.clamp(first, last))
    }
}

/// A trained key with all of its positions.
#[derive(Clone, Copy)]
struct Run {
    key: u64,
    at: Target,
}

/// The distinct keys of a sorted slice whose first element has position
/// `offset`.
fn runs(keys: &[u64], offset: u32) -> impl Iterator<Item = Run> {
    let mut at = offset;
    keys.chunk_by(|a, b| a == b).filter_map(move |run| {
        let first = at;
        at = at.saturating_add(ordinal(run.len()));
        let last = at.saturating_sub(1);
        run.first().map(|&key| Run {
            key,
            at: Target { first, last },
        })
    })
}

/// Calls `visit` with both ends of every stretch of keys that share a target,
/// over all of `u64`.
fn visit_extremes(keys: &[u64], mut visit: impl FnMut(u64, Target)) {
    let Some(&first) = keys.first() else { return };
    if let Some(below) = first.checked_sub(1) {
        let none = Target { first: 0, last: 0 };
        visit(0, none);
        visit(below, none);
    }
    let mut previous: Option<Run> = None;
    for run in runs(keys, 0) {
        if let Some(previous) = previous {
            visit_gap(previous, run.key.saturating_sub(1), &mut visit);
        }
        visit(run.key, run.at);
        previous = Some(run);
    }
    if let Some(last) = previous {
        visit_gap(last, u64::MAX, &mut visit);
    }
}

/// Both ends of the keys above `after`, up to and including `end`.
fn visit_gap(after: Run, end: u64, visit: &mut impl FnMut(u64, Target)) {
    if after.key < end {
        let at = Target {
            first: after.at.last,
            last: after.at.last,
        };
        visit(after.key + 1, at);
        visit(end, at);
    }
}

/// Drops the first key when it stands alone, see the module. Returns the
/// position of the first key that is left, and the keys.
fn without_first_fence(keys: &[u64]) -> (u32, &[u64]) {
    match keys {
        [first, tail @ ..] if tail.first().is_some_and(|second| first < second) => (1, tail),
        _ => (0, keys),
    }
}

/// A number that other keys hardly have: the finaliser of splitmix64 (S. Vigna)
/// over the keys in turn.
fn fingerprint(keys: &[u64]) -> u64 {
    keys.iter().fold(keys.len() as u64, |hash, key| {
        let x = (hash ^ key).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    })
}

/// A count as an ordinal. [`Model::train`] refuses what does not fit.
fn ordinal(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Appends, growing geometrically.
fn push<T>(to: &mut Vec<T>, value: T) -> Result<()> {
    if to.len() == to.capacity() {
        let more = to.len().max(4);
        to.try_reserve(more).map_err(|_| Error::OutOfMemory {
            bytes: more * size_of::<T>(),
        })?;
    }
    to.push(value);
    Ok(())
}

/// An empty vector with room for exactly `n` elements.
fn with_room<T>(n: usize) -> Result<Vec<T>> {
    let mut made = Vec::new();
    made.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
        bytes: n.saturating_mul(size_of::<T>()),
    })?;
    Ok(made)
}

/// The same elements without spare capacity.
fn exact<T: Copy>(from: Vec<T>) -> Result<Vec<T>> {
    if from.len() == from.capacity() {
        return Ok(from);
    }
    let mut made = with_room(from.len())?;
    made.extend_from_slice(&from);
    Ok(made)
}
