-- The asking side of the differential test. In a query `%C` is the key column:
-- `k` has the omen index, its twin `kb` the btree index. All of these functions
-- are to be called in REPEATABLE READ transactions: every plan of a query then
-- reads by the same snapshot, whatever other sessions do meanwhile.
-- `seen` is what was asked, as words to be counted: asked:WAY, meant:WAY if the
-- plan was the one that the way stands for, and the nodes of omen's plans.
CREATE EXTENSION IF NOT EXISTS omendb_index;

CREATE OR REPLACE FUNCTION force(way text, method text) RETURNS void LANGUAGE sql AS $$
	SELECT set_config('enable_seqscan', (way IN ('neither', 'free'))::text, true),
		set_config('enable_indexscan', (way IN ('btree', 'index', 'index_only', 'free'))::text, true),
		set_config('enable_indexonlyscan', (way IN ('index_only', 'free'))::text, true),
		set_config('enable_bitmapscan', (way IN ('bitmap', 'btree_bitmap', 'free'))::text, true),
		set_config('enable_hashjoin', (method = 'any')::text, true),
		set_config('enable_hashagg', (method = 'any')::text, true),
		set_config('enable_nestloop', (method IN ('any', 'nestloop'))::text, true),
		set_config('enable_mergejoin', (method IN ('any', 'mergejoin'))::text, true),
		set_config('enable_sort', (method NOT IN ('mergejoin', 'ordered'))::text, true),
		-- A merge join over equal keys then goes back to a mark in the index scan.
		set_config('enable_material', (method <> 'mergejoin')::text, true)
$$;

-- A query for one way of asking it.
CREATE OR REPLACE FUNCTION column_for(query text, way text) RETURNS text LANGUAGE sql AS $$
	SELECT replace(query, '%C', CASE WHEN way LIKE 'btree%' THEN 'kb' ELSE 'k' END)
$$;

-- What the plan of a statement is made of, as words.
CREATE OR REPLACE FUNCTION plan_words(statement text, way text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
	words text := 'asked:' || way;
	meant text := CASE way
		WHEN 'neither' THEN 'Seq Scan'
		WHEN 'btree' THEN 'Index Scan (Backward )?using btree_'
		WHEN 'btree_bitmap' THEN 'Bitmap Index Scan on btree_'
		WHEN 'index' THEN 'Index Scan (Backward )?using omen_'
		WHEN 'index_only' THEN 'Index Only Scan (Backward )?using omen_'
		WHEN 'bitmap' THEN 'Bitmap Index Scan on omen_'
		WHEN 'free' THEN '.' END;
	node record;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
		plan := plan || line || E'\n';
	END LOOP;
	IF plan ~ meant THEN
		words := words || ' meant:' || way;
	END IF;
	IF plan ~ 'omen_' THEN
		FOR node IN SELECT * FROM (VALUES ('forward', 'Index Scan using omen_'), ('backward', 'Index Scan Backward using omen_'),
			('only_forward', 'Index Only Scan using omen_'), ('only_backward', 'Index Only Scan Backward using omen_'),
			('bitmap', 'Bitmap Index Scan on omen_'), ('array', 'Index Cond:[^\n]* ANY '),
			('merge_join', 'Merge (Full |Left |Right |Semi |Anti )?Join'), ('nested_loop', 'Nested Loop'),
			('semi_or_anti', '(Semi|Anti) Join'), ('merge_append', 'Merge Append'), ('incremental_sort', 'Incremental Sort'),
			('window', 'WindowAgg'), ('grouped', 'Group'), ('limit', 'Limit'), ('unique', 'Unique'), ('min_max', 'InitPlan'),
			('modify', '(Update|Delete|Merge|Insert) on'))
			AS v (word, pattern) WHERE plan ~ pattern
		LOOP
			words := words || ' omen:' || node.word;
		END LOOP;
	END IF;
	RETURN words;
END
$$;

-- The first place where two answers differ.
CREATE OR REPLACE FUNCTION difference(got text[], wanted text[]) RETURNS text LANGUAGE sql AS $$
	SELECT concat(coalesce(cardinality(got), 0), ' rows instead of ', coalesce(cardinality(wanted), 0), ', first difference ',
		(SELECT concat(i, ': ', left(got[i], 200), ' instead of ', left(wanted[i], 200))
			FROM generate_series(1, greatest(cardinality(got), cardinality(wanted))) i
			WHERE got[i] IS DISTINCT FROM wanted[i] LIMIT 1))
$$;

-- Asks a query in each way: without an index, by btree, by omen. `ordered`: the
-- column `shown` has to come in the same order, and in all cases the rows have to
-- be the same, unless only `shown` is there. `args`: the query is prepared, with
-- parameters of these types and values, and gets a generic plan.
CREATE OR REPLACE FUNCTION compare(query text, method text, ordered boolean, types text DEFAULT '', args text DEFAULT '',
	OUT seen text, OUT problem text)
LANGUAGE plpgsql AS $$
DECLARE
	wanted text[];
	wanted_order text[];
	got text[];
	got_order text[];
	way text;
	statement text;
	call text;
BEGIN
	-- Else, from version 16 on, one aggregate's order would be the other's too.
	PERFORM set_config(name, 'off', true) FROM pg_settings WHERE name = 'enable_presorted_aggregate';
	PERFORM set_config('plan_cache_mode', CASE args WHEN '' THEN 'auto' ELSE 'force_generic_plan' END, true);
	FOREACH way IN ARRAY '{neither,btree,index,index_only,bitmap,btree_bitmap,free}'::text[] LOOP
		-- A bitmap has no order: it cannot help a merge join.
		PERFORM force(way, CASE WHEN way = 'neither' OR way ~ 'bitmap' AND method = 'mergejoin' THEN 'any' ELSE method END);
		statement := format('SELECT array_agg(r::text ORDER BY r::text), %s FROM (%s) r',
			CASE WHEN ordered THEN 'array_agg(r.shown)' ELSE 'NULL::text[]' END, column_for(query, way));
		call := statement;
		IF args <> '' THEN
			EXECUTE format('PREPARE asked (%s) AS %s', types, statement);
			call := format('EXECUTE asked (%s)', args);
		END IF;
		seen := concat_ws(' ', seen, plan_words(call, way), CASE WHEN args <> '' THEN 'omen:prepared' END);
		EXECUTE call INTO got, got_order;
		IF args <> '' THEN
			DEALLOCATE asked;
		END IF;
		IF way = 'neither' THEN
			wanted := got;
			wanted_order := got_order;
		ELSIF got IS DISTINCT FROM wanted AND NOT (way LIKE 'btree%' AND query ~ 'timestamp|date') THEN
			-- btree itself is wrong near transitions of the time zone.
			problem := concat(problem, E'\nPROBLEM ', way, ': ', difference(got, wanted), E'\n', query);
		ELSIF got_order IS DISTINCT FROM wanted_order AND got = wanted THEN
			problem := concat(problem, E'\nPROBLEM ', way, ' has another order: ', difference(got_order, wanted_order), E'\n', query);
		END IF;
	END LOOP;
	PERFORM force('free', 'any');
END
$$;

-- Runs a statement that changes t in each way, and undoes it; then runs it for
-- good. The table has to look the same afterwards.
CREATE OR REPLACE FUNCTION compare_change(change text, method text, OUT seen text, OUT problem text)
LANGUAGE plpgsql AS $$
DECLARE
	wanted text;
	got text;
	way text;
	digest text := 'SELECT concat(count(*), ''/'', sum(hashtextextended(concat_ws('','', id, k, kb, v), 0))) FROM t';
BEGIN
	FOREACH way IN ARRAY '{neither,btree,bitmap,index}'::text[] LOOP
		PERFORM force(way, CASE way WHEN 'neither' THEN 'any' ELSE method END);
		seen := concat_ws(' ', seen, plan_words(column_for(change, way), way));
		BEGIN
			EXECUTE column_for(change, way);
			PERFORM force('neither', 'any');
			EXECUTE digest INTO got;
			RAISE SQLSTATE 'OM001';
		EXCEPTION WHEN SQLSTATE 'OM001' THEN
			IF way = 'neither' THEN
				wanted := got;
			ELSIF got <> wanted AND NOT (way LIKE 'btree%' AND change ~ 'timestamp|date') THEN
				problem := concat(problem, E'\nPROBLEM change by ', way, ': rows/digest ', got, ' instead of ', wanted, E'\n', change);
			END IF;
		END;
	END LOOP;
	PERFORM force('free', method);
	EXECUTE column_for(change, 'free');
	PERFORM force('neither', 'any');
	EXECUTE digest INTO got;
	IF got <> wanted THEN
		problem := concat(problem, E'\nPROBLEM change that stays: rows/digest ', got, ' instead of ', wanted, E'\n', change);
	END IF;
	PERFORM force('free', 'any');
END
$$;

-- Moves a cursor on an ordered query as it moves one on the sorted rows of a
-- sequential scan, with a change half way that it must not see. Equal keys may
-- come in any order, but a cursor that comes back finds the same row.
CREATE OR REPLACE FUNCTION walk(query text, moves text[], change text, OUT seen text, OUT problem text)
LANGUAGE plpgsql AS $$
DECLARE
	way text;
	statement text;
	step int4;
	r record;
	got text[];
	ids int8[];
	wanted text[];
	places int4[];
	known int8[];
	by_omen boolean;
BEGIN
	PERFORM force('neither', 'any');
	EXECUTE format('DECLARE truth SCROLL CURSOR FOR SELECT r.*, (row_number() OVER ())::int4 AS place FROM (%s) r', column_for(query, 'neither'));
	FOREACH way IN ARRAY '{btree,index_only,index}'::text[] LOOP
		PERFORM force(way, 'ordered');
		statement := column_for(query, way);
		-- Only the key can come from an index alone.
		IF way = 'index_only' THEN
			statement := replace(statement, 'AS shown, id', 'AS shown, NULL::int8 AS id');
		END IF;
		seen := concat_ws(' ', seen, plan_words(statement, way), 'omen:cursor');
		by_omen := plan_words(statement, way) ~ 'meant:';
		EXECUTE 'DECLARE asked SCROLL CURSOR FOR ' || statement;
		EXECUTE 'MOVE ABSOLUTE 0 FROM truth';
		known := '{}';
		FOR step IN 1 .. cardinality(moves) LOOP
			IF step = cardinality(moves) / 2 + 1 AND change <> '' AND way = 'index' THEN
				EXECUTE change;
			END IF;
			IF moves[step] LIKE 'MOVE %' THEN
				EXECUTE moves[step] || ' FROM asked';
				EXECUTE moves[step] || ' FROM truth';
				CONTINUE;
			END IF;
			got := '{}';
			ids := '{}';
			FOR r IN EXECUTE format('FETCH %s FROM asked', moves[step]) LOOP
				got := got || r.shown;
				ids := ids || r.id;
			END LOOP;
			wanted := '{}';
			places := '{}';
			FOR r IN EXECUTE format('FETCH %s FROM truth', moves[step]) LOOP
				wanted := wanted || r.shown;
				places := places || r.place;
			END LOOP;
			IF got <> wanted AND NOT (way = 'btree' AND query ~ 'timestamp|date') THEN
				problem := concat(problem, E'\nPROBLEM cursor by ', way, ', step ', step, ', ', moves[step], ': ',
					difference(got, wanted), E'\n', query);
				EXIT;
			END IF;
			-- btree returns rows of one key in another order when it goes backwards.
			CONTINUE WHEN way <> 'index' OR NOT by_omen;
			FOR i IN 1 .. cardinality(got) LOOP
				IF known[places[i]] <> ids[i] THEN
					problem := concat(problem, E'\nPROBLEM cursor by ', way, ', step ', step, ', ', moves[step], ': at place ', places[i],
						' now row ', ids[i], ', before row ', known[places[i]], E'\n', query);
				END IF;
				known[places[i]] := ids[i];
			END LOOP;
		END LOOP;
		IF (SELECT count(*) <> count(DISTINCT id) FROM unnest(known) id WHERE id IS NOT NULL) THEN
			problem := concat(problem, E'\nPROBLEM cursor by ', way, ': a row in two places', E'\n', query);
		END IF;
		EXECUTE 'CLOSE asked';
	END LOOP;
	EXECUTE 'CLOSE truth';
	PERFORM force('free', 'any');
END
$$;
