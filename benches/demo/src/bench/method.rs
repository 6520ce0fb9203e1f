//! The index methods beside each other, and the plans that each of them can serve.

use crate::inserts::PLAIN;
use crate::measure::{BTREE, CANDIDATE, Scan, Target};

/// What a table is indexed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Btree,
    Candidate,
    Hash,
    Brin,
    /// No index: what no index can save.
    Plain,
}

/// The two that every workload is for.
pub const BOTH: [Method; 2] = [Method::Btree, Method::Candidate];
/// With the table that has no index.
pub const WITH_PLAIN: [Method; 3] = [Method::Btree, Method::Candidate, Method::Plain];

/// What a query asks of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Equal,
    Range,
    Order,
}

impl Method {
    /// The table that has this index alone.
    pub fn target(self) -> Target {
        match self {
            Self::Btree => BTREE,
            Self::Candidate => CANDIDATE,
            Self::Plain => PLAIN,
            Self::Hash => Target {
                table: "t_hash",
                index: "t_hash_key",
            },
            Self::Brin => Target {
                table: "t_brin",
                index: "t_brin_key",
            },
        }
    }

    /// The access method's name.
    pub fn name(self, candidate: &str) -> &str {
        match self {
            Self::Btree => "btree",
            Self::Candidate => candidate,
            Self::Hash => "hash",
            Self::Brin => "brin",
            Self::Plain => "no index",
        }
    }

    /// The scan that serves a query meant as `scan`, if this method can do the work.
    pub fn scan(self, ask: Ask, scan: Scan) -> Option<Scan> {
        match (self, ask) {
            (Self::Btree | Self::Candidate, _) => Some(scan),
            (Self::Hash, Ask::Equal) if scan == Scan::Bitmap => Some(Scan::Bitmap),
            (Self::Hash, Ask::Equal) => Some(Scan::Index),
            (Self::Brin, Ask::Range) => Some(Scan::Bitmap),
            _ => None,
        }
    }
}

/// SQL under which a query is planned as `scan` if that is possible.
pub fn planner(scan: Scan) -> String {
    let off: &[&str] = match scan {
        Scan::IndexOnly | Scan::IndexOnlyBackward => &["bitmapscan", "mergejoin"],
        Scan::Index => &["bitmapscan", "mergejoin", "indexonlyscan"],
        Scan::Bitmap => &["indexscan", "indexonlyscan", "mergejoin"],
        Scan::MergeJoin => &["bitmapscan", "nestloop"],
    };
    let always = ["seqscan", "hashjoin", "sort", "material", "memoize"];
    let mut sql = String::from("RESET ALL;");
    for name in always.iter().chain(off) {
        sql.push_str(&format!(" SET enable_{name} = off;"));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::{Ask, Method, planner};
    use crate::measure::Scan;

    #[test]
    fn methods_are_asked_only_for_what_they_can_do() {
        assert!(Method::Candidate.scan(Ask::Order, Scan::IndexOnly) == Some(Scan::IndexOnly));
        assert!(Method::Hash.scan(Ask::Equal, Scan::IndexOnly) == Some(Scan::Index));
        assert!(Method::Hash.scan(Ask::Range, Scan::Index).is_none());
        assert!(Method::Brin.scan(Ask::Equal, Scan::Index).is_none());
        assert!(Method::Plain.scan(Ask::Equal, Scan::Index).is_none());
    }

    #[test]
    fn settings_leave_the_wanted_scan_on() {
        assert!(!planner(Scan::IndexOnly).contains("indexonlyscan"));
        assert!(planner(Scan::Index).contains("enable_indexonlyscan = off"));
        assert!(!planner(Scan::Bitmap).contains("bitmapscan"));
        assert!(!planner(Scan::MergeJoin).contains("mergejoin"));
    }
}
