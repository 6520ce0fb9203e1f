-- INSERT, UPDATE and DELETE of every shape, with rollbacks.
\getenv srcdir PG_ABS_SRCDIR
\set schema dml_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

CREATE TABLE t (k int8, v int4) WITH (fillfactor = 80, autovacuum_enabled = off);
CREATE INDEX t_k ON t USING omen (k);
-- All entries in order, and some conditions.
CREATE FUNCTION verify() RETURNS TABLE (rows int, "index" text, "index only" text, bitmap text) LANGUAGE sql AS $$
    SELECT * FROM agree('SELECT k FROM t ORDER BY k')
    UNION ALL SELECT * FROM agree('SELECT k, v FROM t WHERE k BETWEEN 990 AND 1010 OR k IS NULL')
    UNION ALL SELECT * FROM agree('SELECT k FROM t WHERE k > 20000')
    UNION ALL SELECT * FROM agree('SELECT k FROM t WHERE k = ANY (''{-7,7,1000,5000,30000}'')')
$$;

-- At the upper end, at the lower end, at random, many times the same.
INSERT INTO t SELECT g, 0 FROM generate_series(1, 5000) g;
INSERT INTO t SELECT -g, 1 FROM generate_series(1, 5000) g;
INSERT INTO t SELECT (g::int8 * 1103515245 + 12345) % 2147483648 % 40000, 2 FROM generate_series(1, 5000) g;
INSERT INTO t SELECT 1000, 3 FROM generate_series(1, 5000);
INSERT INTO t SELECT NULL, 4 FROM generate_series(1, 1000);
SELECT * FROM verify();
-- Into a table that has pages: the same again, one row at a time.
DO $$
BEGIN
    FOR g IN 1 .. 1000 LOOP
        INSERT INTO t VALUES (50000 + g, 5);
        INSERT INTO t VALUES (-50000 - g, 5);
        INSERT INTO t VALUES (g * 7919 % 60000, 5);
        INSERT INTO t VALUES (1000, 5), (NULL, 5);
    END LOOP;
END
$$;
SELECT * FROM verify();
COPY t FROM STDIN;
1001	6
\N	6
-9223372036854775808	6
9223372036854775807	6
\.
SELECT * FROM verify();

-- Updates that change the key, and those that do not.
UPDATE t SET v = v + 100 WHERE k BETWEEN 990 AND 1010;
UPDATE t SET k = k + 1 WHERE k BETWEEN 2000 AND 3000;
UPDATE t SET k = NULL WHERE k BETWEEN 100 AND 150;
UPDATE t SET k = 7 WHERE k IS NULL AND v = 4;
UPDATE t SET k = 2 * k WHERE k BETWEEN 30000 AND 100000;
SELECT * FROM verify();
DELETE FROM t WHERE k % 3 = 0;
DELETE FROM t WHERE k < -4000;
SELECT * FROM verify();
VACUUM t;
SELECT * FROM verify();
-- The space of what was deleted takes new rows.
INSERT INTO t SELECT g * 3, 7 FROM generate_series(-2000, 8000) g;
SELECT * FROM verify();
VACUUM t;
SELECT * FROM verify();

-- Rolled back: by the transaction, a savepoint, an exception.
BEGIN;
INSERT INTO t SELECT g, 8 FROM generate_series(20000, 23000) g;
DELETE FROM t WHERE k BETWEEN 990 AND 1010;
SELECT count(*) FROM t WHERE k BETWEEN 990 AND 1010;
ROLLBACK;
SELECT * FROM verify();
BEGIN;
INSERT INTO t SELECT g, 9 FROM generate_series(20000, 20100) g;
SAVEPOINT a;
INSERT INTO t SELECT g, 10 FROM generate_series(20050, 22000) g;
SAVEPOINT b;
UPDATE t SET k = k + 5 WHERE k BETWEEN 20000 AND 100000;
SELECT * FROM verify();
ROLLBACK TO b;
SELECT * FROM verify();
RELEASE a;
INSERT INTO t VALUES (20001, 11);
SAVEPOINT c;
DELETE FROM t WHERE k > 21000;
ROLLBACK TO c;
COMMIT;
SELECT * FROM verify();
DO $$
BEGIN
    FOR g IN 1 .. 500 LOOP
        BEGIN
            INSERT INTO t VALUES (g * 100, 12);
            IF g % 3 = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            INSERT INTO t VALUES (-g, 13);
        END;
    END LOOP;
END
$$;
SELECT v, count(*) FROM t WHERE v IN (12, 13) GROUP BY v ORDER BY v;
SELECT * FROM verify();
-- The same inside one statement: a function with an exception block per row.
CREATE FUNCTION doubtful(g int4) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t VALUES (g, 14);
    RETURN 100 / (g % 4);
EXCEPTION WHEN division_by_zero THEN
    RETURN NULL;
END
$$;
INSERT INTO t SELECT doubtful(g), 15 FROM generate_series(1, 1000) g;
SELECT v, count(*), count(k) FROM t WHERE v IN (14, 15) GROUP BY v ORDER BY v;
SELECT * FROM verify();
-- Prepared transactions.
BEGIN;
INSERT INTO t SELECT g, 16 FROM generate_series(1, 100) g;
PREPARE TRANSACTION 'one';
BEGIN;
INSERT INTO t SELECT g, 17 FROM generate_series(1, 100) g;
PREPARE TRANSACTION 'two';
ROLLBACK PREPARED 'one';
COMMIT PREPARED 'two';
SELECT v, count(*) FROM t WHERE k BETWEEN 1 AND 100 AND v IN (16, 17) GROUP BY v;
SELECT * FROM verify();
VACUUM t;
SELECT * FROM verify();

-- One row updated again and again: its versions do not pile up in the index.
CREATE TABLE counter (k int4, n int4, filler text) WITH (autovacuum_enabled = off);
INSERT INTO counter SELECT g, 0, repeat('x', 100) FROM generate_series(1, 1000) g;
CREATE INDEX counter_k ON counter USING omen (k);
CREATE INDEX counter_n ON counter USING omen (n);
CREATE PROCEDURE count_up(steps int4) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. steps LOOP
        UPDATE counter SET n = n + 1 WHERE k = 500;
        COMMIT;
    END LOOP;
END
$$;
CALL count_up(3000);
SELECT k, n FROM counter WHERE k = 500;
SELECT i, entries - 1000 < 300 AS "versions dropped" FROM unnest('{counter_k,counter_n}'::regclass[]) i, omen_stats(i);
SELECT * FROM agree('SELECT k, n FROM counter WHERE n > 0');
SELECT * FROM agree('SELECT k, n FROM counter WHERE n = 2999');
-- The key comes back to a value that it had.
CREATE PROCEDURE swing(steps int4) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. steps LOOP
        UPDATE counter SET k = CASE k WHEN 500 THEN 5000 ELSE 500 END WHERE k IN (500, 5000);
        COMMIT;
    END LOOP;
END
$$;
CALL swing(501);
SELECT * FROM agree('SELECT k, n FROM counter WHERE k IN (500, 5000)');
SELECT * FROM agree('SELECT k, n FROM counter WHERE k >= 400 ORDER BY k');
-- As a queue: taken at one end, filled at the other.
CREATE PROCEDURE queue(steps int4) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. steps LOOP
        DELETE FROM counter WHERE k = (SELECT min(k) FROM counter);
        INSERT INTO counter SELECT max(k) + 1 FROM counter;
        COMMIT;
    END LOOP;
END
$$;
SET enable_seqscan = off;
CALL queue(500);
RESET enable_seqscan;
SELECT * FROM agree('SELECT min(k), max(k) FROM counter');
SELECT * FROM agree('SELECT k FROM counter WHERE k < 600 ORDER BY k');

-- ON CONFLICT with a btree arbiter beside an omen index.
CREATE TABLE arbited (id int4 PRIMARY KEY, k int8) WITH (autovacuum_enabled = off);
CREATE INDEX arbited_k ON arbited USING omen (k);
INSERT INTO arbited SELECT g, g * 2 FROM generate_series(1, 2000) g;
INSERT INTO arbited SELECT g, g * 3 FROM generate_series(1, 4000, 3) g ON CONFLICT (id) DO NOTHING;
INSERT INTO arbited SELECT g, g * 5 FROM generate_series(1, 5000, 4) g ON CONFLICT (id) DO UPDATE SET k = excluded.k;
INSERT INTO arbited VALUES (1, 1) ON CONFLICT DO NOTHING;
INSERT INTO arbited VALUES (1, 1) ON CONFLICT (k) DO NOTHING;
SELECT * FROM agree('SELECT k FROM arbited WHERE k BETWEEN 100 AND 5000');
SELECT * FROM agree('SELECT id, k FROM arbited WHERE k % 5 = 0 AND k > 9000 ORDER BY k, id');
MERGE INTO arbited USING generate_series(1, 3000, 7) g ON arbited.id = g
    WHEN MATCHED AND g % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET k = -g WHEN NOT MATCHED THEN INSERT VALUES (g, 1);
SELECT * FROM agree('SELECT id, k FROM arbited WHERE k < 100');

-- A column that gets NULLs when the index is there already.
CREATE TABLE strict (k timestamptz NOT NULL);
INSERT INTO strict SELECT timestamptz '2026-01-01' + g * interval '1 s' FROM generate_series(1, 3000) g;
CREATE INDEX strict_k ON strict USING omen (k DESC);
ALTER TABLE strict ALTER COLUMN k DROP NOT NULL;
INSERT INTO strict SELECT CASE WHEN g % 2 = 0 THEN timestamptz '2026-01-01' + g * interval '1 s' END FROM generate_series(1, 2000) g;
SELECT * FROM agree('SELECT k FROM strict WHERE k IS NULL');
SELECT * FROM agree('SELECT k FROM strict WHERE k < ''2026-01-01 00:10''');
SELECT * FROM agree('SELECT k FROM strict ORDER BY k DESC');
VACUUM strict;
SELECT * FROM agree('SELECT k FROM strict ORDER BY k DESC');

-- Triggers and rules see the rows of their own statement.
CREATE TABLE followed (k int4);
CREATE INDEX followed_k ON followed USING omen (k);
CREATE TABLE followers (k int4, seen bigint);
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO followers SELECT NEW.k, count(*) FROM followed WHERE k <= NEW.k;
    RETURN NEW;
END
$$;
CREATE TRIGGER follow AFTER INSERT ON followed FOR EACH ROW EXECUTE FUNCTION follow();
INSERT INTO followed SELECT generate_series(1, 300);
SELECT count(*), sum(seen), bool_and(seen = k) FROM followers;
-- The same by parallel queries: workers see what the statement has inserted.
CREATE FUNCTION follow_in_parallel() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    SELECT count(*) INTO NEW.k FROM followed WHERE k > 0;
    INSERT INTO followers VALUES (-NEW.k, NEW.k);
    IF (SELECT count(*) = 1 FROM followers WHERE k < 0) THEN
        FOR line IN EXPLAIN (COSTS OFF) SELECT count(*) FROM followed WHERE k > 0 LOOP
            RAISE NOTICE '%', line;
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER follow ON followed;
CREATE TRIGGER follow_in_parallel AFTER INSERT ON followed FOR EACH ROW EXECUTE FUNCTION follow_in_parallel();
BEGIN;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL min_parallel_index_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
INSERT INTO followed SELECT generate_series(301, 420);
COMMIT;
SELECT count(*), min(seen), max(seen) FROM followers WHERE k < 0;

\set ECHO none
\i :srcdir/finish.sql
