-- CREATE INDEX: options, what PostgreSQL refuses for us, kinds of indexes and tables.
\getenv srcdir PG_ABS_SRCDIR
\set schema create_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int8, other int4, label text);
INSERT INTO t SELECT g * 3, g % 7, 'row ' || g FROM generate_series(1, 5000) g;
INSERT INTO t SELECT NULL, g FROM generate_series(1, 10) g;
VACUUM ANALYZE t;

-- Storage parameters.
CREATE INDEX t_options ON t USING omen (k) WITH (fillfactor = 70, model = pla);
SELECT reloptions FROM pg_class WHERE oid = 't_options'::regclass;
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 100 AND 200');
ALTER INDEX t_options SET (model = rmi);
ALTER INDEX t_options RESET (fillfactor);
SELECT reloptions FROM pg_class WHERE oid = 't_options'::regclass;
ALTER INDEX t_options SET (fillfactor = 9);
ALTER INDEX t_options SET (model = oracle);
REINDEX INDEX t_options;
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 100 AND 200');
DROP INDEX t_options;
CREATE INDEX ON t USING omen (k) WITH (fillfactor = 101);
CREATE INDEX ON t USING omen (k) WITH (fillfactor = much);
CREATE INDEX ON t USING omen (k) WITH (model = 3);
CREATE INDEX ON t USING omen (k) WITH (model);
CREATE INDEX ON t USING omen (k) WITH (pages = 5);

-- Every model and extreme fillfactors give the same answers.
CREATE FUNCTION with_options(options text) RETURNS TABLE (rows int, "index" text, "index only" text, bitmap text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE INDEX variant ON t USING omen (k) ' || options;
    RETURN QUERY SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 1000 AND 14000 ORDER BY k');
    RETURN QUERY SELECT * FROM agree('SELECT k FROM t WHERE k > 14000 OR k < 1000 OR k IS NULL');
    DROP INDEX variant;
END
$$;
SELECT options, got.* FROM unnest(ARRAY['',
    'WITH (fillfactor = 10, model = auto)', 'WITH (fillfactor = 100, model = linear)',
    'WITH (fillfactor = 90, model = rmi)', 'WITH (fillfactor = 50, model = pla)'])
    WITH ORDINALITY AS o (options, n), with_options(options) AS got ORDER BY n, rows DESC;

-- Types and kinds of indexes that there are not.
CREATE INDEX ON t USING omen (label);
CREATE INDEX ON t USING omen (k, other);
CREATE UNIQUE INDEX ON t USING omen (k);
CREATE INDEX ON t USING omen (k) INCLUDE (other);
CREATE INDEX ON t USING omen (k int4_ops);
CREATE INDEX ON t USING omen (k COLLATE "C");
CREATE INDEX ON t USING omen (missing);
CREATE INDEX ON t USING omen (ctid);
SELECT count(*) AS indexes FROM pg_index WHERE indrelid = 't'::regclass;

-- Names.
CREATE INDEX ON t USING omen (k);
CREATE INDEX t_k_idx ON t USING omen (k);
CREATE INDEX IF NOT EXISTS t_k_idx ON t USING omen (k);
SELECT pg_get_indexdef('t_k_idx'::regclass);
DROP INDEX t_k_idx;

-- Expressions and predicates.
CREATE INDEX t_expression ON t USING omen ((k % 1000));
ANALYZE t;
SELECT * FROM agree('SELECT k FROM t WHERE k % 1000 = 7');
SELECT * FROM agree('SELECT k FROM t WHERE k % 1000 > 990 ORDER BY k % 1000, k');
DROP INDEX t_expression;
CREATE INDEX t_partial ON t USING omen (k) WHERE other = 3;
SELECT * FROM agree('SELECT k FROM t WHERE other = 3 AND k < 1000');
SELECT * FROM agree('SELECT k FROM t WHERE other = 4 AND k < 1000');
INSERT INTO t VALUES (500, 3, 'in'), (501, 4, 'out');
UPDATE t SET other = 3 WHERE k = 300;
UPDATE t SET other = 0 WHERE k = 9;
SELECT * FROM agree('SELECT k FROM t WHERE other = 3 AND k < 1000');
DROP INDEX t_partial;

-- An expression that fails leaves nothing behind.
CREATE INDEX t_failing ON t USING omen ((1000 / (k - 600)));
SELECT count(*) AS indexes FROM pg_index WHERE indrelid = 't'::regclass;

-- An empty table, filled later.
CREATE TABLE empty (k timestamptz NOT NULL);
CREATE INDEX empty_k ON empty USING omen (k);
SELECT * FROM agree('SELECT k FROM empty WHERE k > now()');
SELECT * FROM agree('SELECT k FROM empty ORDER BY k DESC');
SELECT min(k), max(k) FROM empty;
INSERT INTO empty SELECT timestamptz '2026-01-01' + g * interval '1 minute' FROM generate_series(1, 3000) g;
SELECT * FROM agree($$SELECT k FROM empty WHERE k >= '2026-01-02' AND k < '2026-01-02 01:00'$$);
SELECT * FROM agree('SELECT k FROM empty ORDER BY k DESC LIMIT 3');

-- Built concurrently.
CREATE INDEX CONCURRENTLY t_concurrently ON t USING omen (k);
SELECT indisvalid, indisready FROM pg_index WHERE indexrelid = 't_concurrently'::regclass;
SELECT * FROM agree('SELECT k FROM t WHERE k IS NULL OR k > 14990');
SELECT * FROM agree('SELECT k FROM t WHERE k = ANY (''{3,4,500,501,15000}'')');
DROP INDEX CONCURRENTLY t_concurrently;

-- Unlogged and temporary tables.
CREATE UNLOGGED TABLE unlogged AS SELECT g AS k FROM generate_series(1, 3000) g;
CREATE INDEX unlogged_k ON unlogged USING omen (k);
INSERT INTO unlogged SELECT g FROM generate_series(2000, 4000) g;
SELECT * FROM agree('SELECT k FROM unlogged WHERE k BETWEEN 1990 AND 2010');
CREATE TEMPORARY TABLE temporary AS SELECT g AS k FROM generate_series(1, 3000) g;
CREATE INDEX temporary_k ON temporary USING omen (k);
INSERT INTO temporary SELECT g FROM generate_series(2000, 4000) g;
SELECT * FROM agree('SELECT k FROM temporary WHERE k BETWEEN 1990 AND 2010');
CREATE TEMPORARY TABLE forgetful (k int4) ON COMMIT DELETE ROWS;
CREATE INDEX forgetful_k ON forgetful USING omen (k);
BEGIN;
INSERT INTO forgetful SELECT generate_series(1, 3000);
SELECT * FROM agree('SELECT k FROM forgetful WHERE k > 2990');
COMMIT;
SELECT * FROM agree('SELECT k FROM forgetful WHERE k > 2990');
BEGIN;
INSERT INTO forgetful SELECT generate_series(2995, 3100);
SELECT * FROM agree('SELECT k FROM forgetful WHERE k > 2990');
ROLLBACK;

-- Partitions.
CREATE TABLE parted (k int8, v int4) PARTITION BY RANGE (k);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (1000) TO (2000);
CREATE INDEX parted_k ON parted USING omen (k);
INSERT INTO parted SELECT g % 2000, g FROM generate_series(1, 6000) g;
CREATE TABLE parted_later PARTITION OF parted FOR VALUES FROM (2000) TO (3000);
INSERT INTO parted SELECT g FROM generate_series(2000, 2999) g;
SELECT c.relname, am.amname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    JOIN pg_am am ON am.oid = c.relam AND c.relkind = 'i'
    WHERE i.inhparent = 'parted_k'::regclass AND am.amname IN ('omen', 'btree') ORDER BY 1;
SELECT * FROM agree('SELECT k, v FROM parted WHERE k BETWEEN 990 AND 1010');
SELECT * FROM agree('SELECT k FROM parted WHERE k > 500 ORDER BY k DESC LIMIT 2000');
EXPLAIN (COSTS OFF) SELECT k FROM parted ORDER BY k LIMIT 1;

-- What depends on the extension goes with it.
BEGIN;
SET LOCAL client_min_messages = error;
DROP EXTENSION omendb_index CASCADE;
SELECT count(*) FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam
    WHERE c.relkind = 'i' AND am.oid IS NULL;
ROLLBACK;

\set ECHO none
\i :srcdir/finish.sql
