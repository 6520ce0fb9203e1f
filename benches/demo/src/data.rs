//! What is measured: tables, the column to index in each, and how each table grows.

use anyhow::Result;
use postgres::Client;

/// One column of one table, indexed both ways.
pub struct Case {
    /// Shown to the reader, such as `flights.date`.
    pub name: String,
    /// One line about the data.
    pub about: &'static str,
    /// The base table, in arrival order.
    pub table: &'static str,
    /// The column to index.
    pub column: &'static str,
    /// A column that is not in the index: reading it costs a heap fetch.
    pub payload: &'static str,
    /// How further rows arrive; `None` where inserting is not measured.
    pub growth: Option<Growth>,
}

/// Further rows of a table.
pub struct Growth {
    pub place: Place,
    /// A SELECT of further rows of the table's shape; `{n}` stands for their number.
    pub sql: String,
}

/// Where the keys of further rows fall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Beyond the largest key.
    End,
    /// Anywhere in the existing range.
    Everywhere,
}

const FLIGHTS: &str = "flights of 2001 in order of their date";
const SENSORS: &str = "sensor readings in order of arrival: 1 per ms, jitter, 5 % up to 5 s late";
const IDS: &str = "random 63-bit ids in order of arrival";

/// The columns measured on the flights table.
pub fn flights() -> Vec<Case> {
    vec![
        Case {
            name: "flights.date".into(),
            about: FLIGHTS,
            table: "flights",
            column: "date",
            payload: "delay",
            growth: Some(Growth {
                place: Place::End,
                sql: "SELECT last + n * interval '10 seconds' AS date,
                             delay, distance, origin, destination
                      FROM (SELECT row_number() OVER () AS n, * FROM flights LIMIT {n}) AS f,
                           (SELECT max(date) AS last FROM flights) AS m"
                    .into(),
            }),
        },
        Case {
            name: "flights.distance".into(),
            about: FLIGHTS,
            table: "flights",
            column: "distance",
            payload: "delay",
            growth: Some(Growth {
                place: Place::Everywhere,
                sql: "SELECT * FROM flights ORDER BY random() LIMIT {n}".into(),
            }),
        },
    ]
}

/// Sensor readings: table `sensors` of `rows` rows.
pub fn sensors(client: &mut Client, rows: u64) -> Result<Vec<Case>> {
    create(client, "sensors", &readings("1", &rows.to_string()))?;
    let next = format!("{}", rows + 1);
    Ok(vec![Case {
        name: "sensors.ts".into(),
        about: SENSORS,
        table: "sensors",
        column: "ts",
        payload: "value",
        growth: Some(Growth {
            place: Place::End,
            // Five seconds on, so that no late reading is overtaken.
            sql: readings(&format!("{next} + 5000"), &format!("{rows} + 5000 + {{n}}")),
        }),
    }])
}

/// Random ids: table `ids` of `rows` rows.
pub fn ids(client: &mut Client, rows: u64) -> Result<Vec<Case>> {
    create(client, "ids", &random_ids(&rows.to_string()))?;
    Ok(vec![Case {
        name: "ids.id".into(),
        about: IDS,
        table: "ids",
        column: "id",
        payload: "payload",
        growth: Some(Growth {
            place: Place::Everywhere,
            sql: random_ids("{n}"),
        }),
    }])
}

/// A data set of the size table, with the bytes per entry that omen should not exceed.
pub struct SizeCase {
    pub case: Case,
    pub goal: Goal,
    sql: String,
}

/// An upper bound of omen's size.
#[derive(Clone, Copy)]
pub enum Goal {
    Bytes(f64),
    /// A fraction of btree's size.
    OfBtree(f64),
}

impl SizeCase {
    /// Creates the base table.
    pub fn create(&self, client: &mut Client) -> Result<()> {
        create(client, self.case.table, &self.sql)
    }
}

/// The five distributions that sizes are stated for.
pub fn sizes(rows: u64) -> Vec<SizeCase> {
    let serial =
        format!("SELECT i::bigint AS k, 0 AS payload FROM generate_series(1, {rows}) AS i");
    let shuffled = |sql: &str| format!("SELECT * FROM ({sql}) AS s ORDER BY random()");
    let few = format!(
        "SELECT floor(random() * 1000)::bigint AS k, 0 AS payload
         FROM generate_series(1, {rows})"
    );
    let case = |name: &str, column, sql: String, goal| SizeCase {
        case: Case {
            name: name.into(),
            about: "",
            table: "numbers",
            column,
            payload: "payload",
            growth: None,
        },
        goal,
        sql,
    };
    vec![
        case(
            "serial bigint, heap in order",
            "k",
            serial.clone(),
            Goal::Bytes(0.5),
        ),
        case(
            "timestamps, 1/ms, jitter, 5 % late",
            "ts",
            format!(
                "SELECT ts, 0 AS payload FROM ({}) AS s",
                readings("1", &rows.to_string())
            ),
            Goal::Bytes(4.5),
        ),
        case(
            "dense ids, heap shuffled",
            "k",
            shuffled(&serial),
            Goal::Bytes(3.8),
        ),
        case(
            "random 63-bit, heap shuffled",
            "id",
            random_ids(&rows.to_string()),
            Goal::Bytes(10.0),
        ),
        case(
            "1000 distinct, heap shuffled",
            "k",
            few,
            Goal::OfBtree(1.0 / 3.0),
        ),
    ]
}

/// A SELECT of the readings numbered `from` to `to` (SQL expressions), one per
/// millisecond of measuring, in order of arrival.
pub(crate) fn readings(from: &str, to: &str) -> String {
    format!(
        "SELECT ts, sensor, value
         FROM (SELECT timestamptz '2026-01-01 00:00:00+00'
                        + i * interval '1 millisecond'
                        + floor(random() * 1000) * interval '1 microsecond' AS ts,
                      floor(random() * 1000)::int AS sensor,
                      20 + 5 * sin(i / 60000.0) + random() AS value,
                      CASE WHEN random() < 0.05 THEN random() * 5 ELSE 0 END AS late
               FROM generate_series({from}, {to}) AS i) AS r
         ORDER BY ts + late * interval '1 second'"
    )
}

/// A SELECT of `n` (an SQL expression) ids, uniform in 0 .. 2^63.
pub(crate) fn random_ids(n: &str) -> String {
    format!(
        "SELECT (floor(random() * 2147483648)::bigint << 32)
                  | floor(random() * 4294967296)::bigint AS id,
                i AS payload
         FROM generate_series(1, {n}) AS i"
    )
}

/// `CREATE TABLE name AS sql`, the same rows in every run.
pub(crate) fn create(client: &mut Client, name: &str, sql: &str) -> Result<()> {
    client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {name};
         SELECT setseed(0.42);
         CREATE TABLE {name} AS {sql};"
    ))?;
    Ok(())
}
