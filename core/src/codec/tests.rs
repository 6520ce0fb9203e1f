use super::{Codec, Column, Encoded, MAX_LINE, MAX_VALUES, encode, encode_as};
use crate::error::Error;
use crate::testing::{cases, scaled};
use proptest::collection::vec;
use proptest::prelude::*;

/// Room for any codec, forced or not, and slack behind it.
const ROOM: usize = 16 * MAX_VALUES + 64;

fn sums(first: u64, gaps: Vec<u64>) -> Vec<u64> {
    let mut at = first;
    let mut values = vec![at];
    for gap in gaps {
        at = at.saturating_add(gap);
        values.push(at);
    }
    values.truncate(MAX_VALUES);
    values
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(2), Just(3), 4..MAX_VALUES, Just(MAX_VALUES)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1 << 63),
        any::<u64>(),
        (any::<u64>(), 0u32..64).prop_map(|(v, bits)| v >> bits)
    ]
}

fn progression() -> impl Strategy<Value = Vec<u64>> {
    (number(), number(), size()).prop_map(|(a, d, n)| {
        (0..n as u64)
            .map(|i| a.wrapping_add(d.wrapping_mul(i)))
            .collect()
    })
}

fn fraction() -> impl Strategy<Value = Vec<u64>> {
    (number(), 1u64..1000, 1u64..1000, size(), any::<bool>()).prop_map(|(a, p, q, n, down)| {
        let up = (0..n as u64).map(|i| a.wrapping_add(i * p / q));
        if down {
            up.rev().collect()
        } else {
            up.collect()
        }
    })
}

fn gaps() -> impl Strategy<Value = Vec<u64>> {
    (number(), 0u32..64, size())
        .prop_flat_map(|(a, bits, n)| (Just(a), vec(0..=u64::MAX >> bits, n - 1)))
        .prop_map(|(a, gaps)| sums(a, gaps))
}

/// Gaps over many orders of magnitude.
fn skewed() -> impl Strategy<Value = Vec<u64>> {
    (number(), size())
        .prop_flat_map(|(a, n)| (Just(a), vec((0u32..52, any::<u64>()), n - 1)))
        .prop_map(|(a, gaps)| {
            sums(
                a,
                gaps.into_iter()
                    .map(|(b, g)| (1 << b) | g >> (64 - b.max(1)))
                    .collect(),
            )
        })
}

fn random(sorted: bool) -> impl Strategy<Value = Vec<u64>> {
    size()
        .prop_flat_map(|n| vec(any::<u64>(), n))
        .prop_map(move |mut values| {
            if sorted {
                values.sort_unstable();
            }
            values
        })
}

/// Few distinct values, sorted or not.
fn duplicates() -> impl Strategy<Value = Vec<u64>> {
    (vec(number(), 1..6), size())
        .prop_flat_map(|(pool, n)| (vec(prop::sample::select(pool), n), any::<bool>()))
        .prop_map(|(mut values, sort)| {
            if sort {
                values.sort_unstable();
            }
            values
        })
}

fn sawtooth() -> impl Strategy<Value = Vec<u64>> {
    (number(), 1u64..50, 1u64..100_000, size()).prop_map(|(a, period, d, n)| {
        (0..n as u64)
            .map(|i| a.wrapping_add(i % period * d))
            .collect()
    })
}

/// A noisy line with outliers.
fn outliers() -> impl Strategy<Value = Vec<u64>> {
    let point = || (any::<u64>(), 0u32..100, number());
    (number(), 0u64..1000, 0u32..8, size())
        .prop_flat_map(move |(a, d, noise, n)| (Just((a, d, noise)), vec(point(), n)))
        .prop_map(|((a, d, noise), points)| {
            let point = |(i, (r, chance, far)): (u64, (u64, u32, u64))| {
                let near = a.wrapping_add(d * i).wrapping_add(r & ((1 << noise) - 1));
                if chance < 5 { far } else { near }
            };
            (0..).zip(points).map(point).collect()
        })
}

fn columns() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        progression(),
        fraction(),
        gaps(),
        skewed(),
        random(true),
        random(false),
        duplicates(),
        sawtooth(),
        outliers(),
    ]
}

/// The longest stretch from `from` on that does not decrease.
fn sorted_end(values: &[u64], from: usize) -> usize {
    let falls = values[from..].windows(2).position(|pair| pair[0] > pair[1]);
    falls.map_or(values.len(), |at| from + at + 1)
}

fn check_bounds(column: &Column<'_>, values: &[u64], from: usize, to: usize, x: u64) {
    let below = values[from..to].partition_point(|v| *v < x);
    assert_eq!(
        column.lower_bound(from, to, x),
        from + below,
        "{from}..{to} {x}"
    );
    let through = values[from..to].partition_point(|v| *v <= x);
    assert_eq!(
        column.upper_bound(from, to, x),
        from + through,
        "{from}..{to} {x}"
    );
    let equal = if below == through {
        Err(from + below)
    } else {
        Ok((from + below, from + through))
    };
    assert_eq!(
        column.equal_range(from, to, x, |_| ()),
        equal,
        "{from}..{to} {x}"
    );
}

/// What `bytes` hold must be `values`, whichever way they are read.
fn check_column(bytes: &[u8], codec: Codec, len: usize, values: &[u64], salt: usize) {
    let n = values.len();
    let (column, parsed) = Column::parse(bytes, n).unwrap();
    assert_eq!((column.codec(), parsed), (codec, len));
    assert_eq!(
        column.is_line(),
        matches!(codec, Codec::Constant | Codec::Line)
    );
    for (i, value) in values.iter().enumerate() {
        assert_eq!(column.get(i), *value, "{codec:?} {i}");
    }
    let mut out = [0xdead_u64; MAX_VALUES];
    let (skip, stride) = if cfg!(miri) { (97, 89) } else { (7, 5) };
    for from in (0..=n).filter(|from| n < 20 || from % skip == salt % skip || *from == 0) {
        for to in (from..=n).filter(|to| n < 20 || to % stride == salt % stride || *to == n) {
            column.decode(from, &mut out[..to - from]);
            assert_eq!(
                &out[..to - from],
                &values[from..to],
                "{codec:?} {from}..{to}"
            );
        }
    }
    for from in [0, salt % n, n - 1] {
        let end = sorted_end(values, from);
        for to in [from, from + (end - from) / 2, end] {
            for i in (from..to).step_by(1 + n / scaled(32)) {
                for x in [
                    values[i],
                    values[i].wrapping_sub(1),
                    values[i].wrapping_add(1),
                ] {
                    check_bounds(&column, values, from, to, x);
                }
            }
            for x in [0, u64::MAX, u64::MAX / 2] {
                check_bounds(&column, values, from, to, x);
            }
        }
    }
}

fn encoded(values: &[u64]) -> (Vec<u8>, Codec) {
    let mut out = vec![0; 8 * values.len() + 2];
    let Encoded { len, codec, .. } = encode(values, &mut out).unwrap();
    out.truncate(len);
    (out, codec)
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_codec_returns_what_was_encoded(values in columns(), salt in any::<usize>()) {
        for codec in Codec::ALL {
            let mut out = [0xa5; ROOM];
            let Some(Encoded { len, head, .. }) = encode_as(codec, &values, &mut out).unwrap() else { continue };
            prop_assert!(out[len..].iter().all(|byte| *byte == 0xa5), "wrote beyond its length");
            check_column(&out, codec, len, &values, salt);
            let exact = out[..len].to_vec();
            check_column(&exact, codec, len, &values, salt);
            prop_assert!(Column::parse(&exact[..len - 1], values.len()).is_none());
            let apart = [&exact[head..], &[0xa5; 7], &exact[..head]].concat();
            let (mut at, mut body) = (len - head + 7, 0);
            let column = Column::parse_parts(&apart, &mut at, &mut body, values.len()).unwrap();
            prop_assert_eq!((at, body), (apart.len(), len - head));
            prop_assert!((0..values.len()).all(|i| column.get(i) == values[i]));
            let mut short = vec![0; len - 1];
            prop_assert_eq!(encode_as(codec, &values, &mut short), Err(Error::Full));
        }
    }

    #[test]
    fn the_choice_is_the_smallest_within_the_tie_rules(values in columns(), salt in any::<usize>()) {
        let (bytes, codec) = encoded(&values);
        prop_assert!(bytes.len() <= 8 * values.len() + 2);
        check_column(&bytes, codec, bytes.len(), &values, salt);
        let mut short = vec![0; bytes.len() - 1];
        prop_assert_eq!(encode(&values, &mut short), Err(Error::Full));
        for other in Codec::ALL.into_iter().filter(|other| *other != Codec::Patched) {
            let mut out = [0; ROOM];
            if let Some(Encoded { len, .. }) = encode_as(other, &values, &mut out).unwrap() {
                let slack = if other == Codec::EliasFano { 7 } else { 0 };
                prop_assert!(bytes.len() <= len + slack, "{codec:?} {} {other:?} {len}", bytes.len());
            }
        }
    }

    #[test]
    fn neighbouring_stretches_of_a_progression_share_their_line(
        first in number(), step in number(), n in 32..=MAX_VALUES, m in 32..=MAX_VALUES,
    ) {
        let value = |i: usize| first.wrapping_add(step.wrapping_mul(i as u64));
        let (left, _) = encoded(&(0..n).map(value).collect::<Vec<_>>());
        let (right, _) = encoded(&(n..n + m).map(value).collect::<Vec<_>>());
        let (left, _) = Column::parse(&left, n + m).unwrap();
        let (right, _) = Column::parse(&right, m).unwrap();
        prop_assert!(left.is_line() && right.is_line());
        prop_assert_eq!(right.get(0), left.get(n));
        for i in [1, m, MAX_LINE] {
            prop_assert_eq!(left.get(i).wrapping_sub(left.get(0)), right.get(i).wrapping_sub(right.get(0)));
            prop_assert_eq!(left.get(i), value(i));
        }
    }
}

/// Whatever the bytes, reading ends, stays in bounds, and is deterministic.
fn read_everything(bytes: &[u8], n: usize, x: u64) {
    let Some((column, len)) = Column::parse(bytes, n) else {
        return;
    };
    assert!(len <= bytes.len());
    let far = [
        0,
        1,
        n / 2,
        n - 1,
        n,
        n + 1,
        255,
        256,
        300,
        MAX_LINE,
        usize::MAX / 2,
        usize::MAX,
    ];
    let far = || far.into_iter().step_by(if cfg!(miri) { 4 } else { 1 });
    for i in far() {
        let value = column.get(i);
        let mut out = [1; 3];
        column.decode(i, &mut out);
        if i < n && column.codec() != Codec::Runs {
            assert_eq!(out[0], value, "{:?} {i}", column.codec());
        }
        for to in far() {
            for x in [x, value, value.wrapping_add(1), 0, u64::MAX] {
                let (at, behind) = column
                    .equal_range(i, to, x, |_| ())
                    .unwrap_or_else(|at| (at, at));
                assert!(at <= behind);
                for found in [
                    column.lower_bound(i, to, x),
                    column.upper_bound(i, to, x),
                    at,
                    behind,
                ] {
                    assert!(
                        found == to || (i..=to).contains(&found),
                        "{i}..{to} {found}"
                    );
                }
            }
        }
    }
    let mut out = [0; MAX_VALUES + 10];
    column.decode(0, &mut out);
    column.decode(n - 1, &mut out);
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn random_bytes_are_read_without_panic(
        tag in 0u8..=10, bytes in vec(any::<u8>(), 0..400), n in 1..=MAX_VALUES, x in number(),
    ) {
        let mut bytes = bytes;
        read_everything(&bytes, n, x);
        read_everything(&bytes, MAX_LINE, x);
        // Most random bytes fail the header: help some of them through it.
        if let [head, second, third, fourth, fifth, ..] = bytes.as_mut_slice() {
            *head = *head & 0xb0 | tag;
            *second &= if tag <= 3 || tag == 8 { 0x77 } else { 0x1f };
            *third = if tag == 6 { *third | 0x20 } else { *third & 0x8f };
            *fourth &= 0x1f;
            *fifth &= 7;
        }
        read_everything(&bytes, n, x);
        read_everything(&bytes, 1 + n / 8, x);
        read_everything(&bytes, MAX_LINE, x);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn damaged_columns_are_read_without_panic(
        values in columns(), flips in vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        cut in any::<prop::sample::Index>(), x in number(),
    ) {
        for codec in Codec::ALL {
            let mut out = [0; ROOM];
            let Some(Encoded { len, .. }) = encode_as(codec, &values, &mut out).unwrap() else { continue };
            let mut bytes = out[..len].to_vec();
            read_everything(&bytes[..cut.index(len)], values.len(), x);
            for (at, bit) in &flips {
                // Half of the damage goes to the header.
                let at = if bit % 2 == 0 { at.index(len) } else { at.index(len.min(12)) };
                bytes[at] ^= 1 << bit;
            }
            read_everything(&bytes, values.len(), x);
            read_everything(&bytes, MAX_VALUES, x);
        }
    }
}

/// xorshift64*, for tests that need many values rather than shrinking.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Ordinals in key order of rows that arrive in key order, but for a share
/// that arrives up to 100,000 rows late.
fn late_arrivals(rows: u64, percent: u64) -> Vec<u64> {
    let mut rng = Rng(7);
    let mut arrivals: Vec<(u64, u64)> = (0..rows)
        .map(|key| {
            let late = rng.next() % 100 < percent;
            (key + if late { rng.next() % 100_000 } else { 0 }, key)
        })
        .collect();
    arrivals.sort_unstable();
    let mut ordinals = vec![0; rows as usize];
    for (ordinal, (_, key)) in (0..).zip(arrivals) {
        ordinals[key as usize] = ordinal;
    }
    ordinals
}

#[test]
#[cfg_attr(miri, ignore = "takes many rows")]
fn ordinals_with_late_arrivals_are_patched_to_less_than_a_byte() {
    let ordinals = late_arrivals(400_000, 5);
    let (mut bytes, mut patched) = (0, 0);
    let blocks = ordinals.as_chunks::<MAX_VALUES>().0;
    for values in blocks {
        let (block, codec) = encoded(values);
        bytes += block.len();
        patched += usize::from(codec == Codec::Patched);
    }
    assert!(
        patched * 10 > blocks.len() * 9,
        "{patched} of {}",
        blocks.len()
    );
    assert!(bytes < blocks.len() * MAX_VALUES, "{bytes}");
}

#[test]
fn few_outliers_are_found_wherever_they_are() {
    for outliers in [
        vec![0],
        vec![255],
        vec![128],
        vec![0, 255],
        vec![3, 60, 61, 62, 200],
    ] {
        let mut values: Vec<u64> = (0..256).map(|i| 1_000_000 + 3 * i).collect();
        for (k, at) in outliers.iter().enumerate() {
            values[*at] = 1 << (40 + k);
        }
        let (bytes, codec) = encoded(&values);
        assert_eq!(codec, Codec::Patched, "{outliers:?}");
        assert!(bytes.len() < 90, "{outliers:?} {}", bytes.len());
        check_column(&bytes, codec, bytes.len(), &values, 3);
    }
}

#[test]
fn patterns_choose_the_codec_made_for_them() {
    let mut rng = Rng(1);
    let mut gap = |bits: u32| rng.next() >> (64 - bits);
    let cases: [(Codec, Vec<u64>, usize); 7] = [
        (Codec::Constant, vec![0; 256], 1),
        (Codec::Constant, vec![u64::MAX; 256], 2),
        (Codec::Line, (1..=256).collect(), 4),
        (Codec::Line, (0..256).rev().map(|i| 10 * i).collect(), 5),
        (
            Codec::Runs,
            (0..256)
                .map(|i| i / 100 * i / 100 * 977)
                .map(|i| i / 1954)
                .collect(),
            32,
        ),
        (
            Codec::EliasFano,
            sums(5, (0..255).map(|_| gap(40)).collect()),
            42 * 256 / 8,
        ),
        (Codec::Raw, (0..256).map(|_| gap(64)).collect(), 8 * 256 + 1),
    ];
    for (codec, values, most) in cases {
        let (bytes, chosen) = encoded(&values);
        assert_eq!(chosen, codec, "{} bytes", bytes.len());
        assert!(bytes.len() <= most, "{codec:?} {}", bytes.len());
    }
    let jitter: Vec<u64> = (0..256).map(|i| 1000 * i + gap(4)).collect();
    assert_eq!(encoded(&jitter).1, Codec::Linear);
    let shuffled: Vec<u64> = (0..256).map(|_| (1 << 40) + gap(20)).collect();
    assert_eq!(encoded(&shuffled).1, Codec::FrameOfReference);
}

#[test]
fn encode_refuses_none_and_too_many_values() {
    let mut out = [0; ROOM];
    assert_eq!(encode(&[], &mut out), Err(Error::Full));
    assert_eq!(encode(&[1; MAX_VALUES + 1], &mut out), Err(Error::Full));
    for codec in Codec::ALL {
        assert_eq!(encode_as(codec, &[], &mut out), Err(Error::Full));
    }
}

#[test]
fn tags_are_those_of_the_format() {
    for (tag, codec) in (1..).zip(Codec::ALL) {
        assert_eq!((codec.tag(), Codec::from_tag(tag)), (tag, Some(codec)));
    }
    assert_eq!((Codec::from_tag(0), Codec::from_tag(9)), (None, None));
    assert!(Column::parse(&[0; 100], 10).is_none());
}

#[test]
fn the_encoding_of_a_line_is_what_the_format_says() {
    let second: Vec<u64> = (101..=200).collect();
    assert_eq!(encoded(&second).0, [0x12, 0x01, 101, 2]);
    let (bytes, _) = encoded(&[300; 5]);
    assert_eq!(bytes, [0x21, 0x2c, 0x01]);
}
