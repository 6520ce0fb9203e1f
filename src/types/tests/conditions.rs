//! A condition selects what its operator selects.

// pgrx wants an inline module of this name.
#[pgrx::pg_schema]
mod tests {
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    use super::super::values::*;
    use crate::types::{KeyCodec, KeyType, ScanIntervals};

    #[pg_test]
    fn conditions_select_what_the_operator_selects() {
        Spi::connect(|_| {
            for family in FAMILIES {
                let zones = if family[0] == KeyType::Date {
                    &ZONES[..]
                } else {
                    &ZONES[..1]
                };
                for zone in zones {
                    set_zone(zone);
                    for &column in family {
                        for &constant in family {
                            let values = nasty(column);
                            let constants = nasty(constant);
                            check_pair(column, constant, &values, &constants);
                        }
                    }
                }
            }
        });
    }

    /// Returns how many conditions needed a recheck.
    fn check_pair(
        column: KeyType,
        constant: KeyType,
        values: &[String],
        constants: &[String],
    ) -> usize {
        let rows = query(&format!(
            "WITH {}, {} SELECT c.i, a.v, c.v, a.v < c.v, a.v <= c.v, a.v = c.v, a.v >= c.v, a.v > c.v
             FROM a, c",
            with_values("a", values),
            with_values("c", constants),
        ));
        for_type!(column, check_pair_rows(constant, &rows, constants))
    }

    fn check_pair_rows<const V: usize>(
        column: KeyType,
        constant: KeyType,
        rows: &[Row],
        constants: &[String],
    ) -> usize {
        let mut rechecks = 0;
        let zoned = (constant == KeyType::TimestampTz) && column != KeyType::TimestampTz;
        for ordering in ORDERINGS {
            let codec = KeyCodec::<V> {
                key_type: column,
                ordering,
            };
            let mut scans: Vec<Option<[ScanIntervals<V>; 5]>> = vec![None; constants.len()];
            for row in rows {
                let which = int(row[0]) as usize;
                let scans = scans[which].get_or_insert_with(|| {
                    core::array::from_fn(|op| {
                        let subtype = if column == constant && op % 2 == 0 {
                            pg_sys::InvalidOid
                        } else {
                            constant.oid()
                        };
                        let scan = resolve(&codec, &[scan_key(0, op + 1, subtype, row[2].0)]);
                        rechecks += usize::from(scan.recheck);
                        assert!(zoned || !scan.recheck);
                        scan
                    })
                });
                for (op, scan) in scans.iter().enumerate() {
                    let expected = is_true(row[3 + op]);
                    let visited = visits_value(&codec, scan, row[1]);
                    assert!(
                        visited == expected || (visited && scan.recheck),
                        "{column:?} {} {} visited: {visited}, value {:?}, {ordering:?}, {scan:?}",
                        OPERATORS[op],
                        constants[which],
                        row[1],
                    );
                    let null = (Datum::from(0_usize), true);
                    assert!(!visits_value(&codec, scan, null));
                }
            }
        }
        rechecks
    }

    #[pg_test]
    fn no_row_is_lost_around_time_zone_transitions() {
        // Zone, and local days with a transition.
        let transitions = [
            ("America/New_York", "2024-03-10"),
            ("America/New_York", "2024-11-03"),
            ("Europe/Lisbon", "2024-03-31"),
            ("Europe/Lisbon", "2024-10-27"),
            ("Europe/Lisbon", "1992-09-27"),
            ("Pacific/Apia", "2011-12-30"),
            ("Asia/Manila", "1844-12-31"),
            ("America/Juneau", "1867-10-19"),
            ("Pacific/Kwajalein", "1993-08-21"),
            ("Australia/Lord_Howe", "2024-04-07"),
            ("Antarctica/Troll", "2024-10-27"),
            ("America/New_York", "30000-03-12"),
            ("AAA+20BBB-30,M3.2.0/2,M3.3.0/2", "2024-03-10"),
            ("AAA+20BBB-30,M3.2.0/2,M3.3.0/2", "2024-03-17"),
            ("<+100>-100", "2024-03-10"),
        ];
        Spi::connect(|_| {
            for (zone, day) in transitions {
                set_zone(zone);
                let around = |name: &str, step: &str, days: i32| -> Vec<String> {
                    query(&format!(
                        "SELECT quote_literal(g::text || '+00')::text
                         FROM generate_series(timestamp '{day}' - interval '{days} days',
                                              timestamp '{day}' + interval '{days} days',
                                              interval '{step}') g"
                    ))
                    .into_iter()
                    // SAFETY: the column is text.
                    .map(|row| unsafe { String::from_datum(row[0].0, false) }.unwrap())
                    .map(|literal| {
                        let literal = if name == "timestamptz" {
                            literal
                        } else {
                            literal.replace("+00'", "'")
                        };
                        format!("{literal}::{name}")
                    })
                    .collect()
                };
                let constants = around("timestamptz", "187 minutes", 3);
                let constants = [constants, around("timestamptz", "30 minutes", 1)].concat();
                check_pair(
                    KeyType::Timestamp,
                    KeyType::TimestampTz,
                    &around("timestamp", "30 minutes", 2),
                    &constants,
                );
                check_pair(
                    KeyType::Date,
                    KeyType::TimestampTz,
                    &around("date", "1 day", 9),
                    &constants,
                );
                let locals = around("timestamp", "30 minutes", 2);
                check_pair(
                    KeyType::TimestampTz,
                    KeyType::Timestamp,
                    &constants,
                    &locals,
                );
                check_pair(
                    KeyType::TimestampTz,
                    KeyType::Date,
                    &constants,
                    &around("date", "1 day", 3),
                );
            }
        });
    }

    #[pg_test]
    fn recheck_is_needed_near_transitions_only() {
        Spi::connect(|_| {
            let value = vec!["'2024-06-01 12:00'::timestamp".to_string()];
            let rechecks = |zone: &str, constant: &str| {
                set_zone(zone);
                let constants = vec![format!("'{constant}'::timestamptz")];
                check_pair(KeyType::Timestamp, KeyType::TimestampTz, &value, &constants)
            };
            assert_eq!(rechecks("UTC", "2024-03-10 07:00+00"), 0);
            assert_eq!(rechecks("America/New_York", "2024-03-13 07:00+00"), 0);
            assert_eq!(rechecks("America/New_York", "2024-03-08 07:00+00"), 0);
            assert_eq!(rechecks("America/New_York", "2024-07-01 07:00+00"), 0);
            assert!(rechecks("America/New_York", "2024-03-10 07:00+00") > 0);
            assert!(rechecks("America/New_York", "2024-11-03 06:30+00") > 0);
            assert_eq!(rechecks("<+100>-100", "2024-07-01 07:00+00"), 0);
        });
    }

    #[pg_test]
    fn array_conditions_select_what_any_selects() {
        Spi::connect(|_| {
            for family in FAMILIES {
                let zones = if family[0] == KeyType::Date {
                    &ZONES[..4]
                } else {
                    &ZONES[..1]
                };
                for zone in zones {
                    set_zone(zone);
                    for &column in family {
                        for &constant in family {
                            check_arrays(column, constant);
                        }
                    }
                }
            }
        });
    }

    fn check_arrays(column: KeyType, constant: KeyType) {
        let constants = nasty(constant);
        let name = type_name(constant);
        let mut arrays = vec![
            format!("'{{}}'::{name}[]"),
            format!("ARRAY[NULL]::{name}[]"),
            format!("NULL::{name}[]"),
        ];
        for start in 0..constants.len() {
            // Unsorted, with a NULL and a duplicate.
            let pick = |step: usize| constants[(start + step * 5) % constants.len()].clone();
            let elements = [pick(2), pick(0), "NULL".into(), pick(1), pick(2), pick(3)];
            arrays.push(format!(
                "ARRAY[{}]::{name}[]",
                elements[..1 + start % 6].join(", ")
            ));
        }
        arrays.push(format!("ARRAY[{}]::{name}[]", constants.join(", ")));
        let rows = query(&format!(
            "WITH {}, {} SELECT c.i, a.v, c.v, {} FROM a, c",
            with_values("a", &nasty(column)),
            with_values("c", &arrays),
            OPERATORS.map(|op| format!("a.v {op} ANY (c.v)")).join(", ")
        ));
        for_type!(column, check_array_rows(constant, &rows, &arrays));
    }

    fn check_array_rows<const V: usize>(
        column: KeyType,
        constant: KeyType,
        rows: &[Row],
        arrays: &[String],
    ) {
        for ordering in ORDERINGS {
            let codec = KeyCodec::<V> {
                key_type: column,
                ordering,
            };
            let mut scans: Vec<Option<[ScanIntervals<V>; 5]>> = vec![None; arrays.len()];
            for row in rows {
                let which = int(row[0]) as usize;
                let scans = scans[which].get_or_insert_with(|| {
                    core::array::from_fn(|op| {
                        let null = if row[2].1 { pg_sys::SK_ISNULL } else { 0 };
                        let flags = pg_sys::SK_SEARCHARRAY | null;
                        resolve(&codec, &[scan_key(flags, op + 1, constant.oid(), row[2].0)])
                    })
                });
                for (op, scan) in scans.iter().enumerate() {
                    let expected = is_true(row[3 + op]);
                    let visited = visits_value(&codec, scan, row[1]);
                    assert!(
                        visited == expected || (visited && scan.recheck),
                        "{column:?} {} ANY {} visited: {visited}, value {:?}, {ordering:?}",
                        OPERATORS[op],
                        arrays[which],
                        row[1],
                    );
                }
            }
        }
    }
}
