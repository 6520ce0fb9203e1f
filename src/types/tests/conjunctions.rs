//! Several conditions at a time, large arrays, and conditions that cannot be.

// pgrx wants an inline module of this name.
#[pgrx::pg_schema]
mod tests {
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    use super::super::values::*;
    use crate::types::{KeyCodec, KeyType, ScanIntervals};

    #[pg_test]
    fn several_conditions_are_intersected() {
        Spi::connect(|_| {
            set_zone("America/New_York");
            for (column, constant) in [
                (KeyType::Int4, KeyType::Int8),
                (KeyType::Float4, KeyType::Float8),
                (KeyType::Uuid, KeyType::Uuid),
                (KeyType::Timestamp, KeyType::TimestampTz),
            ] {
                let values = values_of(column);
                let constants = values_of(constant);
                let array = query(&format!(
                    "SELECT ARRAY[{}]",
                    nasty(constant)[3..7].join(", ")
                ))[0][0]
                    .0;
                for_type!(
                    column,
                    check_conjunctions(constant, &values, &constants, array)
                );
            }
        });
    }

    fn check_conjunctions<const V: usize>(
        column: KeyType,
        constant: KeyType,
        values: &[(Datum, bool)],
        constants: &[(Datum, bool)],
        array: Datum,
    ) {
        let mut conditions = vec![
            scan_key(
                pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNULL,
                0,
                pg_sys::InvalidOid,
                Datum::from(0_usize),
            ),
            scan_key(
                pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNOTNULL,
                0,
                pg_sys::InvalidOid,
                Datum::from(0_usize),
            ),
            scan_key(pg_sys::SK_ISNULL, 3, constant.oid(), Datum::from(0_usize)),
        ];
        for op in 1..=5 {
            conditions.push(scan_key(pg_sys::SK_SEARCHARRAY, op, constant.oid(), array));
            for value in constants.iter().filter(|value| !value.1).step_by(5) {
                conditions.push(scan_key(0, op, constant.oid(), value.0));
            }
        }
        for ordering in ORDERINGS {
            let codec = KeyCodec::<V> {
                key_type: column,
                ordering,
            };
            let alone: Vec<_> = conditions
                .iter()
                .map(|key| resolve(&codec, &[*key]))
                .collect();
            // IS NULL, IS NOT NULL, = NULL.
            for value in values {
                assert_eq!(visits_value(&codec, &alone[0], *value), value.1);
                assert_eq!(visits_value(&codec, &alone[1], *value), !value.1);
            }
            assert!(alone[2].intervals.is_empty());
            assert_eq!(
                resolve(&codec, &[]).intervals,
                vec![omen_core::tree::Interval::ALL]
            );

            let mut reused = ScanIntervals::default();
            for (i, first) in conditions.iter().enumerate() {
                for (j, second) in conditions.iter().enumerate() {
                    let third = (i * 7 + j) % conditions.len();
                    // SAFETY: values of their subtypes.
                    unsafe {
                        codec.resolve_into(&[*first, *second, conditions[third]], &mut reused)
                    };
                    well_formed(&reused);
                    for value in values {
                        let each = [i, j, third].map(|k| visits_value(&codec, &alone[k], *value));
                        assert_eq!(
                            visits_value(&codec, &reused, *value),
                            each.iter().all(|visited| *visited)
                        );
                    }
                    if !reused.intervals.is_empty() {
                        assert_eq!(
                            reused.recheck,
                            [i, j, third].iter().any(|k| alone[*k].recheck)
                        );
                    }
                }
            }
        }
    }

    #[pg_test]
    fn large_arrays_give_one_point_for_each_distinct_value() {
        Spi::connect(|_| {
            let array = query(
                "SELECT array_agg(g * 7919 % 50000 ORDER BY g) FROM generate_series(1, 200000) g",
            )[0][0]
                .0;
            let codec = KeyCodec::<1> {
                key_type: KeyType::Int8,
                ordering: ORDERINGS[0],
            };
            let scan = resolve(
                &codec,
                &[
                    scan_key(pg_sys::SK_SEARCHARRAY, 3, pg_sys::INT4OID, array),
                    scan_key(0, 4, pg_sys::INT2OID, Datum::from(100_usize)),
                ],
            );
            assert_eq!(scan.intervals.len(), 50000 - 100);
        });
    }

    #[pg_test(error = "omen index on type Int4 cannot be searched with a value of type 25")]
    fn unknown_subtype_is_an_error() {
        let codec = KeyCodec::<1> {
            key_type: KeyType::Int4,
            ordering: ORDERINGS[0],
        };
        resolve(
            &codec,
            &[scan_key(0, 3, pg_sys::TEXTOID, Datum::from(0_usize))],
        );
    }

    #[pg_test(error = "omen index on type Int4 cannot be searched with a value of type 1184")]
    fn type_of_another_family_is_an_error() {
        let codec = KeyCodec::<1> {
            key_type: KeyType::Int4,
            ordering: ORDERINGS[0],
        };
        resolve(
            &codec,
            &[scan_key(0, 3, pg_sys::TIMESTAMPTZOID, Datum::from(0_usize))],
        );
    }

    #[pg_test(error = "omen: invalid strategy number 6 in a scan key")]
    fn unknown_strategy_is_an_error() {
        let codec = KeyCodec::<1> {
            key_type: KeyType::Int4,
            ordering: ORDERINGS[0],
        };
        resolve(
            &codec,
            &[scan_key(0, 6, pg_sys::InvalidOid, Datum::from(0_usize))],
        );
    }
}
