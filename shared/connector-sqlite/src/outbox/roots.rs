//! From a row of an included table to the roots that nest it.

use fides_core::{Fault, Include, Key};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Row};

use super::schema::key_columns;
use crate::query::{beside, joined, list, order, quoted, table};
use crate::reading::Reading;

/// The way from an included table to the root: the statement that finds the roots of its changes.
///
/// The values that a row of the outbox has are compared as the include compares them: with the collation and the affinity
/// of the column that they come from, which they get from a query of that column that finds nothing.
pub(super) struct Path {
    /// Which rows of the outbox it is about.
    pub(super) watched: i64,
    with: String,
    from: String,
}

impl Path {
    /// The ways of all includes, in the order in which [`super::schema::Watch::all`] names them; `watched` are their ids in that order.
    pub(super) fn all(reading: &Reading, watched: &[i64]) -> Result<Vec<Path>, Fault> {
        let mut ways = Vec::new();
        let root = Nesting { alias: "r", table: &format!("{} AS r", reading.table), onward: "" };
        add(&reading.selection.includes, &root, &mut ways)?;
        let paths = ways.into_iter().zip(watched).map(|((with, from), &watched)| Path { watched, with, from });
        Ok(paths.collect())
    }

    /// Roots of the changes between two sequences, behind `after` in key order, at most `limit`; each with the last of
    /// those changes.
    pub(super) async fn roots(
        &self,
        connection: &mut SqliteConnection,
        reading: &Reading,
        between: (i64, i64),
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, i64)>, Fault> {
        let mut arguments = SqliteArguments::default();
        for value in [self.watched, between.0, between.1] {
            arguments.add(value).map_err(|error| Fault::permanent(format!("a value could not be bound: {error}")))?;
        }
        let mut condition = String::new();
        if let Some(after) = after {
            condition = format!(" WHERE {}", beside(&reading.key, ">", 3));
            reading.bind_key(&mut arguments, after)?;
        }
        let (with, from, key) = (&self.with, &self.from, order(&reading.key));
        let columns = list(&reading.key, |term| term.column.clone());
        let sql = format!(
            "{with} SELECT max(e.s), {columns} FROM e {from}{condition} GROUP BY {key} ORDER BY {key} LIMIT {limit}"
        );
        let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await;
        let rows = rows.map_err(|error| reading.fault(error))?;
        let root = |row: &sqlx::sqlite::SqliteRow| {
            let last = row.try_get(0).map_err(|error| reading.fault(error))?;
            Ok((reading.key_at(row, 1)?, last))
        };
        rows.iter().map(root).collect()
    }
}

/// A table that nests others: what it is called, and how it is joined to what nests it, up to the root.
struct Nesting<'a> {
    alias: &'a str,
    table: &'a str,
    onward: &'a str,
}

fn add(includes: &[Include], parent: &Nesting<'_>, ways: &mut Vec<(String, String)>) -> Result<(), Fault> {
    let Nesting { alias: of, table: parent_table, onward } = parent;
    for include in includes {
        let own = include.on.iter().zip(1..).map(|((own, _), at)| format!("c.{} AS v{at}", quoted(own)));
        let namespace = table(&include.namespace)?;
        let with = format!(
            "WITH e AS MATERIALIZED (SELECT 0 AS s, {} FROM {namespace} AS c WHERE 0 UNION ALL SELECT sequence, {} \
             FROM main._fides_outbox WHERE watched = ?1 AND sequence > ?2 AND sequence <= ?3)",
            joined(own, ", "),
            key_columns(include.on.len())
        );
        let told = include.on.iter().zip(1..).map(|((_, theirs), at)| format!("e.v{at} = {of}.{}", quoted(theirs)));
        ways.push((with, format!("CROSS JOIN {parent_table} ON {}{onward}", joined(told, " AND "))));
        let alias = format!("p{}", ways.len());
        let pairs = include.on.iter().map(|(own, theirs)| format!("{alias}.{} = {of}.{}", quoted(own), quoted(theirs)));
        let nesting = Nesting {
            alias: &alias,
            table: &format!("{namespace} AS {alias}"),
            onward: &format!(" CROSS JOIN {parent_table} ON {}{onward}", joined(pairs, " AND ")),
        };
        add(&include.includes, &nesting, ways)?;
    }
    Ok(())
}
