-- Parallel builds: the same index as one process builds.
\getenv srcdir PG_ABS_SRCDIR
\set schema parallel_build_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- Workers take part: this says so if one of them comes to a row, and gives them
-- the time to. Each row has a page.
CREATE FUNCTION seen(n int8) RETURNS int8 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'parallel worker') THEN
        RAISE 'a worker has come to a row';
    END IF;
    PERFORM pg_sleep(0.05);
    RETURN n;
END
$$;
CREATE TABLE wide (n int8, filler text) WITH (parallel_workers = 1);
ALTER TABLE wide ALTER filler SET STORAGE PLAIN;
INSERT INTO wide SELECT g, repeat('x', 5000) FROM generate_series(1, 200) g;
\set VERBOSITY terse
CREATE INDEX wide_n ON wide USING omen (seen(n));
CREATE INDEX CONCURRENTLY wide_n ON wide USING omen (seen(n));
DROP INDEX wide_n;
CREATE UNLOGGED TABLE wide_unlogged WITH (parallel_workers = 1) AS SELECT * FROM wide;
CREATE INDEX ON wide_unlogged USING omen (seen(n));
-- Unless they must not, or there are none.
CREATE FUNCTION unsafe(n int8) RETURNS int8 LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED AS
    'BEGIN RETURN parallel_build_test.seen(n); END';
CREATE TABLE few (LIKE wide INCLUDING ALL) WITH (parallel_workers = 1);
INSERT INTO few SELECT * FROM wide LIMIT 8;
CREATE INDEX few_unsafe ON few USING omen (unsafe(n));
CREATE TEMP TABLE few_temp WITH (parallel_workers = 1) AS SELECT * FROM few;
CREATE INDEX few_temp_n ON few_temp USING omen (seen(n));
SET max_parallel_workers = 0;
CREATE INDEX few_no_workers ON few USING omen (seen(n));
RESET max_parallel_workers;
SET max_parallel_maintenance_workers = 0;
CREATE INDEX few_serial ON few USING omen (seen(n));
RESET max_parallel_maintenance_workers;
\set VERBOSITY default
DROP TABLE few, few_temp;

CREATE FUNCTION uuid_of(n int8) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT lpad(to_hex(n), 32, '0')::uuid $$;
CREATE FUNCTION half(n int8) RETURNS int8 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
    'BEGIN RETURN n / 2; END';
CREATE TABLE t AS
    SELECT g::int8 AS k, hashint8extended(g, 0) AS hash, g % 50 AS dup,
        CASE WHEN g % 10 = 0 THEN hashint8(g) END AS rare,
        CASE WHEN hashint8(g) % 3 > 0 THEN g END AS holes, NULL::int8 AS never,
        uuid_of(hashint8extended(g, 1)) AS u
    FROM generate_series(1, 100000) g;
-- Dead rows, and HOT chains.
DELETE FROM t WHERE k % 17 = 0;
UPDATE t SET dup = dup + 1 WHERE k % 101 = 0;
VACUUM ANALYZE t;
ALTER TABLE t SET (parallel_workers = 2);

-- An index that workers helped to build, beside the one that they did not.
CREATE FUNCTION built(definition text, memory text, OUT "size" text, OUT "order" text)
LANGUAGE plpgsql AS $$
DECLARE
    key text := substring(definition FROM '\((.*?)( DESC| ASC)?( NULLS \w+)?\)( WHERE|$)');
    condition text := coalesce(substring(definition FROM 'WHERE .*'), '');
    sorting text := substring(definition FROM '\(.*?(( DESC| ASC)?( NULLS \w+)?)\)( WHERE|$)');
    serial int8;
    wanted text;
    got text;
BEGIN
    PERFORM set_config('maintenance_work_mem', memory, true);
    SET LOCAL max_parallel_maintenance_workers = 0;
    EXECUTE 'CREATE INDEX t_serial ON t USING omen ' || definition;
    serial := pg_relation_size('t_serial');
    DROP INDEX t_serial;
    EXECUTE format('SELECT md5(string_agg((%s)::text, '','')) FROM (SELECT * FROM t %s ORDER BY %s%s) s',
        key, condition, key, sorting) INTO wanted;
    SET LOCAL max_parallel_maintenance_workers = 2;
    EXECUTE 'CREATE INDEX t_parallel ON t USING omen ' || definition;
    PERFORM omen_index_check('t_parallel', true, true);
    "size" := CASE WHEN pg_relation_size('t_parallel') = serial THEN 'same'
        ELSE format('%s instead of %s', pg_relation_size('t_parallel'), serial) END;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_sort = off;
    SET LOCAL enable_bitmapscan = off;
    EXECUTE format('SELECT md5(string_agg((%s)::text, '','')) FROM (SELECT * FROM t %s ORDER BY %s%s) s',
        key, condition, key, sorting) INTO got;
    "order" := CASE WHEN got IS NOT DISTINCT FROM wanted THEN 'same' ELSE 'DIFFERS' END;
    DROP INDEX t_parallel;
END
$$;
-- In many runs of each process, and in memory.
SELECT definition, b.* FROM (VALUES
    ('(k)'),
    ('(k DESC)'),
    ('(hash)'),
    ('(dup)'),
    ('(rare)'),
    ('(rare NULLS FIRST)'),
    ('(holes)'),
    ('(holes DESC)'),
    ('(never)'),
    ('(u)'),
    ('(hash) WHERE dup < 5'),
    ('(hash) WHERE dup < 0'),
    ('(half(hash))'),
    ('(half(k)) WHERE rare IS NOT NULL')
) definitions (definition), built(definition, '1MB') b;
SELECT definition, b.* FROM (VALUES
    ('(k)'),
    ('(hash)'),
    ('(dup DESC)'),
    ('(rare NULLS FIRST)'),
    ('(holes)'),
    ('(u)')
) definitions (definition), built(definition, '64MB') b;

-- What else builds indexes.
SET max_parallel_maintenance_workers = 2;
SET maintenance_work_mem = '1MB';
CREATE INDEX CONCURRENTLY t_hash ON t USING omen (hash);
CREATE INDEX CONCURRENTLY t_rare ON t USING omen (rare) WHERE k % 2 = 0;
CREATE INDEX t_u ON t USING omen (u);
SELECT * FROM omen_check_all(true, true) WHERE fault IS NOT NULL;
REINDEX INDEX t_hash;
REINDEX INDEX CONCURRENTLY t_u;
SELECT * FROM omen_check_all(true, true) WHERE fault IS NOT NULL;
CLUSTER t USING t_u;
SELECT * FROM omen_check_all(true, true) WHERE fault IS NOT NULL;
ALTER TABLE t SET UNLOGGED;
VACUUM FULL t;
SELECT * FROM omen_check_all(true, true) WHERE fault IS NOT NULL;
SELECT * FROM agree('SELECT count(*), sum(k) FROM t WHERE hash BETWEEN 0 AND 4000000000000000000');
SELECT * FROM agree('SELECT u FROM t WHERE u < ''00000000-0000-0000-1000-000000000000''');
SELECT * FROM agree('SELECT k FROM t WHERE rare IS NULL AND k % 2 = 0');
-- The table's rows are counted by all, the index's too.
CREATE INDEX t_k ON t USING omen (k) WHERE dup <> 7;
SELECT reltuples = (SELECT count(*) FROM t) AS heap FROM pg_class WHERE oid = 't'::regclass;
SELECT reltuples = (SELECT count(*) FROM t WHERE dup <> 7) AS "index" FROM pg_class WHERE oid = 't_k'::regclass;
-- In the transaction that made the rows.
BEGIN;
CREATE TABLE fresh WITH (parallel_workers = 2) AS SELECT hashint8extended(g, 0) AS k FROM generate_series(1, 50000) g;
UPDATE fresh SET k = k WHERE k % 3 = 0;
CREATE INDEX fresh_k ON fresh USING omen (k);
UPDATE fresh SET k = k + 1 WHERE k % 5 = 0;
CREATE INDEX fresh_k2 ON fresh USING omen (k);
SELECT * FROM agree('SELECT count(*), sum(k) FROM fresh WHERE k > 0');
TRUNCATE fresh;
SELECT * FROM agree('SELECT count(*), sum(k) FROM fresh WHERE k > 0');
COMMIT;

-- Whoever of them meets a HOT chain whose versions have different keys, the index
-- is not for older snapshots. The chain is on another page each time.
CREATE TABLE chains WITH (fillfactor = 80, parallel_workers = 2) AS
    SELECT g::int8 AS k FROM generate_series(1, 20000) g;
DO $$
BEGIN
    FOR i IN 1..8 LOOP
        UPDATE chains SET k = -k WHERE k = i * 2400;
        EXECUTE format('CREATE INDEX chains_%s ON chains USING omen (half(k))', i);
        ASSERT (SELECT indcheckxmin FROM pg_index WHERE indexrelid = format('chains_%s', i)::regclass);
        EXECUTE format('DROP INDEX chains_%s', i);
        UPDATE chains SET k = -k WHERE k = i * -2400;
        COMMIT;
    END LOOP;
END
$$;

-- An error of anybody ends all, and leaves nothing.
\set VERBOSITY terse
CREATE INDEX t_bad ON t USING omen ((1 / (k - 99999)));
CREATE INDEX t_bad ON t USING omen ((1 / (k - 1)));
SELECT to_regclass('t_bad') IS NULL AS gone;

\set ECHO none
\i :srcdir/finish.sql
