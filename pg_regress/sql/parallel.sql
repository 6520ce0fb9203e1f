-- Parallel scans: each row once, whoever reads it.
\getenv srcdir PG_ABS_SRCDIR
\set schema parallel_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE FUNCTION uuid_of(n int8) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT lpad(to_hex(n), 32, '0')::uuid $$;
-- In heap order, at random, many equal, rarely a value, two lanes.
CREATE TABLE t AS
    SELECT g AS id, g::int8 AS k, hashint8extended(g, 0) AS hash, g % 50 AS dup,
        CASE WHEN g % 10 = 0 THEN g END AS rare, uuid_of(hashint8extended(g, 1) % 1000000) AS u
    FROM generate_series(1, 40000) g;
CREATE INDEX t_k ON t USING omen (k);
CREATE INDEX t_hash ON t USING omen (hash DESC);
CREATE INDEX t_dup ON t USING omen (dup);
CREATE INDEX t_rare ON t USING omen (rare NULLS FIRST);
CREATE INDEX t_u ON t USING omen (u);
-- Pages that were split and merged, delta areas, and dead entries.
INSERT INTO t SELECT g, g, hashint8extended(g, 0), g % 50, NULL, uuid_of(g) FROM generate_series(40001, 45000) g;
DELETE FROM t WHERE k BETWEEN 10000 AND 15000 OR k % 7 = 0;
VACUUM ANALYZE t;
UPDATE t SET hash = hash / 2 WHERE k % 100 = 3;

SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET enable_bitmapscan = off;
-- There is much to do with each row.
SET cpu_tuple_cost = 10;

-- The answer of a query by a parallel plan, with and without the help of the
-- leader, beside that of one process and no index. `plan` is what the parallel
-- scan is.
CREATE FUNCTION in_parallel(query text, OUT rows int, OUT verdict text, OUT plan text)
LANGUAGE plpgsql AS $$
DECLARE
    wanted text[];
    got text[];
    line text;
    led text;
BEGIN
    SET LOCAL max_parallel_workers_per_gather = 0;
    wanted := (answer(query, 'seq')).answer;
    rows := cardinality(wanted);
    verdict := 'same';
    IF query ILIKE '%order by%' AND query NOT ILIKE '%limit%' THEN
        -- Else the aggregate below need not see the order.
        query := query || ' LIMIT 1000000';
    END IF;
    SET LOCAL max_parallel_workers_per_gather = 2;
    SET LOCAL enable_seqscan = off;
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := coalesce(plan, substring(line FROM '(Parallel .*)'));
    END LOOP;
    FOREACH led IN ARRAY '{off,on}'::text[] LOOP
        PERFORM set_config('parallel_leader_participation', led, true);
        EXECUTE format('SELECT array_agg(row::text %s) FROM (%s) AS row',
            CASE WHEN query ILIKE '%order by%' THEN '' ELSE 'ORDER BY row::text' END, query) INTO got;
        IF coalesce(got, '{}') <> wanted THEN
            verdict := format('DIFFERS: %s rows, leader %s', coalesce(cardinality(got), 0), led);
        END IF;
    END LOOP;
END
$$;

SET max_parallel_workers_per_gather = 2;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*), sum(k) FROM t WHERE k BETWEEN 1000 AND 30000;
EXPLAIN (COSTS OFF) SELECT count(*), sum(id) FROM t WHERE k BETWEEN 1000 AND 30000;
EXPLAIN (COSTS OFF) SELECT k FROM t WHERE k > 1000 ORDER BY k;
EXPLAIN (COSTS OFF) SELECT k FROM t WHERE k > 1000 ORDER BY k DESC;
RESET enable_seqscan;

SELECT query, p.* FROM (VALUES
    ('SELECT k FROM t'),
    ('SELECT id FROM t WHERE k > 20000'),
    ('SELECT count(*), sum(k) FROM t WHERE k BETWEEN 1000 AND 30000'),
    ('SELECT count(*), sum(id) FROM t WHERE k BETWEEN 1000 AND 30000'),
    ('SELECT hash FROM t WHERE hash > 0'),
    ('SELECT id, hash FROM t WHERE hash BETWEEN -3000000000000000000 AND 3000000000000000000'),
    ('SELECT dup, count(*) FROM t WHERE dup > 20 GROUP BY dup'),
    ('SELECT dup FROM t WHERE dup = 7'),
    ('SELECT id FROM t WHERE dup = ANY (''{3,7,7,NULL,49,1000,-1}'')'),
    ('SELECT k FROM t WHERE k = ANY (array(SELECT g * 37 FROM generate_series(1, 2000) g))'),
    ('SELECT k FROM t WHERE k = ANY (''{5}'')'),
    ('SELECT k FROM t WHERE k > ANY (''{44000,43000}'')'),
    ('SELECT rare FROM t WHERE rare IS NULL'),
    ('SELECT rare FROM t WHERE rare IS NOT NULL'),
    ('SELECT rare FROM t WHERE rare < 20000'),
    ('SELECT u FROM t WHERE u > ''00000000-0000-0000-0000-000000001000'''),
    ('SELECT id, u FROM t WHERE u <= ''00000000-0000-0000-0000-0000000f0000'''),
    ('SELECT k FROM t WHERE k > (SELECT 50000)'),
    ('SELECT k FROM t WHERE k > (SELECT 20) AND k < (SELECT 20)'),
    ('SELECT k FROM t WHERE k BETWEEN (SELECT 10001) AND (SELECT 14999)'),
    ('SELECT k FROM t WHERE k > 100 ORDER BY k'),
    ('SELECT k FROM t WHERE k > 100 ORDER BY k DESC'),
    ('SELECT hash FROM t ORDER BY hash DESC'),
    ('SELECT hash FROM t WHERE hash < 0 ORDER BY hash'),
    ('SELECT dup FROM t WHERE dup < 30 ORDER BY dup DESC'),
    ('SELECT u FROM t ORDER BY u DESC'),
    ('SELECT rare FROM t ORDER BY rare NULLS FIRST'),
    ('SELECT rare FROM t ORDER BY rare DESC NULLS LAST'),
    ('SELECT k FROM t ORDER BY k LIMIT 7'),
    ('SELECT k FROM t WHERE k > 39000 ORDER BY k DESC LIMIT 3000'),
    ('SELECT k FROM t WHERE k % 1000 = 1 ORDER BY k')
) queries (query), in_parallel(query) p;

-- Conditions that are known when the scan begins.
SET max_parallel_workers_per_gather = 2;
SET enable_seqscan = off;
SET plan_cache_mode = force_generic_plan;
PREPARE range(int8, int8) AS SELECT count(*), sum(k) FROM t WHERE k > $1 AND k <= $2;
EXPLAIN (COSTS OFF) EXECUTE range(1, 2);
EXECUTE range(100, 20000);
EXECUTE range(20000, 100);
EXECUTE range(NULL, 100);
CREATE FUNCTION each_third() RETURNS int8[] LANGUAGE sql AS
    'SELECT array_agg(g::int8) FROM generate_series(1, 50000, 3) g';
PREPARE listed(int8[]) AS SELECT count(*), sum(k) FROM t WHERE k = ANY ($1);
EXPLAIN (COSTS OFF) EXECUTE listed(NULL);
EXECUTE listed(each_third());
EXECUTE listed('{}');
RESET plan_cache_mode;

-- Scanned again and again, each time in parallel.
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
CREATE FUNCTION upto(n int8) RETURNS int8 LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN n; END';
EXPLAIN (COSTS OFF)
    SELECT g, n FROM generate_series(1, 5) g LEFT JOIN (SELECT count(*) AS n FROM t WHERE k > upto(9000)) s ON g > n - 40000;
SELECT g, n FROM generate_series(1, 5) g LEFT JOIN (SELECT count(*) AS n FROM t WHERE k > upto(9000)) s ON g > n - 40000;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;

-- The outer side of joins, and partitions.
CREATE TABLE few AS SELECT g * 977 % 40000 AS k FROM generate_series(1, 300) g;
CREATE INDEX few_k ON few USING omen (k);
CREATE TABLE parts (k int8, id int) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10000) TO (30000);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (30000) TO (MAXVALUE);
CREATE INDEX ON parts USING omen (k);
INSERT INTO parts SELECT k, id FROM t;
VACUUM ANALYZE few, parts;
EXPLAIN (COSTS OFF) SELECT count(*), sum(k) FROM parts WHERE k BETWEEN 2000 AND 35000;
RESET enable_seqscan;
SELECT query, rows, verdict FROM (VALUES
    ('SELECT count(*), sum(k) FROM parts WHERE k BETWEEN 2000 AND 35000'),
    ('SELECT k FROM parts WHERE k > 8000 ORDER BY k'),
    ('SELECT t.id FROM t JOIN few USING (k)'),
    ('SELECT count(*) FROM t a JOIN t b ON a.k = b.k WHERE a.k > 3000'),
    ('SELECT count(*) FROM t a WHERE EXISTS (SELECT FROM few WHERE few.k = a.k)')
) queries (query), in_parallel(query) p;

-- One process makes a bitmap, and all read the table by it.
SET enable_bitmapscan = on;
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT count(*), sum(id) FROM t WHERE k BETWEEN 1000 AND 30000;
SELECT count(*), sum(id) FROM t WHERE k BETWEEN 1000 AND 30000;
RESET enable_seqscan;
RESET enable_indexscan;
RESET enable_indexonlyscan;

-- A scan is long enough for workers when it would be with btree, whose index has
-- many times more pages.
SET enable_bitmapscan = off;
SET enable_seqscan = off;
RESET min_parallel_index_scan_size;
RESET cpu_tuple_cost;
CREATE FUNCTION workers(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line ~ 'Workers Planned' THEN
            RETURN trim(line);
        END IF;
    END LOOP;
    RETURN 'none';
END
$$;
SELECT pg_relation_size('t_k') < 512 * 1024 AS small,
    workers('SELECT count(*) FROM t WHERE k > 3000') AS "nearly all",
    workers('SELECT count(*) FROM t WHERE k > 40000') AS few;

-- An error of one ends all.
SET min_parallel_index_scan_size = 0;
\set VERBOSITY terse
SELECT count(*) FROM t WHERE k > 100 AND 1 / (k - 30001) >= 0;
SELECT count(*) FROM t WHERE k > 100 AND 1 / (k - 30002) IS NOT NULL;

\set ECHO none
\i :srcdir/finish.sql
