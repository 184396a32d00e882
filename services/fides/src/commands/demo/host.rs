//! Lays out the demo's host: a SQLite file from a schema and one TSV file per table.

use std::borrow::Cow;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};

use crate::exit::Exit;
use crate::failure::Failure;

/// The host's file, as the configuration names it.
pub const FILE: &str = "geo-host.sqlite";

const SCHEMA: &str = include_str!("../../../../../examples/quickstart/schema.sql");
/// In the order in which they refer to each other.
const TABLES: [(&str, &str); 4] = [
    ("country", include_str!("../../../../../examples/quickstart/country.tsv")),
    ("timezone", include_str!("../../../../../examples/quickstart/timezone.tsv")),
    ("city", include_str!("../../../../../examples/quickstart/city.tsv")),
    ("city_name", include_str!("../../../../../examples/quickstart/city_name.tsv")),
];
/// Values bound by one statement; SQLite allows 32,766.
const BOUND_MAX: usize = 16_000;

/// Opens the host as its owner does.
pub async fn open(file: &Path) -> Result<SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.map_err(|error| failed("the host", &error))
}

pub fn failed(what: &str, error: &sqlx::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("{what}: {error}"))
}

/// Makes the tables and fills them. Returns the rows of each.
pub async fn lay_out(file: &Path) -> Result<Vec<(&'static str, u64)>, Failure> {
    let mut host = open(file).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut host).await.map_err(|error| failed("schema.sql", &error))?;
    let mut loaded = Vec::new();
    for (table, tsv) in TABLES {
        loaded.push((table, load(&mut host, table, tsv).await.map_err(|error| failed(table, &error))?));
    }
    host.close().await.map_err(|error| failed("the host", &error))?;
    Ok(loaded)
}

async fn load(host: &mut SqliteConnection, table: &str, tsv: &str) -> Result<u64, sqlx::Error> {
    let mut lines = tsv.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let numeric = numeric_columns(host, table, &header).await?;
    let rows: Vec<&str> = lines.collect();
    let mut transaction = host.begin().await?;
    for portion in rows.chunks((BOUND_MAX / header.len()).max(1)) {
        let mut insert: QueryBuilder<Sqlite> =
            QueryBuilder::new(format!("INSERT INTO \"{table}\" ({}) ", header.join(", ")));
        insert.push_values(portion, |mut row, line| {
            for (field, numeric) in line.split('\t').zip(&numeric) {
                let value = unescape(field);
                match value.as_deref().map(str::parse::<i64>) {
                    Some(Ok(number)) if *numeric => row.push_bind(number),
                    _ => row.push_bind(value.map(Cow::into_owned)),
                };
            }
        });
        insert.build().persistent(false).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(rows.len() as u64)
}

/// Which of the columns are declared to hold integers.
async fn numeric_columns(host: &mut SqliteConnection, table: &str, header: &[&str]) -> Result<Vec<bool>, sqlx::Error> {
    let columns = sqlx::query("SELECT name, type FROM pragma_table_info(?)").bind(table).fetch_all(host).await?;
    let mut declared = Vec::new();
    for column in columns {
        declared.push((column.try_get::<String, _>("name")?, column.try_get::<String, _>("type")?));
    }
    let is_numeric = |name: &&str| {
        declared.iter().any(|(column, kind)| column == name && matches!(kind.as_str(), "INTEGER" | "BOOLEAN"))
    };
    Ok(header.iter().map(is_numeric).collect())
}

/// A field in the text format of Postgres' COPY; `None` is NULL.
fn unescape(field: &str) -> Option<Cow<'_, str>> {
    if field == "\\N" {
        return None;
    }
    if !field.contains('\\') {
        return Some(Cow::Borrowed(field));
    }
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_postgres_writes_them() {
        assert_eq!(unescape("\\N"), None);
        assert_eq!(unescape("").as_deref(), Some(""));
        assert_eq!(unescape(r"^(\\d{3})$").as_deref(), Some(r"^(\d{3})$"));
        assert_eq!(unescape(r"a\tb\nc\\N").as_deref(), Some("a\tb\nc\\N"));
    }
}
