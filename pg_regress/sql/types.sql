-- Every key type: extremes, special values, NULLs and many duplicates, under
-- every ordering of the index.
\getenv srcdir PG_ABS_SRCDIR
\set schema types_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- Values that are special, and a formula for ordinary ones.
CREATE TABLE types (type text, literals text[], formula text);
INSERT INTO types VALUES
('int2', '{-32768,-32767,-1,0,1,32766,32767}', 'g * 31 % 2000'),
('int4', '{-2147483648,-2147483647,-1,0,1,2147483646,2147483647}', 'g * 7919 % 1000003'),
('int8', '{-9223372036854775808,-9223372036854775807,-4294967296,-1,0,1,4294967296,9223372036854775806,9223372036854775807}',
    'g * 7919 % 1000003'),
('oid', '{0,1,2147483647,2147483648,4294967294,4294967295}', 'g * 7919 % 1000003'),
('date', '{-infinity,4714-11-24 BC,0044-03-15 BC,0001-01-01 BC,0001-01-01,1999-12-31,2000-01-01,2024-02-29,5874897-12-31,infinity}',
    $$date '2020-01-01' + g$$),
('time', '{00:00,00:00:00.000001,12:00,23:59:59.999999,24:00}', $$time '00:00' + g * interval '77.7 s'$$),
('timestamp', '{-infinity,4714-11-24 00:00:00 BC,0001-01-01 BC,1969-12-31 23:59:59.999999,2000-01-01,2000-01-01 00:00:00.000001,294276-12-31 23:59:59.999999,infinity}',
    $$timestamp '2020-01-01' + g * interval '77.7 s'$$),
('timestamptz', '{-infinity,4714-11-24 00:00:00+00 BC,0001-01-01 BC,1969-12-31 23:59:59.999999+00,2000-01-01+00,2000-01-01 00:00:00.000001+00,294276-12-31 23:59:59.999999+00,infinity}',
    $$timestamptz '2020-01-01' + g * interval '77.7 s'$$),
('float4', '{-Infinity,-3.4028235e38,-1.5,-1e-45,-0,0,1e-45,1.1754944e-38,1.5,3.4028235e38,Infinity,NaN}',
    '(g * 7919 % 1000003) / 64.0'),
('float8', '{-Infinity,-1.7976931348623157e308,-1.5,-5e-324,-0,0,5e-324,2.2250738585072014e-308,1.5,1.7976931348623157e308,Infinity,NaN}',
    'sqrt(g * 7919 % 1000003)'),
('uuid', '{00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000001,00000000-0000-0000-ffff-ffffffffffff,00000000-0000-0001-0000-000000000000,7fffffff-ffff-ffff-ffff-ffffffffffff,80000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}',
    'md5(g::text)');

SELECT format('CREATE TABLE t_%1$s AS
    SELECT k::%1$s FROM (SELECT NULL AS k, g AS place FROM generate_series(1, 700, 23) g
        UNION ALL SELECT l, g + i FROM unnest(%2$L::text[]) WITH ORDINALITY AS l (l, i), generate_series(1, 700, 20) g
        UNION ALL SELECT (%3$s)::text, g FROM generate_series(1, 700) g) AS s ORDER BY place',
    type, literals, formula) FROM types
\gexec
SELECT format('VACUUM ANALYZE t_%s', type) FROM types
\gexec

CREATE FUNCTION conditions(type text, literals text[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(condition ORDER BY condition) FROM (
        SELECT format('k %s %L::%s', op, l, type) FROM unnest(literals) l, unnest('{<,<=,=,>=,>}'::text[]) op
        UNION ALL
        SELECT format('k > %L::%s AND k <= %L', a, type, b) FROM
            (SELECT l AS a, lead(l) OVER (ORDER BY i) AS b FROM unnest(literals) WITH ORDINALITY AS l (l, i)) s WHERE b IS NOT NULL
        UNION ALL
        VALUES ('k IS NULL'), ('k IS NOT NULL')) AS s (condition)
$$;

-- All conditions and both directions of ORDER BY under one ordering of the index.
CREATE FUNCTION check_type(type text, literals text[], ordering text, OUT asked int, OUT rows bigint,
                           OUT unindexed int, OUT wrong int, OUT example text, OUT sorted boolean)
LANGUAGE plpgsql SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    -- Arrays are compared as the type compares: 0 and -0 are equal.
    agrees text := 'SELECT (SELECT array_agg(k) FROM (SELECT k FROM t_%1$s ORDER BY k %2$s) i) =
                           (SELECT array_agg(k ORDER BY k %2$s) FROM t_%1$s)';
    forward boolean;
    backward boolean;
BEGIN
    EXECUTE format('CREATE INDEX probe ON t_%s USING omen (k %s)', type, ordering);
    SELECT * INTO asked, rows, unindexed, wrong, example
        FROM agree_on(('t_' || type)::regclass, conditions(type, literals));
    EXECUTE format(agrees, type, ordering) INTO forward;
    EXECUTE format(agrees, type, CASE ordering WHEN 'ASC NULLS LAST' THEN 'DESC NULLS FIRST' WHEN 'ASC NULLS FIRST' THEN 'DESC NULLS LAST'
                                 WHEN 'DESC NULLS LAST' THEN 'ASC NULLS FIRST' ELSE 'ASC NULLS LAST' END) INTO backward;
    sorted := forward AND backward;
    DROP INDEX probe;
END
$$;
SELECT type, ordering, got.* FROM types,
    unnest('{ASC NULLS LAST,DESC NULLS LAST}'::text[]) AS ordering,
    check_type(type, literals, ordering) AS got ORDER BY type, ordering;
SELECT type, ordering, got.* FROM types,
    unnest('{ASC NULLS FIRST,DESC NULLS FIRST}'::text[]) AS ordering,
    check_type(type, literals[1:2], ordering) AS got ORDER BY type, ordering;

-- Zeros and NaNs. Equal values come out as they went in, sign included; all
-- NaNs are equal, those with a sign too.
CREATE TABLE zeros (k float8, n int4);
INSERT INTO zeros VALUES ('-0', 1), (0, 2), ('NaN', 3), ('-0', 4), ('Infinity', 7), (0, 8), (-1, 9), (1, 10);
INSERT INTO zeros SELECT 'inf'::float8 - 'inf'::float8, 5;
INSERT INTO zeros SELECT -('inf'::float8 - 'inf'::float8), 6;
CREATE INDEX zeros_k ON zeros USING omen (k);
VACUUM ANALYZE zeros;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT k FROM zeros WHERE k = 0;
SELECT k, count(*) FROM (SELECT k::text FROM zeros WHERE k = 0) s GROUP BY k ORDER BY k;
SELECT k, count(*) FROM (SELECT k::text FROM zeros WHERE k = '-0') s GROUP BY k ORDER BY k;
SELECT n FROM zeros WHERE k = 'NaN' ORDER BY n;
SELECT n FROM zeros WHERE k > 'Infinity' ORDER BY n;
SELECT n FROM zeros WHERE k < 'NaN' ORDER BY n;
SELECT k FROM zeros ORDER BY k DESC LIMIT 4;
SELECT k + 0 AS k, count(*) FROM zeros GROUP BY k ORDER BY k;
DROP INDEX zeros_k;
CREATE INDEX zeros_k ON zeros USING omen (k DESC);
SELECT k, count(*) FROM (SELECT k::text FROM zeros WHERE k = 0) s GROUP BY k ORDER BY k;
SELECT k + 0 AS k, count(*) FROM zeros GROUP BY k ORDER BY k;
RESET enable_seqscan;
RESET enable_bitmapscan;

-- Single-column tables of nothing but one value, and of nothing but NULL.
CREATE TABLE same AS SELECT 42::int8 AS k FROM generate_series(1, 20000);
CREATE INDEX same_k ON same USING omen (k);
VACUUM ANALYZE same;
SELECT * FROM agree_on('same', '{k = 42,k < 42,k > 42,k >= 42,k <= 42,k IS NULL,k = 41,k = 43}');
CREATE TABLE nothing AS SELECT NULL::uuid AS k FROM generate_series(1, 20000);
CREATE INDEX nothing_k ON nothing USING omen (k);
VACUUM ANALYZE nothing;
SELECT * FROM agree('SELECT k FROM nothing WHERE k IS NULL');
SELECT * FROM agree('SELECT k FROM nothing WHERE k IS NOT NULL');
SELECT * FROM agree($$SELECT k FROM nothing WHERE k = '00000000-0000-0000-0000-000000000000'$$);

\set ECHO none
\i :srcdir/finish.sql
