//! When each entry came and went, and whether what a scan returned fits that.

use super::*;
use std::collections::BTreeMap;

/// The times of a row and its entry; `u64::MAX` is never.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Its insert began.
    begun: u64,
    /// Its insert returned.
    done: u64,
    /// Its row was dead to everybody: its line pointer said so, its insert failed,
    /// or a bulk delete that names it began. The entry may be dropped from here.
    dead: u64,
    /// A bulk delete that names it returned: the TID may be used again.
    gone: u64,
}

const NEVER: u64 = u64::MAX;

impl Life {
    fn begun_at(begun: u64) -> Self {
        Self {
            begun,
            done: NEVER,
            dead: NEVER,
            gone: NEVER,
        }
    }

    /// Its insert is going on.
    fn in_flight(&self) -> bool {
        self.done == NEVER && self.dead == NEVER
    }
}

/// The lives of all entries, one after the other: a TID is used again.
#[derive(Default)]
pub(super) struct History<const V: usize> {
    clock: u64,
    lives: BTreeMap<Pos<V>, Vec<Life>>,
    /// Line pointers that are dead.
    dead: HashSet<Tid>,
    /// Line pointers that are unused, each with the last entry that it had.
    unused: BTreeMap<Tid, Pos<V>>,
}

impl<const V: usize> History<V> {
    pub(super) fn of(set: &BTreeSet<Pos<V>>) -> Self {
        let mut life = Life::begun_at(0);
        life.done = 0;
        Self {
            lives: set.iter().map(|pos| (*pos, vec![life])).collect(),
            ..Self::default()
        }
    }

    pub(super) fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn life(&mut self, pos: &Pos<V>) -> &mut Life {
        self.lives.get_mut(pos).and_then(|l| l.last_mut()).unwrap()
    }

    pub(super) fn insert_begins(&mut self, pos: Pos<V>) {
        let life = Life::begun_at(self.now());
        let lives = self.lives.entry(pos).or_default();
        let over = lives.last().is_none_or(|last| last.gone != NEVER);
        assert!(over, "the test inserts an entry twice");
        lives.push(life);
    }

    pub(super) fn insert_returned(&mut self, pos: Pos<V>) {
        let now = self.now();
        self.life(&pos).done = now;
    }

    /// An insert failed: the entry may be there, but its row is dead.
    pub(super) fn insert_failed(&mut self, pos: Pos<V>) {
        let now = self.now();
        self.life(&pos).dead = now;
        self.dead.insert(pos.tid);
    }

    /// A row dies, if it is there.
    pub(super) fn dies(&mut self, pos: &Pos<V>) {
        let now = self.now();
        let life = self.life(pos);
        if life.done != NEVER && life.dead == NEVER {
            life.dead = now;
            self.dead.insert(pos.tid);
        }
    }

    /// Whether a line pointer is dead, of which the index has an entry.
    pub(super) fn is_dead(&self, tid: Tid) -> bool {
        assert!(
            !self.unused.contains_key(&tid),
            "a bulk delete has returned and left an entry of {tid}"
        );
        self.dead.contains(&tid)
    }

    /// Whether a line pointer is dead, whatever the index has.
    pub(super) fn is_marked(&self, tid: Tid) -> bool {
        self.dead.contains(&tid)
    }

    /// Whether who follows a TID finds no row there, or one that is dead: the line
    /// pointer may be unused by then.
    pub(super) fn leads_nowhere(&self, tid: Tid) -> bool {
        self.dead.contains(&tid) || self.unused.contains_key(&tid)
    }

    /// Takes an unused line pointer, if there is one.
    pub(super) fn reuse(&mut self) -> Option<Pos<V>> {
        self.unused.pop_first().map(|(_, pos)| pos)
    }

    /// Names those entries in the index that `choose` takes, which is told whether
    /// their rows are dead. From here on they are.
    pub(super) fn delete_begins(
        &mut self,
        mut choose: impl FnMut(&Pos<V>, bool) -> bool,
    ) -> HashSet<Tid> {
        let now = self.now();
        let mut named = HashSet::new();
        for (pos, lives) in &mut self.lives {
            let Some(life) = lives.last_mut() else {
                continue;
            };
            if !life.in_flight() && life.gone == NEVER && choose(pos, life.dead != NEVER) {
                life.dead = life.dead.min(now);
                named.insert(pos.tid);
            }
        }
        self.dead.extend(&named);
        named
    }

    pub(super) fn delete_returned(&mut self, named: &HashSet<Tid>) {
        let now = self.now();
        for (pos, lives) in &mut self.lives {
            let Some(life) = lives.last_mut() else {
                continue;
            };
            if named.contains(&pos.tid) && life.gone == NEVER {
                life.gone = now;
                self.dead.remove(&pos.tid);
                self.unused.insert(pos.tid, *pos);
            }
        }
    }

    /// Whether a bulk delete of this entry has returned.
    pub(super) fn is_gone(&self, pos: &Pos<V>) -> bool {
        self.lives[pos]
            .last()
            .is_some_and(|life| life.gone != NEVER)
    }

    fn last_lives(&self) -> impl Iterator<Item = (&Pos<V>, &Life)> {
        let lives = self.lives.iter();
        lives.filter_map(|(pos, lives)| Some((pos, lives.last()?)))
    }

    /// What is in the index when nothing is going on.
    pub(super) fn present(&self) -> BTreeSet<Pos<V>> {
        let present = self.last_lives().filter(|(_, life)| life.dead == NEVER);
        present.map(|(pos, _)| *pos).collect()
    }

    /// What may be in the index besides: entries of dead rows.
    pub(super) fn remains(&self) -> BTreeSet<Pos<V>> {
        let remains = |life: &Life| life.dead != NEVER && life.gone == NEVER;
        let remains = self.last_lives().filter(|(_, life)| remains(life));
        remains.map(|(pos, _)| *pos).collect()
    }

    /// Entries that have lived since a time before `since`, and do now.
    pub(super) fn stable(&mut self, since: u64) -> BTreeSet<Pos<V>> {
        let now = self.now();
        let stable = |life: &Life| life.done < since && life.dead > now;
        let stable = self.last_lives().filter(|(_, life)| stable(life));
        stable.map(|(pos, _)| *pos).collect()
    }

    /// An entry that was returned at a time, by a scan that had begun before, must
    /// have been there in between.
    pub(super) fn must_have_been(&self, pos: &Pos<V>, begun: u64, now: u64) {
        let lives = self.lives.get(pos);
        let lives = lives.unwrap_or_else(|| panic!("a scan made up {pos:?}"));
        assert!(
            lives
                .iter()
                .any(|life| life.begun < now && life.gone > begun),
            "a scan returned {pos:?}, which was gone or had not come"
        );
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
    /// When the scan took a step, forwards or not, and what it found.
    steps: Vec<(u64, bool, Option<Pos<V>>)>,
}

impl<const V: usize> ScanLog<V> {
    pub(super) fn new(history: &mut History<V>, intervals: &[Interval<V>]) -> Self {
        Self {
            intervals: intervals.to_vec(),
            begun: history.now(),
            steps: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, now: u64, forward: bool, found: Option<Pos<V>>) {
        self.steps.push((now, forward, found));
    }

    /// Every entry that lived through the scan was returned on each pass over
    /// it, in order and once; and nothing was returned that was not there.
    pub(super) fn verify(&self, history: &mut History<V>) {
        let stable = history.stable(self.begun);
        // A scan begins at the end that its first step is from.
        let backward = self.steps.first().is_some_and(|(_, forward, _)| !forward);
        let mut place = if backward { Place::End } else { Place::Start };
        for (now, forward, found) in &self.steps {
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
                history.must_have_been(pos, self.begun, *now);
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
