//! The router's map of a level, against a plain list.

use super::*;
use crate::key::{Block, MAX_RANK, TID_END};
use crate::sim::Rng;

/// The share of fences that are not like the others: with a TID, or of another rank.
#[derive(Clone, Copy, Debug)]
enum Other {
    None,
    Tids(u64),
    Any(u64),
}

fn fence<const V: usize>(rng: &mut Rng, values: u64, other: Other) -> Pos<V> {
    let mut vals = [0; V];
    vals.fill_with(|| rng.below(values) * 3);
    let tid = [0, 1, 2, rng.below(TID_END), TID_END - 1][rng.index(5)];
    let (rank, tid) = match other {
        Other::Tids(share) if rng.once_in(share) => (1, tid),
        Other::Any(share) if rng.once_in(share) => ([0, 1, 2, MAX_RANK][rng.index(4)], tid),
        _ => (1, 0),
    };
    Pos { rank, vals, tid }
}

/// Any bound of a scan.
fn bound<const V: usize>(rng: &mut Rng, values: u64) -> Pos<V> {
    let mut vals = [0; V];
    vals.fill_with(|| rng.below(3 * values + 2));
    let tid = [0, 1, 2, rng.below(TID_END), TID_END][rng.index(5)];
    let rank = [0, 1, 2, MAX_RANK + 1][rng.index(4)];
    Pos { rank, vals, tid }
}

fn add<const V: usize>(map: &mut Map<V>, low: Pos<V>, block: Block) {
    map.push(low, block).unwrap();
}

fn compare<const V: usize>(map: &Map<V>, list: &[(Pos<V>, Block)], values: u64, rng: &mut Rng) {
    assert!(map.iter().eq(list.iter().copied()));
    assert_eq!((map.len(), map.is_empty()), (list.len(), list.is_empty()));
    assert_eq!(map.last(), list.last().map(|(low, _)| *low));
    assert!(map.bytes() <= map.room());
    for _ in 0..20 {
        let pos = if rng.once_in(2) || list.is_empty() {
            bound(rng, values)
        } else {
            list[rng.index(list.len())].0
        };
        let guess = [None, Some(rng.index(list.len() + 10)), Some(usize::MAX)][rng.index(3)];
        let at_or_below = list.partition_point(|(low, _)| *low <= pos).checked_sub(1);
        assert_eq!(
            map.find(&pos, false, guess),
            at_or_below,
            "{pos:?} {guess:?}"
        );
        let below = list.partition_point(|(low, _)| *low < pos).checked_sub(1);
        assert_eq!(map.find(&pos, true, guess), below, "{pos:?} {guess:?}");
        let from = rng.index(list.len() + 1);
        let end = list[from..].partition_point(|(low, _)| *low < pos) + from;
        assert_eq!(map.end(from, Some(&pos)), end);
        assert_eq!(map.end(from, None), list.len());
    }
}

fn changes<const V: usize>(seed: u64) {
    let mut rng = Rng::new(seed);
    let other = match rng.index(5) {
        0 => Other::None,
        1 | 2 => Other::Tids([1, 2, 5, 20][rng.index(4)]),
        _ => Other::Any([1, 3, 20][rng.index(3)]),
    };
    // Few values, so that fences and what is looked for often share them.
    let (values, pages) = [(3, 20), (40, 60), (300, 500)][rng.index(3)];
    let (mut map, mut list) = (Map::EMPTY, Vec::new());
    let any = |_| fence(&mut rng, values, other);
    let mut lows: Vec<Pos<V>> = (0..pages).map(any).collect();
    if rng.once_in(2) {
        lows.push(Pos::MIN);
    }
    lows.sort_unstable();
    lows.dedup();
    for low in lows {
        let block = rng.below(1 << 32) as Block;
        if rng.once_in(10) {
            map.reserve(10).unwrap();
        }
        add(&mut map, low, block);
        list.push((low, block));
    }
    compare(&map, &list, values, &mut rng);
    map.shrink();
    for _ in 0..60 {
        if rng.once_in(40) && !list.is_empty() {
            map.remove(1..list.len());
            list.truncate(1);
        } else if list.len() > 1 && rng.once_in(3) {
            let from = 1 + rng.index(list.len() - 1);
            let to = from + rng.index((list.len() - from + 1).min(4));
            map.remove(from..to);
            list.drain(from..to);
        } else if rng.once_in(4) && !list.is_empty() {
            let (at, block) = (rng.index(list.len()), rng.below(1 << 32) as Block);
            map.set_block(at, block);
            list[at].1 = block;
        } else {
            let (low, block) = (fence(&mut rng, values, other), rng.below(1 << 32) as Block);
            if let Err(at) = list.binary_search_by(|(known, _)| known.cmp(&low)) {
                let before = map.clone();
                map.insert(at, low, block).unwrap();
                list.insert(at, (low, block));
                assert!(before.fits(at, &low, map.bytes()));
                assert!(!before.fits(at, &low, map.bytes() - 1));
            }
        }
        compare(&map, &list, values, &mut rng);
    }
}

#[test]
fn a_map_is_a_list_of_fences() {
    for seed in 0..scaled(2000) as u64 {
        changes::<1>(seed);
        changes::<2>(seed);
    }
}

/// Fences that begin keys take no more than their lanes, those of an index with NULLs
/// first included, and others a little more.
#[test]
fn what_fences_share_is_stored_once() {
    let mut map = Map::<1>::EMPTY;
    add(&mut map, Pos::MIN, 1);
    let key = |i: u32, tid| Pos {
        rank: 1,
        vals: [u64::from(i)],
        tid,
    };
    for i in 1..1000 {
        add(&mut map, key(i, 0), i);
    }
    assert_eq!(map.bytes(), 1000 * 12 + 16);
    let room = map.room();
    map.shrink();
    assert!(map.room() < room && map.room() >= map.bytes());
    add(&mut map, key(1000, 7), 1000);
    assert_eq!(map.bytes(), 1001 * 12 + 2 * 16);
    assert!(map.room() < map.bytes() * 5 / 4);
    // Up to a quarter of the pages, then 8 bytes for each.
    for i in 1001..2000 {
        add(&mut map, key(i, 7), i);
    }
    assert_eq!(map.bytes(), 2000 * 20);
    assert!(map.room() < map.bytes() * 5 / 4);
}

/// Of what is in no order, as on damaged pages, anything may be said but nothing that is
/// not there.
#[test]
fn disorder_does_no_harm() {
    for seed in 0..scaled(500) as u64 {
        let mut rng = Rng::new(seed);
        let mut map = Map::<1>::EMPTY;
        let other_ranks = rng.once_in(2);
        for i in 0..rng.index(100) {
            let first = if other_ranks { 0 } else { i.min(1) };
            let any = first + rng.index(i + 1 - first);
            let at = if rng.once_in(5) { any } else { i };
            let low = fence(
                &mut rng,
                40,
                if other_ranks {
                    Other::Any(3)
                } else {
                    Other::Tids(3)
                },
            );
            map.insert(at, low, i as Block).unwrap();
        }
        for _ in 0..50 {
            let pos = bound(&mut rng, 40);
            let guess = [None, Some(rng.index(120))][rng.index(2)];
            for strict in [false, true] {
                let found = map.find(&pos, strict, guess);
                assert!(found.is_none_or(|found| map.low(found).is_some()));
            }
            let from = rng.index(map.len() + 1);
            assert!((from..=map.len()).contains(&map.end(from, Some(&pos))));
        }
        if map.len() > 1 {
            map.remove(1..map.len());
        }
        assert_eq!(map.iter().count(), map.len().min(1));
    }
}

/// Neither a first key of more than a page nor the rank of what comes first makes each
/// fence take more.
#[test]
fn the_first_pages_may_be_others() {
    for second in [
        p(0, 7),
        Pos { rank: 1, ..p(0, 7) },
        Pos { rank: 1, ..p(5, 0) },
    ] {
        let mut map = Map::<1>::EMPTY;
        add(&mut map, Pos::MIN, 0);
        add(&mut map, second, 1);
        for i in 2..1000 {
            let rank = second.rank;
            add(
                &mut map,
                Pos {
                    rank,
                    ..p(u64::from(i) * 10, 0)
                },
                i,
            );
        }
        assert!(map.bytes() <= 1000 * 12 + 2 * 16, "{} bytes", map.bytes());
    }
}

/// What a full router had no room for does not make it load the map again and again, for
/// the parents may not list it; but pages that are walked over count one by one, and a
/// map that was loaded is as good as any.
#[test]
fn a_full_router_is_patient() {
    const PAGES: u32 = 64 * 100;
    let low = |i: u32| p(u64::from(i) * 10, 0);
    let load = |router: &mut Router<1>| {
        let mut map = Map::EMPTY;
        for i in 0..PAGES {
            add(&mut map, low(i), i);
        }
        router.install(0, map, None);
    };
    let bytes = PAGES as usize * Router::<1>::PAGE_BYTES;
    for (limit, hops, patience) in [(bytes, 1, 100), (bytes, 10, 10), (2 * bytes, 1, 64)] {
        let mut router = Router::<1>::new(limit);
        load(&mut router);
        router.learn(0, p(5, 0), Some(low(1)), PAGES);
        assert_eq!(router.len() == PAGES as usize, limit == bytes);
        for _ in 0..patience {
            router.hopped(hops);
            assert!(!router.wants_load(0), "{:?}", router.counters);
        }
        router.hopped(hops);
        assert!(router.wants_load(0));
        load(&mut router);
        for _ in 0..64 {
            router.hopped(1);
            assert!(!router.wants_load(0));
        }
        router.hopped(1);
        assert!(router.wants_load(0));
    }
}

#[test]
fn a_router_takes_leaves_that_fit_exactly() {
    let entries: Vec<_> = (0..3000).map(|i| p(i * i, 1 << 16 | 1)).collect();
    let lab = Lab::<1>::build(512, 90, Choice::Auto, &entries);
    let bytes = lab.leaves().bytes();
    for (limit, level) in [(bytes, 0), (bytes - 1, 1)] {
        *lab.router.borrow_mut() = Router::new(limit);
        lab.tree().load_router().unwrap();
        let router = lab.router.borrow();
        assert_eq!((router.level(), router.is_empty()), (level, false));
        assert!(router.bytes() <= limit + router.model().map_or(0, |model| model.bytes()));
    }
}

/// What is appended behind the pages of a full router is not reached over all that have
/// been appended before.
#[test]
fn appends_behind_a_full_router_stay_cheap() {
    let entry = |i: u64| {
        let noise = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        p(i << 24 | noise, (noise << 16) + 1)
    };
    let entries: Vec<_> = (0..2000).map(entry).collect();
    let mut lab = Lab::<1>::build(512, 90, Choice::Auto, &entries);
    let map = lab.leaves();
    *lab.router.borrow_mut() = Router::new(map.bytes());
    lab.tree().load_router().unwrap();
    assert_eq!(lab.router.borrow().level(), 0);
    let before = lab.store.locks();
    for i in 2000..6000 {
        lab.insert(entry(i));
    }
    let locks = lab.store.locks() - before;
    let more = lab.leaves();
    assert!(more.len() > map.len() + 50);
    assert!(lab.router.borrow().level() > 0);
    assert!(locks < 4000 * 5, "{locks} locks");
}
