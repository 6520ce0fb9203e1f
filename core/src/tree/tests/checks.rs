//! The checks find damage that no page shows by itself.

use super::*;
use crate::page::{self, Header, InnerView, LeafFrame, LeafView};
use crate::sim::{Actor, Keys, Rng, run_actors};

/// An index of several levels, with a model.
fn lab() -> Lab<1> {
    let entries: Vec<_> = (0..3000u64)
        .map(|i| p(i * 10 + i % 7, (i / 30) << 16 | (i % 30 + 1)))
        .collect();
    let lab = Lab::build(512, 90, Choice::Auto, &entries);
    assert!(lab.verify().height >= 2);
    lab
}

/// The middle leaf and its right sibling.
fn two_leaves(lab: &Lab<1>) -> (Block, Block) {
    let map = lab.leaves();
    let blocks: Vec<_> = map.iter().map(|(_, block)| block).collect();
    let middle = blocks.len() / 2;
    (blocks[middle], blocks[middle + 1])
}

/// Which of the checks must see a fault: a quiet index is seen whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    AtAnyTime,
    InQuietOnly,
}

/// Damages one page of a fresh index, and lets the checks look.
fn found(
    what: &str,
    seen: Seen,
    pick: fn(&Lab<1>) -> Block,
    damage: impl Fn(&Lab<1>, &mut Vec<u8>),
) {
    let lab = lab();
    let block = pick(&lab);
    let mut bytes = lab.store.bytes(block).unwrap();
    damage(&lab, &mut bytes);
    assert_ne!(
        bytes,
        lab.store.bytes(block).unwrap(),
        "{what}: no damage done"
    );
    lab.store.overwrite(block, bytes);
    let quiet = check(&lab.tree(), &mut |_| {});
    assert!(
        matches!(quiet, Err(Error::Corrupt { .. })),
        "{what}: {quiet:?}"
    );
    let beside = check_beside_writers(&lab.tree(), &mut Each(&mut |_| {}));
    match seen {
        Seen::AtAnyTime => assert!(
            matches!(beside, Err(Error::Corrupt { .. })),
            "{what}: {beside:?}"
        ),
        Seen::InQuietOnly => assert!(beside.is_ok(), "{what}: {beside:?}"),
    }
}

fn left_leaf(lab: &Lab<1>) -> Block {
    two_leaves(lab).0
}

fn right_leaf(lab: &Lab<1>) -> Block {
    two_leaves(lab).1
}

/// The parent of the middle leaf.
fn parent(lab: &Lab<1>) -> Block {
    let leaf = left_leaf(lab);
    let has = |block: &Block| {
        let bytes = lab.store.bytes(*block).unwrap();
        let header = page::header(&bytes, *block).unwrap();
        header.level == 1
            && children(&bytes, *block)
                .iter()
                .any(|(_, child)| *child == leaf)
    };
    (1..lab.store.pages().unwrap()).find(has).unwrap()
}

fn children(bytes: &[u8], block: Block) -> Vec<(Pos<1>, Block)> {
    let mut items = Vec::new();
    let header = page::header(bytes, block).unwrap();
    InnerView::<1>::parse(bytes, block, header)
        .unwrap()
        .load(&mut items)
        .unwrap();
    items
}

/// Writes an inner page anew with other children.
fn rewrite(bytes: &mut [u8], change: impl Fn(&mut Vec<(Pos<1>, Block)>)) {
    let mut items = children(bytes, 0);
    change(&mut items);
    let Header {
        flags,
        left,
        right,
        generation,
        rewrites,
        level,
        ..
    } = page::header(bytes, 0).unwrap();
    let (low, high) = {
        let header = page::header(bytes, 0).unwrap();
        let view = InnerView::<1>::parse(bytes, 0, header).unwrap();
        (view.low(), view.high())
    };
    let frame = LeafFrame {
        low,
        high,
        flags,
        left,
        right,
        generation,
        rewrites,
    };
    page::write_inner(&items, level, &frame, bytes).unwrap();
}

#[test]
fn links_and_fences_are_checked() {
    use Seen::*;
    found(
        "a right link that skips a leaf",
        AtAnyTime,
        left_leaf,
        |lab, page| {
            let right = page::header(page, 0).unwrap().right;
            let beyond = page::header(&lab.store.bytes(right).unwrap(), right)
                .unwrap()
                .right;
            page::set_right(page, beyond);
        },
    );
    found(
        "a right link that is lost",
        AtAnyTime,
        left_leaf,
        |_, page| {
            page::set_right(page, crate::INVALID_BLOCK);
        },
    );
    found("a wrong left link", AtAnyTime, right_leaf, |_, page| {
        page::set_left(page, 1)
    });
    found(
        "a low fence that is off by one",
        AtAnyTime,
        right_leaf,
        |_, page| {
            let low = LeafView::<1>::read(page, 0).unwrap().low();
            page::write_pos(
                page,
                page::PAGE_HEADER,
                &Pos {
                    tid: low.tid + 1,
                    ..low
                },
            );
        },
    );
    found(
        "a high fence that is off by one",
        AtAnyTime,
        left_leaf,
        |_, page| {
            let high = LeafView::<1>::read(page, 0).unwrap().high().unwrap();
            let high = Pos {
                tid: high.tid + 1,
                ..high
            };
            page::write_pos(page, page::PAGE_HEADER + Pos::<1>::BYTES, &high);
        },
    );
    found(
        "an entry beyond the fences",
        AtAnyTime,
        left_leaf,
        |_, page| {
            page::append_delta(page, &p(1 << 40, 1));
        },
    );
    found(
        "an entry that stands twice",
        AtAnyTime,
        left_leaf,
        |_, page| {
            let twice = LeafView::<1>::read(page, 0)
                .unwrap()
                .view(0)
                .unwrap()
                .pos(0);
            page::append_delta(page, &twice);
        },
    );
}

#[test]
fn parents_are_checked() {
    use Seen::*;
    found("a lost downlink", AtAnyTime, parent, |lab, page| {
        let lost = right_leaf(lab);
        rewrite(page, |items| items.retain(|(_, child)| *child != lost));
    });
    found(
        "a downlink that its split still owes",
        InQuietOnly,
        left_leaf,
        |_, page| {
            page::set_flags(page, page::FLAG_SPLIT_INCOMPLETE);
        },
    );
    found(
        "a separator that is off by one",
        AtAnyTime,
        parent,
        |lab, page| {
            let moved = right_leaf(lab);
            rewrite(page, |items| {
                for (separator, child) in items.iter_mut() {
                    if *child == moved {
                        separator.tid += 1;
                    }
                }
            });
        },
    );
    found("two children exchanged", AtAnyTime, parent, |_, page| {
        rewrite(page, |items| {
            let (a, b) = (items[0].1, items[1].1);
            (items[0].1, items[1].1) = (b, a);
        });
    });
    found(
        "a first leaf that is not the first",
        AtAnyTime,
        |_| 0,
        |lab, page| {
            let mut meta = page::read_meta(page).unwrap();
            meta.first_leaf = left_leaf(lab);
            page::write_meta(page, &meta);
        },
    );
}

#[test]
fn pages_that_belong_to_nothing_are_found() {
    let lab = lab();
    let (left, _) = two_leaves(&lab);
    let copy = lab.store.bytes(left).unwrap();
    let mut sink = SimSink(lab.store.clone());
    sink.put(lab.store.pages().unwrap(), &copy).unwrap();
    let quiet = check(&lab.tree(), &mut |_| {});
    assert!(matches!(quiet, Err(Error::Corrupt { .. })), "{quiet:?}");
    let beside = check_beside_writers(&lab.tree(), &mut Each(&mut |_| {}));
    assert!(matches!(beside, Err(Error::Corrupt { .. })), "{beside:?}");
}

#[test]
fn a_model_that_promises_too_much_is_found() {
    use crate::model::{Model, from_blob};
    let lab = lab();
    let meta = lab.tree().meta().unwrap();
    let Loaded::Model(model) = read_model(&lab.store, &meta).unwrap() else {
        panic!("the index has no model");
    };
    let map = lab.leaves();
    let keys: Vec<_> = map.iter().map(|(low, _)| low.model_key()).collect();
    assert_eq!(model.holds_for(&keys), Some(true));
    assert_eq!(model.holds_for(&keys[1..]), None);
    // A line through curved keys that claims to hit each.
    let curved: Vec<u64> = (0..200u64).map(|i| i * i * i).collect();
    let honest = Model::train(Choice::Linear, &curved).unwrap();
    assert_eq!(honest.holds_for(&curved), Some(true));
    let boast = honest.with_error_bound(0);
    assert_eq!(boast.holds_for(&curved), Some(false));
    let read = from_blob(&crate::model::to_blob(&boast).unwrap()).unwrap();
    assert_eq!(read.holds_for(&curved), Some(false));
}

/// A check beside writers and VACUUM raises no false alarm, and is shown every
/// entry that was there before it began and is still there when it ends.
#[test]
fn writers_are_no_faults() {
    with_seeds(60, |seed| {
        let mut rng = Rng::new(seed);
        let mut source = Source::new(Keys::Random, Rows::Scattered, seed);
        let old = source.fresh(400, &BTreeSet::new());
        let new = source.fresh(300, &old.iter().copied().collect());
        let store = bulk_load(512, 90, Choice::Auto, &{
            let mut sorted = old.clone();
            sorted.sort_unstable();
            sorted
        });
        // Where nearly all go, the root shrinks.
        let some = [2, 20][rng.index(2)];
        let dead: HashSet<Tid> = old
            .iter()
            .filter(|_| !rng.once_in(some))
            .map(|pos| pos.tid)
            .collect();
        let stay: Vec<_> = old
            .iter()
            .filter(|pos| !dead.contains(&pos.tid))
            .copied()
            .collect();
        let write: Actor = Box::new(move |store| {
            let router = RefCell::new(Router::<1>::new(1 << 16));
            let mut scratch = Scratch::new(512).unwrap();
            for pos in new {
                Tree::new(&store, &router)
                    .insert(pos, FILL, &mut scratch, &mut NoDead)
                    .unwrap();
            }
        });
        let vacuum: Actor = Box::new(move |store| {
            let router = RefCell::new(Router::<1>::new(1 << 16));
            let mut scratch = Scratch::new(512).unwrap();
            let tree = Tree::new(&store, &router);
            let (mut named, mut pause) = (|tid| dead.contains(&tid), || store.breathe());
            let mut stats = DeleteStats::default();
            tree.bulk_delete(&mut named, &mut scratch, &mut pause, &mut stats)
                .unwrap();
            let found = tree.scavenge(&mut pause).unwrap();
            tree.refresh_model(Choice::Auto, found.leaves).unwrap();
        });
        let look: Actor = Box::new(move |store| {
            let router = RefCell::new(Router::<1>::new(0));
            for _ in 0..4 {
                let mut seen = Vec::new();
                let tree = Tree::new(&store, &router);
                check_beside_writers(&tree, &mut Each(&mut |pos| seen.push(pos))).unwrap();
                assert!(seen.is_sorted_by(|a, b| a < b));
                let missing = stay.iter().find(|pos| seen.binary_search(pos).is_err());
                assert_eq!(missing, None);
            }
        });
        run_actors(&store, seed, vec![write, vacuum, look]);
    });
}
