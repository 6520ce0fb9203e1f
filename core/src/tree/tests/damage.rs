//! Damaged pages: every operation answers or says that the index is damaged,
//! and does so in bounded time. The store panics when a page is locked twice,
//! when the order of locks is broken, or when locks are taken without end.

use super::*;
use crate::page::{self, BlockView, Entries, InnerView, Kind, LeafView};
use crate::sim::Rng;

/// What a damaged index may say.
fn tolerate<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Corrupt { .. } | Error::Version { .. }) => None,
        Err(error) => panic!("damage is reported as: {error}"),
    }
}

/// Puts damage on a page.
fn damage(page: &mut [u8], others: &[Vec<u8>], rng: &mut Rng) {
    let n = page.len();
    let at = rng.index(n);
    match rng.below(10) {
        // Bit flips, anywhere or in what the page says of itself.
        0 | 1 => (0..1 + rng.below(8)).for_each(|_| page[rng.index(n)] ^= 1 << rng.below(8)),
        2 | 3 => {
            let of_itself = [12..20, 24..100, n - 24..n][rng.index(3)].clone();
            let at = of_itself.start + rng.index(of_itself.len());
            page[at] ^= 1 << rng.below(8);
        }
        // Words that lie about lengths, links and fences.
        4 | 5 => {
            let lie = [0, 1, 0xffff, rng.word(), u64::MAX][rng.index(5)].to_le_bytes();
            let width = [1, 2, 4, 8][rng.index(4)].min(n - at);
            page[at..at + width].copy_from_slice(&lie[..width]);
        }
        // A torn page.
        6 => page[at..].fill(0),
        7 => {
            let other = &others[rng.index(others.len())];
            page[at..].copy_from_slice(&other[at..]);
        }
        // Another page of this index, or none.
        8 => page.copy_from_slice(&others[rng.index(others.len())]),
        _ => page[24..n - 24]
            .iter_mut()
            .for_each(|byte| *byte = rng.word() as u8),
    }
}

/// Sets links and children to blocks of the index.
fn mislink(page: &mut [u8], pages: u32, rng: &mut Rng) {
    let block = rng.below(u64::from(pages) + 1) as u32;
    if rng.once_in(2) {
        page::set_right(page, block);
    } else {
        page::set_left(page, block);
    }
}

/// Locks that one operation may take: all fresh descents from the root that it
/// is allowed, each with all hops along a level.
const MOST_LOCKS: u64 = 250_000;

/// Tries everything on a damaged index.
fn try_all<const V: usize>(lab: &mut Lab<V>, source: &mut Source, rng: &mut Rng) {
    let most = 4 * lab.set.len() + 70_000;
    for forward in [true, false] {
        let mut scan = Scan::new();
        let ends: Vec<_> = lab.set.iter().copied().collect();
        let list = super::scans::intervals(&ends, rng);
        for _ in 0..3 {
            let mut n = 0;
            lab.store.limit_locks(MOST_LOCKS);
            while tolerate(scan.next(&lab.tree(), &list, forward, false))
                .flatten()
                .is_some()
            {
                lab.store.limit_locks(MOST_LOCKS);
                n += 1;
                assert!(n < most, "a scan that does not end");
            }
            scan.restart();
        }
        let mut n = 0;
        while tolerate(scan.next_tids(&lab.tree(), &list).map(<[_]>::len))
            .is_some_and(|len| len > 0)
        {
            lab.store.limit_locks(MOST_LOCKS);
            n += 1;
            assert!(n < most, "a scan that does not end");
        }
    }
    for block in 0..lab.store.pages().unwrap() {
        tolerate(tally_page::<V>(&lab.store.bytes(block).unwrap(), block));
    }
    lab.store.limit_locks(10 * MOST_LOCKS);
    tolerate(check(&lab.tree(), &mut |_| {}));
    tolerate(check_beside_writers(&lab.tree(), &mut Each(&mut |_| {})));
    if let Some(meta) = tolerate(lab.tree().meta()) {
        tolerate(read_model(&lab.store, &meta));
    }
    tolerate(lab.tree().load_router());
    for _ in 0..60 {
        lab.store.limit_locks(MOST_LOCKS);
        tolerate(lab.try_insert(source.entry()));
    }
    let part = 1 + rng.below(4);
    let dead = lab
        .set
        .iter()
        .filter(|_| !rng.once_in(part))
        .map(|pos| pos.tid)
        .collect();
    lab.store.limit_locks(10 * MOST_LOCKS);
    tolerate(lab.try_delete(&dead));
    for _ in 0..60 {
        lab.store.limit_locks(MOST_LOCKS);
        tolerate(lab.try_insert(source.entry()));
    }
    lab.store.limit_locks(10 * MOST_LOCKS);
    tolerate(lab.tree().scavenge(&mut || Ok(())));
    tolerate(lab.tree().refresh_model(Choice::Auto, 1 << 20));
    tolerate(scan_all(&lab.tree(), &[EVERYTHING()], true));
}

fn damaged_index<const V: usize>(seed: u64) {
    let mut rng = Rng::new(seed);
    let size = [512, 512, 1024, 8192][rng.index(4)];
    let keys = ALL_KEYS[rng.index(ALL_KEYS.len())];
    let mut source = Source::new(keys, ALL_ROWS[rng.index(ALL_ROWS.len())], seed);
    let n = 20 + rng.index(1500);
    let mut lab = Lab::<V>::build(size, 90, Choice::Auto, &source.sorted(n));
    for pos in source.fresh(n / 6, &lab.set) {
        lab.insert(pos);
    }
    let dead = lab
        .set
        .iter()
        .filter(|_| rng.once_in(3))
        .map(|pos| pos.tid)
        .collect();
    lab.delete(&dead);
    if rng.once_in(3) {
        // A split that was not finished.
        lab.store.stop_after(1 + rng.below(60));
        while lab.try_insert(source.entry()).is_ok() {}
        lab.store = lab.store.recover();
    }
    for _ in 0..6 {
        let mut lab = Lab::over(lab.store.recover(), lab.set.clone());
        let pages = lab.store.pages().unwrap();
        let sound: Vec<_> = (0..pages)
            .map(|block| lab.store.bytes(block).unwrap())
            .collect();
        for _ in 0..1 + rng.below(3) {
            let block = if rng.once_in(8) {
                0
            } else {
                rng.below(u64::from(pages)) as u32
            };
            let mut page = lab.store.bytes(block).unwrap();
            if rng.once_in(3) {
                mislink(&mut page, pages, &mut rng);
            } else {
                damage(&mut page, &sound, &mut rng);
            }
            lab.store.overwrite(block, page);
        }
        try_all(&mut lab, &mut source, &mut rng);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn operations_on_a_damaged_index_end_without_a_panic() {
    with_seeds(400, damaged_index::<1>);
}

#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn operations_on_a_damaged_index_of_two_lanes_end_without_a_panic() {
    with_seeds(150, damaged_index::<2>);
}

/// Reads all that there is to read on a page.
fn read_page<const V: usize>(page: &[u8], rng: &mut Rng) {
    let block = 3;
    tolerate(page::read_meta(page));
    tolerate(page::read_model_page(page, block));
    tolerate(tally_page::<V>(page, block));
    let Some(header) = tolerate(page::header(page, block)) else {
        return;
    };
    let target = Pos {
        rank: rng.below(2),
        vals: [rng.word(); V],
        tid: rng.below(1 << 48),
    };
    if let Ok(inner) = InnerView::<V>::parse(page, block, header) {
        tolerate(inner.child(&target));
        tolerate(inner.child_below(Some(&target)));
        tolerate(inner.child_below(None));
        tolerate(inner.load(&mut Vec::new()));
    }
    if let Ok(leaf) = LeafView::<V>::parse(page, block, header) {
        let mut columns = Box::<Entries<V>>::default();
        tolerate(leaf.last());
        assert!(leaf.find(&target) <= leaf.blocks());
        for index in 0..leaf.blocks().min(100) {
            let Some(view) = tolerate(leaf.view(index)) else {
                continue;
            };
            assert!(view.lower_bound(&target) <= view.len());
            for target in [target, view.pos(view.len() / 2)] {
                let (from, to) = view.equal_range(&target);
                assert!(from <= to && to <= view.len());
            }
            assert!(view.live() <= view.len());
            for i in 0..view.len().min(300) {
                let pos = view.pos(i);
                assert!(pos.rank <= crate::key::MAX_RANK && pos.tid < crate::key::TID_END);
                let _ = view.survives(i);
            }
            view.decode(0, view.len(), &mut columns);
            view.decode(view.len() / 2, view.len(), &mut columns);
        }
        let mut edit = page::EditScratch::new(page.len()).unwrap();
        let planned = |result: Result<()>| match result {
            Err(Error::Full) => {}
            other => drop(tolerate(other)),
        };
        edit.load_delta(&leaf);
        planned(edit.plan_fold(&leaf));
        edit.load_delta(&leaf);
        planned(edit.plan_survivors(&leaf, &mut |_| true));
        planned(edit.plan_split(&leaf).map(drop));
        planned(edit.plan_delete(&leaf, &mut |tid| tid % 3 == 0).map(drop));
        edit.clear();
        planned(edit.plan_join(&leaf));
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn reading_any_bytes_gives_an_answer_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 512), kind in 0u8..7, level in 0u8..3,
        lower in 20u16..300, upper in 200u16..500, seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        read_page::<1>(&bytes, &mut rng);
        // Random contents behind a sound header.
        let mut sound = vec![0; 512];
        page::init_free(&mut sound, 1);
        bytes[..24].copy_from_slice(&sound[..24]);
        bytes[488..].copy_from_slice(&sound[488..]);
        bytes[12..14].copy_from_slice(&lower.to_le_bytes());
        bytes[14..16].copy_from_slice(&upper.to_le_bytes());
        (bytes[504], bytes[505]) = (kind, level);
        read_page::<1>(&bytes, &mut rng);
        read_page::<2>(&bytes, &mut rng);
    }

    #[test]
    fn reading_any_block_gives_an_answer_or_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..400), len in 0usize..500,
        n in 0usize..9000, skip in 0usize..9000, survivors: bool, children: bool,
    ) {
        if let Some(view) = BlockView::<1>::parse(&bytes, len, n, skip, survivors, children) {
            let mut columns = Entries::default();
            prop_assert!(view.decode(0, n, &mut columns) <= n);
            prop_assert!(view.lower_bound(&view.pos(n / 2)) <= n);
        }
    }

    #[test]
    fn reading_a_page_with_flipped_bits_gives_an_answer_or_an_error(
        mut source in source(), seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let lab = Lab::<1>::build(1024, 90, Choice::Auto, &source.sorted(300));
        let pages: Vec<_> =
            (0..lab.store.pages().unwrap()).map(|b| lab.store.bytes(b).unwrap()).collect();
        for _ in 0..30 {
            let mut page = pages[rng.index(pages.len())].clone();
            damage(&mut page, &pages, &mut rng);
            read_page::<1>(&page, &mut rng);
        }
    }
}

/// Where a scan goes on follows from the entry that it took last, which may be
/// any on a damaged page.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn scans_over_entries_out_of_order_end() {
    // More than the largest batch of a scan.
    let entries: Vec<Pos<1>> = (0..2000).map(|i| p(i, i << 16 | 1)).collect();
    let lab = Lab::build(8192, 90, Choice::Auto, &entries);
    let frame = page::LeafFrame {
        low: Pos::MIN,
        high: None,
        flags: 0,
        left: crate::INVALID_BLOCK,
        right: crate::INVALID_BLOCK,
        generation: 0,
        rewrites: 0,
    };
    with_seeds(300, |seed| {
        let mut rng = Rng::new(seed);
        let mut shuffled = entries.clone();
        for _ in 0..[3, 3000][rng.index(2)] {
            let (a, b) = (rng.index(2000), rng.index(2000));
            shuffled.swap(a, b);
        }
        let mut edit = page::EditScratch::new(8192).unwrap();
        for pos in shuffled {
            if edit.add_pending(pos) {
                edit.seal_within(&page::Fill::up_to(8000)).unwrap();
            }
        }
        while edit.first_pending().is_some() {
            edit.seal_within(&page::Fill::up_to(8000)).unwrap();
        }
        let mut image = vec![0; 8192];
        let pieces = 0..edit.pieces().len();
        edit.write(&[], pieces, &[], &frame, &mut image).unwrap();
        let hurt = Lab::over(lab.store.recover(), lab.set.clone());
        hurt.store.overwrite(1, image);
        for forward in [true, false] {
            let (mut scan, mut n) = (Scan::new(), 0);
            let all = [EVERYTHING()];
            while tolerate(scan.next(&hurt.tree(), &all, forward, false))
                .flatten()
                .is_some()
            {
                n += 1;
                assert!(n < 70_000, "a scan that does not end");
            }
        }
    });
}

/// Each block decodes, but what a rewrite makes of them has no room on a page.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn leaves_that_hold_more_than_fits_are_damage() {
    let mut entries = Source::new(crate::sim::Keys::Random, Rows::Scattered, 3).sorted(2000);
    let full = bulk_load::<1>(8192, 100, Choice::Auto, &entries);
    let high = LeafView::<1>::read(&full.bytes(1).unwrap(), 1)
        .unwrap()
        .high();
    entries.retain(|pos| high.is_some_and(|high| *pos < high));
    let hurt = |damage: &dyn Fn(&mut [u8])| {
        let store = bulk_load(8192, 100, Choice::Auto, &entries);
        let mut page = store.bytes(1).unwrap();
        damage(&mut page);
        store.overwrite(1, page);
        Lab::over(store, entries.iter().copied().collect())
    };
    let damaged = |result| matches!(result, Err(Error::Corrupt { block: 1, .. }));
    let counts = page::PAGE_HEADER + 2 * Pos::<1>::BYTES;
    // The directory names the first block in the place of the last, a short one.
    let place = |i: usize| counts + 12 + i * 24 + 16;
    let mut overlap = hurt(&|page| page.copy_within(place(0)..place(0) + 8, place(2)));
    let first = HashSet::from([entries[0].tid]);
    assert!(damaged(overlap.try_delete(&first).map(drop)));
    // No reserve is kept, and new entries take its room.
    let mut no_reserve = hurt(&|page| page[counts + 4..counts + 6].fill(0));
    assert!((0..100).any(|i| damaged(no_reserve.try_insert(p(u64::MAX, i)))));
}

/// A model that cannot be read is done without.
#[test]
#[cfg_attr(miri, ignore = "takes a large tree, or many")]
fn a_damaged_model_is_ignored() {
    let mut source = Source::new(crate::sim::Keys::Lognormal, Rows::Heap(90), 4);
    let lab = Lab::<1>::build(512, 90, Choice::Pla, &source.sorted(4000));
    let meta = lab.tree().meta().unwrap();
    assert!(matches!(
        read_model(&lab.store, &meta),
        Ok(Loaded::Model(_))
    ));
    let mut rng = Rng::new(1);
    for _ in 0..200 {
        let hurt = Lab::over(lab.store.recover(), lab.set.clone());
        let mut page = hurt.store.bytes(meta.model_head).unwrap();
        let header = page::header(&page, meta.model_head).unwrap();
        let at = 24 + rng.index(header.lower - 24);
        page[at] ^= 1 << rng.below(8);
        hurt.store.overwrite(meta.model_head, page);
        let loaded = read_model(&hurt.store, &meta).unwrap();
        assert!(
            !matches!(loaded, Loaded::Model(_)),
            "a changed byte goes unnoticed"
        );
        hurt.tree().load_router().unwrap();
        assert!(hurt.router.borrow().model().is_none());
        let point = [Interval {
            lo: *hurt.set.first().unwrap(),
            hi: None,
        }];
        let mut scan = Scan::new();
        assert_eq!(
            scan.next(&hurt.tree(), &point, true, false).unwrap(),
            hurt.set.first().copied()
        );
    }
}

/// A page of a newer format is not taken for damage.
#[test]
fn a_newer_format_is_named() {
    let lab = Lab::<1>::build(512, 90, Choice::Auto, &[p(1, 1)]);
    let mut page = lab.store.bytes(1).unwrap();
    let n = page.len();
    page[n - 5] = 9;
    lab.store.overwrite(1, page);
    let result = scan_all(&lab.tree(), &[EVERYTHING()], true);
    assert_eq!(result, Err(Error::Version { found: 9 }));
    let header = page::header(&lab.store.bytes(0).unwrap(), 0).unwrap();
    assert_eq!(header.kind, Kind::Meta);
}
