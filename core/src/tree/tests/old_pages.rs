//! One page is as it was some time ago: a write was lost, or a part of an old
//! backup was put back. The page is sound by itself.

use super::*;
use crate::page::{self, Kind};
use crate::sim::Rng;
use std::sync::atomic::{AtomicU64, Ordering};

/// An index with a past: the pages as they were, and the index as it is.
fn aged(seed: u64) -> (Vec<Vec<u8>>, Lab<1>) {
    let mut rng = Rng::new(seed);
    let keys = ALL_KEYS[rng.index(ALL_KEYS.len())];
    let mut source = Source::new(keys, ALL_ROWS[rng.index(ALL_ROWS.len())], seed);
    let n = [30, 300, 3000][rng.index(3)] + rng.index(500);
    let mut lab = Lab::<1>::build(
        512,
        20 + rng.below(80) as u32,
        Choice::Auto,
        &source.sorted(n),
    );
    let mut before = Vec::new();
    for half in 0..2 {
        for _ in 0..rng.below(4) {
            match rng.below(3) {
                0 => {
                    let more = rng.index(n);
                    for pos in source.fresh(more, &lab.set) {
                        lab.insert(pos);
                    }
                }
                1 => {
                    let (part, stretch) = (1 + rng.below(20), rng.once_in(2));
                    let (from, to) = (rng.index(n), rng.index(n));
                    let chosen = |i: &usize| !stretch || (from..to).contains(i);
                    let dead = lab
                        .set
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| chosen(i) && !rng.once_in(part))
                        .map(|(_, pos)| pos.tid)
                        .collect();
                    lab.delete(&dead);
                }
                _ => {
                    let found = lab.tree().scavenge(&mut || Ok(())).unwrap();
                    lab.tree()
                        .refresh_model(Choice::Auto, found.leaves)
                        .unwrap();
                }
            }
        }
        if half == 0 {
            before = (0..lab.store.pages().unwrap())
                .map(|block| lab.store.bytes(block).unwrap())
                .collect();
        }
    }
    (before, lab)
}

/// What `omen_index_check` finds with the help of a heap that has the rows of
/// `lab.set`, and only those.
fn fault(lab: &Lab<1>, full: bool) -> Option<String> {
    let mut seen = Vec::new();
    let mut visit = |pos| seen.push(pos);
    let report = if full {
        check(&lab.tree(), &mut visit)
    } else {
        check_beside_writers(&lab.tree(), &mut Each(&mut visit))
    };
    if let Err(error) = report {
        return Some(error.to_string());
    }
    if let Some(pos) = seen.iter().find(|pos| !lab.set.contains(pos)) {
        return Some(format!("{pos:?} has no row"));
    }
    for pos in &lab.set {
        let point = [Interval {
            lo: *pos,
            hi: Some(pos.next()),
        }];
        match Scan::new().next(&lab.tree(), &point, true, false) {
            Ok(Some(_)) => {}
            Ok(None) => return Some(format!("{pos:?} is lost")),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// Whether it makes no difference which of two contents a page has: in nobody's
/// use as both, or it differs in what VACUUM has counted, or in how often the leaf was
/// written anew, which only running processes know.
fn equivalent(old: &[u8], now: &[u8], block: Block) -> bool {
    let kind = |page| page::header(page, block).unwrap().kind;
    let idle = |kind| matches!(kind, Kind::New | Kind::Free | Kind::Model);
    if block == 0 {
        let (mut old, now) = (page::read_meta(old).unwrap(), page::read_meta(now).unwrap());
        old.entries = now.entries;
        return old == now;
    }
    if kind(old) == Kind::Leaf && kind(now) == Kind::Leaf {
        let of = |page| page::header(page, block).map(|header| header.rewrites);
        let mut old = old.to_vec();
        page::set_rewrites(&mut old, of(now).unwrap_or_default());
        return old == now;
    }
    idle(kind(old)) && matches!(kind(now), Kind::New | Kind::Free)
}

/// Whether the old page is the meta page from before the first model, and differs in
/// that alone: what a crash before the publication leaves.
fn is_before_the_model(old: &[u8], now: &[u8], block: Block) -> bool {
    if block != 0 {
        return false;
    }
    let (mut old, now) = (page::read_meta(old).unwrap(), page::read_meta(now).unwrap());
    let before = old.model_head == crate::INVALID_BLOCK;
    old.model_head = now.model_head;
    old.model_version = now.model_version;
    old.model_bytes = now.model_bytes;
    old.model_leaves = now.model_leaves;
    old.entries = now.entries;
    before && old == now
}

/// Both checks find an old page, whatever it was and is, if the index has rows
/// to be compared with.
#[test]
fn an_old_page_is_found() {
    let tried = AtomicU64::new(0);
    with_seeds(40, |seed| {
        let (before, lab) = aged(seed);
        for (block, old) in (0..).zip(before) {
            let now = lab.store.bytes(block).unwrap();
            if old == now || equivalent(&old, &now, block) {
                continue;
            }
            tried.fetch_add(1, Ordering::Relaxed);
            let hurt = Lab::over(lab.store.recover(), lab.set.clone());
            let harmless = is_before_the_model(&old, &now, block);
            hurt.store.overwrite(block, old);
            for full in [false, true] {
                if harmless {
                    assert_eq!(fault(&hurt, full), None);
                    continue;
                }
                assert!(fault(&hurt, full).is_some(), "block {block}, full {full}");
            }
        }
    });
    assert!(tried.into_inner() > 0, "no page has changed");
}
