-- omen.insert_buffer: entries of one statement go into the index together. Nobody
-- can tell, but by the speed and by the WAL.
\getenv srcdir PG_ABS_SRCDIR
\set schema batch_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

SHOW omen.insert_buffer;
CREATE TABLE t (k int8, v int8) WITH (autovacuum_enabled = off);
CREATE INDEX t_k ON t USING omen (k);
CREATE FUNCTION verify() RETURNS TABLE (rows int, "index" text, "index only" text, bitmap text) LANGUAGE sql AS $$
    SELECT * FROM agree('SELECT k FROM t ORDER BY k')
    UNION ALL SELECT * FROM agree('SELECT k, v FROM t WHERE k BETWEEN 990 AND 1010 OR k IS NULL')
$$;
-- How many rows with this key the index finds now.
CREATE FUNCTION seen(key int8) RETURNS int8 LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM t WHERE k = key);
END $$;
CREATE FUNCTION seen_by_bitmap(key int8) RETURNS int8 LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM t WHERE k = key);
END $$;

-- In order, in the opposite order, at random, NULL, many times the same.
INSERT INTO t SELECT g, 0 FROM generate_series(1, 20000) g;
INSERT INTO t SELECT -g, 0 FROM generate_series(1, 20000) g;
INSERT INTO t SELECT hashint8(g), 0 FROM generate_series(1, 20000) g;
INSERT INTO t SELECT CASE WHEN g % 2 = 0 THEN 1000 END, 0 FROM generate_series(1, 5000) g;
INSERT INTO t VALUES (1001, 1), (NULL, 1), (1000, 1), (30000, 1);
SELECT * FROM verify();
-- With room for few, some pages of the same leaf at a time.
SET omen.insert_buffer = '1kB';
INSERT INTO t SELECT hashint8(g), 0 FROM generate_series(20001, 30000) g;
INSERT INTO t SELECT 30000 + g, 0 FROM generate_series(1, 10000) g;
RESET omen.insert_buffer;
SELECT * FROM verify();

-- A statement that looks for its own rows in functions finds those it has inserted.
TRUNCATE t;
INSERT INTO t SELECT g, seen(g - 1) FROM generate_series(1, 1000) g;
INSERT INTO t SELECT g, seen_by_bitmap(g - 1) FROM generate_series(1001, 2000) g;
SELECT v, count(*), min(k) FROM t GROUP BY v ORDER BY v;
WITH more AS (INSERT INTO t SELECT g, 0 FROM generate_series(2001, 3000) g RETURNING k, seen(k) AS s)
SELECT s, count(*) FROM more GROUP BY s ORDER BY s;
-- From the same index.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) INSERT INTO t SELECT k + 5000, v FROM t WHERE k BETWEEN 1 AND 3000;
BEGIN;
INSERT INTO t SELECT k + 5000, v FROM t WHERE k BETWEEN 1 AND 3000;
INSERT INTO t SELECT k + 5000, v FROM t WHERE k > 5000;
SELECT count(*), min(k), max(k), count(DISTINCT k) FROM t WHERE k > 5000;
SELECT * FROM verify();
ROLLBACK;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- A cursor that was opened by such a function goes on where it was.
CREATE FUNCTION next_of(c refcursor) RETURNS int8 LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    n int8;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_cursors WHERE name = c::text) THEN
        OPEN c FOR SELECT k FROM t WHERE k >= 2990 ORDER BY k;
    END IF;
    FETCH c INTO n;
    RETURN n;
END $$;
BEGIN;
INSERT INTO t SELECT g, next_of('c') FROM generate_series(3001, 3020) g;
SELECT k, v FROM t WHERE k > 3000 ORDER BY k;
COMMIT;
SELECT * FROM verify();

-- Triggers.
CREATE TABLE log (what text, rows int8, found int8);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_LEVEL = 'ROW' THEN
        INSERT INTO log VALUES (TG_WHEN || ' ROW', 1, seen(NEW.k));
        RETURN NEW;
    END IF;
    INSERT INTO log SELECT TG_WHEN || ' STATEMENT', count(*), sum(seen(k)) FROM t WHERE k >= 4000;
    RETURN NULL;
END $$;
CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION look();
CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION look();
CREATE TRIGGER c BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE TRIGGER d AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION look();
CREATE CONSTRAINT TRIGGER e AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
INSERT INTO t SELECT g, 0 FROM generate_series(4000, 4499) g;
COPY t FROM PROGRAM 'seq 4500 4599 | sed s/$/\\t0/';
SELECT what, found, count(*), sum(rows) FROM log GROUP BY 1, 2 ORDER BY 1, 2;
DROP TRIGGER a ON t;
DROP TRIGGER b ON t;
DROP TRIGGER c ON t;
DROP TRIGGER d ON t;
DROP TRIGGER e ON t;
-- A trigger that inserts into the same table.
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.v < 3 THEN
        INSERT INTO t SELECT NEW.k + 10000, NEW.v + 1 FROM generate_series(1, 2);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER echo BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION echo();
INSERT INTO t SELECT g, 0 FROM generate_series(5001, 5050) g;
SELECT v, count(*) FROM t WHERE k > 5000 GROUP BY v ORDER BY v;
DROP TRIGGER echo ON t;
SELECT * FROM verify();

-- Foreign keys: the check of each row, and cascades that go by the index.
CREATE TABLE parent (id int8 PRIMARY KEY);
INSERT INTO parent SELECT g FROM generate_series(1, 1000) g;
CREATE TABLE child (id int8 REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX child_id ON child USING omen (id);
INSERT INTO child SELECT 1 + g % 1000 FROM generate_series(1, 10000) g;
INSERT INTO child SELECT g FROM generate_series(999, 1010) g;
SET enable_seqscan = off;
DELETE FROM parent WHERE id <= 100;
UPDATE parent SET id = id + 5000 WHERE id > 900;
RESET enable_seqscan;
SELECT count(*), min(id), max(id) FROM child;
SELECT * FROM agree('SELECT id FROM child ORDER BY id');

-- Savepoints.
BEGIN;
INSERT INTO t SELECT g, 0 FROM generate_series(20001, 21000) g;
SAVEPOINT a;
INSERT INTO t SELECT g, 0 FROM generate_series(21001, 22000) g;
SAVEPOINT b;
INSERT INTO t SELECT g, 0 FROM generate_series(22001, 23000) g;
RELEASE b;
ROLLBACK TO a;
INSERT INTO t SELECT g, 0 FROM generate_series(23001, 24000) g;
SELECT seen(20500), seen(21500), seen(22500), seen(23500);
COMMIT;
SELECT * FROM verify();
-- Subtransactions within a statement, half of them undone.
CREATE FUNCTION attempt(key int8) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t SELECT key + 100000 * g, 1 FROM generate_series(1, 3) g;
    BEGIN
        INSERT INTO t SELECT key + 1000000 * g, CASE WHEN key % 2 = 0 OR g < 3 THEN 1 ELSE 1 / (g - 3) END
            FROM generate_series(1, 4) g;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO t VALUES (key + 10000000, 1), (key + 20000000, 1);
    END;
    RETURN key;
END $$;
INSERT INTO t SELECT attempt(g), 2 FROM generate_series(1, 500) g;
SELECT count(*), count(*) FILTER (WHERE k > 10000000), count(*) FILTER (WHERE k > 1000000 AND k < 10000000)
    FROM t WHERE v IN (1, 2) AND (k > 100000 OR k <= 500);
-- An error in an expression does not begin a statement.
CREATE FUNCTION half(n int8) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    RETURN n / (n % 3);
EXCEPTION WHEN division_by_zero THEN
    RETURN -1;
END $$;
INSERT INTO t SELECT 30000 + g, half(g) FROM generate_series(1, 3000) g;
SELECT * FROM verify();

-- Errors in the middle.
INSERT INTO t SELECT g, 1 / (g - 40500) FROM generate_series(40001, 41000) g;
COPY t FROM PROGRAM 'seq 42001 43000 | sed s/$/\\t0/; echo x';
BEGIN;
INSERT INTO t SELECT g, 0 FROM generate_series(44001, 45000) g;
ROLLBACK;
DO $$
BEGIN
    INSERT INTO t SELECT g, 1 / (g - 40500) FROM generate_series(40001, 41000) g;
EXCEPTION WHEN division_by_zero THEN
    INSERT INTO t SELECT g, 0 FROM generate_series(46001, 47000) g;
END $$;
SELECT count(*) FROM t WHERE k BETWEEN 40000 AND 50000;
SELECT * FROM verify();

-- Later statements of the transaction: workers, an index that is built, TRUNCATE.
BEGIN;
INSERT INTO t SELECT g, 0 FROM generate_series(50001, 60000) g;
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*), sum(v) FROM t WHERE k > 50000;
CREATE INDEX t_v ON t USING omen (v);
INSERT INTO t SELECT g, g FROM generate_series(60001, 61000) g;
SELECT * FROM agree('SELECT v FROM t WHERE v > 60000 ORDER BY v');
COMMIT;
SELECT * FROM verify();
DROP INDEX t_v;
BEGIN;
INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g;
TRUNCATE t;
INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g;
SELECT seen(500);
COMMIT;
SELECT * FROM verify();

-- Where others depend on the entries at once they do not wait.
CREATE TABLE unique_k (id int8 PRIMARY KEY, k int8, EXCLUDE USING omen (k WITH =));
INSERT INTO unique_k SELECT g, g FROM generate_series(1, 1000) g;
INSERT INTO unique_k SELECT g, g % 7 FROM generate_series(1001, 1010) g;
INSERT INTO unique_k SELECT g, g FROM generate_series(900, 1100) g ON CONFLICT DO NOTHING;
INSERT INTO unique_k SELECT g, g FROM generate_series(1000, 1200) g ON CONFLICT (id) DO UPDATE SET k = -excluded.k;
WITH a AS (INSERT INTO unique_k SELECT g, g FROM generate_series(1190, 1210) g ON CONFLICT DO NOTHING RETURNING k)
INSERT INTO t SELECT k + 100000, 0 FROM a;
SELECT count(*), min(k), max(k) FROM unique_k;
SELECT * FROM agree('SELECT k FROM unique_k ORDER BY k');
SELECT * FROM verify();
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO t SELECT g, 0 FROM generate_series(70001, 71000) g;
SELECT seen(70500);
COMMIT;

-- Several indexes and tables at a time, in little memory and in much.
CREATE TABLE parts (k int8, u uuid, d date) PARTITION BY HASH (k);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 2);
CREATE INDEX ON parts USING omen (k);
CREATE INDEX ON parts USING omen (u);
CREATE INDEX ON parts USING omen (d DESC) WHERE k % 2 = 0;
SET omen.insert_buffer = '64kB';
INSERT INTO parts SELECT g, md5(g::text)::uuid, date '2000-01-01' + (g % 5000)::int FROM generate_series(1, 20000) g;
RESET omen.insert_buffer;
INSERT INTO parts SELECT g, md5(g::text)::uuid, date '2000-01-01' + (g % 5000)::int FROM generate_series(20001, 30000) g;
SELECT * FROM agree('SELECT k FROM parts ORDER BY k');
SELECT * FROM agree('SELECT u FROM parts ORDER BY u');
SELECT * FROM agree('SELECT d FROM parts WHERE k % 2 = 0 ORDER BY d');

-- It does happen: a bulk append costs little WAL, and off it costs as much as rows
-- that come one by one.
CREATE TABLE w (k int8);
CREATE INDEX w_k ON w USING omen (k);
INSERT INTO w SELECT g FROM generate_series(1, 10000) g;
CREATE FUNCTION wal_of(statement text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    start pg_lsn := pg_current_wal_insert_lsn();
BEGIN
    EXECUTE statement;
    RETURN pg_current_wal_insert_lsn() - start;
END $$;
CREATE TABLE w0 (k int8);
CREATE TABLE wal AS SELECT 'none' AS method, wal_of('INSERT INTO w0 SELECT g FROM generate_series(10001, 20000) g') AS bytes;
INSERT INTO wal SELECT 'together', wal_of('INSERT INTO w SELECT g FROM generate_series(10001, 20000) g');
SET omen.insert_buffer = 0;
INSERT INTO wal SELECT 'one by one', wal_of('INSERT INTO w SELECT g FROM generate_series(20001, 30000) g');
RESET omen.insert_buffer;
SELECT b.method, b.bytes - a.bytes < 10000 * 17 AS "less than 17 bytes a row"
    FROM wal a, wal b WHERE a.method = 'none' AND b.method <> 'none' ORDER BY 1;
-- The first statement of a session too, in the middle of which the library is loaded.
SELECT bytes + 10000 * 17 AS most FROM wal WHERE method = 'none' \gset
SELECT pg_current_wal_insert_lsn() AS start \gset
\c
INSERT INTO batch_test.w SELECT g FROM generate_series(30001, 40000) g;
SELECT pg_current_wal_insert_lsn() - :'start' < :most AS "INSERT: less than 17 bytes a row";
SELECT pg_current_wal_insert_lsn() AS start \gset
\c
PREPARE more(int8, int8) AS INSERT INTO batch_test.w SELECT g FROM generate_series($1, $2) g;
EXECUTE more(40001, 50000);
SELECT pg_current_wal_insert_lsn() - :'start' < :most AS "EXECUTE: less than 17 bytes a row";
SELECT pg_current_wal_insert_lsn() AS start \gset
COPY batch_test.w0 FROM PROGRAM 'seq 50001 60000';
SELECT pg_current_wal_insert_lsn() - :'start' + 10000 * 17 AS most \gset
SELECT pg_current_wal_insert_lsn() AS start \gset
\c
COPY batch_test.w FROM PROGRAM 'seq 50001 60000';
SELECT pg_current_wal_insert_lsn() - :'start' < :most AS "COPY: less than 17 bytes a row";
-- In a transaction that goes on, whose statements and savepoints are as ever.
\c
SET enable_seqscan = off;
BEGIN;
COPY batch_test.w FROM PROGRAM 'seq 60001 70000';
SELECT count(*), min(k), max(k) FROM batch_test.w WHERE k > 60000;
SAVEPOINT s;
INSERT INTO batch_test.w SELECT g FROM generate_series(70001, 80000) g;
INSERT INTO batch_test.w VALUES (80001);
ROLLBACK TO s;
INSERT INTO batch_test.w VALUES (80002);
SELECT count(*), min(k), max(k) FROM batch_test.w WHERE k > 60000;
COMMIT;
-- With a savepoint around it, and an error in it.
\c
SET enable_seqscan = off;
BEGIN;
SAVEPOINT s;
INSERT INTO batch_test.w SELECT g FROM generate_series(80003, 90000) g;
SELECT count(*), min(k), max(k) FROM batch_test.w WHERE k > 80002;
ROLLBACK TO s;
INSERT INTO batch_test.w SELECT g FROM generate_series(90001, 90010) g;
COMMIT;
SELECT count(*), min(k), max(k) FROM batch_test.w WHERE k > 80002;
\c
SET enable_seqscan = off;
BEGIN;
SAVEPOINT s;
INSERT INTO batch_test.w SELECT g + 0 / (90500 - g) FROM generate_series(90011, 91000) g;
ROLLBACK TO s;
INSERT INTO batch_test.w SELECT g FROM generate_series(91001, 91010) g RETURNING k % 91000;
INSERT INTO batch_test.w VALUES (91011);
SELECT count(*), min(k), max(k) FROM batch_test.w WHERE k > 90010;
COMMIT;
-- With triggers: one looks for the rows after each, one inserts others before each.
CREATE TABLE batch_test.seen (n int8);
CREATE FUNCTION batch_test.behind() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO batch_test.seen SELECT count(*) FROM batch_test.w WHERE k BETWEEN NEW.k - 1 AND NEW.k;
    RETURN NULL;
END $$;
CREATE TRIGGER behind AFTER INSERT ON batch_test.w FOR EACH ROW EXECUTE FUNCTION batch_test.behind();
\c
INSERT INTO batch_test.w SELECT g FROM generate_series(92001, 93000) g;
\c
BEGIN;
COPY batch_test.w FROM PROGRAM 'seq 93001 94000';
COMMIT;
SELECT n, count(*) FROM batch_test.seen GROUP BY n ORDER BY n;
CREATE TABLE batch_test.once (id int8 PRIMARY KEY, k int8);
CREATE INDEX once_k ON batch_test.once USING omen (k);
CREATE TABLE batch_test.plain (k int8);
CREATE FUNCTION batch_test.before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO batch_test.once SELECT NEW.k % 100 + g, NEW.k FROM generate_series(0, 1) g ON CONFLICT DO NOTHING;
    RETURN NEW;
END $$;
CREATE TRIGGER before BEFORE INSERT ON batch_test.plain FOR EACH ROW EXECUTE FUNCTION batch_test.before();
\c
INSERT INTO batch_test.plain SELECT g FROM generate_series(1, 1000) g;
\c
COPY batch_test.plain FROM PROGRAM 'seq 1001 2000';
SET search_path = batch_test, public;
SELECT * FROM agree('SELECT k FROM once ORDER BY k');
SELECT * FROM agree('SELECT k FROM w ORDER BY k');
SELECT omen_index_check('once_k', true), omen_index_check('w_k', true);
\set ECHO none
\i :srcdir/finish.sql
