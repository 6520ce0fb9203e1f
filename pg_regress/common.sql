-- Included by every test: a schema of its own, settings that make plans
-- repeatable, and functions that put the same question to different kinds of
-- plan.
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS :schema;
RESET client_min_messages;
SET search_path = :schema, public;
SET max_parallel_workers_per_gather = 0;
SET jit = off;

-- The answer of a query under one kind of plan: seq, index, index only or
-- bitmap. Without ORDER BY the rows are sorted by their text. `plan` is the
-- kind of scan that was really taken, and whether it has an index condition.
CREATE OR REPLACE FUNCTION answer(query text, kind text, OUT answer text[], OUT plan text)
LANGUAGE plpgsql
SET enable_seqscan = on SET enable_indexscan = off
SET enable_indexonlyscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    line text;
BEGIN
    IF kind <> 'seq' THEN
        SET LOCAL enable_seqscan = off;
    END IF;
    IF kind = 'bitmap' THEN
        SET LOCAL enable_bitmapscan = on;
    ELSIF kind <> 'seq' THEN
        SET LOCAL enable_indexscan = on;
    END IF;
    IF kind = 'index only' THEN
        SET LOCAL enable_indexonlyscan = on;
    END IF;
    plan := '';
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := plan || CASE
            WHEN line LIKE '%Seq Scan%' THEN 'seq '
            WHEN line LIKE '%Bitmap Index Scan%' THEN 'bitmap '
            WHEN line LIKE '%Index Only Scan%' THEN 'index only '
            WHEN line LIKE '%Index Scan%' THEN 'index '
            WHEN line LIKE '%Index Cond:%' THEN 'cond '
            ELSE '' END;
    END LOOP;
    IF query ILIKE '%order by%' THEN
        EXECUTE 'SELECT array_agg(row::text) FROM (' || query || ') AS row' INTO answer;
    ELSE
        EXECUTE 'SELECT array_agg(row::text ORDER BY row::text) FROM (' || query || ') AS row' INTO answer;
    END IF;
    answer := COALESCE(answer, '{}');
END
$$;

-- The plan of a query, without what only some versions of PostgreSQL show.
CREATE OR REPLACE FUNCTION plan(query text) RETURNS TABLE ("QUERY PLAN" text)
LANGUAGE plpgsql AS $$
BEGIN
    FOR "QUERY PLAN" IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        CONTINUE WHEN "QUERY PLAN" ~ '^ *Disabled: true$';
        "QUERY PLAN" := regexp_replace("QUERY PLAN", '^( *InitPlan \d+) \(returns .*\)$', '\1');
        RETURN NEXT;
    END LOOP;
END
$$;

-- How the index answers a query, compared with the sequential scan. A kind of
-- plan that the planner cannot use for the query is shown as a dash.
CREATE OR REPLACE FUNCTION agree(query text, OUT rows int, OUT "index" text,
                                 OUT "index only" text, OUT bitmap text)
LANGUAGE plpgsql AS $$
DECLARE
    wanted text[] := (answer(query, 'seq')).answer;
    kind text;
    got record;
    verdict text;
BEGIN
    rows := cardinality(wanted);
    FOREACH kind IN ARRAY '{index,index only,bitmap}'::text[] LOOP
        SELECT * INTO got FROM answer(query, kind);
        verdict := CASE
            WHEN got.plan NOT LIKE '%' || kind || ' %' OR
                 (kind = 'index' AND got.plan LIKE '%index only %') THEN '-'
            WHEN got.answer = wanted THEN 'same'
            ELSE format('DIFFERS: %s rows instead of %s', cardinality(got.answer), rows) END;
        IF kind = 'index' THEN "index" := verdict;
        ELSIF kind = 'index only' THEN "index only" := verdict;
        ELSE bitmap := verdict;
        END IF;
    END LOOP;
END
$$;

-- Puts many conditions on the column k of a table to the index, as index, as
-- index-only and as bitmap scan. `unindexed` counts answers that did not come
-- through an index condition, `wrong` those that differ from the sequential
-- scan's; one of the latter is shown.
CREATE OR REPLACE FUNCTION agree_on(tab regclass, conditions text[], OUT asked int,
                                    OUT rows bigint, OUT unindexed int, OUT wrong int,
                                    OUT example text)
LANGUAGE plpgsql AS $$
DECLARE
    condition text;
    kind text;
    query text;
    wanted text[];
    got record;
BEGIN
    asked := cardinality(conditions);
    rows := 0;
    unindexed := 0;
    wrong := 0;
    FOREACH condition IN ARRAY conditions LOOP
        query := format('SELECT k::text FROM %s WHERE %s', tab, condition);
        wanted := (answer(query, 'seq')).answer;
        rows := rows + cardinality(wanted);
        FOREACH kind IN ARRAY '{index,index only,bitmap}'::text[] LOOP
            SELECT * INTO got FROM answer(query, kind);
            IF got.plan NOT LIKE '%' || kind || ' cond %' THEN
                unindexed := unindexed + 1;
                example := COALESCE(example, condition || ': ' || kind || ' scan not taken: ' || got.plan);
            END IF;
            IF got.answer <> wanted THEN
                wrong := wrong + 1;
                example := format('%s: %s of %s rows by %s scan', condition,
                                  cardinality(got.answer), cardinality(wanted), kind);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
