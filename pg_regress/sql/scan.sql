-- Ways to walk an index: orders, limits, joins, cursors, conditions.
\getenv srcdir PG_ABS_SRCDIR
\set schema scan_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- 10,000 rows, every key two or three times, 100 NULLs, in no order.
CREATE TABLE t (k int4, n int4, other int8);
INSERT INTO t SELECT CASE WHEN g % 100 = 50 THEN NULL ELSE g * 7919 % 4001 END, g, g * 31 % 1009
FROM generate_series(1, 10000) g;
VACUUM ANALYZE t;

-- ORDER BY: every ordering of the index serves two of the query.
CREATE FUNCTION orders(ordering text) RETURNS TABLE (query text, scan text, same boolean) LANGUAGE plpgsql AS $$
DECLARE
    wanted text[];
    got record;
BEGIN
    EXECUTE 'CREATE INDEX probe ON t USING omen (k ' || ordering || ')';
    FOREACH query IN ARRAY '{ASC NULLS LAST,DESC NULLS FIRST,ASC NULLS FIRST,DESC NULLS LAST}'::text[] LOOP
        wanted := (answer(format('SELECT k FROM t ORDER BY k %s', query), 'seq')).answer;
        PERFORM set_config('enable_sort', 'off', true);
        SELECT * INTO got FROM answer(format('SELECT k FROM t ORDER BY k %s', query), 'index only');
        PERFORM set_config('enable_sort', 'on', true);
        IF got.plan LIKE 'index only%' THEN
            -- A sort above the index scan would not prove anything.
            scan := CASE WHEN pg_temp.sorts(format('SELECT k FROM t ORDER BY k %s', query)) THEN 'sort' ELSE 'index' END;
        ELSE
            scan := 'sort';
        END IF;
        same := got.answer = wanted;
        RETURN NEXT;
    END LOOP;
    DROP INDEX probe;
END
$$;
CREATE FUNCTION pg_temp.sorts(query text) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line LIKE '%Sort%' THEN RETURN true; END IF;
    END LOOP;
    RETURN false;
END
$$;
SELECT ordering, got.* FROM unnest('{ASC NULLS LAST,DESC NULLS FIRST,ASC NULLS FIRST,DESC NULLS LAST}'::text[])
    WITH ORDINALITY AS o (ordering, i), orders(ordering) AS got ORDER BY i, query;

CREATE INDEX t_k ON t USING omen (k);

-- Limits and ends.
SELECT * FROM agree('SELECT k FROM t ORDER BY k LIMIT 10');
SELECT * FROM agree('SELECT k FROM t ORDER BY k DESC LIMIT 200');
SELECT * FROM agree('SELECT k FROM t WHERE k < 1000 ORDER BY k DESC OFFSET 500 LIMIT 10');
SELECT * FROM agree('SELECT min(k), max(k) FROM t');
SELECT * FROM agree('SELECT min(k), max(k) FROM t WHERE k > 100 AND k < 3000');
SELECT * FROM agree('SELECT max(k) FROM t WHERE k < 0');
SELECT * FROM plan('SELECT min(k), max(k) FROM t');

-- Several conditions, contradictory ones, NULL arguments.
SELECT got.* FROM agree_on('t', ARRAY[
    'k > 10 AND k > 20 AND k < 40 AND k <= 39', 'k >= 20 AND k = 20', 'k = 20 AND k = 20',
    'k >= 20 AND k <= 20 AND k = 21', 'k > 20 AND k < 20', 'k > 20 AND k <= 20', 'k >= 20 AND k <= 20',
    'k < 20 AND k IS NOT NULL', 'k < 20 AND k IS NULL', 'k IS NULL AND k IS NOT NULL', 'k IS NULL', 'k IS NOT NULL',
    'k > (SELECT NULL::int4)', 'k = (SELECT NULL::int4) AND k > 5', 'k < (SELECT 7)',
    'k BETWEEN -5 AND 5', 'k > 4000', 'k < -100', 'k >= -2147483648', 'k <= 2147483647']) AS got;
SELECT * FROM agree('SELECT n FROM t WHERE k > 3000 AND n % 2 = 0');
SELECT * FROM agree('SELECT n FROM t WHERE k = 20 OR k = 4000 OR k IS NULL');

-- Two indexes in one bitmap; and one that became lossy.
CREATE TABLE wide AS SELECT k, n, other, repeat('x', 500) AS filler FROM t;
CREATE INDEX wide_k ON wide USING omen (k);
CREATE INDEX wide_other ON wide USING omen (other);
VACUUM ANALYZE wide;
SET enable_seqscan = off;
SET enable_indexscan = off;
EXPLAIN (COSTS OFF) SELECT n FROM wide WHERE k BETWEEN 100 AND 300 AND other < 100;
EXPLAIN (COSTS OFF) SELECT n FROM wide WHERE k BETWEEN 100 AND 130 OR other = 7;
RESET enable_seqscan;
RESET enable_indexscan;
SELECT * FROM agree('SELECT n FROM wide WHERE k BETWEEN 100 AND 300 AND other < 100');
SELECT * FROM agree('SELECT n FROM wide WHERE k BETWEEN 100 AND 130 OR other = 7');
SET work_mem = '64kB';
SELECT * FROM agree('SELECT n FROM wide WHERE k > 1000');
RESET work_mem;
DROP TABLE wide;

-- Joins: nested loops rescan, merge joins mark and restore duplicates.
CREATE TABLE keys AS SELECT g % 500 * 9 - 20 AS k, g AS m FROM generate_series(1, 1500) g;
INSERT INTO keys VALUES (NULL, 0);
CREATE INDEX keys_k ON keys USING omen (k);
VACUUM ANALYZE keys;
CREATE FUNCTION joined(method text, kind text, OUT pairs bigint, OUT digest numeric, OUT plan text) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexscan = on SET enable_sort = off SET enable_material = off SET enable_bitmapscan = off SET enable_memoize = off
SET enable_nestloop = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    line text;
    query text := format('SELECT count(*), sum(keys.k::numeric * 31 + %s) FROM keys JOIN t ON t.k = keys.k',
                         CASE kind WHEN 'index only' THEN 't.k' ELSE 't.n * 7 + keys.m' END);
BEGIN
    PERFORM set_config('enable_' || method, 'on', true);
    IF method = 'hashjoin' THEN
        PERFORM set_config('enable_seqscan', 'on', true), set_config('enable_indexscan', 'off', true);
    END IF;
    plan := '';
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := plan || coalesce(substring(line FROM '(Nested Loop|Merge Join|Hash Join|Index Only Scan|Index Scan|Seq Scan|Sort|Materialize)') || ', ', '');
    END LOOP;
    EXECUTE query INTO pairs, digest;
END
$$;
SELECT kind, got.* FROM unnest('{index,index only}'::text[]) kind, unnest('{hashjoin,nestloop,mergejoin}'::text[]) WITH ORDINALITY AS m (method, i),
    joined(method, kind) AS got ORDER BY kind, i;
-- So many duplicates that going back to the mark means going back pages.
CREATE TABLE often AS SELECT g % 3 AS k, g AS m FROM generate_series(1, 3000) g;
CREATE INDEX often_k ON often USING omen (k) WITH (fillfactor = 10);
VACUUM ANALYZE often;
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_seqscan = off;
SET enable_sort = off;
SET enable_material = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT count(*), sum(a.m - 3 * b.m) FROM often a JOIN often b USING (k);
SELECT count(*), sum(a.m - 3 * b.m) FROM often a JOIN often b USING (k);
SET enable_hashjoin = on;
SET enable_mergejoin = off;
SELECT count(*), sum(a.m - 3 * b.m) FROM often a JOIN often b USING (k);
SET enable_mergejoin = on;
RESET enable_bitmapscan;
-- A merge join backwards.
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_seqscan = off;
SET enable_sort = off;
SET enable_material = off;
EXPLAIN (COSTS OFF) SELECT keys.k, t.k FROM keys JOIN t ON t.k = keys.k ORDER BY keys.k DESC;
SELECT count(*), sum(k * place) FROM (SELECT keys.k, row_number() OVER () AS place FROM keys JOIN t ON t.k = keys.k ORDER BY keys.k DESC) s;
RESET enable_seqscan;
RESET enable_sort;
RESET enable_mergejoin;
RESET enable_hashjoin;
RESET enable_nestloop;
RESET enable_material;
SELECT count(*), sum(k * place) FROM (SELECT keys.k, row_number() OVER (ORDER BY keys.k DESC) AS place FROM keys JOIN t ON t.k = keys.k) s;

-- Cursors turn round anywhere, at the ends too.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM t WHERE k BETWEEN 100 AND 104 ORDER BY k;
FETCH FORWARD 4 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH FORWARD 1 FROM c;
FETCH ALL FROM c;
FETCH FORWARD 1 FROM c;
FETCH BACKWARD 3 FROM c;
FETCH ABSOLUTE 1 FROM c;
FETCH ABSOLUTE -1 FROM c;
FETCH RELATIVE -2 FROM c;
FETCH BACKWARD ALL FROM c;
FETCH BACKWARD 1 FROM c;
FETCH FIRST FROM c;
FETCH LAST FROM c;
CLOSE c;
-- Thousands of steps back and forth, across pages: the rows are those of the
-- sorted list.
CREATE FUNCTION wander(query text, sorted int4[], steps int, OUT checked int, OUT wrong int) LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    place int := 0;
    last int := cardinality(sorted) + 1;
    step int;
    key int4;
    present boolean;
BEGIN
    checked := 0;
    wrong := 0;
    OPEN c SCROLL FOR EXECUTE query;
    FOR i IN 1 .. steps LOOP
        step := CASE i % 5 WHEN 0 THEN -1 WHEN 1 THEN 1 WHEN 2 THEN i * 37 % 1200 WHEN 3 THEN -(i * 53 % 900) ELSE i % 3 - 1 END;
        FETCH RELATIVE step FROM c INTO key;
        present := FOUND;
        place := greatest(0, least(last, place + step));
        checked := checked + 1;
        IF present <> (place > 0 AND place < last) OR present AND key IS DISTINCT FROM sorted[place] THEN
            wrong := wrong + 1;
        END IF;
    END LOOP;
    CLOSE c;
END
$$;
SELECT * FROM wander('SELECT k FROM t ORDER BY k', (SELECT array_agg(k ORDER BY k) FROM t), 500);
SELECT * FROM wander('SELECT k FROM t ORDER BY k DESC', (SELECT array_agg(k ORDER BY k DESC) FROM t), 500);
SELECT * FROM wander('SELECT k FROM t WHERE k > 3900 ORDER BY k', (SELECT array_agg(k ORDER BY k) FROM t WHERE k > 3900), 300);
SET LOCAL enable_indexonlyscan = off;
SELECT * FROM wander('SELECT k FROM t ORDER BY k', (SELECT array_agg(k ORDER BY k) FROM t), 500);
COMMIT;
-- A cursor sees its snapshot, not what came later on the pages ahead of it.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM t WHERE k BETWEEN 200 AND 1000 ORDER BY k;
FETCH 1 FROM c;
INSERT INTO t SELECT g % 1000, g FROM generate_series(1, 5000) g;
DELETE FROM t WHERE k = 201;
MOVE ALL FROM c;
FETCH BACKWARD 1 FROM c;
MOVE BACKWARD ALL FROM c;
FETCH 4 FROM c;
ROLLBACK;
-- Held over the end of its transaction.
BEGIN;
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT k FROM t ORDER BY k LIMIT 300;
COMMIT;
FETCH ABSOLUTE 299 FROM h;
CLOSE h;
-- UPDATE and DELETE at a cursor's position.
BEGIN;
DECLARE u CURSOR FOR SELECT k, n FROM t WHERE k > 4000 - 2 ORDER BY k FOR UPDATE;
FETCH 1 FROM u;
UPDATE t SET k = 5000 WHERE CURRENT OF u;
FETCH 1 FROM u;
DELETE FROM t WHERE CURRENT OF u;
CLOSE u;
SELECT k, count(*) FROM t WHERE k > 4000 - 2 GROUP BY k ORDER BY k;
ROLLBACK;

-- Prepared statements with generic plans.
SET plan_cache_mode = force_generic_plan;
PREPARE range(int4, int8) AS SELECT count(k), min(k), max(k) FROM t WHERE k > $1 AND k <= $2;
EXPLAIN (COSTS OFF) EXECUTE range(1, 2);
EXECUTE range(10, 20);
EXECUTE range(20, 10);
EXECUTE range(NULL, 10);
EXECUTE range(-2147483648, 9223372036854775807);
PREPARE one(int2) AS SELECT count(*) FROM t WHERE k = $1;
EXECUTE one(77);
EXECUTE one(-77);
EXECUTE one(NULL);
RESET plan_cache_mode;
RESET enable_seqscan;
RESET enable_bitmapscan;

-- A parallel query gives the same answer, whether or not it uses the index.
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET enable_seqscan = off;
SELECT count(*), sum(n) FROM t WHERE k > 1000;
SET enable_indexscan = off;
SELECT count(*), sum(n) FROM t WHERE k > 1000;
RESET enable_seqscan;
SELECT count(*), sum(n) FROM t WHERE k > 1000;
RESET enable_indexscan;

-- Scans are counted.
SELECT pg_stat_force_next_flush();
SELECT idx_scan > 0 AS scans, idx_tup_read > 0 AS entries, idx_tup_fetch > 0 AS rows
FROM pg_stat_user_indexes WHERE indexrelid = 't_k'::regclass;

\set ECHO none
\i :srcdir/finish.sql
