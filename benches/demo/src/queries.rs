//! The queries whose time is measured, as SQL; `{t}` stands for the table.

use crate::measure::{Query, Scan};

/// The columns that queries name.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The indexed column.
    pub column: &'a str,
    /// A column that is not in the index: reading it costs a heap fetch.
    pub payload: &'a str,
}

impl Names<'_> {
    /// One lookup for each key of table `probes`, through a nested loop.
    pub fn point(&self, scan: Scan) -> Query {
        let from = format!(
            "FROM probes AS p JOIN {{t}} AS t ON t.{} = p.k",
            self.column
        );
        self.join(scan, &from)
    }

    /// One range for each row of table `ranges`.
    pub fn range(&self, ranges: &str, scan: Scan) -> Query {
        let column = self.column;
        let from =
            format!("FROM {ranges} AS r JOIN {{t}} AS t ON t.{column} BETWEEN r.lo AND r.hi");
        self.join(scan, &from)
    }

    /// The ranges from `.0` to `.1`, each by a scan of its own without a join.
    pub fn scans(&self, ranges: &[(String, String)], scan: Scan) -> Query {
        let (read, row) = self.columns_of(scan);
        let column = self.column;
        let all = |columns: &str| {
            let one = |(lo, hi): &(String, String)| {
                format!(
                    "SELECT {columns} FROM {{t}} AS t WHERE t.{column} BETWEEN '{lo}' AND '{hi}'"
                )
            };
            let scans: Vec<String> = ranges.iter().map(one).collect();
            scans.join(" UNION ALL ")
        };
        let (timed, check) = (
            all(&format!("count(t.{read}) AS n")),
            all(&format!(
                "count(*) AS n, sum(hash_record_extended({row}, 0)) AS h"
            )),
        );
        Query {
            scan,
            timed: format!("SELECT sum(n) FROM ({timed}) AS s"),
            check: format!("SELECT sum(n), sum(h) FROM ({check}) AS s"),
        }
    }

    /// Whether there is a row of each of the keys of table `starts`.
    pub fn exists(&self) -> Query {
        let exists = format!(
            "FROM starts AS p WHERE EXISTS (SELECT FROM {{t}} AS t WHERE t.{} = p.k)",
            self.column
        );
        Query {
            scan: Scan::IndexOnly,
            timed: format!("SELECT count(*) {exists}"),
            check: format!("SELECT count(*), sum(hash_record_extended(p, 0)) {exists}"),
        }
    }

    /// The next ten rows up or down from each of `queries` keys.
    pub fn top_n(&self, queries: u64, descending: bool) -> Query {
        let column = self.column;
        let (direction, bound, scan) = if descending {
            ("DESC", "<=", Scan::IndexOnlyBackward)
        } else {
            ("ASC", ">=", Scan::IndexOnly)
        };
        let from = |columns: &str| {
            format!(
                "FROM (SELECT k FROM starts LIMIT {queries}) AS p,
                 LATERAL (SELECT {columns}
                    FROM (SELECT t.{column} AS k FROM {{t}} AS t
                          WHERE t.{column} {bound} p.k
                          ORDER BY t.{column} {direction} LIMIT 10) AS top) AS x"
            )
        };
        Query {
            scan,
            timed: format!("SELECT count(x.k) {}", from("k")),
            check: format!(
                "SELECT count(*), sum(hash_array_extended(x.list, 0)) {}",
                from("array_agg(k) AS list")
            ),
        }
    }

    /// Counts the rows of a join, and hashes all of them for the check.
    pub fn join(&self, scan: Scan, from: &str) -> Query {
        let (read, row) = self.columns_of(scan);
        Query {
            scan,
            timed: format!("SELECT count(t.{read}) {from}"),
            check: format!("SELECT count(*), sum(hash_record_extended({row}, 0)) {from}"),
        }
    }

    /// The column that a scan reads, and the row to be hashed.
    fn columns_of(&self, scan: Scan) -> (&str, String) {
        let Self { column, payload } = self;
        match scan {
            Scan::Index | Scan::Bitmap => (payload, "t".to_owned()),
            _ => (column, format!("ROW(t.{column})")),
        }
    }
}
