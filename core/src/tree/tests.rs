use crate::model::Choice;
use crate::sim::{SimSink, SimStore};
use crate::tree::*;
use crate::Pos;
use std::cell::RefCell;
use std::collections::BTreeSet;

fn p(k: u64, t: u64) -> Pos<1> {
    Pos { rank: 0, vals: [k], tid: t }
}

fn build(store: &SimStore, entries: &[Pos<1>]) -> BulkResult {
    let options = BulkOptions { fillfactor: 90, model: Choice::Auto, key_code: 1, ordering: 0 };
    let mut loader = BulkLoader::<_, 1>::new(SimSink(store.clone()), options).unwrap();
    for e in entries {
        loader.push(*e).unwrap();
    }
    loader.finish().unwrap()
}

fn all(tree: &Tree<'_, SimStore, 1>, forward: bool) -> Vec<Pos<1>> {
    let mut scan = Scan::new();
    let intervals = [Interval { lo: Pos::MIN, hi: None }];
    let mut out = Vec::new();
    while let Some(pos) = scan.next(tree, &intervals, forward, false).unwrap() {
        out.push(pos);
    }
    out
}

#[test]
fn smoke() {
    for size in [512usize, 1024, 8192] {
        let store = SimStore::new(size);
        let entries: Vec<_> = (0..5000u64).map(|i| p(i * 3, (i / 100) << 16 | (i % 100 + 1))).collect();
        let result = build(&store, &entries);
        println!("{size} {result:?}");
        let router = RefCell::new(Router::new(1 << 20));
        let tree = Tree::new(&store, &router);
        let mut seen = Vec::new();
        println!("{:?}", check(&tree, &mut |p| seen.push(p)).unwrap());
        assert_eq!(seen, entries);
        let mut set: BTreeSet<_> = entries.iter().copied().collect();
        let mut scratch = Scratch::new(size).unwrap();
        let mut x = 1u64;
        for i in 0..20000u64 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pos = p(if i % 3 == 0 { 20000 + i } else { (x >> 33) % 20000 }, (i % 7000) << 16 | 1 + i % 50);
            if set.insert(pos) {
                tree.insert(pos, InsertOptions { fillfactor: 90 }, &mut scratch, &mut NoDead).unwrap();
            }
            if i % 5000 == 0 {
                let mut seen = Vec::new();
                println!("{:?}", check(&tree, &mut |p| seen.push(p)).unwrap());
                assert!(seen.iter().eq(set.iter()));
            }
        }
        assert!(all(&tree, true).iter().eq(set.iter()));
        assert!(all(&tree, false).iter().eq(set.iter().rev()));
        println!("{:?}", router.borrow().counters);
        for round in 0..8u64 {
            let mut stats = DeleteStats::default();
            let gone = |t: u64| (t >> 16) % 8 == round;
            tree.bulk_delete(&mut |t| gone(t), &mut scratch, &mut || Ok(()), &mut stats).unwrap();
            set.retain(|p| !gone(p.tid));
            let mut seen = Vec::new();
            println!("{stats:?} {:?}", check(&tree, &mut |p| seen.push(p)).unwrap());
            assert!(seen.iter().eq(set.iter()));
            println!("{:?}", tree.scavenge(&mut || Ok(())).unwrap());
        }
        assert!(set.is_empty());
    }
}
