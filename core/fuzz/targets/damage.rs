//! Operations on an index of which one page has any bytes: they answer or say
//! that the index is damaged, and end.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use omen_core::key::Pos;
use omen_core::model::Choice;
use omen_core::sim::{SimSink, SimStore};
use omen_core::store::PageStore;
use omen_core::tree::{
    BulkLoader, BulkOptions, DeleteStats, InsertOptions, Interval, NoDead, Router, Scan, Scratch,
    Tree, Witness, check, check_beside_writers,
};
use omen_core::{Block, Error, Result};

const MOST_LOCKS: u64 = 250_000;

struct Ignored;

impl Witness<1> for Ignored {
    fn leaf(&mut self, _: Block, _: &[Pos<1>]) -> Result<()> {
        Ok(())
    }
}

fn tolerate<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Corrupt { .. } | Error::Version { .. }) => None,
        Err(error) => panic!("damage is reported as: {error}"),
    }
}

fn entry(key: u64) -> Pos<1> {
    Pos {
        rank: 0,
        vals: [key],
        tid: (key / 40) << 16 | (key % 40 + 1),
    }
}

fuzz_target!(|data: &[u8]| {
    let [block, at, more, data @ ..] = data else {
        return;
    };
    let store = SimStore::new(512);
    let options = BulkOptions {
        fillfactor: 90,
        model: Choice::Pla,
        key_code: 1,
        ordering: 0,
    };
    let mut loader = BulkLoader::<_, 1>::new(SimSink(store.clone()), options).expect("memory");
    for i in 0..1500u64 {
        loader.push(entry(i * 16 + (i * i) % 13)).expect("in order");
    }
    loader.finish().expect("an index");
    // Some bytes of one page are others now.
    let pages = store.pages().expect("pages");
    let block = Block::from(*block) % pages;
    let mut bytes = store.bytes(block).expect("a page");
    let from = (usize::from(*at) * 2 + usize::from(more & 1)) % bytes.len();
    for (to, byte) in bytes[from..].iter_mut().zip(data) {
        *to = *byte;
    }
    store.overwrite(block, bytes);

    let router = RefCell::new(Router::<1>::new(1 << 14));
    let mut scratch = Scratch::new(512).expect("memory");
    let tree = Tree::new(&store, &router);
    store.limit_locks(10 * MOST_LOCKS);
    tolerate(check(&tree, &mut Ignored));
    tolerate(check_beside_writers(&tree, &mut Ignored));
    for forward in [true, false] {
        store.limit_locks(10 * MOST_LOCKS);
        let mut scan = Scan::new();
        let mut n = 0;
        while tolerate(scan.next(&tree, &[Interval::ALL], forward, false))
            .flatten()
            .is_some()
        {
            n += 1;
            assert!(n < 100_000, "a scan that does not end");
        }
    }
    let fill = InsertOptions { fillfactor: 90 };
    for i in 0..40 {
        store.limit_locks(MOST_LOCKS);
        tolerate(tree.insert(entry(i * 601 + 7), fill, &mut scratch, &mut NoDead));
    }
    store.limit_locks(10 * MOST_LOCKS);
    let mut stats = DeleteStats::default();
    tolerate(tree.bulk_delete(
        &mut |tid| tid % 2 == 0,
        &mut scratch,
        &mut || Ok(()),
        &mut stats,
    ));
    tolerate(tree.scavenge(&mut || Ok(())));
    tolerate(tree.refresh_model(Choice::Auto, 1 << 20));
});
