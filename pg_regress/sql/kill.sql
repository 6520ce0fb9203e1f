-- Entries whose rows scans have found dead are dropped without VACUUM.
\getenv srcdir PG_ABS_SRCDIR
\set schema kill_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;

-- Entries that an index has for nothing, up to those that no scan has bothered about.
-- Counted by a sequential scan, which drops nothing.
CREATE FUNCTION few_dead(index regclass, OUT few boolean, OUT dead bigint) LANGUAGE plpgsql
SET enable_seqscan = on SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
    rows bigint;
BEGIN
    EXECUTE (SELECT format('SELECT count(*) FROM %s', indrelid::regclass) FROM pg_index WHERE indexrelid = index)
        INTO rows;
    dead := (SELECT entries FROM omen_stats(index)) - rows;
    few := dead BETWEEN 0 AND 50;
    IF few THEN
        dead := NULL;
    END IF;
END $$;

-- A queue: rows come at one end and go at the other.
CREATE TABLE queue (k int8, payload text);
INSERT INTO queue SELECT g, 'some' FROM generate_series(1, 3000) g;
CREATE INDEX queue_k ON queue USING omen (k);
VACUUM queue;
CREATE PROCEDURE work(cycles int, query text) LANGUAGE plpgsql AS $$
DECLARE
    found int8;
    first int8;
BEGIN
    FOR i IN 1..cycles LOOP
        INSERT INTO queue SELECT max(k) + 1, 'more' FROM queue;
        DELETE FROM queue WHERE k = (SELECT k FROM queue ORDER BY k LIMIT 1) RETURNING k INTO first;
        COMMIT;
        EXECUTE query INTO found;
        IF found <> first + 1 THEN
            RAISE 'row % is first, and % was found', first + 1, found;
        END IF;
    END LOOP;
END $$;
SELECT plan('SELECT k FROM queue ORDER BY k LIMIT 1');
CALL work(2000, 'SELECT k FROM queue ORDER BY k LIMIT 1');
SELECT * FROM few_dead('queue_k');
SET enable_indexonlyscan = off;
SELECT plan('SELECT k FROM queue ORDER BY k LIMIT 1');
CALL work(2000, 'SELECT k FROM queue ORDER BY k LIMIT 1');
SELECT * FROM few_dead('queue_k');
RESET enable_indexonlyscan;
SELECT omen_index_check('queue_k', true, true);
-- The TIDs of what went are used again.
VACUUM queue;
INSERT INTO queue SELECT g, 'again' FROM generate_series(-500, 500) g;
SELECT omen_index_check('queue_k', true, true);
SELECT * FROM agree('SELECT k FROM queue WHERE k < 5000');

-- A row that is updated again and again, each time with a new entry.
CREATE TABLE counter (k int8, n int);
INSERT INTO counter SELECT g, 0 FROM generate_series(1, 500) g;
INSERT INTO counter VALUES (NULL, 0);
CREATE INDEX counter_k ON counter USING omen (k);
CREATE INDEX counter_desc ON counter USING omen (k DESC);
CREATE INDEX counter_n ON counter USING omen (n);
VACUUM counter;
CREATE PROCEDURE count_up(times int, condition text) LANGUAGE plpgsql AS $$
DECLARE
    got int;
BEGIN
    FOR i IN 1..times LOOP
        EXECUTE 'UPDATE counter SET n = n + 1 WHERE ' || condition;
        COMMIT;
        EXECUTE 'SELECT n FROM counter WHERE ' || condition INTO STRICT got;
    END LOOP;
END $$;
CALL count_up(1000, 'k = 250');
CALL count_up(300, 'k IS NULL');
SELECT k, n FROM counter WHERE n > 0 ORDER BY k;
-- Of the two indexes on k one is scanned.
DO $$ BEGIN
    ASSERT (few_dead('counter_k')).few OR (few_dead('counter_desc')).few;
END $$;
DROP INDEX counter_k;
SELECT count(*) FROM counter WHERE k = 250;
SELECT count(*) FROM counter WHERE k IS NULL;
SELECT count(*) FROM counter WHERE k IS NOT NULL;
SELECT * FROM few_dead('counter_desc');
SELECT omen_index_check('counter_desc', true, true);

-- Each dead row on a heap page of its own, of which more than a third is free.
CREATE TABLE spread (k int8, pad text);
ALTER TABLE spread ALTER pad SET STORAGE PLAIN;
INSERT INTO spread SELECT g, repeat('x', 5000) FROM generate_series(1, 600) g;
CREATE INDEX spread_k ON spread USING omen (k);
VACUUM spread;
SELECT pg_relation_size('spread') / current_setting('block_size')::int AS pages;
CREATE PROCEDURE read_first(times int) LANGUAGE plpgsql AS $$
DECLARE
    found int8;
BEGIN
    FOR i IN 1..times LOOP
        EXECUTE 'SELECT k FROM spread WHERE k > 0 ORDER BY k LIMIT 1' INTO found;
    END LOOP;
    RAISE NOTICE 'the first is %', found;
END $$;
DELETE FROM spread WHERE k <= 100;
CALL read_first(30);
SELECT * FROM few_dead('spread_k');
DELETE FROM spread WHERE k <= 500;
CALL read_first(200);
SELECT * FROM few_dead('spread_k');
SELECT omen_index_check('spread_k', true, true);

-- Forwards and backwards, in the middle of a table, past rows that came and went in
-- transactions that did not commit.
CREATE TABLE gaps (k int8, pad text);
INSERT INTO gaps SELECT g, repeat('x', 50) FROM generate_series(1, 20000) g;
CREATE INDEX gaps_k ON gaps USING omen (k);
VACUUM gaps;
DELETE FROM gaps WHERE k BETWEEN 2000 AND 2999;
SELECT k FROM gaps WHERE k >= 1999 ORDER BY k LIMIT 2;
SELECT * FROM few_dead('gaps_k');
DELETE FROM gaps WHERE k BETWEEN 10000 AND 10999;
SELECT k FROM gaps WHERE k <= 11000 ORDER BY k DESC LIMIT 2;
SELECT * FROM few_dead('gaps_k');
BEGIN;
DELETE FROM gaps WHERE k BETWEEN 12000 AND 12999;
SAVEPOINT before;
INSERT INTO gaps SELECT 12500, 'lost' FROM generate_series(1, 200);
SELECT count(*) FROM gaps WHERE k BETWEEN 11990 AND 13010;
ROLLBACK;
SELECT count(*) FROM gaps WHERE k BETWEEN 11990 AND 13010;
SELECT count(*) FROM gaps WHERE k BETWEEN 11990 AND 13010;
-- Only versions that an update or a DELETE has left are pruned: VACUUM takes the rest.
SELECT omen_index_check('gaps_k', true, true);
VACUUM gaps;
SELECT * FROM few_dead('gaps_k');

-- A cursor goes back over what was dropped meanwhile.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM gaps WHERE k > 3000 ORDER BY k;
FETCH 2 FROM c;
DELETE FROM gaps WHERE k BETWEEN 3500 AND 4500;
MOVE 2000 IN c;
FETCH 1 FROM c;
FETCH BACKWARD 2 FROM c;
COMMIT;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM gaps WHERE k > 3000 ORDER BY k;
MOVE 600 IN c;
FETCH 1 FROM c;
FETCH BACKWARD 1 FROM c;
MOVE BACKWARD ALL IN c;
FETCH 1 FROM c;
MOVE FORWARD ALL IN c;
FETCH BACKWARD 1 FROM c;
COMMIT;
SELECT * FROM few_dead('gaps_k');
-- Merge joins mark places and return to them.
SET enable_hashjoin = off;
SET enable_nestloop = off;
INSERT INTO gaps SELECT g % 100, 'same' FROM generate_series(1, 5000) g;
DELETE FROM gaps WHERE pad = 'same' AND k % 2 = 0;
SELECT plan('SELECT count(*) FROM gaps AS a JOIN gaps AS b USING (k) WHERE k < 200');
SELECT count(*) FROM gaps AS a JOIN gaps AS b USING (k) WHERE k < 200;
SELECT count(*) FROM gaps AS a JOIN gaps AS b USING (k) WHERE k < 200;
SELECT * FROM few_dead('gaps_k');
RESET enable_hashjoin;
RESET enable_nestloop;
-- Parallel workers drop as well.
DELETE FROM gaps WHERE k BETWEEN 5000 AND 9000 AND k % 10 <> 0;
SELECT dead AS before FROM few_dead('gaps_k') \gset
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_index_scan_size = 0;
SET min_parallel_table_scan_size = 0;
SELECT plan('SELECT count(*) FROM gaps WHERE k BETWEEN 4900 AND 9100');
SELECT count(*) FROM gaps WHERE k BETWEEN 4900 AND 9100;
SELECT count(*) FROM gaps WHERE k BETWEEN 4900 AND 9100;
SELECT :before > 2000 AS many, coalesce(dead, 0) < :before / 2 AS fewer FROM few_dead('gaps_k');
SELECT omen_index_check('gaps_k', true, true);
RESET max_parallel_workers_per_gather;

-- Temporary tables, whose pages are this session's.
CREATE TEMP TABLE mine AS SELECT g::int8 AS k FROM generate_series(1, 2000) g;
CREATE INDEX mine_k ON mine USING omen (k);
DELETE FROM mine WHERE k <= 1000;
SELECT min(k) FROM mine;
SELECT min(k) FROM mine;
SELECT * FROM few_dead('mine_k');
SELECT omen_index_check('mine_k', true, true);

-- What is not dropped yet, this session passes: it looks once at each row that is dead.
CREATE FUNCTION entries_read(index regclass, query text, OUT rows int8, OUT entries int8) LANGUAGE plpgsql AS $$
DECLARE
    before int8 := pg_stat_get_xact_tuples_returned(index);
BEGIN
    EXECUTE query INTO rows;
    entries := pg_stat_get_xact_tuples_returned(index) - before;
END $$;
SET enable_indexonlyscan = off;
CREATE TABLE few (k int8, n int);
INSERT INTO few SELECT g, 0 FROM generate_series(1, 500) g;
CREATE INDEX few_k ON few USING omen (k);
CREATE INDEX few_n ON few USING omen (n);
VACUUM few;
CREATE PROCEDURE count_few(times int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..times LOOP
        UPDATE few SET n = n + 1 WHERE k = 250;
        COMMIT;
    END LOOP;
END $$;
CALL count_few(10);
SELECT * FROM entries_read('few_k', 'SELECT count(*) FROM few WHERE k = 250');
SELECT * FROM entries_read('few_k', 'SELECT count(*) FROM few WHERE k = 250');
SELECT * FROM entries_read('few_k', 'SELECT count(*) FROM few WHERE k BETWEEN 1 AND 500');
SELECT n FROM few WHERE k BETWEEN 249 AND 251 ORDER BY k DESC;
SET enable_indexscan = off;
SET enable_bitmapscan = on;
SELECT * FROM entries_read('few_k', 'SELECT count(*) FROM few WHERE k = 250');
RESET enable_indexscan;
SET enable_bitmapscan = off;
-- VACUUM makes their TIDs free, and new rows get them.
VACUUM few;
INSERT INTO few SELECT 250, g FROM generate_series(101, 110) g;
SELECT * FROM entries_read('few_k', 'SELECT count(*) FROM few WHERE k = 250');
RESET enable_indexonlyscan;

-- TRUNCATE in the transaction that has made the table keeps its files, and temporary
-- tables are emptied by each commit: again there are new rows with the same TIDs.
SET omen.insert_buffer = 0;
BEGIN;
CREATE TABLE undone (k int8);
CREATE INDEX undone_k ON undone USING omen (k);
SAVEPOINT before;
INSERT INTO undone SELECT 7 FROM generate_series(1, 10);
ROLLBACK TO before;
RELEASE before;
INSERT INTO undone VALUES (7);
SELECT pg_relation_filenode('undone_k') AS file \gset
SELECT * FROM entries_read('undone_k', 'SELECT count(*) FROM undone WHERE k = 7');
SELECT * FROM entries_read('undone_k', 'SELECT count(*) FROM undone WHERE k = 7');
TRUNCATE undone;
SELECT pg_relation_filenode('undone_k') = :file AS same_file;
INSERT INTO undone SELECT 7 FROM generate_series(1, 11);
SELECT * FROM entries_read('undone_k', 'SELECT count(*) FROM undone WHERE k = 7');
COMMIT;
SELECT omen_index_check('undone_k', true, true);
CREATE TEMP TABLE emptied (k int8) ON COMMIT DELETE ROWS;
CREATE INDEX emptied_k ON emptied USING omen (k);
BEGIN;
SAVEPOINT before;
INSERT INTO emptied SELECT 7 FROM generate_series(1, 10);
ROLLBACK TO before;
INSERT INTO emptied VALUES (7);
SELECT * FROM entries_read('emptied_k', 'SELECT count(*) FROM emptied WHERE k = 7');
SELECT * FROM entries_read('emptied_k', 'SELECT count(*) FROM emptied WHERE k = 7');
COMMIT;
BEGIN;
INSERT INTO emptied SELECT 7 FROM generate_series(1, 11);
SELECT * FROM entries_read('emptied_k', 'SELECT count(*) FROM emptied WHERE k = 7');
COMMIT;
RESET omen.insert_buffer;

\set ECHO none
\i :srcdir/finish.sql
