//! When each entry came and went, and whether what a scan returned fits that.

use super::*;
use std::collections::BTreeMap;

/// The times of an entry; `u64::MAX` is never.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Its insert returned.
    done: u64,
    /// A bulk delete that names it began.
    named: u64,
    /// That bulk delete returned.
    gone: u64,
}

const NEVER: u64 = u64::MAX;

/// The lives of all entries.
#[derive(Default)]
pub(super) struct History<const V: usize> {
    clock: u64,
    lives: BTreeMap<Pos<V>, Life>,
}

impl<const V: usize> History<V> {
    pub(super) fn of(set: &BTreeSet<Pos<V>>) -> Self {
        let life = Life {
            done: 0,
            named: NEVER,
            gone: NEVER,
        };
        Self {
            clock: 0,
            lives: set.iter().map(|pos| (*pos, life)).collect(),
        }
    }

    pub(super) fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn insert_begins(&mut self, pos: Pos<V>) {
        self.now();
        let life = Life {
            done: NEVER,
            named: NEVER,
            gone: NEVER,
        };
        assert!(
            self.lives.insert(pos, life).is_none(),
            "the test inserts an entry twice"
        );
    }

    pub(super) fn insert_returned(&mut self, pos: Pos<V>) {
        let now = self.now();
        self.lives.get_mut(&pos).unwrap().done = now;
    }

    /// Names those entries in the index that `choose` takes.
    pub(super) fn delete_begins(
        &mut self,
        mut choose: impl FnMut(&Pos<V>) -> bool,
    ) -> HashSet<Tid> {
        let now = self.now();
        let mut dead = HashSet::new();
        for (pos, life) in &mut self.lives {
            if life.done < now && life.named == NEVER && choose(pos) {
                life.named = now;
                dead.insert(pos.tid);
            }
        }
        dead
    }

    pub(super) fn delete_returned(&mut self, dead: &HashSet<Tid>) {
        let now = self.now();
        for (pos, life) in &mut self.lives {
            if dead.contains(&pos.tid) && life.gone == NEVER {
                life.gone = now;
            }
        }
    }

    /// Whether a bulk delete of this entry has returned.
    pub(super) fn is_gone(&self, pos: &Pos<V>) -> bool {
        self.lives[pos].gone != NEVER
    }

    /// What is in the index when nothing is going on.
    pub(super) fn present(&self) -> BTreeSet<Pos<V>> {
        let present = self.lives.iter().filter(|(_, life)| life.named == NEVER);
        present.map(|(pos, _)| *pos).collect()
    }

    pub(super) fn key(&self, index: usize) -> Pos<V> {
        self.lives
            .keys()
            .nth(index % self.lives.len().max(1))
            .copied()
            .unwrap_or(Pos::MIN)
    }

    pub(super) fn has(&self, pos: &Pos<V>) -> bool {
        self.lives.contains_key(pos)
    }

    pub(super) fn len(&self) -> usize {
        self.lives.len()
    }
}

/// Where a scan stands between two steps.
#[derive(Clone, Copy, Debug)]
enum Place<const V: usize> {
    Start,
    At(Pos<V>),
    End,
}

/// What a scan was asked and what it returned.
pub(super) struct ScanLog<const V: usize> {
    intervals: Vec<Interval<V>>,
    begun: u64,
    steps: Vec<(bool, Option<Pos<V>>)>,
}

impl<const V: usize> ScanLog<V> {
    pub(super) fn new(history: &mut History<V>, intervals: &[Interval<V>]) -> Self {
        Self {
            intervals: intervals.to_vec(),
            begun: history.now(),
            steps: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, forward: bool, found: Option<Pos<V>>) {
        self.steps.push((forward, found));
    }

    /// Every entry that lived through the scan was returned on each pass over
    /// it, in order and once; and nothing was returned that was not there.
    pub(super) fn verify(&self, history: &mut History<V>) {
        let end = history.now();
        let stable: BTreeSet<Pos<V>> = history
            .lives
            .iter()
            .filter(|(_, life)| life.done < self.begun && life.named > end)
            .map(|(pos, _)| *pos)
            .collect();
        // A scan begins at the end that its first step is from.
        let backward = self.steps.first().is_some_and(|(forward, _)| !forward);
        let mut place = if backward { Place::End } else { Place::Start };
        for (forward, found) in &self.steps {
            let next = match found {
                Some(pos) => Place::At(*pos),
                None if *forward => Place::End,
                None => Place::Start,
            };
            let (from, to) = if *forward {
                (place, next)
            } else {
                (next, place)
            };
            if let Some(missed) = self.between(&stable, from, to) {
                panic!("a scan went from {place:?} to {next:?} and missed {missed:?}");
            }
            if let Some(pos) = found {
                let ordered = match (from, to) {
                    (Place::At(a), Place::At(b)) => a < b,
                    (Place::End, _) | (_, Place::Start) => false,
                    _ => true,
                };
                assert!(
                    ordered,
                    "a scan went from {place:?} to {next:?}, forward: {forward}"
                );
                let life = history.lives.get(pos);
                let life = life.unwrap_or_else(|| panic!("a scan made up {pos:?}"));
                assert!(
                    life.gone > self.begun,
                    "a scan returned {pos:?}, which was gone"
                );
                let wanted = self
                    .intervals
                    .iter()
                    .any(|i| i.lo <= *pos && below(pos, i.hi));
                assert!(
                    wanted,
                    "a scan returned {pos:?}, which it was not asked for"
                );
            }
            place = next;
        }
    }

    fn between(&self, stable: &BTreeSet<Pos<V>>, from: Place<V>, to: Place<V>) -> Option<Pos<V>> {
        let lo = match from {
            Place::Start => Pos::MIN,
            Place::At(pos) => pos.next(),
            Place::End => return None,
        };
        let hi = match to {
            Place::Start => return None,
            Place::At(pos) => Some(pos),
            Place::End => None,
        };
        self.intervals.iter().find_map(|interval| {
            let lo = lo.max(interval.lo);
            stable
                .range(lo..)
                .next()
                .copied()
                .filter(|p| below(p, interval.hi) && below(p, hi))
        })
    }
}

fn below<const V: usize>(pos: &Pos<V>, hi: Option<Pos<V>>) -> bool {
    hi.is_none_or(|hi| *pos < hi)
}
