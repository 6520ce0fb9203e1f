-- omen_index_check and omen_check_all: sound indexes pass, faults are named.
\getenv srcdir PG_ABS_SRCDIR
\set schema check_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- Sound: every kind of table, index and history.
CREATE TABLE t (id bigint, k int, f float8, u uuid, pad text);
INSERT INTO t SELECT g, nullif(g % 97, 0), CASE g % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN -0.0 ELSE g END,
    md5(g::text)::uuid, 'x' FROM generate_series(1, 20000) g;
CREATE INDEX t_id ON t USING omen (id);
CREATE INDEX t_k ON t USING omen (k DESC NULLS LAST);
CREATE INDEX t_f ON t USING omen (f);
CREATE INDEX t_u ON t USING omen (u);
CREATE INDEX t_part ON t USING omen (id) WHERE k > 50;
CREATE INDEX t_expr ON t USING omen ((id / 2));
CREATE TABLE void (k int);
CREATE INDEX void_k ON void USING omen (k);
CREATE UNLOGGED TABLE ul AS SELECT g AS k FROM generate_series(1, 1000) g;
CREATE INDEX ul_k ON ul USING omen (k);
CREATE TEMP TABLE tmp AS SELECT g AS k FROM generate_series(1, 1000) g;
CREATE INDEX tmp_k ON tmp USING omen (k);
SELECT * FROM omen_check_all(heapallindexed => true, full => true);
-- Updates of other columns (HOT) and of the key, deletes, rolled back rows.
UPDATE t SET pad = 'y' WHERE id % 3 = 0;
UPDATE t SET k = k + 1, id = id + 100000 WHERE id % 7 = 0;
DELETE FROM t WHERE id % 5 = 0;
BEGIN;
INSERT INTO t SELECT g, g FROM generate_series(1, 500) g;
ROLLBACK;
SELECT count(fault) AS faults FROM omen_check_all(true);
VACUUM t;
SELECT count(fault) AS faults FROM omen_check_all(true, true);
INSERT INTO t SELECT g, g FROM generate_series(1, 5000) g;
SELECT count(fault) AS faults FROM omen_check_all(true, true);
-- In a chain of versions made while there was no index only the last has its key.
CREATE TABLE chain (k int, pad int) WITH (fillfactor = 50);
INSERT INTO chain SELECT g, 0 FROM generate_series(1, 100) g;
BEGIN;
UPDATE chain SET k = k + 1000;
CREATE INDEX chain_k ON chain USING omen (k);
COMMIT;
SELECT omen_index_check('chain_k', true, true);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM chain;
SELECT omen_index_check('chain_k', true);
COMMIT;

-- An expression of a toasted value: it is gone before the row that had it is.
CREATE TABLE docs (id int, body text);
ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
INSERT INTO docs SELECT g, repeat(md5(g::text), 100) FROM generate_series(1, 50) g;
CREATE INDEX docs_body ON docs USING omen ((md5(body)::uuid));
UPDATE docs SET body = repeat(md5(body), 100) WHERE id % 2 = 0;
DELETE FROM docs WHERE id % 5 = 0;
\set ECHO none
SELECT format('VACUUM %s', reltoastrelid::regclass) FROM pg_class WHERE oid = 'docs'::regclass \gexec
\set ECHO all
SELECT omen_index_check('docs_body', true, true);
-- A version that was never indexed need not have a value.
CREATE TABLE inverse (x int) WITH (fillfactor = 50);
INSERT INTO inverse VALUES (0), (1), (2);
BEGIN;
UPDATE inverse SET x = x + 1;
CREATE INDEX inverse_x ON inverse USING omen ((60 / x));
COMMIT;
SELECT omen_index_check('inverse_x', true, true);

-- A row without an entry. The index misses what comes while it is not ready.
CREATE FUNCTION ready(index regclass, bool) RETURNS void LANGUAGE sql AS
    'UPDATE pg_index SET indisready = $2 WHERE indexrelid = $1';
CREATE TABLE gap AS SELECT g AS k FROM generate_series(1, 10) g;
CREATE INDEX gap_k ON gap USING omen (k);
SELECT ready('gap_k', false);
INSERT INTO gap VALUES (11);
SELECT ready('gap_k', true);
SELECT omen_index_check('gap_k');
SELECT omen_index_check('gap_k', full => true);
SELECT omen_index_check('gap_k', heapallindexed => true);
SELECT omen_index_check('gap_k', true, true);
SELECT * FROM omen_check_all(true) WHERE fault IS NOT NULL;
REINDEX INDEX gap_k;
SELECT omen_index_check('gap_k', true, true);
-- An entry without a row, then with another row in its place.
SELECT ready('gap_k', false);
DELETE FROM gap WHERE k = 5;
VACUUM gap;
SELECT ready('gap_k', true);
SELECT omen_index_check('gap_k', full => true);
SELECT omen_index_check('gap_k', true);
SELECT ready('gap_k', false);
INSERT INTO gap VALUES (12);
SELECT ctid FROM gap WHERE k = 12;
SELECT ready('gap_k', true);
SELECT omen_index_check('gap_k', true, true);
-- An entry beyond the end of the table.
SELECT ready('gap_k', false);
DELETE FROM gap;
VACUUM gap;
SELECT ready('gap_k', true);
SELECT omen_index_check('gap_k', true);
DROP TABLE gap;

-- What is not to be checked.
CREATE INDEX t_btree ON t (id);
SELECT omen_index_check('t_btree');
SELECT omen_index_check('t');
SELECT omen_index_check(0);
SELECT omen_index_check(NULL);
CREATE TABLE parts (k int) PARTITION BY RANGE (k);
CREATE INDEX parts_k ON parts USING omen (k);
SELECT omen_index_check('parts_k');
-- Nobody but a superuser, unless granted; functions of an index then run as
-- the owner of the table.
CREATE FUNCTION spy(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'check_owner' THEN RAISE NOTICE 'run as %', current_user; END IF;
    RETURN $1;
END $$;
CREATE ROLE check_owner;
CREATE ROLE check_guest;
GRANT ALL ON SCHEMA check_test TO check_owner, check_guest;
CREATE TABLE spied AS SELECT 1 AS k;
ALTER TABLE spied OWNER TO check_owner;
SET ROLE check_owner;
CREATE INDEX spied_k ON spied USING omen (check_test.spy(k));
RESET ROLE;
SELECT omen_index_check('spied_k', true, true);
SET ROLE check_guest;
SELECT omen_index_check('spied_k', true);
SELECT * FROM omen_check_all();
RESET ROLE;
SELECT current_user = session_user AS restored;
DROP TABLE spied;
DROP OWNED BY check_owner, check_guest;
DROP ROLE check_owner, check_guest;

\set ECHO none
\i :srcdir/finish.sql
