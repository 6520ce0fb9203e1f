-- omen_stats, and the proof that lookups go through the model.
\getenv srcdir PG_ABS_SRCDIR
\set schema stats_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- What one row says of an index.
CREATE TABLE t AS SELECT hashint8extended(g, 0) AS k FROM generate_series(1, 1000000) g;
CREATE INDEX t_k ON t USING omen (k);
VACUUM t;
SELECT entries, leaf_pages > 0 AS leaves, inner_pages > 0 AS inner, model_pages > 0 AS model, free_pages = 0 AS "none free", height,
    (1 + leaf_pages + inner_pages + model_pages + free_pages) * current_setting('block_size')::int = pg_relation_size('t_k') AS "all pages",
    bytes_per_entry = pg_relation_size('t_k')::float8 / entries AS bytes, delta_entries
FROM omen_stats('t_k');
SELECT codecs <> '{}' AS codecs, abs((SELECT sum(value::float8) FROM jsonb_each_text(codecs)) - 1) < 0.01 AS "add up",
    model IN ('linear', 'rmi', 'pla') AS model, model_segments > 0 AS segments, model_error_bound >= 0 AS bound
FROM omen_stats('t_k');
-- New rows are in the delta area.
INSERT INTO t VALUES (1), (2), (NULL);
SELECT entries, delta_entries > 0 AS delta FROM omen_stats('t_k');

-- The model asked for is the model trained.
CREATE TABLE keys AS SELECT (hashint8(g)::int8 << 20) + g AS k FROM generate_series(1, 100000) g;
CREATE INDEX keys_linear ON keys USING omen (k) WITH (model = linear);
CREATE INDEX keys_rmi ON keys USING omen (k) WITH (model = rmi);
CREATE INDEX keys_pla ON keys USING omen (k) WITH (model = pla);
CREATE INDEX keys_auto ON keys USING omen (k);
SELECT i, model, model_segments >= 1 AS segments, entries FROM unnest('{keys_linear,keys_rmi,keys_pla}'::regclass[]) i, omen_stats(i);
ALTER INDEX keys_linear SET (model = pla);
REINDEX INDEX keys_linear;
SELECT model FROM omen_stats('keys_linear');
DROP INDEX keys_linear, keys_rmi, keys_pla;

-- Lookups ask the model, and the model is right: hits and the predictions
-- among them grow with the lookups, falls (descents from the root) are few.
-- The keys come in no order: a lookup that stays on the page of the one before
-- has no need to ask.
CREATE FUNCTION lookups(tab regclass, index regclass, probes text, OUT asked bigint, OUT present bigint, OUT "hits grow" boolean,
                        OUT "predicted" boolean, OUT "falls few" boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_memoize = off
SET enable_material = off AS $$
DECLARE
    before record;
    after record;
BEGIN
    SELECT * INTO before FROM omen_stats(index);
    EXECUTE format('SELECT count(*), count(f.k) FROM (%s) p LEFT JOIN LATERAL (SELECT k FROM %s t WHERE t.k = p.k OFFSET 0) f ON true', probes, tab)
        INTO asked, present;
    SELECT * INTO after FROM omen_stats(index);
    "hits grow" := after.model_hits - before.model_hits >= asked * 0.98;
    "predicted" := after.model_predictions - before.model_predictions >= asked * 0.98;
    "falls few" := after.model_falls - before.model_falls <= asked * 0.01 + 10;
END
$$;
SELECT * FROM lookups('t', 't_k', 'SELECT hashint8extended(g * 37, 0) AS k FROM generate_series(1, 20000) g');
SELECT * FROM lookups('t', 't_k', 'SELECT hashint8extended(g, 1) AS k FROM generate_series(1, 20000) g');
SELECT * FROM lookups('keys', 'keys_auto', 'SELECT k FROM keys ORDER BY hashint8(k) LIMIT 20000');
-- Also in a session that did not build the index.
\c -
\set ECHO none
\i :srcdir/common.sql
\set ECHO all
SELECT model_hits, model_hops, model_falls, model_predictions FROM omen_stats('t_k');
SELECT * FROM lookups('t', 't_k', 'SELECT hashint8extended(g * 37, 0) AS k FROM generate_series(1, 20000) g');
-- With each model.
CREATE INDEX keys_linear ON keys USING omen (k) WITH (model = linear);
DROP INDEX keys_auto;
SELECT * FROM lookups('keys', 'keys_linear', 'SELECT k FROM keys ORDER BY hashint8(k) LIMIT 20000');
CREATE INDEX keys_rmi ON keys USING omen (k) WITH (model = rmi);
DROP INDEX keys_linear;
SELECT * FROM lookups('keys', 'keys_rmi', 'SELECT k FROM keys ORDER BY hashint8(k) LIMIT 20000');
CREATE INDEX keys_pla ON keys USING omen (k) WITH (model = pla);
DROP INDEX keys_rmi;
SELECT * FROM lookups('keys', 'keys_pla', 'SELECT k FROM keys ORDER BY hashint8(k) LIMIT 20000');
-- And when half of the entries came after the model was trained.
INSERT INTO keys SELECT (hashint8(g)::int8 << 20) + g FROM generate_series(100001, 200000) g;
SELECT asked, present, "hits grow", "predicted" FROM lookups('keys', 'keys_pla', 'SELECT k FROM keys ORDER BY hashint8(k) LIMIT 20000');
VACUUM keys;
SELECT * FROM lookups('keys', 'keys_pla', 'SELECT k FROM keys ORDER BY hashint8(k + 1) LIMIT 20000');

-- An empty index.
CREATE TABLE empty (k uuid);
CREATE INDEX empty_k ON empty USING omen (k);
SELECT entries, leaf_pages, height, bytes_per_entry, delta_entries, codecs FROM omen_stats('empty_k');

-- What is no omen index.
CREATE INDEX t_btree ON keys (k);
SELECT * FROM omen_stats('t_btree');
SELECT * FROM omen_stats('t');
SELECT * FROM omen_stats('nonexistent');
SELECT * FROM omen_stats(0);
SELECT entries FROM omen_stats(NULL);
CREATE INDEX CONCURRENTLY invalid ON keys USING omen ((1 / (k - k)));
SELECT * FROM omen_stats('invalid');
DROP INDEX invalid;
CREATE TABLE parted (k int8) PARTITION BY RANGE (k);
CREATE INDEX parted_k ON parted USING omen (k);
SELECT * FROM omen_stats('parted_k');

-- For those who may scan any table.
CREATE ROLE regress_omen_plain;
CREATE ROLE regress_omen_monitor IN ROLE pg_stat_scan_tables;
GRANT USAGE ON SCHEMA stats_test TO regress_omen_plain, regress_omen_monitor;
SET ROLE regress_omen_plain;
SELECT * FROM omen_stats('t_k');
SET ROLE regress_omen_monitor;
SELECT entries FROM omen_stats('t_k');
RESET ROLE;
DROP OWNED BY regress_omen_plain, regress_omen_monitor;
DROP ROLE regress_omen_plain, regress_omen_monitor;

\set ECHO none
\i :srcdir/finish.sql
