-- Operators between different types: the answer is always the sequential
-- scan's, also for constants that the column's type cannot hold.
\getenv srcdir PG_ABS_SRCDIR
\set schema crosstype_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all
SET datestyle = 'ISO';
SET timezone = 'UTC';

-- Both sides of every operator of a pair of types.
CREATE FUNCTION pair(tab regclass, other text, constants text[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(format(form, op, c, other) ORDER BY c, op)
    FROM unnest(constants) c, unnest('{<,<=,=,>=,>}'::text[]) op,
         unnest(ARRAY['k %s %L::%s', '%2$L::%3$s %1$s k']) form
$$;

-- Integers.
CREATE TABLE t_int2 AS SELECT k::int2 FROM unnest('{-32768,-32767,-1,0,1,32766,32767,null}'::int4[]) k,
    generate_series(1, 8) UNION ALL SELECT g * 5 FROM generate_series(-150, 150) g;
CREATE TABLE t_int4 AS SELECT k::int4 FROM unnest('{-2147483648,-2147483647,-32769,-32768,-1,0,1,32767,32768,2147483646,2147483647,null}'::int8[]) k,
    generate_series(1, 8) UNION ALL SELECT g * 700 FROM generate_series(-150, 150) g;
CREATE TABLE t_int8 AS SELECT k::int8 FROM unnest('{-9223372036854775808,-2147483649,-2147483648,-32769,-32768,-1,0,1,32767,32768,2147483647,2147483648,9223372036854775807,null}'::numeric[]) k,
    generate_series(1, 8) UNION ALL SELECT g * 700000 FROM generate_series(-150, 150) g;
CREATE INDEX ON t_int2 USING omen (k);
CREATE INDEX ON t_int4 USING omen (k DESC NULLS LAST);
CREATE INDEX ON t_int8 USING omen (k);
VACUUM ANALYZE t_int2, t_int4, t_int8;
SELECT tab, other, got.* FROM
    (VALUES ('t_int2'), ('t_int4'), ('t_int8')) AS t (tab),
    (VALUES ('int2', '{-32768,-1,0,7,32767}'),
            ('int4', '{-2147483648,-32769,-32768,0,7,32767,32768,2147483647}'),
            ('int8', '{-9223372036854775808,-2147483649,-2147483648,-32769,0,7,32768,2147483647,2147483648,9223372036854775807}'))
        AS o (other, constants),
    agree_on(tab::regclass, pair(tab::regclass, other, constants::text[])) AS got
ORDER BY tab, other;

-- Floats.
CREATE TABLE t_float4 AS SELECT k::float4 FROM unnest('{-Infinity,-3.4028235e38,-0.1,-1e-45,-0,0,1e-45,0.1,1,16777216,3.4028235e38,Infinity,NaN,null}'::float4[]) k,
    generate_series(1, 8) UNION ALL SELECT (g / 10.0)::float4 FROM generate_series(-100, 100) g;
CREATE TABLE t_float8 AS SELECT k::float8 FROM unnest('{-Infinity,-1e300,-3.4028235e38,-0.1,-5e-324,-0,0,5e-324,1e-45,0.1,1,16777216,3.4028235e38,1e300,Infinity,NaN,null}'::float8[]) k,
    generate_series(1, 8) UNION ALL SELECT g / 10.0 FROM generate_series(-100, 100) g
    UNION ALL SELECT (g / 10.0)::float4 FROM generate_series(-100, 100) g;
CREATE INDEX ON t_float4 USING omen (k);
CREATE INDEX ON t_float8 USING omen (k DESC);
VACUUM ANALYZE t_float4, t_float8;
SELECT tab, other, got.* FROM
    (VALUES ('t_float4'), ('t_float8')) AS t (tab),
    (VALUES ('float4', '{-Infinity,-3.4028235e38,-0.1,-1e-45,-0,0,0.1,1e-45,16777216,3.4028235e38,Infinity,NaN}'),
            ('float8', '{-Infinity,-1e300,-3.402823466385289e38,-3.4028234663852887e38,-0.1,-5e-324,-0,0,5e-324,7e-46,1.401298464324817e-45,0.1,0.10000000149011612,16777217,3.4028235677973366e38,1e300,Infinity,NaN}'))
        AS o (other, constants),
    agree_on(tab::regclass, pair(tab::regclass, other, constants::text[])) AS got
ORDER BY tab, other;

-- Dates and timestamps, in a zone without transitions.
CREATE TABLE t_date AS SELECT k::date FROM unnest('{-infinity,4714-11-24 BC,0001-01-01 BC,1970-01-01,2000-01-01,294276-12-31,294277-01-01,5874897-12-31,infinity,null}'::date[]) k,
    generate_series(1, 8) UNION ALL SELECT date '2011-01-01' + g * 5 FROM generate_series(1, 300) g;
CREATE TABLE t_timestamp AS SELECT k FROM unnest('{-infinity,4714-11-24 00:00:00 BC,0001-01-01 BC,1970-01-01,2000-01-01 00:00:00.000001,294276-12-31,294276-12-31 23:59:59.999999,infinity,null}'::timestamp[]) k,
    generate_series(1, 8) UNION ALL SELECT timestamp '2011-01-01' + g * interval '40 h' FROM generate_series(1, 300) g;
CREATE TABLE t_timestamptz AS SELECT k AT TIME ZONE 'UTC' AS k FROM t_timestamp;
CREATE INDEX ON t_date USING omen (k);
CREATE INDEX ON t_timestamp USING omen (k DESC NULLS LAST);
CREATE INDEX ON t_timestamptz USING omen (k);
VACUUM ANALYZE t_date, t_timestamp, t_timestamptz;
CREATE TABLE moments AS SELECT * FROM
    (VALUES ('date', '{-infinity,4714-11-24 BC,0001-01-01 BC,1970-01-01,2011-03-27,294276-12-31,294277-01-01,5874897-12-31,infinity}'::text[]),
            ('timestamp', '{-infinity,4714-11-24 00:00:00 BC,0001-12-31 12:00:00 BC,2011-01-02,2011-01-01 23:59:59.999999,2011-01-02 00:00:00.000001,294276-12-31 23:59:59.999999,infinity}'),
            ('timestamptz', '{-infinity,4714-11-24 00:00:00+00 BC,0001-12-31 12:00:00+00 BC,2011-01-02 00:00+00,2011-01-01 23:59:59.999999+00,2011-01-02 00:00:00.000001+00,294276-12-31 23:59:59.999999+00,infinity}'))
        AS o (other, constants);
SELECT tab, other, got.* FROM
    (VALUES ('t_date'), ('t_timestamp'), ('t_timestamptz')) AS t (tab), moments,
    agree_on(tab::regclass, pair(tab::regclass, other, constants)) AS got
ORDER BY tab, other;

-- Zones far from UTC move the ends of the range.
CREATE FUNCTION in_zone(zone text, tab text, other text, constants text[], OUT asked int, OUT rows bigint,
                        OUT unindexed int, OUT wrong int, OUT example text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('timezone', zone, true);
    SELECT * INTO asked, rows, unindexed, wrong, example
        FROM agree_on(tab::regclass, (SELECT array_agg(format('k %s %L::%s', op, c, other) ORDER BY c, op)
            FROM unnest(constants) c, unnest('{<,<=,=,>=,>}'::text[]) op));
END
$$;
SELECT zone, sum(asked) AS asked, sum(unindexed) AS unindexed, sum(wrong) AS wrong, max(example) AS example FROM
    unnest('{Etc/GMT+12,Etc/GMT-14}'::text[]) AS zone,
    (VALUES ('t_date'), ('t_timestamp'), ('t_timestamptz')) AS t (tab), moments,
    in_zone(zone, tab, other, constants) AS got
GROUP BY zone ORDER BY zone;

-- Transitions: an hour, half an hour or a day that there is twice or not at
-- all, and the change to Gregorian standard time. Comparison is not monotone
-- here.
CREATE TABLE transitions AS SELECT * FROM (VALUES
    ('America/New_York', timestamp '2011-03-13 02:00'), ('America/New_York', '2011-11-06 01:00'),
    ('Europe/Berlin', '2011-03-27 02:00'), ('Europe/Berlin', '2011-10-30 02:00'),
    ('Australia/Lord_Howe', '2011-04-03 02:00'), ('Australia/Lord_Howe', '2011-10-02 02:00'),
    ('America/Sao_Paulo', '2011-10-16 00:00'), ('America/Sao_Paulo', '2012-02-26 00:00'),
    ('Pacific/Apia', '2011-12-30 00:00'), ('Africa/Monrovia', '1972-01-07 00:00'),
    ('Europe/Amsterdam', '1937-07-01 00:00'), ('Asia/Manila', '1844-12-31 00:00'),
    ('America/Los_Angeles', '1883-11-18 12:00')) AS v (zone, local);
-- Around each: instants and local times a few minutes apart, far ones elsewhere.
CREATE TABLE near_timestamptz AS
    SELECT ((local AT TIME ZONE zone) + g * interval '10 min')::timestamptz AS k FROM transitions, generate_series(-20, 20) g
    UNION ALL SELECT timestamptz '1840-01-01 00:00+00' + g * interval '300 days' FROM generate_series(1, 230) g;
CREATE TABLE near_timestamp AS
    SELECT local + g * interval '10 min' AS k FROM transitions, generate_series(-20, 20) g
    UNION ALL SELECT timestamp '1840-01-01' + g * interval '300 days' FROM generate_series(1, 230) g;
CREATE TABLE near_date AS
    SELECT local::date + g AS k FROM transitions, generate_series(-5, 5) g
    UNION ALL SELECT date '1840-01-01' + 300 * g FROM generate_series(1, 230) g;
CREATE INDEX ON near_timestamptz USING omen (k);
CREATE INDEX ON near_timestamp USING omen (k);
CREATE INDEX ON near_date USING omen (k DESC);
VACUUM ANALYZE near_timestamptz, near_timestamp, near_date;
SELECT zone, other, sum(asked) AS asked, sum(unindexed) AS unindexed, sum(wrong) AS wrong, max(example) AS example
FROM transitions, LATERAL (VALUES
    ('near_timestamptz', 'timestamp', (SELECT array_agg((local + g * interval '10 min')::text) FROM generate_series(-7, 7) g)),
    ('near_timestamptz', 'date', ARRAY[local::date::text, (local::date + 1)::text, (local::date - 1)::text]),
    ('near_timestamp', 'timestamptz', (SELECT array_agg(((local AT TIME ZONE zone) + g * interval '10 min')::text) FROM generate_series(-7, 7) g)),
    ('near_date', 'timestamptz', (SELECT array_agg(((local::date::timestamp AT TIME ZONE zone) + g * interval '1 hour')::text) FROM generate_series(-3, 3) g)))
    AS c (tab, other, constants),
    in_zone(zone, tab, other, constants) AS got
GROUP BY zone, other ORDER BY zone, other;

-- The zone may change between two executions of one plan.
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
PREPARE since(timestamp) AS SELECT count(k) FROM near_timestamptz WHERE k >= $1 AND k < $1 + interval '1 day';
EXPLAIN (COSTS OFF) EXECUTE since('2011-12-29');
SET timezone = 'Pacific/Apia';
EXECUTE since('2011-12-29');
SET timezone = 'Europe/Berlin';
EXECUTE since('2011-12-29');
RESET plan_cache_mode;
SET enable_seqscan = on;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET timezone = 'Pacific/Apia';
EXECUTE since('2011-12-29');
SET timezone = 'Europe/Berlin';
EXECUTE since('2011-12-29');

\set ECHO none
\i :srcdir/finish.sql
