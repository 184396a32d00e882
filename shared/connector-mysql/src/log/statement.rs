//! Statements in the log: where a transaction begins and ends, and what changes tables without telling rows.

use super::words::Tokens;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Begin,
    /// A transaction has ended.
    End,
    /// Nothing that matters.
    Nothing,
    /// A prepared transaction is committed, whose rows came when it was prepared.
    CommitsPrepared,
    /// A table of ours is another, or its rows are: defined anew, emptied, dropped, renamed.
    Defines,
    /// Rows were changed by a statement, and which ones it does not tell.
    Untold,
}

/// What a statement that was run in `database` does to the tables of these names; `ours` are pairs of database and table.
/// Where that is not sure, an import too many is asked for, rather than one too few.
pub(super) fn effect<'t>(database: &str, text: &str, ours: impl Iterator<Item = (&'t str, &'t str)>) -> Effect {
    let mut tokens = Tokens::new(text);
    let Some(verb) = verb(&mut tokens) else {
        // It may be of any kind.
        return match defines(database, text, ours) {
            Effect::Nothing => Effect::Untold,
            defines => defines,
        };
    };
    let text = tokens.rest();
    match verb.as_str() {
        "BEGIN" | "START" => Effect::Begin,
        // To a savepoint.
        "ROLLBACK" if tokens.word() == "TO" => Effect::Nothing,
        "COMMIT" | "ROLLBACK" => Effect::End,
        "XA" if tokens.word() == "COMMIT" => Effect::CommitsPrepared,
        // FLUSH ends no transaction, and none of these touches rows.
        "XA" | "SAVEPOINT" | "RELEASE" | "GRANT" | "REVOKE" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "FLUSH"
        | "SET" | "COMMENT" => Effect::Nothing,
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "CALL" | "SELECT" | "DO" => Effect::Untold,
        "CREATE" | "ALTER" | "DROP" => match object(&mut tokens).as_str() {
            "DATABASE" | "SCHEMA" if verb == "DROP" => drops(text, ours),
            what if is_harmless(what) => Effect::Nothing,
            _ => defines(database, text, ours),
        },
        _ => defines(database, text, ours),
    }
}

/// The first word of a statement, or of the one behind `SET STATEMENT … FOR`; `None` where that cannot be found.
fn verb(tokens: &mut Tokens<'_>) -> Option<String> {
    loop {
        let verb = tokens.word();
        let mut behind = tokens.clone();
        if verb != "SET" || behind.word() != "STATEMENT" {
            return Some(verb);
        }
        behind.through("FOR")?;
        *tokens = behind;
    }
}

/// What a CREATE, ALTER or DROP is about.
fn object(tokens: &mut Tokens<'_>) -> String {
    loop {
        let word = tokens.word();
        if !matches!(word.as_str(), "OR" | "REPLACE" | "ONLINE" | "IGNORE" | "OFFLINE") {
            return word;
        }
    }
}

/// Whether what is created, altered or dropped has no rows of a table, and leaves its columns as they are. The server puts
/// ALGORITHM, DEFINER and SQL SECURITY before views and routines only.
fn is_harmless(object: &str) -> bool {
    matches!(
        object,
        "TEMPORARY"
            | "INDEX"
            | "UNIQUE"
            | "FULLTEXT"
            | "SPATIAL"
            | "DATABASE"
            | "SCHEMA"
            | "ALGORITHM"
            | "DEFINER"
            | "SQL"
            | "VIEW"
            | "TRIGGER"
            | "PROCEDURE"
            | "FUNCTION"
            | "AGGREGATE"
            | "PACKAGE"
            | "EVENT"
            | "SEQUENCE"
            | "USER"
            | "ROLE"
            | "SERVER"
            | "TABLESPACE"
            | "LOGFILE"
    )
}

fn defines<'t>(run_in: &str, text: &str, mut ours: impl Iterator<Item = (&'t str, &'t str)>) -> Effect {
    let is_named = ours.any(|(database, table)| {
        names(text, table) && (run_in.eq_ignore_ascii_case(database) || names(text, database))
    });
    if is_named { Effect::Defines } else { Effect::Nothing }
}

fn drops<'t>(text: &str, mut ours: impl Iterator<Item = (&'t str, &'t str)>) -> Effect {
    if ours.any(|(database, _)| names(text, database)) { Effect::Defines } else { Effect::Nothing }
}

/// Whether a name stands in a statement. A name that is none of ASCII may be written in any character set.
fn names(text: &str, name: &str) -> bool {
    if !name.is_ascii() || name.is_empty() {
        return true;
    }
    let (text, name) = (text.to_ascii_lowercase(), name.replace('`', "``").to_ascii_lowercase());
    let is_part = |char: char| char.is_alphanumeric() || matches!(char, '_' | '$');
    let ends = |char: Option<char>| char.is_none_or(|char| !is_part(char));
    let mut found = text.match_indices(&name);
    found.any(|(at, _)| ends(text[..at].chars().next_back()) && ends(text[at + name.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Effect {
        effect("shop", text, [("shop", "orders"), ("shop", "Odd`Name")].into_iter())
    }

    #[test]
    fn a_table_of_the_same_name_elsewhere_is_another() {
        let elsewhere = |text| effect("other", text, [("shop", "orders")].into_iter());
        assert_eq!(elsewhere("TRUNCATE TABLE orders"), Effect::Nothing);
        assert_eq!(elsewhere("TRUNCATE TABLE `shop`.`orders`"), Effect::Defines);
        assert_eq!(elsewhere("DROP DATABASE shop"), Effect::Defines);
    }

    #[test]
    fn what_touches_our_tables_is_noticed() {
        for text in [
            "TRUNCATE TABLE orders",
            "truncate `shop`.`orders`",
            "DROP TABLE IF EXISTS `x`,`orders` /* generated by server */",
            "ALTER TABLE orders ADD COLUMN x int",
            "alter online ignore table shop.orders force",
            "RENAME TABLE orders_new TO orders, orders TO orders_old",
            "CREATE OR REPLACE TABLE orders (id int)",
            "/* who */ -- said\n ALTER TABLE orders FORCE",
            "/*!40000 ALTER TABLE `orders` DISABLE KEYS */",
            "ALTER TABLE `odd``name` FORCE",
            "DROP DATABASE shop",
            "ALTER /* deploy 17 */ TABLE orders DROP PARTITION p0",
            "ALTER/**/TABLE orders FORCE",
            "ALTER -- why\n TABLE orders FORCE",
            "ALTER # why\n TABLE orders FORCE",
            "/*!50000 ALTER */ TABLE orders FORCE",
            "/*M!100300 ALTER */ /* VIEW */ TABLE orders FORCE",
            "ALTER /*!50000 TABLE orders */ FORCE",
            "/* DROP */ DROP /*! TABLES */ orders",
            "CREATE /* OR */ OR /* */ REPLACE TABLE orders (id int)",
            "DROP /* a */ DATABASE /* b */ shop",
            "SET STATEMENT max_statement_time=60 FOR TRUNCATE TABLE orders",
            "set statement max_statement_time=60,sql_mode=' FOR UPDATE' for/**/alter table orders force",
            "SET /* a */ STATEMENT lock_wait_timeout=1 FOR RENAME TABLE orders TO x",
            "SET STATEMENT a=(SELECT 1 FOR UPDATE) FOR DROP TABLE orders",
            "SET STATEMENT a=1 FOR SET STATEMENT b=2 FOR DROP TABLE orders",
            "SET STATEMENT a='it''s FOR CREATE VIEW' FOR DROP TABLE orders",
            // Nobody knows what these are.
            r"SET STATEMENT a='\' FOR DROP TABLE orders",
            "SET STATEMENT a=1 TRUNCATE TABLE orders",
            "ALTER SOMETHING orders",
            "ALTER /* orders",
            "CREATE `orders`",
        ] {
            assert_eq!(of(text), Effect::Defines, "{text}");
        }
    }

    #[test]
    fn what_does_not_is_passed_over() {
        for text in [
            "TRUNCATE TABLE orders_old",
            "ALTER TABLE my_orders FORCE",
            "DROP DATABASE workshop",
            "CREATE INDEX i ON orders (id)",
            "CREATE TEMPORARY TABLE orders (id int)",
            "CREATE VIEW v AS SELECT * FROM orders",
            "ANALYZE TABLE orders",
            "GRANT SELECT ON orders TO x",
            "SAVEPOINT `orders`",
            "ROLLBACK TO `orders`",
            "XA START 'orders'",
            "/* orders */ DROP TABLE x",
            "/* DROP TABLE orders */",
            "-- TRUNCATE TABLE orders",
            "CREATE UNIQUE /* a */ INDEX i ON orders (id)",
            "CREATE OR REPLACE /* a */ USER orders",
            "CREATE DEFINER=`a`@`b` TRIGGER x BEFORE UPDATE ON orders FOR EACH ROW SET NEW.a = 1",
            "CREATE ALGORITHM=UNDEFINED DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW v AS SELECT * FROM orders",
            "DROP TEMPORARY TABLE orders",
            "SET STATEMENT a=1 FOR CREATE INDEX i ON orders (id)",
            "SET STATEMENT a=1 FOR TRUNCATE TABLE x",
            "SET PASSWORD FOR orders = 'x'",
            "",
        ] {
            assert_eq!(of(text), Effect::Nothing, "{text}");
        }
    }

    #[test]
    fn transactions_and_untold_rows_are_known() {
        assert_eq!(of("BEGIN"), Effect::Begin);
        assert_eq!(of("COMMIT"), Effect::End);
        assert_eq!(of("ROLLBACK"), Effect::End);
        assert_eq!(of("XA COMMIT X'61',X'',1"), Effect::CommitsPrepared);
        for text in [
            "INSERT INTO x SELECT 1",
            "update y set a = 1",
            "DELETE FROM `shop`.`heap`",
            "insert(1)",
            "/* a */ UPDATE x SET a = 1",
            "SET STATEMENT max_statement_time=60 FOR UPDATE x SET a = 1",
            "SET STATEMENT a=' FOR ' FOR /* b */ INSERT INTO x VALUES (1)",
            "SET STATEMENT a=1",
            r"SET STATEMENT a='\\' FOR CREATE USER x",
        ] {
            assert_eq!(of(text), Effect::Untold, "{text}");
        }
    }
    proptest! {
        #[test]
        fn every_statement_has_an_effect(text in any::<String>(), parts in proptest::collection::vec(0..20usize, 0..30)) {
            const PARTS: [&str; 20] = [
                "SET ", "STATEMENT ", "FOR ", "ALTER ", "DROP ", "CREATE ", "TABLE ", "orders ", "UPDATE ", "/*", "*/", "/*!", "'",
                "`", "\\", "-- ", "\n", "(", ")", "ä",
            ];
            let made: String = parts.into_iter().map(|part| PARTS[part]).collect();
            of(&text);
            of(&made);
            // Whatever stands in a comment, and whatever a setting is.
            let quoted = text.replace(['\'', '\\'], "");
            prop_assert_eq!(of(&format!("SET STATEMENT a='{quoted}' FOR DROP TABLE orders")), Effect::Defines);
            let comment = text.replace(['*', '!'], "");
            prop_assert_eq!(of(&format!("DROP /* {comment} */ TABLE orders")), Effect::Defines);
        }
    }
}
