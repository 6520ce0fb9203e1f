//! The oracle of every test is SQL itself: the comparison function for the
//! order, the operator for the conditions.

// pgrx wants an inline module of this name.
#[allow(clippy::module_inception)]
#[pgrx::pg_schema]
mod tests {
    use core::cmp;

    use omen_core::key::{Pos, TID_END};
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    use crate::types::{KeyCodec, KeyType, Ordering, ScanIntervals};

    const ORDERINGS: [Ordering; 4] = [
        Ordering {
            desc: false,
            nulls_first: false,
        },
        Ordering {
            desc: false,
            nulls_first: true,
        },
        Ordering {
            desc: true,
            nulls_first: false,
        },
        Ordering {
            desc: true,
            nulls_first: true,
        },
    ];

    const OPERATORS: [&str; 5] = ["<", "<=", "=", ">=", ">"];

    const FAMILIES: [&[KeyType]; 6] = [
        &[KeyType::Int2, KeyType::Int4, KeyType::Int8],
        &[KeyType::Date, KeyType::Timestamp, KeyType::TimestampTz],
        &[KeyType::Float4, KeyType::Float8],
        &[KeyType::Oid],
        &[KeyType::Time],
        &[KeyType::Uuid],
    ];

    /// Zones with gaps, folds, a skipped day (Apia 2011, Manila 1844), a
    /// repeated day (Juneau 1867), transitions of more than an hour, half-hour
    /// ones, several a year, and offsets that only POSIX allows.
    const ZONES: [&str; 15] = [
        "UTC",
        "America/New_York",
        "Europe/Lisbon",
        "Pacific/Apia",
        "Asia/Manila",
        "America/Juneau",
        "Pacific/Kwajalein",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Africa/Casablanca",
        "Pacific/Kiritimati",
        "Etc/GMT+12",
        "<+100>-100",
        "<-167>+167",
        "AAA+20BBB-30,M3.2.0/2,M3.3.0/2",
    ];

    fn type_name(key_type: KeyType) -> &'static str {
        match key_type {
            KeyType::Int2 => "int2",
            KeyType::Int4 => "int4",
            KeyType::Int8 => "int8",
            KeyType::Oid => "oid",
            KeyType::Date => "date",
            KeyType::Time => "time",
            KeyType::Timestamp => "timestamp",
            KeyType::TimestampTz => "timestamptz",
            KeyType::Float4 => "float4",
            KeyType::Float8 => "float8",
            KeyType::Uuid => "uuid",
        }
    }

    fn compare_function(key_type: KeyType) -> &'static str {
        match key_type {
            KeyType::Int2 => "btint2cmp",
            KeyType::Int4 => "btint4cmp",
            KeyType::Int8 => "btint8cmp",
            KeyType::Oid => "btoidcmp",
            KeyType::Date => "date_cmp",
            KeyType::Time => "time_cmp",
            KeyType::Timestamp => "timestamp_cmp",
            KeyType::TimestampTz => "timestamptz_cmp",
            KeyType::Float4 => "btfloat4cmp",
            KeyType::Float8 => "btfloat8cmp",
            KeyType::Uuid => "uuid_cmp",
        }
    }

    /// SQL expressions of nasty values of a type.
    fn nasty(key_type: KeyType) -> Vec<String> {
        let integers = |bounds: &[i64]| {
            let mut all = vec![-2, -1, 0, 1, 2, 100];
            for bound in bounds {
                all.extend([bound.saturating_sub(1), *bound, bound.saturating_add(1)]);
            }
            all
        };
        let name = type_name(key_type);
        let quoted = |values: &[&str]| -> Vec<String> {
            values
                .iter()
                .map(|value| format!("'{value}'::{name}"))
                .collect()
        };
        let (i16s, i32s, i64s) = (
            [i64::from(i16::MIN), i64::from(i16::MAX)],
            [i64::from(i32::MIN), i64::from(i32::MAX)],
            [i64::MIN, i64::MAX],
        );
        let in_range = |values: Vec<i64>, min: i64, max: i64| -> Vec<String> {
            values
                .into_iter()
                .filter(|value| (min..=max).contains(value))
                .map(|value| format!("'{value}'::{name}"))
                .collect()
        };
        match key_type {
            KeyType::Int2 => in_range(integers(&i16s), i16s[0], i16s[1]),
            KeyType::Int4 => in_range(integers(&[i16s, i32s].concat()), i32s[0], i32s[1]),
            KeyType::Int8 => in_range(integers(&[i16s, i32s, i64s].concat()), i64s[0], i64s[1]),
            KeyType::Oid => quoted(&[
                "0",
                "1",
                "2147483647",
                "2147483648",
                "4294967294",
                "4294967295",
            ]),
            KeyType::Time => quoted(&[
                "00:00",
                "00:00:00.000001",
                "11:59:59.999999",
                "12:00",
                "23:59:59.999999",
                "24:00",
            ]),
            KeyType::Uuid => quoted(&[
                "00000000-0000-0000-0000-000000000000",
                "00000000-0000-0000-0000-000000000001",
                "00000000-0000-0000-ffff-ffffffffffff",
                "00000000-0000-0001-0000-000000000000",
                "7fffffff-ffff-ffff-ffff-ffffffffffff",
                "80000000-0000-0000-0000-000000000000",
                "80000000-0000-0000-8000-000000000000",
                "0123456789abcdef0123456789abcdef",
                "ffffffff-ffff-ffff-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
            ]),
            KeyType::Float4 | KeyType::Float8 => {
                let mut all = quoted(&[
                    "-infinity",
                    "-3.4028235e38",
                    "-1e30",
                    "-16777217",
                    "-16777216",
                    "-1",
                    "-0.1",
                    "-1.17549435e-38",
                    "-1.4e-45",
                    "-0",
                    "0",
                    "1.4e-45",
                    "1.17549435e-38",
                    "0.1",
                    "0.5",
                    "1",
                    "1.5",
                    "16777216",
                    "16777217",
                    "16777218",
                    "1e30",
                    "3.4028235e38",
                    "infinity",
                    "nan",
                ]);
                all.push(format!("('infinity'::{name} - 'infinity'::{name})"));
                all.push(format!("(- 'nan'::{name})"));
                if key_type == KeyType::Float8 {
                    all.extend(quoted(&[
                        "-1.7976931348623157e308",
                        "-3.5e38",
                        "-3.4028235677973366e38",
                        "-5e-324",
                        "-1e-50",
                        "5e-324",
                        "1e-50",
                        "7e-46",
                        "7.1e-46",
                        "0.10000000149011612",
                        "0.1000000014901161",
                        "1.00000001",
                        "3.4028235677973362e38",
                        "3.4028235677973366e38",
                        "3.5e38",
                        "1.7976931348623157e308",
                    ]));
                    all.push("'1.4e-45'::float4::float8".into());
                    all.push("'3.4028235e38'::float4::float8".into());
                }
                all
            }
            KeyType::Date => quoted(&[
                "-infinity",
                "4714-11-24 BC",
                "4714-11-25 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "1844-12-30",
                "1844-12-31",
                "1867-10-18",
                "1867-10-19",
                "1999-12-31",
                "2000-01-01",
                "2000-01-02",
                "2011-12-29",
                "2011-12-30",
                "2011-12-31",
                "2024-03-10",
                "2024-03-11",
                "2024-03-31",
                "2024-11-03",
                "2400-07-01",
                "294276-12-29",
                "294276-12-30",
                "294276-12-31",
                "294277-01-01",
                "294277-01-02",
                "5874897-12-30",
                "5874897-12-31",
                "infinity",
            ]),
            KeyType::Timestamp | KeyType::TimestampTz => {
                let local = [
                    "-infinity",
                    "4714-11-24 00:00:00 BC",
                    "4714-11-24 00:00:00.000001 BC",
                    "4714-11-24 12:00 BC",
                    "4714-11-25 00:00:00 BC",
                    "4714-12-01 03:00 BC",
                    "0001-12-31 23:59:59.999999 BC",
                    "0001-01-01 00:00",
                    "1844-12-30 12:00",
                    "1867-10-18 12:00",
                    "1999-12-31 23:59:59.999999",
                    "2000-01-01 00:00",
                    "2000-01-01 00:00:00.000001",
                    "2011-12-29 23:59:59.999999",
                    "2011-12-30 10:00",
                    "2011-12-31 00:00",
                    "2024-03-10 02:30",
                    "2024-03-10 06:30",
                    "2024-03-10 07:00",
                    "2024-03-31 00:30",
                    "2024-03-31 01:30",
                    "2024-11-03 00:59:59.999999",
                    "2024-11-03 01:30",
                    "2024-11-03 05:30",
                    "2024-11-03 06:30",
                    "2400-07-01 12:00",
                    "294276-12-30 00:00",
                    "294276-12-31 00:00",
                    "294276-12-31 12:00",
                    "294276-12-31 23:59:59.999999",
                    "infinity",
                ];
                let suffix = if key_type == KeyType::TimestampTz {
                    "+00"
                } else {
                    ""
                };
                local
                    .iter()
                    .map(
                        |value| match (value.strip_suffix(" BC"), value.ends_with("infinity")) {
                            (_, true) => format!("'{value}'::{name}"),
                            (Some(common), _) => format!("'{common}{suffix} BC'::{name}"),
                            _ => format!("'{value}{suffix}'::{name}"),
                        },
                    )
                    .collect()
            }
        }
    }

    /// A relation `name(i, v)` for a WITH clause.
    fn with_values(name: &str, expressions: &[String]) -> String {
        let rows: Vec<String> = expressions
            .iter()
            .enumerate()
            .map(|(i, expression)| format!("({i}, {expression})"))
            .collect();
        format!("{name}(i, v) AS MATERIALIZED (VALUES {})", rows.join(", "))
    }

    type Row = Vec<(Datum, bool)>;

    /// The result of a query; by-reference datums live until SPI is closed.
    fn query(sql: &str) -> Vec<Row> {
        let sql = std::ffi::CString::new(sql).unwrap();
        // SAFETY: callers are inside Spi::connect; the tuple table has as many
        // rows as SPI_processed says.
        unsafe {
            let code = pg_sys::SPI_execute(sql.as_ptr(), false, 0);
            assert_eq!(code, pg_sys::SPI_OK_SELECT as i32);
            let table = &*pg_sys::SPI_tuptable;
            let columns = (*table.tupdesc).natts;
            (0..pg_sys::SPI_processed as usize)
                .map(|row| {
                    (1..=columns)
                        .map(|column| {
                            let mut null = false;
                            let tuple = *table.vals.add(row);
                            let datum =
                                pg_sys::SPI_getbinval(tuple, table.tupdesc, column, &raw mut null);
                            (datum, null)
                        })
                        .collect()
                })
                .collect()
        }
    }

    fn int(cell: (Datum, bool)) -> i32 {
        assert!(!cell.1);
        cell.0.value() as i32
    }

    /// SQL's true; false and NULL are both "not in the result".
    fn is_true(cell: (Datum, bool)) -> bool {
        !cell.1 && cell.0.value() & 0xFF != 0
    }

    fn values_of(key_type: KeyType) -> Vec<(Datum, bool)> {
        let mut all: Vec<_> = query(&format!(
            "WITH {} SELECT v FROM t ORDER BY i",
            with_values("t", &nasty(key_type))
        ))
        .into_iter()
        .map(|row| row[0])
        .collect();
        all.push((Datum::from(0_usize), true));
        all
    }

    fn set_zone(zone: &str) {
        query(&format!("SELECT set_config('TimeZone', '{zone}', false)"));
    }

    fn scan_key(
        flags: u32,
        strategy: usize,
        subtype: pg_sys::Oid,
        argument: Datum,
    ) -> pg_sys::ScanKeyData {
        pg_sys::ScanKeyData {
            sk_flags: flags as i32,
            sk_attno: 1,
            sk_strategy: strategy as u16,
            sk_subtype: subtype,
            sk_argument: argument,
            ..Default::default()
        }
    }

    fn well_formed<const V: usize>(scan: &ScanIntervals<V>) {
        for interval in &scan.intervals {
            assert!(
                interval.hi.is_none_or(|hi| interval.lo < hi),
                "empty: {interval:?}"
            );
        }
        for pair in scan.intervals.windows(2) {
            assert!(
                pair[0].hi.is_some_and(|hi| hi < pair[1].lo),
                "not disjoint: {pair:?}"
            );
        }
        assert!(!scan.recheck || !scan.intervals.is_empty());
    }

    fn resolve<const V: usize>(
        codec: &KeyCodec<V>,
        keys: &[pg_sys::ScanKeyData],
    ) -> ScanIntervals<V> {
        // SAFETY: the keys of the tests hold values of their subtypes.
        let scan = unsafe { codec.resolve(keys) };
        well_formed(&scan);
        scan
    }

    fn visits<const V: usize>(scan: &ScanIntervals<V>, pos: &Pos<V>) -> bool {
        scan.intervals.iter().any(|interval| interval.contains(pos))
    }

    /// All entries of a value are visited, whatever their TID, or none.
    fn visits_value<const V: usize>(
        codec: &KeyCodec<V>,
        scan: &ScanIntervals<V>,
        value: (Datum, bool),
    ) -> bool {
        // SAFETY: `value` is one of the column's type.
        let found = [0, 1, 0x1234_5678_0009, TID_END - 1]
            .map(|tid| visits(scan, &unsafe { codec.encode(value.0, value.1, tid) }));
        assert!(found.iter().all(|each| *each == found[0]), "split at a TID");
        found[0]
    }

    /// Runs the generic function for the lanes of the type.
    macro_rules! for_type {
        ($key_type:expr, $function:ident ( $($argument:expr),* )) => {
            match $key_type.lanes() {
                1 => $function::<1>($key_type, $($argument),*),
                _ => $function::<2>($key_type, $($argument),*),
            }
        };
    }

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

    #[pg_test]
    fn families_are_those_of_btree() {
        let members = |catalog: &str, prefix: &str, extra: &str| {
            let side = |am: &str| {
                format!(
                    "SELECT f.opfname, m.{prefix}lefttype, m.{prefix}righttype, {extra}
                     FROM pg_catalog.{catalog} m JOIN pg_catalog.pg_opfamily f ON f.oid = m.{prefix}family
                     JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
                     WHERE a.amname = '{am}' AND f.opfname IN ('integer_ops', 'datetime_ops',
                         'float_ops', 'oid_ops', 'time_ops', 'uuid_ops')"
                )
            };
            let btree = format!(
                "{} {}",
                side("btree"),
                if prefix == "amproc" {
                    "AND amprocnum = 1"
                } else {
                    ""
                }
            );
            let omen = side("omen");
            format!(
                "SELECT count(*) FROM (({btree} EXCEPT {omen}) UNION ALL ({omen} EXCEPT {btree})) d"
            )
        };
        let operators = members(
            "pg_amop",
            "amop",
            "amopstrategy::int, amopopr::oid, amoppurpose::text",
        );
        assert_eq!(Spi::get_one::<i64>(&operators), Ok(Some(0)));
        let functions = members(
            "pg_amproc",
            "amproc",
            "amprocnum::int, amproc::oid, ''::text",
        );
        assert_eq!(Spi::get_one::<i64>(&functions), Ok(Some(0)));
        let defaults = "SELECT count(*) FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_am a
             ON a.oid = opcmethod WHERE amname = 'omen' AND opcdefault";
        assert_eq!(Spi::get_one::<i64>(defaults), Ok(Some(11)));
    }

    fn valid(class: &str) -> Option<bool> {
        Spi::get_one(&format!(
            "SELECT bool_and(pg_catalog.amvalidate(c.oid)) FROM pg_catalog.pg_opclass c
             JOIN pg_catalog.pg_am a ON a.oid = opcmethod
             WHERE amname = 'omen' AND opcname LIKE '{class}'"
        ))
        .unwrap()
    }

    #[pg_test]
    fn validation_accepts_the_own_classes() {
        assert_eq!(valid("%"), Some(true));
    }

    #[pg_test]
    fn validation_rejects_classes_that_do_not_sort_as_btree() {
        Spi::run(
            "CREATE OPERATOR CLASS reversed_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <,
                 FUNCTION 1 btint4cmp(int4, int4);
             CREATE OPERATOR CLASS partial_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int4, int4);
             CREATE OPERATOR CLASS text_like_ops FOR TYPE text USING omen AS
                 OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
                 FUNCTION 1 bttextcmp(text, text);
             CREATE FUNCTION own_compare(int4, int4) RETURNS int4 IMMUTABLE STRICT LANGUAGE sql
                 AS 'SELECT btint4cmp($2, $1)';
             CREATE OPERATOR CLASS own_compare_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
                 FUNCTION 1 own_compare(int4, int4);",
        )
        .unwrap();
        for class in [
            "reversed_ops",
            "partial_ops",
            "text_like_ops",
            "own_compare_ops",
        ] {
            assert_eq!(valid(class), Some(false), "{class}");
        }
    }
}
