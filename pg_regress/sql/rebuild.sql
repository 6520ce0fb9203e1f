-- What gives an index a new file: REINDEX, TRUNCATE, CLUSTER, ALTER TABLE.
\getenv srcdir PG_ABS_SRCDIR
\set schema rebuild_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int4, v int8);
INSERT INTO t SELECT g * 7919 % 20011, g FROM generate_series(1, 10000) g;
CREATE INDEX t_k ON t USING omen (k);
VACUUM ANALYZE t;

-- The session has learned where keys are before each rebuild, and must not
-- trust that afterwards.
CREATE FUNCTION probe(OUT joined bigint, OUT rows int, OUT "index" text,
                      OUT "index only" text, OUT bitmap text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    SELECT count(t.k) INTO joined FROM generate_series(1, 20000, 17) p JOIN t ON t.k = p;
    SELECT * INTO rows, "index", "index only", bitmap FROM agree('SELECT k FROM t WHERE k < 500');
END
$$;

SELECT * FROM probe();
REINDEX INDEX t_k;
SELECT * FROM probe();
REINDEX INDEX CONCURRENTLY t_k;
SELECT * FROM probe();
REINDEX TABLE t;
SELECT * FROM probe();

-- CLUSTER puts the rows into the order of the index.
CREATE FUNCTION disorder() RETURNS bigint LANGUAGE sql AS
    'SELECT count(*) FROM (SELECT k, lag(k) OVER (ORDER BY ctid) AS before FROM t) s WHERE before > k';
SELECT disorder() > 1000 AS mixed;
CLUSTER t USING t_k;
SELECT disorder();
SELECT * FROM probe();
SET enable_seqscan = off;
CLUSTER t;
RESET enable_seqscan;
SELECT disorder();
SELECT * FROM probe();
VACUUM FULL t;
SELECT * FROM probe();

-- TRUNCATE, and TRUNCATE in the transaction that filled the table.
BEGIN;
TRUNCATE t;
SELECT * FROM probe();
INSERT INTO t SELECT g, g FROM generate_series(1, 3000) g;
SELECT * FROM probe();
TRUNCATE t;
INSERT INTO t SELECT g * 5, g FROM generate_series(1, 3000) g;
SELECT * FROM probe();
ROLLBACK;
SELECT * FROM probe();
BEGIN;
INSERT INTO t SELECT g, g FROM generate_series(1, 3000) g;
SAVEPOINT before_truncate;
TRUNCATE t;
INSERT INTO t SELECT g, g FROM generate_series(1, 300) g;
SELECT * FROM probe();
ROLLBACK TO before_truncate;
SELECT * FROM probe();
ROLLBACK;
SELECT * FROM probe();
BEGIN;
CREATE TABLE fresh (k int4);
CREATE INDEX fresh_k ON fresh USING omen (k);
INSERT INTO fresh SELECT generate_series(1, 2000);
TRUNCATE fresh;
INSERT INTO fresh SELECT generate_series(1, 2000, 2);
SELECT * FROM agree('SELECT k FROM fresh WHERE k < 100');
COMMIT;
SELECT * FROM agree('SELECT k FROM fresh WHERE k < 100');

-- Tablespaces.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE elsewhere LOCATION '';
ALTER INDEX t_k SET TABLESPACE elsewhere;
SELECT * FROM probe();
INSERT INTO t SELECT g, g FROM generate_series(1, 300) g;
SELECT * FROM probe();
ALTER TABLE t SET TABLESPACE elsewhere;
SELECT * FROM probe();
REINDEX (TABLESPACE pg_default) INDEX t_k;
SELECT * FROM probe();
ALTER TABLE t SET TABLESPACE pg_default;
DROP TABLESPACE elsewhere;
SELECT * FROM probe();

-- Logged and unlogged.
ALTER TABLE t SET UNLOGGED;
SELECT * FROM probe();
INSERT INTO t SELECT g, g FROM generate_series(1, 300) g;
ALTER TABLE t SET LOGGED;
SELECT * FROM probe();

-- Another type of the column.
ALTER TABLE t ALTER COLUMN k TYPE int8;
SELECT * FROM probe();
ALTER TABLE t ALTER COLUMN k TYPE float8 USING k / 2.0;
SELECT * FROM probe();
ALTER TABLE t ALTER COLUMN k TYPE date USING date '2000-01-01' + k::int4;
SELECT * FROM agree($$SELECT k FROM t WHERE k < '2000-12-31'$$);
ALTER TABLE t ALTER COLUMN k TYPE text;
ALTER TABLE t DROP COLUMN k;
SELECT to_regclass('t_k') IS NULL AS gone;

\set ECHO none
\i :srcdir/finish.sql
