-- The operator families mirror btree's of the same names.
\getenv srcdir PG_ABS_SRCDIR
\set schema opfamily_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

SELECT f.opfname, count(DISTINCT c.oid) AS classes, count(DISTINCT o.oid) AS operators, count(DISTINCT p.oid) AS functions
FROM pg_opfamily f JOIN pg_am am ON am.oid = f.opfmethod AND am.amname = 'omen'
    JOIN pg_opclass c ON c.opcfamily = f.oid JOIN pg_amop o ON o.amopfamily = f.oid JOIN pg_amproc p ON p.amprocfamily = f.oid
GROUP BY 1 ORDER BY 1;

-- Operators and comparison functions that only one of the two has: none.
CREATE VIEW member AS
SELECT am.amname, f.opfname, amoplefttype AS "left", amoprighttype AS "right", amopstrategy AS number, amopopr::regoperator::text AS object, amoppurpose::text AS purpose
FROM pg_amop JOIN pg_opfamily f ON f.oid = amopfamily JOIN pg_am am ON am.oid = f.opfmethod
UNION ALL
SELECT am.amname, f.opfname, amproclefttype, amprocrighttype, amprocnum, amproc::regprocedure::text, 'f'
FROM pg_amproc JOIN pg_opfamily f ON f.oid = amprocfamily JOIN pg_am am ON am.oid = f.opfmethod WHERE amprocnum = 1;
SELECT coalesce(o.opfname, b.opfname) AS family, coalesce(o.object, b.object) AS object, o.object IS NULL AS missing
FROM (SELECT * FROM member WHERE amname = 'omen') o
    FULL JOIN (SELECT * FROM member WHERE amname = 'btree' AND opfname IN
        (SELECT opfname FROM pg_opfamily f JOIN pg_am am ON am.oid = f.opfmethod WHERE am.amname = 'omen')) b
    USING (opfname, "left", "right", number, object, purpose)
WHERE o.object IS NULL OR b.object IS NULL ORDER BY 1, 2;

-- Classes: names, types and defaults are btree's.
SELECT o.opcname, o.opcintype::regtype, o.opcdefault, o.opckeytype = 0 AS "stores the type itself",
    EXISTS (SELECT FROM pg_opclass b WHERE b.opcmethod = 403 AND b.opcintype = o.opcintype AND b.opcname = o.opcname AND b.opcdefault = o.opcdefault) AS "as btree"
FROM pg_opclass o JOIN pg_am am ON am.oid = o.opcmethod AND am.amname = 'omen' ORDER BY 2::text;

SELECT bool_and(amvalidate(c.oid)) AS valid FROM pg_opclass c JOIN pg_am am ON am.oid = c.opcmethod AND am.amname = 'omen';

-- What the access method says of itself.
SELECT name, pg_indexam_has_property(am.oid, name) FROM pg_am am,
    unnest('{can_order,can_unique,can_multi_col,can_exclude,can_include}'::text[]) AS name WHERE amname = 'omen' ORDER BY 1;
CREATE TABLE t (k int4);
CREATE INDEX t_k ON t USING omen (k DESC);
SELECT name, pg_index_has_property('t_k'::regclass, name) FROM
    unnest('{clusterable,index_scan,bitmap_scan,backward_scan}'::text[]) AS name ORDER BY 1;
SELECT name, pg_index_column_has_property('t_k'::regclass, 1, name) FROM
    unnest('{asc,desc,nulls_first,nulls_last,orderable,distance_orderable,returnable,search_array,search_nulls}'::text[]) AS name ORDER BY 1;

-- Operator classes that omen cannot serve are reported by amvalidate, and do
-- not give wrong answers.
CREATE OPERATOR CLASS lacking FOR TYPE int4 USING omen AS OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int4, int4);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'lacking';
CREATE OPERATOR CLASS texts FOR TYPE text USING omen AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 bttextcmp(text, text);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'texts';
CREATE FUNCTION backward(int4, int4) RETURNS int4 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR CLASS reversed FOR TYPE int4 USING omen AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backward(int4, int4);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'reversed';
INSERT INTO t SELECT generate_series(1, 1000);
CREATE TABLE words AS SELECT md5(g::text) AS word FROM generate_series(1, 1000) g;
\set VERBOSITY sqlstate
CREATE INDEX words_word ON words USING omen (word texts);
CREATE INDEX t_reversed ON t USING omen (k reversed);
\set VERBOSITY default
CREATE INDEX t_lacking ON t USING omen (k lacking);
DROP INDEX t_k;
SET enable_seqscan = off;
SELECT count(*), min(k), max(k) FROM t WHERE k < 10;
SELECT count(*), min(k), max(k) FROM t WHERE k > 990;
SELECT count(*) FROM words WHERE word > 'f';

\set ECHO none
\i :srcdir/finish.sql
