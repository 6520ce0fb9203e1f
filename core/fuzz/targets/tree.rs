//! A script of operations on an index, beside a sorted set.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use omen_core::key::Pos;
use omen_core::model::Choice;
use omen_core::sim::{SimSink, SimStore};
use omen_core::tree::{
    BulkLoader, BulkOptions, DeleteStats, InsertOptions, Interval, NoDead, Router, Scan, Scratch,
    Tree, Witness, check,
};
use omen_core::{Block, Result};

const FILL: InsertOptions = InsertOptions { fillfactor: 90 };

struct Lab {
    store: SimStore,
    router: RefCell<Router<1>>,
    scratch: Scratch<1>,
    set: BTreeSet<Pos<1>>,
    row: u64,
}

struct Collected(Vec<Pos<1>>);

impl Witness<1> for Collected {
    fn leaf(&mut self, _: Block, entries: &[Pos<1>]) -> Result<()> {
        self.0.extend(entries);
        Ok(())
    }
}

impl Lab {
    fn insert(&mut self, key: u64) {
        self.row += 1;
        let pos = Pos {
            rank: 0,
            vals: [key],
            tid: (self.row / 50) << 16 | (self.row % 50 + 1),
        };
        let tree = Tree::new(&self.store, &self.router);
        tree.insert(pos, FILL, &mut self.scratch, &mut NoDead)
            .expect("inserts");
        self.set.insert(pos);
    }

    fn vacuum(&mut self, part: u64) {
        let tree = Tree::new(&self.store, &self.router);
        let mut stats = DeleteStats::default();
        let mut dead = |tid: u64| (tid >> 16 ^ tid) % (part + 2) == 0;
        tree.bulk_delete(&mut dead, &mut self.scratch, &mut || Ok(()), &mut stats)
            .expect("deletes");
        let found = tree.scavenge(&mut || Ok(())).expect("cleans up");
        tree.refresh_model(Choice::Auto, found.leaves)
            .expect("trains");
        self.set.retain(|pos| !dead(pos.tid));
    }

    fn scan(&self, lo: u64, hi: u64, forward: bool) {
        let end = |val| Pos {
            rank: 0,
            vals: [val],
            tid: 0,
        };
        let part = [Interval {
            lo: end(lo),
            hi: Some(end(hi)),
        }];
        let tree = Tree::new(&self.store, &self.router);
        let mut scan = Scan::new();
        let mut found = Vec::new();
        while let Some(pos) = scan.next(&tree, &part, forward, false).expect("scans") {
            found.push(pos);
        }
        if !forward {
            found.reverse();
        }
        let wanted = self.set.iter().filter(|pos| part[0].contains(pos));
        assert!(found.iter().eq(wanted));
    }

    fn verify(&self) {
        let mut seen = Collected(Vec::new());
        check(&Tree::new(&self.store, &self.router), &mut seen).expect("sound");
        assert!(seen.0.iter().eq(self.set.iter()));
    }
}

fuzz_target!(|data: &[u8]| {
    let store = SimStore::new(512);
    let options = BulkOptions {
        fillfactor: 90,
        model: Choice::Auto,
        key_code: 1,
        ordering: 0,
    };
    let loader = BulkLoader::<_, 1>::new(SimSink(store.clone()), options).expect("memory");
    loader.finish().expect("an empty index");
    let mut lab = Lab {
        store,
        router: RefCell::new(Router::new(1 << 14)),
        scratch: Scratch::new(512).expect("memory"),
        set: BTreeSet::new(),
        row: 0,
    };
    for step in data.chunks(4).take(400) {
        let &[what, a, b, c] = step else { break };
        let key = u64::from(a) << 8 | u64::from(b);
        match what % 8 {
            // Serial, scattered, equal and far keys.
            0 => (0..u64::from(c)).for_each(|i| lab.insert(key + i)),
            1 => (0..u64::from(c))
                .for_each(|i| lab.insert((key + i).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            2 => (0..u64::from(c)).for_each(|_| lab.insert(key)),
            3 => lab.insert(key << (c % 48)),
            4 => lab.vacuum(u64::from(c)),
            5 => lab.scan(key, key + (u64::from(c) << 4), b & 1 == 0),
            6 => lab.store = lab.store.recover(),
            _ => lab.router = RefCell::new(Router::new(usize::from(c) << 6)),
        }
    }
    lab.verify();
    lab.scan(0, u64::MAX, true);
    lab.scan(0, u64::MAX, false);
});
