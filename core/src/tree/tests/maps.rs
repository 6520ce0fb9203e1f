//! The router's map of a level, against a plain list.

use super::*;
use crate::key::{Block, TID_END};
use crate::sim::Rng;
use crate::tree::map::Map;

/// The share of fences that are not like the others: with a TID, or of another rank.
#[derive(Clone, Copy, Debug)]
enum Odd {
    None,
    Few,
    All,
}

fn fence<const V: usize>(rng: &mut Rng, odd: Odd) -> Pos<V> {
    // Few values, so that fences and what is looked for often share them.
    let mut vals = [0; V];
    vals.fill_with(|| rng.below(40) * 3);
    let is_odd = match odd {
        Odd::None => false,
        Odd::Few => rng.once_in(20),
        Odd::All => true,
    };
    let (rank, tid) = if is_odd {
        (rng.below(2), rng.below(3))
    } else {
        (1, 0)
    };
    Pos { rank, vals, tid }
}

/// Any bound of a scan.
fn bound<const V: usize>(rng: &mut Rng) -> Pos<V> {
    let mut vals = [0; V];
    vals.fill_with(|| rng.below(122));
    let tid = [0, 1, 2, TID_END][rng.index(4)];
    let rank = rng.below(3);
    Pos { rank, vals, tid }
}

fn compare<const V: usize>(map: &Map<V>, list: &[(Pos<V>, Block)], rng: &mut Rng) {
    assert!(map.iter().eq(list.iter().copied()));
    assert_eq!((map.len(), map.is_empty()), (list.len(), list.is_empty()));
    assert_eq!(map.last(), list.last().map(|(low, _)| *low));
    assert!(map.bytes() <= map.room());
    for _ in 0..20 {
        let pos = if rng.once_in(2) || list.is_empty() {
            bound(rng)
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
    let odd = [Odd::None, Odd::Few, Odd::All][rng.index(3)];
    let (mut map, mut list) = (Map::EMPTY, Vec::new());
    let mut lows: Vec<Pos<V>> = (0..rng.index(60)).map(|_| fence(&mut rng, odd)).collect();
    if rng.once_in(2) {
        lows.push(Pos::MIN);
    }
    lows.sort_unstable();
    lows.dedup();
    for low in lows {
        let block = rng.below(1 << 32) as Block;
        map.push(low, block).unwrap();
        list.push((low, block));
    }
    compare(&map, &list, &mut rng);
    map.shrink();
    for _ in 0..60 {
        if list.len() > 1 && rng.once_in(3) {
            let from = 1 + rng.index(list.len() - 1);
            let to = from + rng.index((list.len() - from + 1).min(4));
            map.remove(from..to);
            list.drain(from..to);
        } else if rng.once_in(4) && !list.is_empty() {
            let (at, block) = (rng.index(list.len()), rng.below(1 << 32) as Block);
            map.set_block(at, block);
            list[at].1 = block;
        } else {
            let (low, block) = (fence(&mut rng, odd), rng.below(1 << 32) as Block);
            if let Err(at) = list.binary_search_by(|(known, _)| known.cmp(&low)) {
                let (before, fits) = (map.bytes(), map.clone());
                map.insert(at, low, block).unwrap();
                list.insert(at, (low, block));
                if at > 0 {
                    assert!(fits.fits(&low, map.bytes()));
                    assert!(!fits.fits(&low, map.bytes() - 1), "{before} bytes before");
                }
            }
        }
        compare(&map, &list, &mut rng);
    }
}

#[test]
fn a_map_is_a_list_of_fences() {
    for seed in 0..scaled(2000) as u64 {
        changes::<1>(seed);
        changes::<2>(seed);
    }
}

/// Fences that begin keys take no more than their lanes, ranks of NULLs first included.
#[test]
fn what_fences_share_is_stored_once() {
    let mut map = Map::<1>::EMPTY;
    map.push(Pos::MIN, 1).unwrap();
    for i in 1..1000u32 {
        let (rank, vals, tid) = (1, [u64::from(i)], 0);
        map.push(Pos { rank, vals, tid }, i).unwrap();
    }
    assert_eq!(map.bytes(), 1000 * 12);
    let room = map.room();
    map.shrink();
    assert!(map.room() < room && map.room() >= map.bytes());
    let (rank, vals, tid) = (1, [1000], 7);
    map.push(Pos { rank, vals, tid }, 1000).unwrap();
    assert_eq!(map.bytes(), 1001 * 20);
    // Room for a few more at most.
    assert!(map.room() < map.bytes() * 5 / 4);
}
