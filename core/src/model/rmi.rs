//! Recursive model index of two stages: a line that picks a line.
//!
//! Kraska, Beutel, Chi, Dean and Polyzotis, "The Case for Learned Index
//! Structures", SIGMOD 2018. The root is linear, so keys of a skewed
//! distribution crowd into few second-stage models and the error grows: on
//! lognormal keys the measured bound says so, and pla is the better choice.

use serde::{Deserialize, Serialize};

use super::linear::{Fit, Line, Ratio};
use super::{blob, exact, ordinal, visit_extremes, with_room};
use crate::error::Result;

/// Keys for each second-stage model, on average.
const KEYS_PER_STAGE: usize = 64;

/// The most second-stage models: 2 MiB of them.
const MAX_STAGES: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(super) struct Rmi {
    base: u64,
    root: Line,
    stages: Vec<Stage>,
}

/// A second-stage model. One that no trained key was routed to answers with
/// the position of its neighbour to the left, which is exact for every key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stage {
    fit: Fit,
    /// The last position of this model and of those before it.
    last: u32,
    /// Largest error over all keys that are routed here, in leaves.
    error: u32,
}

impl Rmi {
    /// The first key has position `first`.
    pub(super) fn train(keys: &[u64], first: u32) -> Result<Self> {
        let (Some(&base), Some(&end)) = (keys.first(), keys.last()) else {
            return Ok(Self {
                base: 0,
                root: Line::default(),
                stages: Vec::new(),
            });
        };
        let count = (keys.len() / KEYS_PER_STAGE).clamp(1, MAX_STAGES);
        let root = match end.saturating_sub(base) {
            0 => Line::default(),
            run => Line::through(Ratio {
                rise: count as u64,
                run,
            }),
        };
        let mut made = Self {
            base,
            root,
            stages: with_room(count)?,
        };
        let mut rest = keys;
        let mut at = first;
        for j in 0..count {
            let mine = rest
                .iter()
                .take_while(|&&key| route(base, root, count, key) == j)
                .count();
            let (mine, others) = rest.split_at(mine);
            let fit = if mine.is_empty() {
                Fit::constant(at.saturating_sub(1))
            } else {
                Fit::train(mine, at)
            };
            at = at.saturating_add(ordinal(mine.len()));
            rest = others;
            made.stages.push(Stage {
                fit,
                last: at.saturating_sub(1),
                error: 0,
            });
        }
        Ok(made)
    }

    /// Measures every second-stage model; returns the largest error.
    pub(super) fn measure(&mut self, keys: &[u64], base: u64) -> u32 {
        let mut worst = 0;
        visit_extremes(keys, |key, at| {
            if key < base {
                worst = worst.max(at.distance(0));
                return;
            }
            let error = at.distance(self.predict(key));
            worst = worst.max(error);
            let j = route(self.base, self.root, self.stages.len(), key);
            if let Some(stage) = self.stages.get_mut(j) {
                stage.error = stage.error.max(error);
            }
        });
        worst
    }

    #[inline]
    pub(super) fn predict(&self, key: u64) -> u32 {
        let j = route(self.base, self.root, self.stages.len(), key);
        let Some(stage) = self.stages.get(j) else {
            return 0;
        };
        if key < stage.fit.base {
            // Above the keys of the models before, below the first of this.
            return match j.checked_sub(1).and_then(|left| self.stages.get(left)) {
                Some(left) => left.last,
                None => 0,
            };
        }
        stage.fit.at_most(key, stage.last)
    }

    pub(super) fn stages(&self) -> usize {
        self.stages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.stages.capacity() * size_of::<Stage>()
    }

    /// Whether a model of `trained` keys can look like this.
    pub(super) fn check(&self, trained: u32) -> core::result::Result<(), &'static str> {
        if (trained == 0) != self.stages.is_empty() {
            return Err("rmi without second-stage models");
        }
        if self
            .stages
            .last()
            .is_some_and(|stage| stage.last >= trained)
        {
            return Err("rmi position beyond the number of keys");
        }
        Ok(())
    }
}

/// The second-stage model of a key, at build time as at search time.
#[inline]
fn route(base: u64, root: Line, count: usize, key: u64) -> usize {
    let said = root.rise(key.saturating_sub(base));
    // At most count - 1, so the cast is exact.
    said.min((count as u64).saturating_sub(1)) as usize
}

#[derive(Deserialize)]
struct Unchecked {
    base: u64,
    root: Line,
    #[serde(deserialize_with = "blob::read_vec")]
    stages: Vec<Stage>,
}

impl TryFrom<Unchecked> for Rmi {
    type Error = &'static str;

    fn try_from(read: Unchecked) -> core::result::Result<Self, Self::Error> {
        if read.stages.len() > MAX_STAGES {
            return Err("rmi with too many second-stage models");
        }
        if !read.stages.is_sorted_by_key(|stage| stage.last) {
            return Err("rmi positions out of order");
        }
        let stages = exact(read.stages).map_err(|_| "out of memory")?;
        Ok(Self {
            base: read.base,
            root: read.root,
            stages,
        })
    }
}
