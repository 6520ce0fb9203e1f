//! What a session keeps in memory for the indexes that it has used, and what planning
//! costs in a database with the extension.

use anyhow::Result;
use postgres::Client;

use crate::bench::lab::{BASE, Lab, Subject};
use crate::bench::memory::of_session;
use crate::bench::method::{BOTH, Method, planner};
use crate::bench::results::Summary;
use crate::measure::Scan;
use crate::workloads::as_f64;

pub const MEMORY_GROUP: &str = "memory";
pub const PLANNING_GROUP: &str = "planning";

const PARTITIONS: u64 = 1_000;
/// Rows of each partition at most.
const PARTITION_ROWS: u64 = 10_000;
/// Of each statement in one repetition.
const EXPLAINS: u64 = 250;
/// Before these, in the same session: it fills its caches.
const FIRST_EXPLAINS: u64 = 25;
/// The database without the extension.
const WITHOUT: &str = "without_extension";
/// And the one with it.
const WITH: &str = "postgres";

/// Memory after lookups all over one index, beyond that of the session before them.
pub fn one_index(lab: &mut Lab, data_set: &str) -> Result<()> {
    let lookups = "SELECT count(t.k) FROM probes AS p JOIN {t} AS t ON t.k = p.k";
    measure(lab, data_set, "one index, all parts looked up", lookups)
}

/// The same for the partitions of one table, each with an index.
pub fn partitions(lab: &mut Lab) -> Result<()> {
    let partitions = if lab.scale.check { 20 } else { PARTITIONS };
    let each = (lab.scale.rows / partitions).clamp(10, PARTITION_ROWS);
    lab.client.batch_execute(&format!(
        "RESET ALL;
         DROP TABLE IF EXISTS {BASE}, probes;
         CREATE TABLE {BASE} AS SELECT i AS k, 0 AS payload
            FROM generate_series(0::bigint, {partitions} * {each} - 1) AS i;
         CREATE TABLE probes AS SELECT k FROM {BASE} WHERE k % {each} = {each} / 2;
         ANALYZE probes;"
    ))?;
    lab.rows = partitions * each;
    for method in BOTH {
        let table = method.target().table;
        lab.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS {table};
             CREATE TABLE {table} (k bigint, payload int) PARTITION BY RANGE (k);
             DO $$ BEGIN FOR i IN 0..{partitions} - 1 LOOP
                EXECUTE format('CREATE TABLE {table}_%s PARTITION OF {table}
                                FOR VALUES FROM (%s) TO (%s)', i, i * {each}, (i + 1) * {each});
             END LOOP; END $$;
             INSERT INTO {table} SELECT * FROM {BASE};
             {}",
            lab.index_sql(method)
        ))?;
        lab.client
            .batch_execute(&format!("VACUUM (ANALYZE) {table}"))?;
    }
    let lookups = "SELECT count(t.k) FROM probes AS p JOIN {t} AS t ON t.k = p.k";
    let workload = format!("{partitions} partitions, one lookup in each");
    measure(lab, "partitions", &workload, lookups)?;
    for method in BOTH {
        let table = method.target().table;
        lab.client.batch_execute(&format!("DROP TABLE {table}"))?;
    }
    Ok(())
}

fn measure(lab: &mut Lab, data_set: &str, workload: &str, lookups: &str) -> Result<()> {
    let grown = lab.repeat(&BOTH, |lab, _, method| {
        let mut session = lab.cluster.connect()?;
        session.batch_execute(&planner(Scan::IndexOnly))?;
        session.batch_execute("SELECT 1")?;
        let before = of_session(&mut session)?;
        let contexts = contexts(&mut session)?;
        session.batch_execute(&lookups.replace("{t}", method.target().table))?;
        let after = of_session(&mut session)?;
        Ok([
            as_f64(after) - as_f64(before),
            contexts_beyond(&mut session, contexts)?,
        ])
    })?;
    for (which, how) in [(0, "RssAnon"), (1, "memory contexts")] {
        let values = grown
            .iter()
            .map(|of| {
                of.iter()
                    .map(|values| values[which] / 1_048_576.0)
                    .collect()
            })
            .collect();
        let subject = Subject {
            group: MEMORY_GROUP,
            data_set,
            workload: &format!("{workload}, {how}"),
            unit: "MB",
            settings: "growth of a fresh session by its first query",
            equal: None,
        };
        lab.record(&subject, &Lab::summaries(&BOTH, values, 1.0));
    }
    Ok(())
}

/// Bytes of all memory contexts of the session.
fn contexts(session: &mut Client) -> Result<f64> {
    let row = session.query_one(
        "SELECT sum(total_bytes)::float8 FROM pg_backend_memory_contexts",
        &[],
    )?;
    Ok(row.get(0))
}

fn contexts_beyond(session: &mut Client, before: f64) -> Result<f64> {
    Ok(contexts(session)? - before)
}

/// Plans of tables that have btree indexes alone, in a database without the extension
/// (shown as btree) and in one with it.
pub fn planning(lab: &mut Lab) -> Result<()> {
    lab.client.batch_execute("RESET ALL")?;
    let there = crate::keys::count(
        &mut lab.client,
        &format!("pg_database WHERE datname = '{WITHOUT}'"),
    )?;
    if there == 0 {
        lab.client
            .batch_execute(&format!("CREATE DATABASE {WITHOUT} TEMPLATE template0"))?;
    }
    for (workload, begin) in [
        ("EXPLAIN of plain tables, with the extension created", ""),
        (
            "EXPLAIN of plain tables, with its library loaded",
            "CREATE TEMP TABLE used (k int); CREATE INDEX ON used USING omen (k);",
        ),
    ] {
        let begin = begin.replace("omen", &lab.candidate);
        for database in [WITHOUT, WITH] {
            lab.cluster.connect_to(database)?.batch_execute(PLANNED)?;
        }
        let explains = lab.scale.loops(EXPLAINS);
        // Where a session's memory lies decides about some percent: each round has new ones.
        let seconds = lab.repeat_often(&BOTH, |lab, _, method| {
            let mut session = if method == Method::Candidate {
                let mut session = lab.cluster.connect_to(WITH)?;
                session.batch_execute(&begin)?;
                session
            } else {
                lab.cluster.connect_to(WITHOUT)?
            };
            explain(&mut session, FIRST_EXPLAINS)?;
            explain(&mut session, explains)
        })?;
        let subject = Subject {
            group: PLANNING_GROUP,
            data_set: "planning",
            workload,
            unit: "\u{b5}s",
            settings: "a lookup and a join of two tables; btree: a database without the extension",
            equal: None,
        };
        let entries: Vec<(Method, Summary)> =
            Lab::summaries(&BOTH, seconds, 1e6 / as_f64(explains));
        lab.record(&subject, &entries);
    }
    Ok(())
}

/// Tables without any index of the extension's.
const PLANNED: &str = "DROP TABLE IF EXISTS planned, planned_too;
    CREATE TABLE planned AS SELECT i AS a, i AS b FROM generate_series(1, 1000) AS i;
    CREATE TABLE planned_too AS SELECT * FROM planned;
    CREATE INDEX ON planned (a); CREATE INDEX ON planned (b); CREATE INDEX ON planned_too (a);
    ANALYZE planned; ANALYZE planned_too;";

/// Seconds that `explains` rounds take.
fn explain(session: &mut Client, explains: u64) -> Result<f64> {
    let begun = std::time::Instant::now();
    session.batch_execute(&format!(
        "DO $$ BEGIN FOR i IN 1..{explains} LOOP
            EXECUTE 'EXPLAIN SELECT * FROM planned WHERE a = 5 AND b > 3 ORDER BY a LIMIT 1';
            EXECUTE 'EXPLAIN SELECT * FROM planned AS p JOIN planned_too AS q ON p.a = q.a
                     WHERE p.b BETWEEN 3 AND 9 ORDER BY q.a';
         END LOOP; END $$"
    ))?;
    Ok(begun.elapsed().as_secs_f64())
}
