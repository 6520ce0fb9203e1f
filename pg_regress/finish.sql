-- Included at the end of every test: all its omen indexes are sound and agree
-- with their tables. Says nothing if they are.
DO $$
DECLARE
    index regclass;
BEGIN
    FOR index IN
        SELECT c.oid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relnamespace IN (to_regnamespace(current_schema), pg_my_temp_schema())
            AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'omen')
            AND c.relkind = 'i' AND i.indisvalid
    LOOP
        PERFORM public.omen_index_check(index, true, true);
    END LOOP;
    IF NOT FOUND THEN
        RAISE 'the test has left no index to check';
    END IF;
END $$;
