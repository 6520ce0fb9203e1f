//! Values to test with, and SQL to ask about them.

use omen_core::key::{Pos, TID_END};
use pgrx::pg_sys::{self, Datum};

use crate::types::{KeyCodec, KeyType, Ordering, ScanIntervals};

pub(super) const ORDERINGS: [Ordering; 4] = [
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

pub(super) const OPERATORS: [&str; 5] = ["<", "<=", "=", ">=", ">"];

pub(super) const FAMILIES: [&[KeyType]; 6] = [
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
pub(super) const ZONES: [&str; 15] = [
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

pub(super) fn type_name(key_type: KeyType) -> &'static str {
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

pub(super) fn compare_function(key_type: KeyType) -> &'static str {
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
pub(super) fn nasty(key_type: KeyType) -> Vec<String> {
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
pub(super) fn with_values(name: &str, expressions: &[String]) -> String {
    let rows: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(i, expression)| format!("({i}, {expression})"))
        .collect();
    format!("{name}(i, v) AS MATERIALIZED (VALUES {})", rows.join(", "))
}

pub(super) type Row = Vec<(Datum, bool)>;

/// The result of a query; by-reference datums live until SPI is closed.
pub(super) fn query(sql: &str) -> Vec<Row> {
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

pub(super) fn int(cell: (Datum, bool)) -> i32 {
    assert!(!cell.1);
    cell.0.value() as i32
}

/// SQL's true; false and NULL are both "not in the result".
pub(super) fn is_true(cell: (Datum, bool)) -> bool {
    !cell.1 && cell.0.value() & 0xFF != 0
}

pub(super) fn values_of(key_type: KeyType) -> Vec<(Datum, bool)> {
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

pub(super) fn set_zone(zone: &str) {
    query(&format!("SELECT set_config('TimeZone', '{zone}', false)"));
}

pub(super) fn scan_key(
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

pub(super) fn well_formed<const V: usize>(scan: &ScanIntervals<V>) {
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

pub(super) fn resolve<const V: usize>(
    codec: &KeyCodec<V>,
    keys: &[pg_sys::ScanKeyData],
) -> ScanIntervals<V> {
    // SAFETY: the keys of the tests hold values of their subtypes.
    let scan = unsafe { codec.resolve(keys) };
    well_formed(&scan);
    scan
}

pub(super) fn visits<const V: usize>(scan: &ScanIntervals<V>, pos: &Pos<V>) -> bool {
    scan.intervals.iter().any(|interval| interval.contains(pos))
}

/// All entries of a value are visited, whatever their TID, or none.
pub(super) fn visits_value<const V: usize>(
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
pub(super) use for_type;
