-- omen.router_memory: what a session may remember of an index. Any value gives
-- the same answers.
\getenv srcdir PG_ABS_SRCDIR
\set schema settings_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t AS SELECT (hashint8(g)::int8 + 2147483648) * 1000 AS k FROM generate_series(1, 50000) g;
CREATE INDEX t_k ON t USING omen (k);
VACUUM ANALYZE t;
SHOW omen.router_memory;
-- Looks up keys that are there and as many that are not.
CREATE FUNCTION probe(OUT probes bigint, OUT "all found" boolean) LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
    SELECT count(*), count(f.k) FILTER (WHERE p.there) = count(*) FILTER (WHERE p.there)
    FROM (SELECT k, true AS there FROM t UNION ALL SELECT k + 2, false FROM t) p
        LEFT JOIN LATERAL (SELECT t.k FROM t WHERE t.k = p.k LIMIT 1) f ON true
$$;
SELECT * FROM probe();
SET omen.router_memory = 0;
SELECT * FROM probe();
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 1000000000 AND 20000000000');
INSERT INTO t SELECT (hashint8(g)::int8 + 2147483648) * 1000 + 1 FROM generate_series(1, 20000) g;
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 1000000000 AND 20000000000');
SET omen.router_memory = '1kB';
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 1000000000 AND 20000000000');
SET omen.router_memory = '1GB';
SELECT * FROM agree('SELECT k FROM t WHERE k BETWEEN 1000000000 AND 20000000000');
BEGIN;
SET LOCAL omen.router_memory = 0;
SELECT * FROM agree('SELECT k FROM t ORDER BY k LIMIT 1000');
COMMIT;
SELECT * FROM agree('SELECT k FROM t ORDER BY k LIMIT 1000');
RESET omen.router_memory;
-- Versions of PostgreSQL word it differently.
\set VERBOSITY sqlstate
SET omen.router_memory = -1;
\set VERBOSITY default
SET omen.router_memory = 'much';
SET omen.router_memory = '9999GB';

-- Without memory every search descends: neither hits nor misses are counted.
SET omen.router_memory = 0;
CREATE TABLE before AS SELECT model_hits, model_falls FROM omen_stats('t_k');
SELECT * FROM probe();
SELECT s.model_hits = b.model_hits AS "no hits" FROM omen_stats('t_k') s, before b;
RESET omen.router_memory;
SELECT * FROM probe();
SELECT s.model_hits > b.model_hits AS hits FROM omen_stats('t_k') s, before b;

\set ECHO none
\i :srcdir/finish.sql
