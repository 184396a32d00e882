//! The SQL of the outbox: its tables, and the triggers that fill it.

use fides_core::{Fault, Include, Selection};

use crate::query::{joined, list, quoted, table_name};

/// Raises the sequence without a row.
pub(super) const RAISE: &str = "UPDATE main.sqlite_sequence \
    SET seq = max(seq, coalesce((SELECT max(sequence) FROM main._fides_outbox), 0)) + 1 WHERE name = '_fides_outbox'";

/// A row that tells of no record: the sequence has an end that a place can name.
pub(super) const TICK: &str = "INSERT INTO main._fides_outbox (watched) VALUES (NULL) RETURNING sequence, nonce";

/// The tables. An outbox that is made anew begins at the clock, 10,000 rows for each second: positions of the one before
/// it are lower.
pub(super) const TABLES: [&str; 6] = [
    "CREATE TABLE main._fides_outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, \
     nonce INTEGER NOT NULL DEFAULT (random() & 65535), watched INTEGER)",
    "CREATE TABLE main._fides_outbox_watched (id INTEGER PRIMARY KEY, name TEXT NOT NULL, columns TEXT NOT NULL, \
     since INTEGER NOT NULL, UNIQUE (name, columns))",
    "CREATE TABLE main._fides_outbox_readers (name TEXT PRIMARY KEY NOT NULL, sequence INTEGER) WITHOUT ROWID",
    "CREATE TABLE main._fides_outbox_meta (id TEXT NOT NULL)",
    "INSERT INTO main._fides_outbox_meta (id) VALUES (lower(hex(randomblob(16))))",
    "INSERT INTO main._fides_outbox (sequence) VALUES (unixepoch() * 10000)",
];

/// Columns of a table whose values a change tells, those before it and those after it: a root's key, or what an included
/// table is joined on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
}

/// A set of columns by which a write with `OR REPLACE` may delete another row without a word.
pub(super) struct Unique {
    /// Name and collation.
    pub(super) columns: Vec<(String, String)>,
}

/// A trigger, and the text that SQLite keeps of it.
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) sql: String,
}

impl Watch {
    /// What a selection needs, its root first.
    pub(super) fn all(selection: &Selection) -> Result<Vec<Watch>, Fault> {
        fn add(includes: &[Include], all: &mut Vec<Watch>) -> Result<(), Fault> {
            for include in includes {
                all.push(Watch::of(include)?);
                add(&include.includes, all)?;
            }
            Ok(())
        }
        let root = Watch { table: table_name(&selection.namespace)?.to_owned(), columns: selection.key.clone() };
        let mut all = vec![root];
        add(&selection.includes, &mut all)?;
        Ok(all)
    }

    /// What an included table needs.
    pub(super) fn of(include: &Include) -> Result<Watch, Fault> {
        let columns = include.on.iter().map(|(own, _)| own.clone()).collect();
        Ok(Watch { table: table_name(&include.namespace)?.to_owned(), columns })
    }

    /// The columns as they are kept.
    pub(super) fn stored_columns(&self) -> String {
        serde_json::Value::from(self.columns.clone()).to_string()
    }

    /// How people are told.
    pub(super) fn shown(&self) -> String {
        format!("{} ({})", self.table, self.columns.join(", "))
    }

    /// What tells of every change. Key columns are compared by code point: in the eyes of a collation, a key that is
    /// written in another case is the same.
    pub(super) fn triggers(&self, id: i64) -> [Trigger; 3] {
        let moved = self.columns.iter().map(|column| {
            let column = quoted(column);
            format!("OLD.{column} IS NOT NEW.{column} COLLATE BINARY")
        });
        let old = format!("{} SELECT {id}, {} WHERE {};", self.insert(), self.values("OLD"), joined(moved, " OR "));
        let one = |row: &str| format!("{} VALUES ({id}, {});", self.insert(), self.values(row));
        [
            self.trigger(id, "insert", "AFTER INSERT", &one("NEW")),
            self.trigger(id, "update", "AFTER UPDATE", &format!("{old} {}", one("NEW"))),
            self.trigger(id, "delete", "AFTER DELETE", &one("OLD")),
        ]
    }

    /// What tells of rows that `OR REPLACE` deletes: SQLite fires no trigger for them, unless `recursive_triggers` is on.
    /// What only might be deleted is told, too: its present record is read anyway. Empty where no row can be hit that the
    /// written one does not name itself.
    pub(super) fn guards(&self, id: i64, uniques: &[Unique]) -> Vec<Trigger> {
        let (mut inserting, mut updating) = (Vec::new(), Vec::new());
        for unique in uniques.iter().filter(|unique| !unique.names(&self.columns)) {
            let hit = unique
                .columns
                .iter()
                .map(|(column, collation)| format!("o.{0} = NEW.{0} COLLATE {1}", quoted(column), quoted(collation)));
            let changed = unique.columns.iter().map(|(column, _)| format!("NEW.{0} IS NOT OLD.{0}", quoted(column)));
            let found = format!(
                "{} SELECT {id}, {} FROM {} AS o WHERE {}",
                self.insert(),
                self.values("o"),
                quoted(&self.table),
                joined(hit, " AND ")
            );
            updating.push(format!("{found} AND ({});", joined(changed, " OR ")));
            inserting.push(format!("{found};"));
        }
        if inserting.is_empty() {
            return Vec::new();
        }
        vec![
            self.trigger(id, "replace_insert", "BEFORE INSERT", &inserting.join(" ")),
            self.trigger(id, "replace_update", "BEFORE UPDATE", &updating.join(" ")),
        ]
    }

    fn trigger(&self, id: i64, event: &str, when: &str, body: &str) -> Trigger {
        let name = format!("_fides_outbox_{id}_{event}");
        let sql = format!("CREATE TRIGGER {} {when} ON {} BEGIN {body} END", quoted(&name), quoted(&self.table));
        Trigger { name, sql }
    }

    fn insert(&self) -> String {
        format!("INSERT INTO _fides_outbox (watched, {})", key_columns(self.columns.len()))
    }

    fn values(&self, row: &str) -> String {
        list(&self.columns, |column| format!("{row}.{}", quoted(column)))
    }
}

impl Unique {
    /// Whether rows that are equal by this are equal in `columns`.
    fn names(&self, columns: &[String]) -> bool {
        let binary = |name: &String| {
            self.columns.iter().any(|(column, collation)| column == name && collation.eq_ignore_ascii_case("BINARY"))
        };
        columns.iter().all(binary)
    }
}

/// `k1, k2, …`: where values are kept, without a type, so that nothing is converted.
pub(super) fn key_columns(count: usize) -> String {
    list(1..=count, |at| format!("k{at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unique(columns: &[(&str, &str)]) -> Unique {
        Unique { columns: columns.iter().map(|(name, collation)| ((*name).into(), (*collation).into())).collect() }
    }

    #[test]
    fn a_guard_is_made_where_another_key_can_be_hit() {
        let watch = Watch { table: "t".into(), columns: vec!["id".into()] };
        assert!(watch.guards(1, &[unique(&[("id", "BINARY")])]).is_empty());
        assert!(watch.guards(1, &[unique(&[("id", "BINARY"), ("x", "NOCASE")])]).is_empty());
        assert_eq!(watch.guards(1, &[unique(&[("id", "NOCASE")])]).len(), 2, "another key in another case");
        let guards = watch.guards(1, &[unique(&[("a\"b", "NOCASE")])]);
        assert_eq!(
            guards[0].sql,
            "CREATE TRIGGER \"_fides_outbox_1_replace_insert\" BEFORE INSERT ON \"t\" BEGIN \
             INSERT INTO _fides_outbox (watched, k1) SELECT 1, o.\"id\" FROM \"t\" AS o \
             WHERE o.\"a\"\"b\" = NEW.\"a\"\"b\" COLLATE \"NOCASE\"; END"
        );
    }
}
