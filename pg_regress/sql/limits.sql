-- What PostgreSQL forbids or denies an index that is not a btree, and what it
-- allows all the same.
\getenv srcdir PG_ABS_SRCDIR
\set schema limits_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int8 NOT NULL, v int4);
INSERT INTO t SELECT g, g FROM generate_series(1, 5000) g;
CREATE INDEX t_k ON t USING omen (k);
VACUUM ANALYZE t;

ALTER TABLE t ADD PRIMARY KEY USING INDEX t_k;
ALTER TABLE t ADD UNIQUE USING INDEX t_k;
CREATE UNIQUE INDEX ON t USING omen (k);
ALTER TABLE t REPLICA IDENTITY USING INDEX t_k;
INSERT INTO t VALUES (1, 1) ON CONFLICT (k) DO NOTHING;
CREATE TABLE referring (k int8 REFERENCES t (k));

-- Comparisons of rows are no index conditions.
SET enable_seqscan = off;
SELECT * FROM plan('SELECT v FROM t WHERE (k, v) > (4990, 5)');
EXPLAIN (COSTS OFF) SELECT v FROM t WHERE ROW(k) > ROW(4990);
RESET enable_seqscan;
SELECT count(*) FROM t WHERE (k, v) > (4990, 5);

-- Exclusion constraints are open to every access method.
CREATE TABLE excluding (k int4, v int4, CONSTRAINT one_each EXCLUDE USING omen (k WITH =));
INSERT INTO excluding SELECT g, g FROM generate_series(1, 3000) g;
INSERT INTO excluding VALUES (77, 1);
INSERT INTO excluding VALUES (NULL, 1), (NULL, 2);
INSERT INTO excluding SELECT g, 0 FROM generate_series(2990, 3010) g ON CONFLICT DO NOTHING;
INSERT INTO excluding VALUES (3011, 1), (3011, 2);
SELECT count(*), count(k), count(DISTINCT k), max(k) FROM excluding;
DELETE FROM excluding WHERE k = 77;
INSERT INTO excluding VALUES (77, 2);
UPDATE excluding SET k = 78 WHERE k = 77;
BEGIN;
DELETE FROM excluding WHERE k = 78;
UPDATE excluding SET k = 78 WHERE k = 77;
COMMIT;
SELECT * FROM agree('SELECT k, v FROM excluding WHERE k BETWEEN 75 AND 80');
CREATE TABLE deferring (k timestamptz, EXCLUDE USING omen (k WITH =) DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO deferring VALUES ('2026-01-01 00:00+00'), ('2026-01-02 00:00+00'), ('2026-01-01 00:00+00');
DELETE FROM deferring WHERE ctid = '(0,1)';
COMMIT;
BEGIN;
INSERT INTO deferring VALUES ('2026-01-02 01:00+01');
COMMIT;
SELECT count(*) FROM deferring;
CREATE TABLE excluding_less (k int4, EXCLUDE USING omen (k WITH <>));
CREATE TABLE excluding_more (k int4, v int4, EXCLUDE USING omen (k WITH =, v WITH =));
ALTER TABLE t ADD CONSTRAINT t_excluding EXCLUDE USING omen (v WITH =);
INSERT INTO t VALUES (6000, 7);
UPDATE t SET v = 1 WHERE k = 2;
INSERT INTO t VALUES (6000, 6000);
ALTER TABLE t DROP CONSTRAINT t_excluding;
INSERT INTO t VALUES (6001, 6000);
ALTER TABLE t ADD CONSTRAINT t_excluding EXCLUDE USING omen (v WITH =);
-- Infinities, NaN and both zeros as constraints see them.
CREATE TABLE excluding_floats (k float8, EXCLUDE USING omen (k WITH =));
INSERT INTO excluding_floats VALUES ('NaN'), (0), ('Infinity');
INSERT INTO excluding_floats SELECT 'inf'::float8 - 'inf'::float8 ON CONFLICT DO NOTHING;
INSERT INTO excluding_floats VALUES ('-0'), ('Infinity'), ('-Infinity') ON CONFLICT DO NOTHING;
SELECT count(*) FROM excluding_floats;

\set ECHO none
\i :srcdir/finish.sql
