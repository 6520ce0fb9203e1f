-- The planner's choice.
\getenv srcdir PG_ABS_SRCDIR
\set schema plans_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- 300,000 rows in heap order, keys that grow with it, a random column, and
-- enough else to make a sequential scan dear.
CREATE TABLE t WITH (autovacuum_enabled = off) AS
    SELECT g::int8 AS id, hashint8extended(g, 0) AS hash, g % 1000 AS sector, CASE WHEN g % 10 = 0 THEN g END AS rare, repeat('x', 60) AS filler
    FROM generate_series(1, 300000) g;
CREATE INDEX t_id ON t USING omen (id);
CREATE INDEX t_hash ON t USING omen (hash);
CREATE INDEX t_sector ON t USING omen (sector);
CREATE INDEX t_rare ON t USING omen (rare);
-- The sample is the whole table, and the estimates are no matter of chance.
ALTER TABLE t ALTER sector SET STATISTICS 1000;
VACUUM ANALYZE t;

-- Selective: the index. Not selective: the table.
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE id = 77;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE id BETWEEN 1000 AND 3000;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE id = ANY ('{5,77,1000}');
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE id > 3000;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE hash > 0;
EXPLAIN (COSTS OFF) SELECT filler FROM t;
-- Many rows in random places: a bitmap.
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE sector = 5;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE hash BETWEEN 0 AND 100000000000000000;
-- Only the index.
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE id BETWEEN 1000 AND 200000;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t;
EXPLAIN (COSTS OFF) SELECT count(rare) FROM t WHERE rare IS NOT NULL;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE id % 7 = 3 AND id < 100000;
-- In order.
EXPLAIN (COSTS OFF) SELECT filler FROM t ORDER BY id LIMIT 10;
EXPLAIN (COSTS OFF) SELECT filler FROM t ORDER BY hash DESC LIMIT 10;
SELECT * FROM plan('SELECT max(hash) FROM t');
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY id;
-- Joins.
CREATE TABLE few AS SELECT g * 5987 % 300000 AS id FROM generate_series(1, 50) g;
CREATE TABLE twice AS SELECT id FROM t;
CREATE INDEX twice_id ON twice USING omen (id);
VACUUM ANALYZE few, twice;
EXPLAIN (COSTS OFF) SELECT t.filler FROM few JOIN t USING (id);
EXPLAIN (COSTS OFF) SELECT count(*) FROM twice JOIN t USING (id);

-- The rows estimated are those of the statistics, not of the access method.
CREATE FUNCTION estimated(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::int;
END
$$;
SELECT estimated('SELECT * FROM t WHERE id = 5') AS one,
    estimated('SELECT * FROM t WHERE id BETWEEN 1000 AND 10000') BETWEEN 8000 AND 10000 AS "nine thousand",
    estimated('SELECT * FROM t WHERE sector = 5') BETWEEN 200 AND 400 AS "three hundred",
    estimated('SELECT rare FROM t WHERE rare IS NULL') BETWEEN 260000 AND 280000 AS nulls;

-- Beside a btree on the same column: omen, because there is less to read.
CREATE INDEX t_id_btree ON t (id);
CREATE INDEX t_hash_btree ON t (hash);
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE id BETWEEN 1000 AND 200000;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE hash > 4000000000000000000;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY id;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE id = 77;
-- But the btree when it has both columns of a condition, or the smaller part.
CREATE INDEX t_sector_id_btree ON t (sector, id);
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE sector = 5 AND id < 30000;
CREATE INDEX t_hash_partial_btree ON t (hash) WHERE sector = 7;
EXPLAIN (COSTS OFF) SELECT filler FROM t WHERE sector = 7 AND hash > 4000000000000000000;
-- And when the omen index is the larger one.
DROP INDEX t_hash;
CREATE INDEX t_hash_sparse ON t USING omen (hash) WITH (fillfactor = 10);
SELECT pg_relation_size('t_hash_sparse') > pg_relation_size('t_hash_btree') AS larger;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE hash > 4000000000000000000;
-- Without statistics there are plans too.
CREATE TABLE unknown (k int4);
CREATE INDEX unknown_k ON unknown USING omen (k);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM unknown WHERE k = 5;

\set ECHO none
\i :srcdir/finish.sql
