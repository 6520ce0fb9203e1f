//! Benchmarks of the core: codecs, models, and the tree over a store in memory.
//! They compare forms of the same work with each other; what a user gains is
//! measured in SQL.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use omen_core::codec::{self, Codec, Column, MAX_VALUES};
use omen_core::model::{Choice, Model};
use omen_core::sim::{SimSink, SimStore};
use omen_core::tree::{
    BulkLoader, BulkOptions, InsertOptions, Interval, NoDead, Router, Scan, Scratch, Tree,
};
use omen_core::{Pos, Tid};
use std::cell::RefCell;
use std::hint::black_box;

/// A xorshift generator (Marsaglia, 2003): the data must be the same each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Values of a block as they occur: keys in order, or row ordinals.
fn columns() -> Vec<(&'static str, Vec<u64>)> {
    let mut random = Random(42);
    let n = MAX_VALUES as u64;
    let serial = (0..n).collect();
    let mut gaps: Vec<u64> = (0..n).map(|_| random.next() >> 16).collect();
    gaps.sort_unstable();
    let late = (0..n)
        .map(|i| {
            if random.next().is_multiple_of(20) {
                i + random.next() % 5000
            } else {
                i
            }
        })
        .collect();
    let shuffled = (0..n).map(|_| random.next() % 10_000_000).collect();
    vec![
        ("serial", serial),
        ("random gaps", gaps),
        ("late", late),
        ("shuffled", shuffled),
    ]
}

fn bench_codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(MAX_VALUES as u64));
    for (name, values) in columns() {
        let mut bytes = vec![0; 16 * MAX_VALUES];
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| codec::encode(black_box(&values), &mut bytes));
        });
        for codec in Codec::ALL {
            let Ok(Some(_)) = codec::encode_as(codec, &values, &mut bytes) else {
                continue;
            };
            let Some((column, _)) = Column::parse(&bytes, MAX_VALUES) else {
                continue;
            };
            let mut out = vec![0; MAX_VALUES];
            let id = format!("decode {}", codec.name());
            group.bench_function(BenchmarkId::new(id, name), |b| {
                b.iter(|| column.decode(0, black_box(&mut out)));
            });
        }
    }
    group.finish();
}

fn bench_model(c: &mut Criterion) {
    let mut random = Random(7);
    let mut keys: Vec<u64> = (0..1_000_000).map(|_| random.next()).collect();
    keys.sort_unstable();
    let mut group = c.benchmark_group("model");
    for (name, choice) in [
        ("linear", Choice::Linear),
        ("rmi", Choice::Rmi),
        ("pla", Choice::Pla),
    ] {
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("train", name), |b| {
            b.iter(|| Model::train(choice, black_box(&keys)));
        });
        let Ok(model) = Model::train(choice, &keys) else {
            continue;
        };
        group.bench_function(BenchmarkId::new("predict", name), |b| {
            b.iter(|| model.predict(black_box(random.next())));
        });
    }
    group.finish();
}

fn entry(key: u64, row: u64) -> Pos<1> {
    let tid: Tid = ((row / 226) << 16) | (row % 226 + 1);
    Pos {
        rank: 0,
        vals: [key],
        tid,
    }
}

fn index(entries: impl Iterator<Item = Pos<1>>) -> SimStore {
    let store = SimStore::new(8192);
    let options = BulkOptions {
        fillfactor: 90,
        model: Choice::Auto,
        key_code: 1,
        ordering: 0,
    };
    let mut loader =
        BulkLoader::<_, 1>::new(SimSink(store.clone()), options).expect("memory for a build");
    for entry in entries {
        loader.push(entry).expect("entries ascend");
    }
    loader.finish().expect("the build ends");
    store
}

fn bench_tree(c: &mut Criterion) {
    const ROWS: u64 = 1_000_000;
    let mut group = c.benchmark_group("tree");
    for (name, step) in [("serial", 1), ("gaps", 1_000)] {
        let mut random = Random(3);
        let key = |row: u64| {
            row * step
                + if step > 1 {
                    (row * 2_654_435_761) % step
                } else {
                    0
                }
        };
        let store = index((0..ROWS).map(|row| entry(key(row), row)));
        let router = RefCell::new(Router::new(4 << 20));
        let tree = Tree::new(&store, &router);
        let mut scan = Scan::new();
        group.bench_function(BenchmarkId::new("probe", name), |b| {
            b.iter(|| {
                let lo = entry(key(random.next() % ROWS), 0).key_start();
                let interval = [Interval {
                    lo,
                    hi: Some(lo.key_end()),
                }];
                scan.restart();
                scan.next(&tree, &interval, true, false)
            });
        });
        let mut row = ROWS;
        group.bench_function(BenchmarkId::new("append", name), |b| {
            let mut scratch = Scratch::new(8192).expect("memory for a writer");
            let options = InsertOptions { fillfactor: 90 };
            b.iter_batched(
                || {
                    row += 1;
                    entry(key(row), row)
                },
                |entry| tree.insert(entry, options, &mut scratch, &mut NoDead),
                BatchSize::SmallInput,
            );
        });
        group.sample_size(10);
        group.throughput(Throughput::Elements(ROWS));
        group.bench_function(BenchmarkId::new("scan", name), |b| {
            b.iter(|| {
                let all = [Interval {
                    lo: Pos::MIN,
                    hi: None,
                }];
                let mut scan = Scan::new();
                let mut rows = 0;
                while let Ok(Some(_)) = scan.next(&tree, &all, true, false) {
                    rows += 1;
                }
                rows
            });
        });
        group.bench_function(BenchmarkId::new("build", name), |b| {
            b.iter(|| index((0..ROWS).map(|row| entry(key(row), row))));
        });
    }
    group.finish();
}

criterion_group!(benches, bench_codec, bench_model, bench_tree);
criterion_main!(benches);
