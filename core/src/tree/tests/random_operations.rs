//! Random operations of one process, each followed by a full check.

use super::*;
use crate::sim::Rng;
use proptest::collection::vec;

#[derive(Clone, Copy, Debug)]
enum Kill {
    Half,
    EveryOther,
    Head,
    Tail,
    OneInFifty,
    AllButFew,
}

const KILLS: [Kill; 6] = [
    Kill::Half,
    Kill::EveryOther,
    Kill::Head,
    Kill::Tail,
    Kill::OneInFifty,
    Kill::AllButFew,
];

#[derive(Clone, Debug)]
enum Op {
    Insert(Source, usize),
    Batch(Source, usize),
    Delete(Kill, u64),
    Scavenge,
    Refresh(Choice),
    /// Forgets what the process has learned of the index.
    ForgetRouter(usize),
    LoadRouter,
}

fn choice() -> impl Strategy<Value = Choice> {
    prop::sample::select(&[Choice::Auto, Choice::Linear, Choice::Rmi, Choice::Pla][..])
}

fn op() -> impl Strategy<Value = Op> {
    let room = prop::sample::select(&[0usize, 18, 180, 1 << 20][..]);
    prop_oneof![
        6 => (source(), 1usize..scaled(300)).prop_map(|(source, n)| Op::Insert(source, n)),
        3 => (source(), 1usize..scaled(3000)).prop_map(|(source, n)| Op::Batch(source, n)),
        4 => (prop::sample::select(&KILLS[..]), any::<u64>())
            .prop_map(|(kill, seed)| Op::Delete(kill, seed)),
        1 => Just(Op::Scavenge),
        1 => choice().prop_map(Op::Refresh),
        1 => room.prop_map(Op::ForgetRouter),
        1 => Just(Op::LoadRouter),
    ]
}

/// TIDs of a part of the entries.
fn victims<const V: usize>(set: &BTreeSet<Pos<V>>, kill: Kill, seed: u64) -> HashSet<Tid> {
    let mut rng = Rng::new(seed);
    let n = set.len().max(1);
    let (from, to) = (rng.index(n), rng.index(n));
    let chosen = set.iter().enumerate().filter(|(i, _)| match kill {
        Kill::Half => rng.once_in(2),
        Kill::EveryOther => i % 2 == 0,
        Kill::Head => *i < from,
        Kill::Tail => *i >= to,
        Kill::OneInFifty => rng.once_in(50),
        Kill::AllButFew => !rng.once_in(100),
    });
    chosen.map(|(_, pos)| pos.tid).collect()
}

impl<const V: usize> Lab<V> {
    fn apply(&mut self, op: &mut Op) {
        match op {
            Op::Insert(source, n) => {
                for pos in source.fresh(*n, &self.set) {
                    self.insert(pos);
                }
            }
            Op::Batch(source, n) => {
                let mut entries = source.fresh(*n, &self.set);
                entries.sort_unstable();
                self.insert_all(&entries);
            }
            Op::Delete(kill, seed) => {
                let dead = victims(&self.set, *kill, *seed);
                self.delete(&dead);
            }
            Op::Scavenge => {
                let found = self.tree().scavenge(&mut || Ok(())).unwrap();
                assert_eq!(found.entries, self.set.len() as u64);
                assert_eq!(found.pages, self.store.pages().unwrap());
            }
            Op::Refresh(choice) => {
                let leaves = self.verify().leaves;
                if self.tree().refresh_model(*choice, leaves).unwrap() {
                    let meta = self.tree().meta().unwrap();
                    assert_eq!(meta.model_leaves, leaves);
                    assert!(matches!(
                        read_model(&self.store, &meta),
                        Ok(Loaded::Model(_))
                    ));
                }
            }
            Op::ForgetRouter(bytes) => *self.router.borrow_mut() = Router::new(*bytes),
            Op::LoadRouter => self.tree().load_router().unwrap(),
        }
    }
}

fn run<const V: usize>(size: usize, fill: u32, model: Choice, first: Vec<Pos<V>>, ops: Vec<Op>) {
    let mut lab = Lab::build(size, fill, model, &first);
    lab.verify();
    for mut op in ops {
        lab.apply(&mut op);
        lab.verify();
    }
    assert!(lab.all(true).iter().eq(lab.set.iter()));
    assert!(lab.all(false).iter().eq(lab.set.iter().rev()));
    let mut rng = Rng::new(1);
    for pos in lab.set.iter().filter(|_| rng.once_in(20)) {
        let point = [Interval {
            lo: *pos,
            hi: Some(pos.next()),
        }];
        assert_eq!(scan_all(&lab.tree(), &point, true).unwrap(), [*pos]);
    }
}

fn sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(&[512usize, 1024, 8192][..])
}

fn fills() -> impl Strategy<Value = u32> {
    prop::sample::select(&[10u32, 50, 90, 100][..])
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn the_tree_of_one_lane_holds_what_the_set_does(
        size in sizes(), fill in fills(), model in choice(),
        mut first in source(), n in 0usize..scaled(3000), ops in vec(op(), 1..12),
    ) {
        run::<1>(size, fill, model, first.sorted(n), ops);
    }

    #[test]
    fn the_tree_of_two_lanes_holds_what_the_set_does(
        size in sizes(), fill in fills(), model in choice(),
        mut first in source(), n in 0usize..scaled(2000), ops in vec(op(), 1..10),
    ) {
        run::<2>(size, fill, model, first.sorted(n), ops);
    }
}
