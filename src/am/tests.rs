//! What the callbacks do, in SQL: each answer is compared with that of a
//! sequential scan.

use core::sync::atomic::Ordering::Relaxed;

use pgrx::prelude::*;

use super::scan::seen;

fn run(sql: &str) {
    Spi::run(sql).expect(sql);
}

fn text(sql: &str) -> String {
    Spi::get_one::<String>(sql).expect(sql).unwrap_or_default()
}

fn number(sql: &str) -> i64 {
    Spi::get_one::<i64>(sql).expect(sql).expect(sql)
}

/// Turns on the kinds of scan named, out of "seqscan", "indexscan",
/// "indexonlyscan" and "bitmapscan", and off the others.
fn only(kinds: &[&str]) {
    for kind in ["seqscan", "indexscan", "indexonlyscan", "bitmapscan"] {
        let on = if kinds.contains(&kind) { "on" } else { "off" };
        run(&format!("SET enable_{kind} = {on}"));
    }
}

/// What `column` of the rows is, in order, through each kind of scan: all must
/// give what a sequential scan gives. Returns it.
fn agree(table: &str, column: &str, condition: &str) -> String {
    let rows = |order: &str| {
        text(&format!(
            "SELECT coalesce(string_agg(coalesce(v::text, 'null'), ' '), '') FROM \
             (SELECT {column} AS v FROM {table} WHERE {condition} ORDER BY {order}) x"
        ))
    };
    only(&["seqscan"]);
    let up = rows(column);
    let down = rows(&format!("{column} DESC"));
    only(&["bitmapscan"]);
    assert_eq!(rows(column), up, "bitmap scan, {condition}");
    for kinds in [&["indexscan"][..], &["indexscan", "indexonlyscan"][..]] {
        only(kinds);
        assert_eq!(rows(column), up, "{kinds:?} forward, {condition}");
        assert_eq!(
            rows(&format!("{column} DESC")),
            down,
            "{kinds:?} backward, {condition}"
        );
    }
    up
}

/// The plan of a query, in one line.
fn plan(sql: &str) -> String {
    let mut lines = Vec::new();
    Spi::connect(|client| {
        let rows = client
            .select(&format!("EXPLAIN (COSTS OFF) {sql}"), None, &[])
            .expect(sql);
        for row in rows {
            lines.push(row.get::<String>(1).expect(sql).expect(sql));
        }
    });
    lines.join("\n")
}

fn table(rows: i64) {
    run(&format!(
        "CREATE TABLE t AS SELECT (g * 7919) % {rows} AS k FROM generate_series(1, {rows}) g; \
         CREATE INDEX t_k ON t USING omen (k); ANALYZE t"
    ));
}

#[pg_schema]
mod tests {
    use super::*;

    #[pg_test]
    fn every_kind_of_scan_returns_the_rows_of_a_sequential_scan() {
        table(20_000);
        for condition in [
            "k < 50",
            "k <= 50",
            "k = 777",
            "k = -1",
            "k > 19950 AND k <> 19970",
            "k BETWEEN 500 AND 900 AND k > 600",
            "k > 10 AND k < 5",
            "k = NULL",
            "k = ANY ('{5, 5, 19999, 100000, -7, NULL, 6}')",
            "k > ANY ('{19990, 19995}')",
            "k < ALL ('{30, 20}')",
            "k IN (1, 2, 3) AND k > 1",
            "k < 5::int2 OR k > 19998::int2",
        ] {
            agree("t", "k", condition);
        }
        assert_eq!(agree("t", "k", "k < 5"), "0 1 2 3 4");
    }

    #[pg_test]
    fn index_tells_how_many_rows_it_was_built_with() {
        table(1000);
        let rows = "SELECT reltuples::int8 FROM pg_class WHERE relname = 't_k'";
        assert_eq!(number(rows), 1000);
    }

    #[pg_test]
    fn build_that_spills_to_files_loads_every_row() {
        run("SET maintenance_work_mem = '1MB'");
        run(
            "CREATE TABLE t AS SELECT CASE WHEN g % 5 = 0 THEN NULL ELSE hashint8(g) END AS k \
             FROM generate_series(1, 300000) g",
        );
        run("CREATE INDEX t_k ON t USING omen (k)");
        run("CREATE INDEX t_first ON t USING omen (k DESC NULLS FIRST)");
        for index in ["t_k", "t_first"] {
            let entries = format!("SELECT entries FROM omen_stats('{index}')");
            assert_eq!(number(&entries), 300_000);
        }
        only(&["indexscan"]);
        let sorted = "SELECT count(*) FROM (SELECT k, lag(k) OVER () AS before FROM \
                      (SELECT k FROM t WHERE k IS NOT NULL ORDER BY k) x) y WHERE before > k";
        assert_eq!(number(sorted), 0);
        assert_eq!(number("SELECT count(*) FROM t WHERE k IS NULL"), 60_000);
        agree("t", "k", "k BETWEEN 1000000 AND 1100000");
        run(
            "CREATE TABLE u AS SELECT g::int8 AS k, md5(g::text)::uuid AS id \
             FROM generate_series(1, 300000) g",
        );
        for column in ["k", "id"] {
            run(&format!(
                "CREATE INDEX u_{column} ON u USING omen ({column})"
            ));
            run(&format!(
                "SELECT omen_index_check('u_{column}', true, true)"
            ));
        }
    }

    #[pg_test]
    fn rows_inserted_into_an_index_are_found() {
        run("CREATE TABLE t (k int8); CREATE INDEX t_k ON t USING omen (k)");
        assert_eq!(agree("t", "k", "k > 0"), "");
        run("INSERT INTO t SELECT g FROM generate_series(1, 40000) g");
        run("INSERT INTO t SELECT (g * 104729::int8) % 80000 FROM generate_series(1, 40000) g");
        run("INSERT INTO t SELECT NULL FROM generate_series(1, 3000)");
        agree("t", "k", "k BETWEEN 39900 AND 40100");
        only(&["indexonlyscan", "indexscan"]);
        assert_eq!(number("SELECT count(*) FROM t WHERE k IS NULL"), 3000);
        assert_eq!(number("SELECT count(*) FROM t WHERE k IS NOT NULL"), 80_000);
        assert!(number("SELECT leaf_pages FROM omen_stats('t_k')") > 5);
    }

    #[pg_test]
    fn ordering_of_the_index_may_be_any() {
        run(
            "CREATE TABLE t AS SELECT CASE WHEN g % 9 > 0 THEN g % 100 END AS k FROM generate_series(1, 3000) g",
        );
        for order in ["", "DESC", "NULLS FIRST", "DESC NULLS LAST"] {
            run(&format!("CREATE INDEX t_k ON t USING omen (k {order})"));
            run("INSERT INTO t VALUES (NULL), (17), (0)");
            agree("t", "k", "k < 4");
            agree("t", "k", "k IS NULL");
            agree("t", "k", "k IS NOT NULL AND k > 97");
            let sorted = format!(
                "SELECT string_agg(coalesce(k::text, '-'), ' ') FROM (SELECT k FROM t ORDER BY k {order}) x"
            );
            only(&["seqscan"]);
            let expected = text(&sorted);
            only(&["indexscan", "indexonlyscan"]);
            assert!(plan(&format!("SELECT k FROM t ORDER BY k {order}")).contains("t_k"));
            assert_eq!(text(&sorted), expected);
            run("DROP INDEX t_k");
        }
    }

    #[pg_test]
    fn index_only_scan_returns_the_exact_value_of_every_type() {
        run(
            "CREATE TABLE t AS SELECT g::int2 AS a, (g * 100000)::int4 AS b, (g * 10000000000)::int8 AS c, \
             g::oid AS d, '2000-01-01'::date + g AS e, '00:00'::time + g * interval '1 us' AS f, \
             '2000-01-01'::timestamp + g * interval '1 us' AS g, '2000-01-01'::timestamptz - g * interval '1 h' AS h, \
             (g / 7.0)::float4 AS i, CASE g WHEN 3 THEN '-0' WHEN 4 THEN 'NaN' WHEN 5 THEN '-inf' ELSE g / -3.0 END::float8 AS j, \
             md5(g::text)::uuid AS k FROM generate_series(1, 300) g",
        );
        for column in "abcdefghijk".chars() {
            run(&format!(
                "CREATE INDEX t_{column} ON t USING omen ({column})"
            ));
            let all = format!(
                "SELECT string_agg({column}::text, ' ' ORDER BY {column}, {column}::text) FROM t WHERE {column} IS NOT NULL"
            );
            only(&["seqscan"]);
            let expected = text(&all);
            only(&["indexonlyscan", "indexscan"]);
            let query = format!("SELECT {column} FROM t WHERE {column} IS NOT NULL");
            assert!(plan(&query).contains("Index Only Scan"));
            assert_eq!(text(&all), expected, "{column}");
        }
    }

    /// Pages asked for while a query runs.
    fn asked(sql: &str) -> usize {
        let before = seen::ASKED.load(Relaxed);
        run(sql);
        seen::ASKED.load(Relaxed) - before
    }

    /// Those of them that had to be read.
    fn read(sql: &str) -> usize {
        let before = seen::READ.load(Relaxed);
        run(sql);
        seen::READ.load(Relaxed) - before
    }

    /// A temporary table of more pages than there are buffers for such.
    fn table_out_of_buffers() {
        run("SET temp_buffers = 100; \
             CREATE TEMP TABLE temporary AS SELECT (g * 7919) % 100000 AS k \
             FROM generate_series(1, 100000) g; \
             CREATE INDEX ON temporary USING omen (k); ANALYZE temporary");
    }

    #[pg_test]
    fn pages_of_scattered_rows_are_asked_for_ahead() {
        const RANGE: &str = "SELECT count(ctid) FROM t WHERE k BETWEEN 500 AND 1499";
        table(20_000);
        run("SET enable_seqscan = off; SET enable_bitmapscan = off");
        assert!(plan(RANGE).contains("Index Scan using t_k"));
        run("SET effective_io_concurrency = 16");
        // Some of the table's 89 pages have been asked for lately when it is their turn.
        assert!(asked(RANGE) > 500, "{}", asked(RANGE));
        let downwards = "SELECT ctid FROM t WHERE k < 1000 ORDER BY k DESC LIMIT 900";
        assert!(asked(downwards) > 450, "{}", asked(downwards));
        let few = "SELECT ctid FROM t WHERE k > 1000 ORDER BY k LIMIT 4";
        assert!((1..=6).contains(&asked(few)), "{}", asked(few));
        assert_eq!(asked("SELECT ctid FROM t WHERE k = 777"), 0);
        let only_keys = "SELECT count(*) FROM t WHERE k BETWEEN 500 AND 1499";
        assert!(plan(only_keys).contains("Index Only Scan"));
        assert_eq!(asked(only_keys), 0);
        run("SET effective_io_concurrency = 0");
        assert_eq!(asked(RANGE), 0);
    }

    #[pg_test]
    fn pages_of_a_bitmap_are_asked_for_ahead() {
        const RANGE: &str = "SELECT count(ctid) FROM t WHERE k BETWEEN 500 AND 1499";
        table(20_000);
        only(&["bitmapscan"]);
        assert!(plan(RANGE).contains("Bitmap Index Scan on t_k"));
        run("SET effective_io_concurrency = 1");
        let pages = number(
            "SELECT count(DISTINCT split_part(ctid::text, ',', 1)) FROM t WHERE k BETWEEN 500 AND 1499",
        );
        assert!(pages > 80);
        assert_eq!(asked(RANGE), pages.cast_unsigned() as usize);
        assert_eq!(asked("SELECT ctid FROM t WHERE k BETWEEN 500 AND 502"), 0);
        run("SET effective_io_concurrency = 0");
        assert_eq!(asked(RANGE), 0);
    }

    #[pg_test]
    fn bitmaps_of_pages_to_be_read_are_passed() {
        table_out_of_buffers();
        only(&["bitmapscan"]);
        run(
            "SET effective_io_concurrency = 2; SET enable_material = off; SET enable_memoize = off",
        );
        let ranges = "SELECT count(x.ctid) FROM generate_series(1, 200) AS g, LATERAL \
             (SELECT ctid FROM temporary WHERE k BETWEEN g * 400 AND g * 400 + 200) AS x";
        assert!(plan(ranges).contains("Bitmap Index Scan on temporary_k_idx"));
        let read = read(ranges);
        assert!((2..50).contains(&read), "{read}");
    }

    #[pg_test]
    fn fast_reads_are_not_asked_for_ahead() {
        const SLOW: u64 = 1_000_000;
        table_out_of_buffers();
        only(&["indexscan"]);
        for setting in [1, 8] {
            run(&format!("SET effective_io_concurrency = {setting}"));
            for order in ["ASC", "DESC"] {
                let range = format!(
                    "SELECT ctid FROM temporary WHERE k BETWEEN 500 AND 4499 ORDER BY k {order}"
                );
                seen::TICK.store(SLOW, Relaxed);
                assert!(read(&range) > 2000, "{order}: {}", read(&range));
                seen::TICK.store(1, Relaxed);
                assert!(read(&range) < 100, "{order}: {}", read(&range));
            }
        }
        let ranges = "SELECT count(x.ctid) FROM generate_series(1, 1000) AS g, LATERAL \
             (SELECT ctid FROM temporary WHERE k <= g * 90 ORDER BY k DESC LIMIT 5) AS x";
        // Of 5,000 rows. Some scans find all in the buffers, and the next ones look again.
        assert!(read(ranges) < 250, "{}", read(ranges));
        seen::TICK.store(0, Relaxed);
    }

    #[pg_test]
    fn looking_ahead_changes_no_answer() {
        table_out_of_buffers();
        table(20_000);
        run("DELETE FROM t WHERE k % 7 = 3");
        let before = seen::READ.load(Relaxed);
        seen::TICK.store(1_000_000, Relaxed);
        for setting in [0, 1, 2, 1000] {
            run(&format!("SET effective_io_concurrency = {setting}"));
            for table in ["t", "temporary"] {
                agree(table, "k", "k BETWEEN 100 AND 5000");
                agree(table, "k", "k IN (5, 6, 7, 900, 901) OR k > 19900");
            }
            run("SET enable_indexonlyscan = off; SET enable_bitmapscan = off");
            agree_in_merge_join();
        }
        seen::TICK.store(0, Relaxed);
        assert!(seen::READ.load(Relaxed) > before + 1000);
    }

    /// A merge join that goes back to marks, of rows with their table.
    fn agree_in_merge_join() {
        let join = "SELECT string_agg(a.k || ' ' || b.k, ' ' ORDER BY a.k, b.k) FROM \
             (SELECT k, k / 3 AS third FROM t WHERE k < 3000 ORDER BY k) a \
             JOIN (SELECT k, ctid FROM t WHERE k < 3000 ORDER BY k) b ON a.third = b.k";
        run("SET enable_hashjoin = off; SET enable_nestloop = off");
        let plan = plan(join);
        assert!(
            plan.contains("Merge Join") && plan.contains("Index Scan using t_k"),
            "{plan}"
        );
        let through_index = text(join);
        only(&["seqscan"]);
        assert_eq!(through_index, text(join));
    }

    #[pg_test]
    fn error_of_looking_ahead_ends_the_query_alone() {
        const COUNT: &str = "SELECT count(ctid) FROM t WHERE k BETWEEN 500 AND 1499";
        table(20_000);
        run("SET effective_io_concurrency = 1");
        for way in ["indexscan", "bitmapscan"] {
            only(&[way]);
            seen::FAIL.store(true, Relaxed);
            run(
                "DO $$ BEGIN PERFORM ctid FROM t WHERE k BETWEEN 500 AND 1499; \
                 RAISE 'no error'; \
                 EXCEPTION WHEN OTHERS THEN \
                 ASSERT SQLERRM LIKE 'could not open file %target block%', SQLERRM; END $$",
            );
            seen::FAIL.store(false, Relaxed);
            assert_eq!(number(COUNT), 1000, "{way}");
        }
    }

    #[pg_test]
    fn cursor_changes_direction() {
        table(5000);
        only(&["indexscan"]);
        run(
            "DECLARE c SCROLL CURSOR FOR SELECT k::int8 FROM t WHERE k BETWEEN 100 AND 4000 ORDER BY k",
        );
        let fetch = |what: &str| {
            Spi::connect(|client| {
                let rows = client.select(&format!("FETCH {what} FROM c"), None, &[]);
                rows.expect(what)
                    .last()
                    .and_then(|row| row.get::<i64>(1).ok().flatten())
            })
        };
        assert_eq!(fetch("2000"), Some(2099));
        assert_eq!(fetch("BACKWARD 1500"), Some(599));
        assert_eq!(fetch("NEXT"), Some(600));
        assert_eq!(fetch("LAST"), Some(4000));
        assert_eq!(fetch("NEXT"), None);
        assert_eq!(fetch("PRIOR"), Some(4000));
        assert_eq!(fetch("FIRST"), Some(100));
        assert_eq!(fetch("PRIOR"), None);
        assert_eq!(fetch("NEXT"), Some(100));
    }

    #[pg_test]
    fn merge_join_goes_back_to_marks() {
        run(
            "CREATE TABLE a AS SELECT g % 300 AS k FROM generate_series(1, 3000) g; \
             CREATE TABLE b AS SELECT g % 200 AS k FROM generate_series(1, 4000) g; \
             CREATE INDEX a_k ON a USING omen (k); CREATE INDEX b_k ON b USING omen (k); \
             ANALYZE a; ANALYZE b; SET enable_hashjoin = off; SET enable_nestloop = off; \
             SET enable_material = off; SET enable_sort = off",
        );
        let join = "SELECT count(*) FROM a JOIN b USING (k)";
        // Both keys of each pair, and with the heap which rows they are of.
        let keys = "SELECT sum(a.k * 1000 + b.k) FROM a JOIN b USING (k)";
        let rows = "SELECT count(DISTINCT (a.ctid, b.ctid)) FROM a JOIN b USING (k)";
        for kinds in [&["indexscan"][..], &["indexonlyscan", "indexscan"][..]] {
            only(kinds);
            for query in [join, keys, rows] {
                assert!(plan(query).contains("Merge Join"));
            }
            assert_eq!(number(join), 200 * 10 * 20);
            assert_eq!(number(keys), 200 * 1001 * (0..200).sum::<i64>());
            assert_eq!(number(rows), 200 * 10 * 20);
        }
    }

    #[pg_test]
    fn nested_loop_rescans_through_the_model() {
        table(200_000);
        assert!(number("SELECT leaf_pages FROM omen_stats('t_k')") > 20);
        run(
            "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_memoize = off; \
             SET enable_material = off",
        );
        only(&["indexonlyscan", "indexscan"]);
        let hits = "SELECT model_hits FROM omen_stats('t_k')";
        let before = number(hits);
        let join = "SELECT count(*) FROM generate_series(1, 5000) g, LATERAL \
                    (SELECT k FROM t WHERE k = g * 104729::int8 % 200000 OFFSET 0) x";
        assert_eq!(number(join), 5000);
        // A probe of the leaf that was read last does not ask the model.
        assert!(number(hits) >= before + 4500);
        let falls = "SELECT model_falls FROM omen_stats('t_k')";
        assert!(number(falls) < 10);
    }

    #[pg_test]
    fn partial_and_expression_indexes_work() {
        run(
            "CREATE TABLE t AS SELECT g AS k FROM generate_series(1, 5000) g; \
             CREATE INDEX t_e ON t USING omen ((k % 100)) WHERE k > 1000; ANALYZE t",
        );
        only(&["indexscan"]);
        let query = "SELECT count(*) FROM t WHERE k % 100 = 7 AND k > 1000";
        assert!(plan(query).contains("t_e"));
        assert_eq!(number(query), 40);
        run("UPDATE t SET k = k + 100000 WHERE k % 100 = 7");
        assert_eq!(number(query), 50);
    }

    #[pg_test]
    fn exclusion_constraint_sees_rows_in_progress() {
        run("CREATE TABLE t (k int, EXCLUDE USING omen (k WITH =)); INSERT INTO t VALUES (1), (2)");
        let conflict = "INSERT INTO t VALUES (3), (2) ON CONFLICT DO NOTHING";
        run(conflict);
        only(&["seqscan"]);
        assert_eq!(number("SELECT count(*) FROM t"), 3);
    }

    #[pg_test]
    fn truncate_and_reindex_start_afresh() {
        table(10_000);
        agree("t", "k", "k < 10");
        run("TRUNCATE t");
        assert_eq!(agree("t", "k", "k < 10"), "");
        run("INSERT INTO t SELECT g FROM generate_series(1, 3000) g");
        assert_eq!(agree("t", "k", "k < 3"), "1 2");
        run("REINDEX INDEX t_k");
        assert_eq!(agree("t", "k", "k < 3"), "1 2");
        run("ALTER TABLE t ALTER k TYPE int8");
        assert_eq!(agree("t", "k", "k < 3"), "1 2");
    }

    #[pg_test]
    fn scan_that_an_error_ends_leaves_nothing_behind() {
        table(20_000);
        only(&["indexonlyscan", "indexscan"]);
        run("DO $$ BEGIN FOR i IN 1..50 LOOP BEGIN \
             PERFORM 1 / (k - 500) FROM t WHERE k > 400 ORDER BY k; \
             EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$");
        assert_eq!(agree("t", "k", "k < 3"), "0 1 2");
    }

    #[pg_test]
    fn scans_are_counted() {
        table(1000);
        only(&["indexscan"]);
        let scans = "SELECT pg_stat_get_xact_numscans('t_k'::regclass)";
        let before = number(scans);
        number("SELECT count(*) FROM t WHERE k = 5");
        assert_eq!(number(scans), before + 1);
    }

    #[pg_test(error = "value 5 out of bounds for option \"fillfactor\"")]
    fn fillfactor_out_of_bounds_is_an_error() {
        run("CREATE TABLE t (k int); CREATE INDEX ON t USING omen (k) WITH (fillfactor = 5)");
    }

    #[pg_test(error = "invalid value for enum option \"model\": magic")]
    fn unknown_model_is_an_error() {
        run("CREATE TABLE t (k int); CREATE INDEX ON t USING omen (k) WITH (model = magic)");
    }

    #[pg_test(error = "access method \"omen\" does not support multicolumn indexes")]
    fn two_columns_are_an_error() {
        run("CREATE TABLE t (a int, b int); CREATE INDEX ON t USING omen (a, b)");
    }

    #[pg_test(error = "relation \"t_b\" is not an omen index")]
    fn stats_of_another_access_method_are_an_error() {
        run("CREATE TABLE t (k int); CREATE INDEX t_b ON t (k); SELECT * FROM omen_stats('t_b')");
    }

    #[pg_test]
    fn model_and_fillfactor_are_those_asked_for() {
        run("CREATE TABLE t AS SELECT hashint8(g) AS k FROM generate_series(1, 100000) g");
        let mut sizes = Vec::new();
        for (model, fill) in [("linear", 100), ("rmi", 90), ("pla", 50)] {
            run(&format!(
                "CREATE INDEX i ON t USING omen (k) WITH (model = {model}, fillfactor = {fill})"
            ));
            assert_eq!(text("SELECT model FROM omen_stats('i')"), model);
            sizes.push(number("SELECT leaf_pages FROM omen_stats('i')"));
            run("DROP INDEX i");
        }
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert!(sizes[0] * 3 / 2 < sizes[2], "{sizes:?}");
    }
}
