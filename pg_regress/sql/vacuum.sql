-- VACUUM: what it removes, what it leaves, what becomes of the space.
\getenv srcdir PG_ABS_SRCDIR
\set schema vacuum_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int8, v int4) WITH (autovacuum_enabled = off);
INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 60000) g;
CREATE INDEX t_k ON t USING omen (k);
CREATE VIEW known AS SELECT reltuples, relpages = pg_relation_size('t_k') / current_setting('block_size')::int AS "pages right"
    FROM pg_class WHERE oid = 't_k'::regclass;
VACUUM t;
SELECT * FROM known;
SELECT entries FROM omen_stats('t_k');

-- Deleted but not yet vacuumed, then vacuumed.
DELETE FROM t WHERE k BETWEEN 20000 AND 30000;
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 19990 AND 30010');
VACUUM t;
SELECT * FROM known;
SELECT entries FROM omen_stats('t_k');
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 19990 AND 30010 ORDER BY k');

-- A random half of a perfectly linear table: what is left takes more room in
-- its place than the line did, and has to fit.
CREATE TABLE linear AS SELECT g AS k FROM generate_series(1, 40000) g;
ALTER TABLE linear SET (autovacuum_enabled = off);
CREATE INDEX linear_k ON linear USING omen (k) WITH (fillfactor = 100);
DELETE FROM linear WHERE hashint4(k) % 2 = 0;
SELECT pg_relation_size('linear_k') AS before \gset
VACUUM linear;
SELECT pg_relation_size('linear_k') = :before AS "size kept";
SELECT entries = (SELECT count(*) FROM linear) AS "right count" FROM omen_stats('linear_k');
SELECT * FROM agree('SELECT k FROM linear ORDER BY k');
SELECT * FROM agree('SELECT k FROM linear WHERE k BETWEEN 3000 AND 3100');
-- All but every hundredth, then the gaps are filled again.
DELETE FROM linear WHERE k % 100 <> 0;
VACUUM linear;
SELECT * FROM agree('SELECT k FROM linear WHERE k > 1000');
INSERT INTO linear SELECT g FROM generate_series(1, 40000) g WHERE g % 100 <> 0;
SELECT * FROM agree('SELECT k FROM linear WHERE k BETWEEN 3000 AND 3100');
SELECT count(*), count(DISTINCT k), min(k), max(k) FROM linear;

-- Everything: the pages are free, and are used again.
DELETE FROM t;
VACUUM t;
SELECT * FROM known;
SELECT entries, height, free_pages > 0 AS "pages freed" FROM omen_stats('t_k');
SELECT * FROM agree('SELECT k FROM t WHERE k > 0');
SELECT pg_relation_size('t_k') AS before \gset
INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 50000) g;
SELECT pg_relation_size('t_k') <= :before AS "size kept";
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 100 AND 200');

-- Cycles of filling and emptying do not make the index grow.
CREATE TABLE cycled (k int8, n int4) WITH (autovacuum_enabled = off);
CREATE INDEX cycled_k ON cycled USING omen (k);
CREATE TABLE sizes (cycle int4, bytes bigint);
CREATE FUNCTION cycles(filling text, n int4) RETURNS TABLE (statement text) LANGUAGE sql AS $$
    SELECT unnest(ARRAY[format(filling, c), format('DELETE FROM cycled WHERE n < %s', c), 'VACUUM cycled',
                        format('INSERT INTO sizes VALUES (%s, pg_relation_size(''cycled_k''))', c)])
    FROM generate_series(1, n) c
$$;
CREATE VIEW growth AS SELECT (SELECT bytes FROM sizes WHERE cycle = 8) <= (SELECT bytes FROM sizes WHERE cycle = 3) * 1.1 AS "size kept";
-- A window that moves on.
SELECT statement FROM cycles('INSERT INTO cycled SELECT g * 1000000::int8 + hashint4(g) %% 1000000, %1$s FROM generate_series(%1$s * 20000, %1$s * 20000 + 19999) g', 8)
\set ECHO none
\gexec
\set ECHO all
SELECT * FROM growth;
SELECT * FROM agree('SELECT k FROM cycled WHERE k % 1000 < 3 AND k > 160005000000');
-- The same keys in random order.
TRUNCATE cycled, sizes;
SELECT statement FROM cycles('INSERT INTO cycled SELECT g * 7919::int8 %% 20011, %1$s FROM generate_series(1, 20000) g', 8)
\set ECHO none
\gexec
\set ECHO all
SELECT * FROM growth;
SELECT * FROM agree('SELECT k FROM cycled WHERE k < 100');
-- The same key.
TRUNCATE cycled, sizes;
SELECT statement FROM cycles('INSERT INTO cycled SELECT 1, %1$s FROM generate_series(1, 10000) g', 8)
\set ECHO none
\gexec
\set ECHO all
SELECT * FROM growth;
SELECT * FROM agree('SELECT k FROM cycled WHERE k = 1');

-- Not cleaned up, and then cleaned up.
DELETE FROM cycled;
VACUUM (INDEX_CLEANUP off) cycled;
SELECT * FROM agree('SELECT k FROM cycled WHERE k = 1');
VACUUM (INDEX_CLEANUP on) cycled;
SELECT entries FROM omen_stats('cycled_k');
VACUUM FULL cycled;
SELECT entries FROM omen_stats('cycled_k');

-- By parallel workers.
CREATE TABLE par AS SELECT g AS a, g * 7 % 50000 AS b, g::float8 AS c FROM generate_series(1, 50000) g;
ALTER TABLE par SET (autovacuum_enabled = off);
CREATE INDEX par_a ON par USING omen (a);
CREATE INDEX par_b ON par USING omen (b);
CREATE INDEX par_c ON par USING omen (c);
SET min_parallel_index_scan_size = 0;
DELETE FROM par WHERE a % 3 = 0;
VACUUM (PARALLEL 2) par;
SELECT (omen_stats(i)).entries FROM unnest('{par_a,par_b,par_c}'::regclass[]) i;
SELECT * FROM agree('SELECT a FROM par WHERE a < 1000');
SELECT * FROM agree('SELECT b FROM par WHERE b < 1000');
SELECT * FROM agree('SELECT c FROM par WHERE c < 1000');

-- A partial index and one on an expression count their own entries.
CREATE INDEX par_partial ON par USING omen (a) WHERE b < 5000;
CREATE INDEX par_expression ON par USING omen ((nullif(b % 10, 3)));
DELETE FROM par WHERE a % 5 = 0;
VACUUM par;
SELECT relname, reltuples = (omen_stats(oid)).entries AS "right count",
    reltuples = (SELECT count(*) FROM par WHERE relname <> 'par_partial' OR b < 5000) AS "all there"
FROM pg_class WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'par'::regclass) ORDER BY 1;

\set ECHO none
\i :srcdir/finish.sql
