-- Array conditions: every operator with ANY, arrays of any size and content.
\getenv srcdir PG_ABS_SRCDIR
\set schema arrays_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int8);
INSERT INTO t SELECT g * 7919 % 3001 FROM generate_series(1, 6000) g;
INSERT INTO t SELECT NULL FROM generate_series(1, 100);
CREATE INDEX t_k ON t USING omen (k);
VACUUM ANALYZE t;

-- Elements sorted and not, twice, NULL, missing; also of other types.
SELECT op, arr, got.* FROM unnest('{<,<=,=,>=,>}'::text[]) op,
    (VALUES ($$'{17}'::int8[]$$), ($$'{2990,5,5,17,5,2999,1}'::int8[]$$), ($$'{NULL,12,NULL,3}'::int8[]$$),
            ($$'{NULL,NULL}'::int8[]$$), ($$'{}'::int8[]$$), ($$(SELECT NULL::int8[])::int8[]$$),
            ($$'{5,17,-1,2147483647,-2147483648}'::int4[]$$), ($$'{5,17,32767,-32768,NULL}'::int2[]$$),
            ($$'{{1,2},{2,3}}'::int8[]$$)) AS a (arr),
    agree_on('t', ARRAY[format('k %s ANY (%s)', op, arr)]) AS got ORDER BY arr, op;

-- Combined with each other and with other conditions.
SELECT got.* FROM agree_on('t', ARRAY[
    'k = ANY (''{1,5,9,2000}'') AND k > 4', 'k = ANY (''{1,5,9,2000}'') AND k = ANY (''{5,2000,3000}'')',
    'k = ANY (''{1,5}'') AND k = ANY (''{6,7}'')', 'k > ANY (''{2990,2995}'') AND k < ANY (''{5,2998}'')',
    'k IN (3, 1, 2) AND k IS NOT NULL', 'k IN (1, 2) AND k IS NULL', 'k = 7 AND k = ANY (''{6,7,8}'')',
    'k = ANY (''{6,7,8}'') AND k <= ANY (''{1,7}'')', 'k >= 2995 AND k = ANY (ARRAY[2994, NULL, 2996])']) AS got;

-- Conditions for all elements cannot use the index, and are right all the same.
EXPLAIN (COSTS OFF) SELECT k FROM t WHERE k < ALL ('{5,6}');
SELECT * FROM agree('SELECT k FROM t WHERE k < ALL (''{5,6}'')');
SELECT * FROM agree('SELECT k FROM t WHERE k <> ALL (''{5,6}'') AND k < 10');
SELECT * FROM agree('SELECT k FROM t WHERE k < 10 AND NOT (k = ANY (''{5,6}''))');

-- A row comes once, however often its key is in the array, and in order.
SELECT * FROM agree('SELECT k FROM t WHERE k = ANY (''{2500,3,2500,7,3}'') ORDER BY k');
SELECT * FROM agree('SELECT k FROM t WHERE k = ANY (''{2500,3,2500,7,3}'') ORDER BY k DESC');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT k FROM t WHERE k = ANY ('{2500,3,2500,7,3}') ORDER BY k DESC;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM t WHERE k = ANY ('{2500,3,7,3}') ORDER BY k;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH FORWARD ALL FROM c;
FETCH BACKWARD ALL FROM c;
COMMIT;

-- A hundred thousand elements.
CREATE TABLE many AS SELECT array_agg(g * 7 % 100003) AS a FROM generate_series(1, 100000) g;
SELECT count(*), sum(k) FROM t WHERE k = ANY ((SELECT a FROM many)::int8[]);
SELECT count(*), sum(k) FROM t WHERE k = ANY ((SELECT a FROM many)::int4[]);
SELECT count(*), sum(k) FROM t WHERE k > ANY ((SELECT a FROM many)::int4[]);
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = on;
SELECT count(*), sum(k) FROM t WHERE k = ANY ((SELECT a FROM many)::int8[]);
SET enable_seqscan = on;
SET enable_bitmapscan = off;
SELECT count(*), sum(k) FROM t WHERE k = ANY (ARRAY(SELECT unnest(a)::int8 FROM many LIMIT 100000));
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;

-- Rescanned with another array for every outer row, by a generic plan.
CREATE TABLE lists AS SELECT g AS n, ARRAY(SELECT nullif((g * h * 13) % 3500, 0) FROM generate_series(0, g % 9) h) AS a FROM generate_series(1, 200) g;
SET enable_seqscan = off;
SET enable_material = off;
SELECT sum(found), sum(n * total) FROM lists, LATERAL (SELECT count(*) AS found, sum(k) AS total FROM t WHERE k = ANY (a)) s;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
SET enable_seqscan = on;
SELECT sum(found), sum(n * total) FROM lists, LATERAL (SELECT count(*) AS found, sum(k) AS total FROM t WHERE k = ANY (a)) s;
RESET enable_seqscan;
RESET enable_material;
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;

-- Other types and a descending index.
CREATE TABLE f (k float8);
INSERT INTO f SELECT g / 4.0 FROM generate_series(-2000, 2000) g;
INSERT INTO f VALUES ('NaN'), ('NaN'), ('-0'), ('Infinity'), ('-Infinity'), (NULL), (1e300);
CREATE INDEX f_k ON f USING omen (k DESC NULLS LAST);
VACUUM ANALYZE f;
CREATE TABLE u AS SELECT md5((g % 900)::text)::uuid AS k FROM generate_series(1, 2000) g;
CREATE INDEX u_k ON u USING omen (k);
VACUUM ANALYZE u;
CREATE TABLE d AS SELECT timestamp '2026-03-01' + g * interval '1 h' AS k FROM generate_series(1, 2000) g;
CREATE INDEX d_k ON d USING omen (k);
VACUUM ANALYZE d;
SELECT op, sum(asked) AS asked, sum(rows) AS rows, sum(unindexed) AS unindexed, sum(wrong) AS wrong, max(example) AS example
FROM unnest('{<,<=,=,>=,>}'::text[]) op, (VALUES
    ('f', $$'{NaN,0,1.25,NULL,-Infinity}'::float8[]$$), ('f', $$'{NaN,-0,0.1,1.25,Infinity}'::float4[]$$), ('f', $$'{1e308,-1e308}'::float8[]$$),
    ('u', $$ARRAY[md5('7')::uuid, md5('8')::uuid, md5('none')::uuid, NULL]$$),
    ('d', $$'{2026-03-02,2026-04-01,5874897-01-01,-infinity}'::date[]$$), ('d', $$'{2026-03-29 02:30+00,2026-03-29 03:30+02}'::timestamptz[]$$)) AS a (tab, arr),
    agree_on(tab::regclass, ARRAY[format('k %s ANY (%s)', op, arr)]) AS got GROUP BY op ORDER BY op;

\set ECHO none
\i :srcdir/finish.sql
