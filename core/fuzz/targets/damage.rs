//! Operations on an index of which some pages have other bytes than they should:
//! they answer or say that the index is damaged, and end. The first byte of the
//! input chooses the index, the others how it is damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omen_core::Block;
use omen_core::key::Pos;
use omen_core::model::Choice;
use omen_core::page::{read_meta, read_pos};
use omen_core::sim::{Keys, Rows, Source};
use omen_core::store::PageStore;
use omen_core::tree::{
    DeleteStats, Interval, Scan, Tree, check, check_beside_writers, read_model, tally_page,
};
use omen_fuzz::{Collected, Index, aged, edit_page, tolerate};

/// Locks that one operation may take: all fresh descents from the root that it
/// is allowed, each with all hops along a level.
const MOST_LOCKS: u64 = 250_000;

/// Pages of one index that are damaged.
const MOST_PAGES: usize = 4;

thread_local! {
    static ONE_LANE: Vec<Index<1>> = starts();
    static TWO_LANES: Vec<Index<2>> = starts();
}

fn starts<const V: usize>() -> Vec<Index<V>> {
    let of = |keys, size, fillfactor, n| {
        Index::load(
            size,
            fillfactor,
            &mut Source::new(keys, Rows::Heap(50), 1),
            n,
        )
    };
    let mut starts = vec![
        of(Keys::Random, 512, 90, 150),
        of(Keys::Serial, 512, 90, 400),
        of(Keys::Gaps, 512, 10, 200),
        aged(512, 90, 8, 150),
        aged(512, 90, 2, 150),
        aged(1024, 90, 6, 200),
        aged(512, 100, 13, 150),
        aged(1024, 90, 7, 200),
    ];
    // Splits that were not finished, and pages that nobody knows of.
    for index in &mut starts {
        let last = index.set.last().map_or(0, |pos| pos.vals[0] / 2);
        index.store.stop_after(30);
        let mut i = 0;
        while i < 200 && index.try_insert(entry(last + i * 5, i)).is_ok() {
            i += 1;
        }
        *index = Index::over(index.store.recover(), core::mem::take(&mut index.set));
    }
    starts
}

fn entry<const V: usize>(key: u64, i: u64) -> Pos<V> {
    let mut vals = [7; V];
    vals[0] = key;
    Pos {
        rank: 0,
        vals,
        tid: (1 << 20 | i) << 16 | 1,
    }
}

/// Damages pages, each by three bytes and those edits that the second of them
/// counts. What is left of the script chooses where operations work.
fn damage<'a, const V: usize>(index: &Index<V>, mut script: &'a [u8]) -> &'a [u8] {
    let pages = index.store.pages().expect("pages");
    for _ in 0..MOST_PAGES {
        let [block, count, other, rest @ ..] = script else {
            break;
        };
        let n = usize::from(count % 32) * 3;
        let (edits, rest) = rest.split_at(n.min(rest.len()));
        let bytes = |block: u8| index.store.bytes(Block::from(block) % pages);
        let (mut page, other) = (
            bytes(*block).expect("a page"),
            bytes(*other).expect("a page"),
        );
        edit_page(&mut page, &other, edits);
        index.store.overwrite(Block::from(*block) % pages, page);
        script = rest;
        if count & 0x80 == 0 {
            break;
        }
    }
    script
}

fn scan<const V: usize>(index: &Index<V>, part: Interval<V>, forward: bool) {
    let tree = index.tree();
    let mut scan = Scan::new();
    for n in 0.. {
        assert!(n < 100_000, "a scan that does not end");
        index.store.limit_locks(MOST_LOCKS);
        let next = tolerate(scan.next(&tree, &[part], forward, false));
        if next.flatten().is_none() {
            break;
        }
    }
    scan.restart();
    for n in 0.. {
        assert!(n < 100_000, "a scan that does not end");
        index.store.limit_locks(MOST_LOCKS);
        let some = tolerate(scan.next_tids(&tree, &[part]).map(<[_]>::len));
        if some.is_none_or(|len| len == 0) {
            break;
        }
    }
}

fn run<const V: usize>(starts: &[Index<V>], choice: u8, script: &[u8]) {
    let mut index = starts[usize::from(choice) % starts.len()].copy();
    let rest = damage(&index, script);
    let keys: Vec<Pos<V>> = index.set.iter().copied().collect();
    let place = usize::from(rest.first().copied().unwrap_or(0)) % keys.len();
    let key = match rest.get(1) {
        Some(how) if how % 4 == 0 => read_pos(rest, 0),
        _ => keys[place],
    };

    let store = index.store.clone();
    let page = store.bytes(0).expect("a page");
    if let Some(meta) = tolerate(read_meta(&page)) {
        tolerate(read_model(&store, &meta));
    }
    for forward in [true, false] {
        let end = keys.get(place + 30).copied();
        scan(&index, Interval { lo: key, hi: end }, forward);
    }
    // Half of all damage is met first by a check, and half by writers.
    if choice & 0x40 == 0 {
        let tree = Tree::new(&store, &index.router);
        store.limit_locks(10 * MOST_LOCKS);
        tolerate(check(&tree, &mut Collected::default()));
        tolerate(check_beside_writers(&tree, &mut Collected::default()));
        scan(&index, Interval::ALL, true);
        scan(&index, Interval::ALL, false);
    }
    for i in 0..20 {
        store.limit_locks(MOST_LOCKS);
        let near = if i < 10 {
            key
        } else {
            keys[(place + 5) % keys.len()]
        };
        let mut pos = entry(near.vals[0].wrapping_add(i), i);
        pos.rank = near.rank;
        tolerate(index.try_insert(pos));
    }
    let tree = Tree::new(&store, &index.router);
    store.limit_locks(10 * MOST_LOCKS);
    let mut stats = DeleteStats::default();
    tolerate(tree.bulk_delete(
        &mut |tid: u64| (tid >> 16 ^ tid) % 4 != 0,
        &mut index.scratch,
        &mut || Ok(()),
        &mut stats,
    ));
    for block in 0..store.pages().expect("pages") {
        let page = store.bytes(block).expect("a page");
        tolerate(tally_page::<V>(&page, block));
    }
    tolerate(tree.scavenge(&mut || Ok(())));
    tolerate(tree.refresh_model(Choice::Auto, 1 << 20));
    scan(&index, Interval::ALL, choice & 0x20 == 0);
}

fuzz_target!(|data: &[u8]| {
    let [choice, script @ ..] = data else { return };
    if choice & 0x80 == 0 {
        ONE_LANE.with(|starts| run(starts, *choice, script));
    } else {
        TWO_LANES.with(|starts| run(starts, *choice, script));
    }
});
