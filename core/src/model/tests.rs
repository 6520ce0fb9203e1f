use proptest::prelude::*;

use super::*;
use crate::testing::{cases, scaled};

const CHOICES: [Choice; 4] = [Choice::Linear, Choice::Rmi, Choice::Pla, Choice::Auto];

/// Steele, Lea and Flood's SplitMix64, so that a shape is a seed and a length.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Irwin and Hall's approximation of a standard normal deviate.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Sequential,
    EvenGaps,
    RandomGaps,
    Uniform,
    Lognormal,
    Clustered,
    HeavyDuplicates,
    AllEqual,
    TwoValues,
    Extremes,
    Sawtooth,
    FarFirstFence,
    HugeGapsAndAdjacent,
}

const SHAPES: [Shape; 13] = [
    Shape::Sequential,
    Shape::EvenGaps,
    Shape::RandomGaps,
    Shape::Uniform,
    Shape::Lognormal,
    Shape::Clustered,
    Shape::HeavyDuplicates,
    Shape::AllEqual,
    Shape::TwoValues,
    Shape::Extremes,
    Shape::Sawtooth,
    Shape::FarFirstFence,
    Shape::HugeGapsAndAdjacent,
];

fn keys(shape: Shape, n: usize, seed: u64) -> Vec<u64> {
    let mut r = Random(seed);
    let (a, b) = (r.next(), r.next());
    let mut sum = a >> 1;
    let mut made: Vec<u64> = (0..n as u64)
        .map(|i| match shape {
            Shape::Sequential => (a >> 1) + i,
            Shape::EvenGaps => (a >> 2) + i * (b >> 20),
            Shape::RandomGaps => {
                sum += r.next() % 1000;
                sum
            }
            Shape::Uniform => r.next(),
            Shape::Lognormal => (1e9 * (2.0 * r.normal()).exp()) as u64,
            Shape::Clustered => (r.next() % 7).wrapping_mul(a) + (r.next() % 4096),
            Shape::HeavyDuplicates => {
                if r.next().is_multiple_of(50) {
                    sum += r.next() % 100;
                }
                sum
            }
            Shape::AllEqual => a,
            Shape::TwoValues => {
                if r.next().is_multiple_of(3) {
                    a
                } else {
                    b
                }
            }
            Shape::Extremes => match r.next() % 4 {
                0 => 0,
                1 => u64::MAX,
                2 => r.next() % 5,
                _ => u64::MAX - r.next() % 5,
            },
            Shape::Sawtooth => {
                sum += 1 << (i % 40);
                sum
            }
            Shape::FarFirstFence => {
                if i == 0 {
                    0
                } else {
                    (1 << 63) + i * 1000
                }
            }
            Shape::HugeGapsAndAdjacent => {
                if i % 17 == 0 {
                    sum += (1 << 40) + r.next() % 1000;
                }
                sum += 1;
                sum
            }
        })
        .collect();
    made.sort_unstable();
    made
}

/// The distance of a prediction as the documentation defines it, by search.
fn distance(keys: &[u64], key: u64, said: usize) -> usize {
    let last = keys.partition_point(|&k| k <= key).saturating_sub(1);
    let first = if keys[last] == key {
        keys.partition_point(|&k| k < key)
    } else {
        last
    };
    first.saturating_sub(said).max(said.saturating_sub(last))
}

fn probes(keys: &[u64], seed: u64) -> Vec<u64> {
    let mut r = Random(seed ^ 0xabcd);
    let mut made = vec![0, 1, u64::MAX, u64::MAX - 1, 1 << 63];
    for pair in keys.windows(2) {
        made.push(pair[0] + (pair[1] - pair[0]) / 2);
        made.push(pair[0] + r.next() % (pair[1] - pair[0]).max(1));
    }
    for &key in keys {
        made.extend([key.saturating_sub(1), key, key.saturating_add(1)]);
    }
    for bits in 0..64 {
        made.push(r.next() >> bits);
    }
    made
}

/// The bound holds for every probe and is met by one.
fn check_bound(model: &Model, keys: &[u64], seed: u64) {
    assert_eq!(model.trained(), keys.len());
    let probes = probes(keys, seed);
    let Some(worst) = probes
        .iter()
        .map(|&key| {
            let said = model.predict(key);
            assert!(said < keys.len());
            distance(keys, key, said)
        })
        .max()
    else {
        return;
    };
    assert_eq!(worst, model.error_bound(), "{:?}", model.kind());
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn error_bound_is_met_and_never_exceeded(
        n in prop_oneof![1usize..20, 1usize..scaled(1500)], seed: u64
    ) {
        for shape in SHAPES {
            let keys = keys(shape, n, seed);
            for choice in CHOICES {
                check_bound(&Model::train(choice, &keys).unwrap(), &keys, seed);
            }
        }
    }

    #[test]
    fn epsilon_holds_for_every_key_whatever_the_keys(n in 1usize..scaled(1500), seed: u64) {
        for shape in SHAPES {
            let keys = keys(shape, n, seed);
            for epsilon in [0, 1, 4, 8, 16] {
                let model = Model::train_pla(&keys, epsilon).unwrap();
                prop_assert!(model.error_bound() <= epsilon as usize);
                prop_assert!(model.segments() <= n / (epsilon as usize + 1) + 1);
                check_bound(&model, &keys, seed);
            }
            let auto = Model::train(Choice::Auto, &keys).unwrap();
            prop_assert!(auto.error_bound() <= AUTO_ERROR_MAX);
        }
    }

    #[test]
    fn bound_holds_for_short_lists_of_close_keys(
        mut keys in prop::collection::vec(prop_oneof![0u64..40, u64::MAX - 40..=u64::MAX], 1..60)
    ) {
        keys.sort_unstable();
        for choice in CHOICES {
            let model = Model::train(choice, &keys).unwrap();
            check_bound(&model, &keys, 1);
            for key in (0..50).chain(u64::MAX - 50..=u64::MAX) {
                prop_assert!(distance(&keys, key, model.predict(key)) <= model.error_bound());
            }
        }
    }

    #[test]
    fn blob_round_trip_gives_an_equal_model(n in 0usize..scaled(1500), seed: u64) {
        for shape in SHAPES {
            let keys = keys(shape, n, seed);
            for choice in CHOICES {
                let model = Model::train(choice, &keys).unwrap();
                let read = from_blob(&to_blob(&model).unwrap()).unwrap();
                prop_assert_eq!(&read, &model);
                prop_assert_eq!(read.bytes(), model.bytes());
            }
        }
    }

    #[test]
    fn random_bytes_are_no_model(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(from_blob(&bytes).is_err());
        if let Ok(model) = from_blob(&sealed(&bytes)) {
            predict_everywhere(&model);
        }
    }

    #[test]
    fn forged_changes_decode_to_something_that_predicts_in_range(
        seed: u64,
        n in 0usize..300,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for shape in [Shape::Uniform, Shape::Lognormal, Shape::HeavyDuplicates] {
            for choice in CHOICES {
                let model = Model::train(choice, &keys(shape, n, seed)).unwrap();
                let mut body = to_blob(&model).unwrap().split_off(10);
                for (at, byte) in &changes {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
                if let Ok(model) = from_blob(&sealed(&body)) {
                    predict_everywhere(&model);
                }
            }
        }
    }
}

/// A body under a header that is right for it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut made = b"OmMd\x02\x00".to_vec();
    made.extend(crc32fast::hash(body).to_le_bytes());
    made.extend(body);
    made
}

fn predict_everywhere(model: &Model) {
    let mut r = Random(7);
    let random = (0..64).map(|bits| r.next() >> bits);
    for key in random.chain([0, 1, 1 << 63, u64::MAX - 1, u64::MAX]) {
        assert!(model.predict(key) < model.trained().max(1));
    }
}

#[test]
fn no_keys_give_position_zero() {
    for (choice, kind) in [
        (Choice::Auto, ModelKind::Linear),
        (Choice::Linear, ModelKind::Linear),
        (Choice::Rmi, ModelKind::Rmi),
        (Choice::Pla, ModelKind::Pla),
    ] {
        let model = Model::train(choice, &[]).unwrap();
        assert_eq!(model.kind(), kind);
        assert_eq!((model.trained(), model.error_bound()), (0, 0));
        assert_eq!(model.predict(0), 0);
        assert_eq!(model.predict(u64::MAX), 0);
        assert_eq!(from_blob(&to_blob(&model).unwrap()), Ok(model));
    }
}

#[test]
fn a_single_key_is_exact() {
    for key in [0, 1, 1 << 40, u64::MAX] {
        for choice in CHOICES {
            let model = Model::train(choice, &[key]).unwrap();
            assert_eq!((model.trained(), model.error_bound()), (1, 0));
            predict_everywhere(&model);
        }
    }
}

#[test]
fn keys_out_of_order_are_refused() {
    for choice in CHOICES {
        assert!(matches!(
            Model::train(choice, &[1, 3, 2]),
            Err(Error::Corrupt { .. })
        ));
    }
}

#[test]
fn auto_takes_linear_on_a_perfect_line() {
    for stride in [1, 7, 256, 1 << 30] {
        for n in [2, 3, 100, scaled(20_000) as u64] {
            let keys: Vec<u64> = (0..n).map(|i| (1 << 60) + i * stride).collect();
            let model = Model::train(Choice::Auto, &keys).unwrap();
            assert_eq!(model.kind(), ModelKind::Linear);
            assert!(
                model.error_bound() <= 1,
                "{} at {stride}",
                model.error_bound()
            );
            assert_eq!((model.segments(), model.bytes()), (1, 0));
            for (i, &key) in keys.iter().enumerate() {
                assert_eq!(model.predict(key), i);
            }
        }
    }
}

#[test]
fn minus_infinity_as_first_fence_costs_no_accuracy() {
    let keys = keys(Shape::FarFirstFence, scaled(10_000), 1);
    let model = Model::train(Choice::Auto, &keys).unwrap();
    assert_eq!(model.kind(), ModelKind::Linear);
    assert!(model.error_bound() <= 1);
}

#[test]
#[cfg_attr(miri, ignore = "takes many keys")]
fn rmi_with_a_linear_root_collapses_on_lognormal_keys() {
    let skewed = keys(Shape::Lognormal, 20_000, 3);
    let rmi = Model::train(Choice::Rmi, &skewed).unwrap();
    let pla = Model::train(Choice::Pla, &skewed).unwrap();
    assert!(rmi.error_bound() > 1000, "{}", rmi.error_bound());
    assert!(pla.error_bound() <= EPSILON as usize);
    assert_eq!(
        Model::train(Choice::Auto, &skewed).unwrap().kind(),
        ModelKind::Pla
    );

    let even = keys(Shape::Uniform, 20_000, 3);
    let rmi = Model::train(Choice::Rmi, &even).unwrap();
    assert!(rmi.error_bound() < 64, "{}", rmi.error_bound());
}

#[test]
fn duplicates_may_be_answered_with_any_of_their_positions() {
    let mut keys = vec![5; 1000];
    keys.extend([9; 1000]);
    for choice in [Choice::Pla, Choice::Auto] {
        let model = Model::train(choice, &keys).unwrap();
        assert!(model.error_bound() <= 16);
        assert_eq!(model.predict(4), 0);
        assert!(model.predict(5).abs_diff(500) <= 516);
        assert!(model.predict(8).abs_diff(999) <= 16);
        assert!(model.predict(10).abs_diff(1999) <= 16);
    }
}

#[test]
fn every_damaged_byte_and_every_truncation_is_noticed() {
    for shape in [Shape::Sequential, Shape::Uniform, Shape::HeavyDuplicates] {
        for choice in CHOICES {
            let model = Model::train(choice, &keys(shape, scaled(200), 5)).unwrap();
            let mut blob = to_blob(&model).unwrap();
            for n in 0..blob.len() {
                assert!(from_blob(&blob[..n]).is_err());
            }
            for at in 0..blob.len() {
                let right = blob[at];
                let others = (0..=255).filter(|&wrong| wrong != right);
                for wrong in others.step_by(256 / scaled(256)) {
                    blob[at] = wrong;
                    let said = from_blob(&blob).unwrap_err();
                    let due = match at {
                        0..4 => BlobError::Magic,
                        4 => BlobError::Version(wrong.into()),
                        5 => BlobError::Version(u16::from(wrong) * 256 + 2),
                        _ => BlobError::Checksum,
                    };
                    assert_eq!(said, due);
                    assert!(!said.to_string().is_empty());
                }
                blob[at] = right;
            }
            blob.push(0);
            assert_eq!(from_blob(&blob), Err(BlobError::Checksum));
            assert_eq!(from_blob(&sealed(&blob[10..])), Err(BlobError::Decode));
        }
    }
    assert_eq!(from_blob(&[]), Err(BlobError::TooShort));
}

/// The stored form as a writer of hostile blobs would lay it out.
#[derive(Serialize)]
enum ForgedBody {
    #[expect(dead_code, reason = "keeps the number of the next variant")]
    Linear,
    Rmi {
        base: u64,
        root: (u32, u8),
        stages: Vec<ForgedStage>,
    },
    Pla {
        keys: Vec<u64>,
        segments: Vec<((u32, u8), u32, u32)>,
    },
}

/// ((base, intercept, line), last, error)
type ForgedStage = ((u64, i64, (u32, u8)), u32, u32);

fn forged(trained: u32, error: u32, base: u64, body: &ForgedBody) -> Vec<u8> {
    let config = bincode::config::standard();
    let fingerprint = 0u64;
    let body = (trained, error, base, fingerprint, body);
    sealed(&bincode::serde::encode_to_vec(body, config).unwrap())
}

#[test]
fn a_forged_pla_is_refused_unless_its_parts_agree() {
    let line = (u32::MAX, 255);
    let pla = |keys: &[u64], segments: &[(u32, u32)]| {
        let segments = segments
            .iter()
            .map(|&(first, last)| (line, first, last))
            .collect();
        from_blob(&forged(
            10,
            0,
            5,
            &ForgedBody::Pla {
                keys: keys.to_vec(),
                segments,
            },
        ))
    };
    let good = pla(&[5, 8], &[(1, 4), (5, 9)]).unwrap();
    predict_everywhere(&good);
    for (keys, segments) in [
        (&[][..], &[][..]),            // empty
        (&[5, 8], &[(1, 4)]),          // unequal columns
        (&[8, 5], &[(1, 4), (5, 9)]),  // keys out of order
        (&[5, 5], &[(1, 4), (5, 9)]),  // keys equal
        (&[6, 8], &[(1, 4), (5, 9)]),  // not from the base on
        (&[5, 8], &[(1, 4), (4, 9)]),  // positions overlap
        (&[5, 8], &[(1, 4), (9, 5)]),  // positions reversed
        (&[5, 8], &[(1, 4), (5, 10)]), // position out of range
    ] {
        assert_eq!(
            pla(keys, segments),
            Err(BlobError::Decode),
            "{keys:?} {segments:?}"
        );
    }
    let body = ForgedBody::Pla {
        keys: vec![5],
        segments: vec![(line, 0, 9)],
    };
    assert!(from_blob(&forged(10, 9, 5, &body)).is_ok());
    assert_eq!(from_blob(&forged(10, 10, 5, &body)), Err(BlobError::Decode));
}

#[test]
fn a_forged_rmi_is_refused_or_predicts_in_range() {
    let rmi = |trained, stages: Vec<ForgedStage>| {
        let body = ForgedBody::Rmi {
            base: 0,
            root: (u32::MAX, 3),
            stages,
        };
        from_blob(&forged(trained, 0, 0, &body))
    };
    let wild = |last| ((9, i64::MAX, (u32::MAX, 0)), last, 0);
    let low = |last| ((0, i64::MIN, (u32::MAX, 200)), last, 0);
    predict_everywhere(&rmi(10, vec![wild(0), low(3), wild(9)]).unwrap());
    predict_everywhere(&rmi(1, vec![wild(0)]).unwrap());
    assert_eq!(rmi(10, vec![]), Err(BlobError::Decode));
    assert_eq!(rmi(0, vec![wild(0)]), Err(BlobError::Decode));
    assert_eq!(rmi(10, vec![wild(10)]), Err(BlobError::Decode));
    assert_eq!(rmi(10, vec![wild(3), wild(2)]), Err(BlobError::Decode));
    if cfg!(not(miri)) {
        assert_eq!(rmi(100_000, vec![wild(0); 70_000]), Err(BlobError::Decode));
    }
}

#[test]
fn a_forged_length_takes_no_memory() {
    // trained 10, error 0, base 0, fingerprint 0, pla, keys of a claimed length of 2^64 - 1.
    let mut body = vec![10, 0, 0, 0, 2, 253];
    body.extend([0xff; 8]);
    assert_eq!(from_blob(&sealed(&body)), Err(BlobError::Decode));
    // ... and of 2^32 - 1.
    assert_eq!(
        from_blob(&sealed(&[10, 0, 0, 0, 2, 252, 255, 255, 255, 255])),
        Err(BlobError::Decode)
    );
}

#[test]
fn names_are_those_of_the_reloption() {
    let names = [ModelKind::Linear, ModelKind::Rmi, ModelKind::Pla].map(ModelKind::name);
    assert_eq!(names, ["linear", "rmi", "pla"]);
}

#[test]
fn a_line_is_centred_between_its_errors() {
    // Between its ends x = i^2 strays from the line by n / 4, to one side only.
    let keys: Vec<u64> = (0..1000).map(|i| i * i).collect();
    let model = Model::train(Choice::Linear, &keys).unwrap();
    assert!((120..=130).contains(&model.error_bound()));
}
