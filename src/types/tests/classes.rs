//! Operator families, and classes that are refused.

// pgrx wants an inline module of this name.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    #[pg_test]
    fn families_are_those_of_btree() {
        let members = |catalog: &str, prefix: &str, extra: &str| {
            let side = |am: &str| {
                format!(
                    "SELECT f.opfname, m.{prefix}lefttype, m.{prefix}righttype, {extra}
                     FROM pg_catalog.{catalog} m JOIN pg_catalog.pg_opfamily f ON f.oid = m.{prefix}family
                     JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
                     WHERE a.amname = '{am}' AND f.opfname IN ('integer_ops', 'datetime_ops',
                         'float_ops', 'oid_ops', 'time_ops', 'uuid_ops')"
                )
            };
            let btree = format!(
                "{} {}",
                side("btree"),
                if prefix == "amproc" {
                    "AND amprocnum = 1"
                } else {
                    ""
                }
            );
            let omen = side("omen");
            format!(
                "SELECT count(*) FROM (({btree} EXCEPT {omen}) UNION ALL ({omen} EXCEPT {btree})) d"
            )
        };
        let operators = members(
            "pg_amop",
            "amop",
            "amopstrategy::int, amopopr::oid, amoppurpose::text",
        );
        assert_eq!(Spi::get_one::<i64>(&operators), Ok(Some(0)));
        let functions = members(
            "pg_amproc",
            "amproc",
            "amprocnum::int, amproc::oid, ''::text",
        );
        assert_eq!(Spi::get_one::<i64>(&functions), Ok(Some(0)));
        let defaults = "SELECT count(*) FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_am a
             ON a.oid = opcmethod WHERE amname = 'omen' AND opcdefault";
        assert_eq!(Spi::get_one::<i64>(defaults), Ok(Some(11)));
    }

    fn valid(class: &str) -> Option<bool> {
        Spi::get_one(&format!(
            "SELECT bool_and(pg_catalog.amvalidate(c.oid)) FROM pg_catalog.pg_opclass c
             JOIN pg_catalog.pg_am a ON a.oid = opcmethod
             WHERE amname = 'omen' AND opcname LIKE '{class}'"
        ))
        .unwrap()
    }

    #[pg_test]
    fn validation_accepts_the_own_classes() {
        assert_eq!(valid("%"), Some(true));
    }

    #[pg_test]
    fn validation_rejects_classes_that_do_not_sort_as_btree() {
        Spi::run(
            "CREATE OPERATOR CLASS reversed_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <,
                 FUNCTION 1 btint4cmp(int4, int4);
             CREATE OPERATOR CLASS partial_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int4, int4);
             CREATE OPERATOR CLASS text_like_ops FOR TYPE text USING omen AS
                 OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
                 FUNCTION 1 bttextcmp(text, text);
             CREATE FUNCTION own_compare(int4, int4) RETURNS int4 IMMUTABLE STRICT LANGUAGE sql
                 AS 'SELECT btint4cmp($2, $1)';
             CREATE OPERATOR CLASS own_compare_ops FOR TYPE int4 USING omen AS
                 OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
                 FUNCTION 1 own_compare(int4, int4);",
        )
        .unwrap();
        for class in [
            "reversed_ops",
            "partial_ops",
            "text_like_ops",
            "own_compare_ops",
        ] {
            assert_eq!(valid(class), Some(false), "{class}");
        }
    }
}
