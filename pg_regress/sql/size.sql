-- Bytes per entry, and omen beside btree.
\getenv srcdir PG_ABS_SRCDIR
\set schema size_test
\set ECHO none
\i :srcdir/common.sql
\set ECHO all

-- Builds both on rows of a kind of data; the bound is in bytes per entry.
CREATE FUNCTION measure(formula text, place text, n int4, bound float8, OUT "in bound" boolean, OUT "smaller than btree" boolean)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TEMPORARY TABLE m AS SELECT %s AS k FROM generate_series(1, %s) g ORDER BY %s', formula, n, place);
    CREATE INDEX m_omen ON m USING omen (k);
    CREATE INDEX m_btree ON m USING btree (k);
    "in bound" := pg_relation_size('m_omen') <= bound * n;
    "smaller than btree" := pg_relation_size('m_omen') < pg_relation_size('m_btree');
    PERFORM public.omen_index_check('m_omen', true, true);
    DROP TABLE m;
END
$$;
SELECT kind, bound, got.* FROM (VALUES
    (1, 'serial', 'g::int8', 'g', 0.7),
    (2, 'timestamps, 5 % late', $$timestamp '2026-01-01' + (g + CASE WHEN hashint4(g) % 20 = 0 THEN -(abs(hashint4(g * 3)) % 5000) ELSE hashint4(g) % 3 / 3.0 END) * interval '1 ms'$$, 'g', 4.7),
    (3, 'dense ids, shuffled', 'g::int8', 'hashint4(g)', 3.8),
    (4, 'random 63-bit, shuffled', 'hashint8extended(g, 0) & 9223372036854775807', 'g', 10.0),
    (5, '1000 values, shuffled', '(hashint4(g) & 65535) % 1000::int8', 'g', 2.4),
    (6, 'one value', '1::int8', 'g', 0.5),
    (7, 'NULL', 'NULL::int8', 'g', 0.5)) AS v (i, kind, formula, place, bound),
    measure(formula, place, 200000, bound) AS got ORDER BY i;
-- No type and no distribution for which it is larger than btree.
SELECT type, bool_and("smaller than btree") AS "smaller than btree" FROM (VALUES
    ('int2', 'g % 30000', 'hashint4(g) % 30000'), ('int4', 'g', 'hashint4(g)'), ('int8', 'g * 1000', 'hashint8extended(g, 0)'),
    ('oid', 'g', 'abs(hashint4(g)::int8)'), ('date', $$date '2000-01-01' + g$$, $$date '2000-01-01' + hashint4(g) % 1000000$$),
    ('time', $$time '00:00' + g * interval '0.3 s'$$, $$time '00:00' + hashint4(g) * interval '1 us'$$),
    ('timestamp', $$timestamp '2000-01-01' + g * interval '1 s'$$, $$timestamp '2000-01-01' + hashint8extended(g, 0) % 100000000000000000 * interval '1 us'$$),
    ('timestamptz', $$timestamptz '2000-01-01' + g * interval '1 s'$$, $$timestamptz '2000-01-01' + hashint8extended(g, 0) % 100000000000000000 * interval '1 us'$$),
    ('float4', 'g / 7.0', 'hashint4(g) / 7.0'), ('float8', 'g / 7.0::float8', 'sqrt(abs(hashint8extended(g, 0)::float8))'),
    ('uuid', 'lpad(to_hex(g), 32, ''0'')', 'md5(g::text)')) AS v (type, regular, irregular),
    unnest(ARRAY[regular, irregular]) AS formula,
    measure(format('(%s)::%s', formula, type), 'g', 60000, 30) AS got GROUP BY type ORDER BY type;
-- Also after it was filled row by row, in order and not.
CREATE FUNCTION filled(formula text, OUT "smaller than btree" boolean) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMPORARY TABLE m (k int8);
    CREATE INDEX m_omen ON m USING omen (k);
    CREATE INDEX m_btree ON m USING btree (k);
    EXECUTE format('INSERT INTO m SELECT %s FROM generate_series(1, 50000) g', formula);
    "smaller than btree" := pg_relation_size('m_omen') < pg_relation_size('m_btree');
    PERFORM public.omen_index_check('m_omen', true, true);
    DROP TABLE m;
END
$$;
SELECT formula, got.* FROM unnest('{g,-g,hashint8extended(g\, 0),g % 10,hashint4(g) % 1000}'::text[]) formula, filled(formula) AS got ORDER BY formula;
