//! The order of positions, and values that come back from them.

// pgrx wants an inline module of this name.
#[pgrx::pg_schema]
mod tests {
    use core::cmp;

    use omen_core::key::Pos;
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    use super::super::values::*;
    use crate::types::{KeyCodec, KeyType, Ordering};

    #[pg_test]
    fn codes_and_oids_are_bijective() {
        for key_type in KeyType::ALL {
            assert_eq!(KeyType::from_code(key_type.code()), Some(key_type));
            assert_eq!(KeyType::from_oid(key_type.oid()), Some(key_type));
        }
        assert_eq!(KeyType::from_code(0), None);
        assert_eq!(KeyType::from_code(12), None);
        assert_eq!(KeyType::from_oid(pg_sys::TEXTOID), None);
        assert_eq!(KeyType::from_oid(pg_sys::InvalidOid), None);
        for (indoption, ordering) in [
            (0, ORDERINGS[0]),
            (1, ORDERINGS[2]),
            (2, ORDERINGS[1]),
            (3, ORDERINGS[3]),
        ] {
            assert_eq!(Ordering::from_indoption(indoption), ordering);
        }
    }

    #[pg_test]
    fn positions_sort_as_the_comparison_function_does() {
        Spi::connect(|_| {
            for key_type in KeyType::ALL {
                let values = values_of(key_type);
                let compared = query(&format!(
                    "WITH {} SELECT a.i, b.i, {}(a.v, b.v) FROM t a, t b",
                    with_values("t", &nasty(key_type)),
                    compare_function(key_type)
                ));
                for_type!(key_type, check_order(&values, &compared));
            }
        });
    }

    fn check_order<const V: usize>(key_type: KeyType, values: &[(Datum, bool)], compared: &[Row]) {
        let key_lanes = if key_type.has_payload() { 1 } else { V };
        for ordering in ORDERINGS {
            let codec = KeyCodec::<V> { key_type, ordering };
            let positions: Vec<Pos<V>> = values
                .iter()
                // SAFETY: values of the type.
                .map(|value| unsafe { codec.encode(value.0, value.1, 7) })
                .collect();
            for row in compared {
                let (a, b) = (
                    &positions[int(row[0]) as usize],
                    &positions[int(row[1]) as usize],
                );
                let expected = if ordering.desc {
                    int(row[2]).cmp(&0).reverse()
                } else {
                    int(row[2]).cmp(&0)
                };
                assert_eq!(
                    (a.rank, &a.vals[..key_lanes]).cmp(&(b.rank, &b.vals[..key_lanes])),
                    expected,
                    "{key_type:?} {ordering:?} {row:?}"
                );
                if expected != cmp::Ordering::Equal {
                    assert_eq!(a.cmp(b), expected);
                }
            }
            let null = positions.last().unwrap();
            for value in &positions[..positions.len() - 1] {
                assert_eq!(null < value, ordering.nulls_first);
                // The first lane alone is monotone along the index.
                assert_eq!(
                    null.vals[0].min(value.vals[0]),
                    if ordering.nulls_first { null } else { value }.vals[0]
                );
            }
        }
    }

    #[pg_test]
    fn values_come_back_exactly() {
        Spi::connect(|_| {
            for key_type in KeyType::ALL {
                let values = values_of(key_type);
                for_type!(key_type, check_round_trip(&values));
            }
        });
    }

    fn check_round_trip<const V: usize>(key_type: KeyType, values: &[(Datum, bool)]) {
        for ordering in ORDERINGS {
            let codec = KeyCodec::<V> { key_type, ordering };
            for &(datum, null) in values {
                // SAFETY: a value of the type.
                let pos = unsafe { codec.encode(datum, null, 42) };
                assert_eq!(pos.tid, 42);
                let mut buf = [0; 16];
                let (back, back_null) = codec.decode(&pos, &mut buf);
                assert_eq!(null, back_null);
                if null {
                    continue;
                }
                match key_type {
                    KeyType::Uuid => {
                        // SAFETY: both point to uuids.
                        let (a, b) = unsafe {
                            (
                                *datum.cast_mut_ptr::<[u8; 16]>(),
                                *back.cast_mut_ptr::<[u8; 16]>(),
                            )
                        };
                        assert_eq!(a, b);
                    }
                    KeyType::Float4 if f32::from_bits(datum.value() as u32).is_nan() => {
                        assert!(f32::from_bits(back.value() as u32).is_nan());
                    }
                    KeyType::Float8 if f64::from_bits(datum.value() as u64).is_nan() => {
                        assert!(f64::from_bits(back.value() as u64).is_nan());
                    }
                    // The datums come from tuples: the whole word is equal.
                    _ => assert_eq!(datum.value(), back.value(), "{key_type:?}"),
                }
            }
        }
    }
}
