//! The data sets: a SELECT of columns `k` and `payload` each, in order of arrival.

use crate::data::{random_ids, readings};

/// How much is measured on a data set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Size, build and random probes.
    Core,
    /// All read workloads.
    Reads,
    /// Reads and writes.
    Everything,
}

/// Where further keys fall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Appended,
    Random,
}

pub struct DataSet {
    pub name: &'static str,
    pub about: &'static str,
    /// A SELECT of `k` and `payload`.
    pub sql: String,
    pub extent: Extent,
    pub arrival: Arrival,
    /// Neighbours in the table have neighbouring keys: what BRIN is for.
    pub clustered_heap: bool,
}

impl DataSet {
    /// A SELECT of `n` further rows, keys beyond those of the table or among them.
    pub fn further(&self, rows: u64, n: u64) -> String {
        match self.arrival {
            Arrival::Appended => format!(
                "SELECT i AS k, 0 AS payload FROM generate_series({rows} + 1, {rows} + {n}) AS i"
            ),
            Arrival::Random => ids(n),
        }
    }
}

/// Names of data sets, as `ONLY` takes them.
pub const SERIAL: &str = "serial";
pub const TIMESTAMPS: &str = "timestamps";
pub const SNOWFLAKE: &str = "snowflake";
pub const SHUFFLED: &str = "shuffled";
pub const RANDOM: &str = "random";
pub const FEW: &str = "thousand";
pub const FLIGHTS: &str = "flights";

/// All generated data sets with `rows` rows each.
pub fn generated(rows: u64) -> Vec<DataSet> {
    let set = |name, about, sql: String| DataSet {
        name,
        about,
        sql,
        extent: Extent::Core,
        arrival: Arrival::Appended,
        clustered_heap: false,
    };
    let serial =
        format!("SELECT i::bigint AS k, 0 AS payload FROM generate_series(1::bigint, {rows}) AS i");
    vec![
        DataSet {
            extent: Extent::Everything,
            clustered_heap: true,
            ..set(SERIAL, "1, 2, 3, ... in heap order", serial.clone())
        },
        set(
            "gaps",
            "serial, every fifth number missing on average",
            format!(
                "SELECT i AS k, 0 AS payload FROM generate_series(1::bigint, {rows} * 2) AS i
                 WHERE random() < 0.8 LIMIT {rows}"
            ),
        ),
        DataSet {
            extent: Extent::Reads,
            clustered_heap: true,
            ..set(
                TIMESTAMPS,
                "timestamptz, 1 per ms, jitter of 1 ms, 5 % up to 5 s late",
                format!(
                    "SELECT ts AS k, 0 AS payload FROM ({}) AS r",
                    readings("1", &rows.to_string())
                ),
            )
        },
        set(
            SNOWFLAKE,
            "41 bits of ms, 1 id per ms, 10 bits of random machine, 12 bits of sequence",
            format!(
                "SELECT ((i + 100000000000) << 22) | (floor(random() * 1024)::bigint << 12)
                        | floor(random() * 4)::bigint AS k, 0 AS payload
                 FROM generate_series(1::bigint, {rows}) AS i"
            ),
        ),
        set("uuidv7", "uuid version 7, 1 per ms", uuids(rows)),
        DataSet {
            extent: Extent::Everything,
            arrival: Arrival::Random,
            ..set(RANDOM, "random 63-bit integers", ids(rows))
        },
        set(
            SHUFFLED,
            "1, 2, 3, ... in a shuffled heap",
            format!("SELECT * FROM ({serial}) AS s ORDER BY random()"),
        ),
        set(
            "lognormal",
            "exp(2 * normal) * 10^9, shuffled",
            format!(
                "SELECT (exp(2 * {NORMAL}) * 1e9)::bigint AS k, 0 AS payload
                 FROM generate_series(1, {rows})"
            ),
        ),
        set(
            "clustered",
            "like cell ids of a map: 20,000 places of uneven weight, normal around each, shuffled",
            clustered(rows),
        ),
        set(
            FEW,
            "1,000 distinct values, shuffled",
            format!(
                "SELECT floor(random() * 1000)::bigint AS k, 0 AS payload
                 FROM generate_series(1, {rows})"
            ),
        ),
        set(
            "zipf",
            "value v with a weight of 1/v, rows/10 values, shuffled",
            format!(
                "SELECT floor(exp(random() * ln({rows} / 10.0)))::bigint AS k, 0 AS payload
                 FROM generate_series(1, {rows})"
            ),
        ),
    ]
}

/// The real data; `table` has the columns of the flights.
pub fn flights(table: &str) -> DataSet {
    DataSet {
        name: FLIGHTS,
        about: "dates of the 3,000,000 flights of 2001, in their order",
        sql: format!("SELECT date AS k, delay AS payload FROM {table}"),
        extent: Extent::Core,
        arrival: Arrival::Appended,
        clustered_heap: true,
    }
}

pub fn ids(n: u64) -> String {
    format!(
        "SELECT id AS k, 0 AS payload FROM ({}) AS r",
        random_ids(&n.to_string())
    )
}

/// A normally distributed number (Box and Muller 1958).
const NORMAL: &str = "(sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))";

fn uuids(rows: u64) -> String {
    // 48 bits of ms, version 7, 12 random bits, variant 2, 62 random bits (RFC 9562).
    format!(
        "SELECT (lpad(to_hex(1767225600000 + i), 12, '0') || '7' || substr(h, 1, 3)
                 || substr('89ab', 1 + i::int % 4, 1) || substr(h, 4, 15))::uuid AS k,
                0 AS payload
         FROM (SELECT i, md5(i::text) AS h FROM generate_series(1::bigint, {rows}) AS i) AS m"
    )
}

fn clustered(rows: u64) -> String {
    format!(
        "SELECT (hashint8extended(place, 42) & 4611686018427387903)
                + (1e10 * {NORMAL})::bigint AS k, 0 AS payload
         FROM (SELECT floor(random() ^ 3 * 20000)::bigint AS place
               FROM generate_series(1, {rows}) AS i) AS p"
    )
}
