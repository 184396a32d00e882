//! What stands in the way of writing a table, found without writing.

use fides_core::port::{Obstacle, Sink};
use fides_core::{Fault, Kind, Shape};
use sqlx::MySqlConnection;

use crate::catalog::{self, Attribute, Index, Order, Relation};
use crate::fault::{DENIED, fault, number};
use crate::kind::MyType;
use crate::layout::{create_table, native};
use crate::query::{scalar, texts};
use crate::{fence, key, quote};

/// Hexadecimal digits of a version.
const VERSION_CHARS: usize = 32;

/// The table, if there is one, and everything that stands in the way of writing it.
pub(crate) async fn target(
    connection: &mut MySqlConnection,
    sink: &Sink,
    shape: &Shape,
    create: bool,
) -> Result<(Option<Relation>, Vec<Obstacle>), Fault> {
    let relation = catalog::relation(connection, &sink.namespace).await?;
    let obstacles = match &relation {
        Some(relation) => {
            let mut obstacles = columns(sink, shape, relation);
            // A column that is missing has no right to be asked for.
            if obstacles.is_empty() {
                obstacles.extend(rights(connection, sink, shape).await?);
                obstacles.extend(fence::inspect(connection, &relation.database).await?);
            }
            obstacles
        }
        None if create => creation(connection, sink).await?,
        None => {
            let is_mariadb = catalog::is_mariadb(connection)
                .await
                .map_err(|error| fault("asking for the server's version", error))?;
            let missing = Obstacle::new("it does not exist, or this user has no right on it");
            vec![missing.advise(format!("set `create: true`, or run: {}", create_table(sink, shape, is_mariadb)?))]
        }
    };
    Ok((relation, obstacles))
}

/// What the columns and indexes of a table lack.
pub(crate) fn columns(sink: &Sink, shape: &Shape, relation: &Relation) -> Vec<Obstacle> {
    let written: Vec<&String> = written(sink, shape).collect();
    let advice = "change the table, or the mapping; `create: true` only creates what is wholly missing";
    let of_field = |name: &&String| match relation.column(name) {
        None => Some(format!("column {name} is missing")),
        Some(column) if column.generated => Some(format!("column {name} is generated: it cannot be written")),
        Some(_) => None,
    };
    let unfilled = |column: &&Attribute| {
        let fills_itself = !column.not_null || column.generated || column.filled;
        !(fills_itself || written.contains(&&column.name))
    };
    let of_rest =
        |column: &Attribute| format!("column {} is NOT NULL without a default, and no field fills it", column.name);
    let key_columns = shape.key.iter().filter_map(|&at| {
        let field = &shape.fields[at];
        unkept(relation.column(&field.name)?, field.kind)
    });
    let version = sink.version_field.as_ref().and_then(|name| unordered(relation.column(name)?));
    let engine = relation.engine.as_deref().filter(|engine| !engine.eq_ignore_ascii_case("InnoDB"));
    let engine = engine.map(|engine| format!("its engine is {engine}, which has no transactions: InnoDB is needed"));
    let obstacles = written.iter().filter_map(of_field);
    let obstacles = obstacles.chain(relation.columns.iter().filter(unfilled).map(of_rest));
    let obstacles = obstacles.chain(key_columns).chain(version).chain(not_unique(shape, relation)).chain(engine);
    obstacles.map(|what| Obstacle::new(what).advise(advice)).collect()
}

fn written<'a>(sink: &'a Sink, shape: &'a Shape) -> impl Iterator<Item = &'a String> {
    shape.fields.iter().map(|field| &field.name).chain(&sink.version_field)
}

fn is_key(shape: &Shape, columns: &[String]) -> bool {
    columns.len() == shape.key.len() && shape.key_names().all(|name| columns.iter().any(|column| column == name))
}

/// The unique indexes beside the key: ON DUPLICATE KEY UPDATE would overwrite whatever row it meets by one of them.
pub(crate) fn others_unique<'a>(shape: &'a Shape, relation: &'a Relation) -> impl Iterator<Item = &'a Index> {
    relation.indexes.iter().filter(|index| index.unique && !(index.is_whole && is_key(shape, &index.columns)))
}

fn not_unique(shape: &Shape, relation: &Relation) -> Option<String> {
    let names = || shape.key_names().collect::<Vec<_>>().join(", ");
    let mut keys =
        relation.indexes.iter().filter(|index| index.unique && index.is_whole && is_key(shape, &index.columns));
    let Some(key) = keys.next() else {
        return Some(format!("there is no unique index on the key ({})", names()));
    };
    let other = others_unique(shape, relation).next()?;
    // The primary key is met first, and so decides which row is replaced.
    (!key.is_primary()).then(|| {
        format!(
            "the key ({}) is not the primary key, and there is another unique index, {}: a row could replace another's",
            names(),
            other.name
        )
    })
}

/// Why a column does not give keys of `kind` back as they were written; `None` when it does.
fn unkept(column: &Attribute, kind: Kind) -> Option<String> {
    if key::keeps(column, kind) {
        return None;
    }
    let collation = match (column.ty, column.order) {
        (MyType::Text, Order::Folding) => " with a collation under which different texts are equal",
        _ => "",
    };
    Some(format!(
        "key column {} is of type {}{collation}, which does not give keys of kind {kind} back as they were written: \
         a column of type {} is needed",
        column.name,
        column.native,
        native(kind, true)
    ))
}

/// Why a column does not give versions back as they were written; `None` when it does. They are compared as text.
fn unordered(column: &Attribute) -> Option<String> {
    let is_short = column.length_max.is_some_and(|length| length < VERSION_CHARS);
    let is_text = column.ty == MyType::Text && !matches!(column.base.as_str(), "enum" | "set");
    (!is_text || is_short).then(|| {
        format!(
            "version column {} is of type {}, which does not hold {VERSION_CHARS} hex digits as they were written: \
             a column of type varchar(32) is needed",
            column.name, column.native
        )
    })
}

/// What this user may not do with a table that is there: the server judges statements that are only explained.
async fn rights(connection: &mut MySqlConnection, sink: &Sink, shape: &Shape) -> Result<Vec<Obstacle>, Fault> {
    let table = quote::table(&sink.namespace)?;
    let names: Vec<&str> = written(sink, shape).map(String::as_str).collect();
    let columns = quote::names("", names.iter().copied());
    let nothing = vec!["DEFAULT"; names.len()].join(", ");
    let first = quote::name(names.first().copied().unwrap_or_default());
    let sets: Vec<String> = names
        .iter()
        .filter(|name| !shape.key_names().any(|key| key == **name))
        .map(|name| format!("{0} = NULL", quote::name(name)))
        .collect();
    let update =
        if sets.is_empty() { String::new() } else { format!("UPDATE {table} SET {} WHERE FALSE", sets.join(", ")) };
    let tried = [
        ("SELECT", format!("SELECT {columns} FROM {table} WHERE FALSE FOR UPDATE")),
        ("INSERT", format!("INSERT INTO {table} ({columns}) VALUES ({nothing})")),
        ("UPDATE", update),
        ("DELETE", format!("DELETE FROM {table} WHERE {first} IS NULL AND FALSE")),
    ];
    let mut obstacles = Vec::new();
    for (right, sql) in tried.into_iter().filter(|(_, sql)| !sql.is_empty()) {
        let denied = match texts(connection, &format!("EXPLAIN {sql}")).await {
            Ok(_) => false,
            Err(error) if number(&error).is_some_and(|number| DENIED.contains(&number)) => true,
            // A column without a default has none; whoever gets so far has the right.
            Err(error) if number(&error) == Some(1364) => false,
            Err(error) => return Err(fault(&format!("reading the rights on table {}", sink.namespace), error)),
        };
        if denied {
            let what = Obstacle::new(format!("this user lacks the right {right}"));
            obstacles.push(what.advise(format!("GRANT {right} ON {table} TO this user")));
        }
    }
    Ok(obstacles)
}

/// What stands in the way of creating a table.
async fn creation(connection: &mut MySqlConnection, sink: &Sink) -> Result<Vec<Obstacle>, Fault> {
    let reading = |error| fault(&format!("reading the rights on the database of {}", sink.namespace), error);
    let database = match &sink.namespace.0[..] {
        [database, _] => database.clone(),
        _ => scalar(connection, "SELECT DATABASE()").await.map_err(reading)?.unwrap_or_default(),
    };
    let sql = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {}", quote::text(&database));
    if scalar(connection, &sql).await.map_err(reading)?.is_none() {
        let missing = Obstacle::new(format!("there is no database {database} to create it in, or no right on it"));
        return Ok(vec![missing.advise("create the database; Fides creates tables only")]);
    }
    let grants = grants(connection).await?;
    let needed = ["CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"];
    let is_lacking = |right: &&str| !grants.iter().any(|grant| gives(grant, right, &database));
    let lacking = needed.into_iter().filter(is_lacking).collect::<Vec<_>>().join(", ");
    if lacking.is_empty() {
        return Ok(Vec::new());
    }
    let what = format!("it is missing, and to make and write it this user lacks on database {database}: {lacking}");
    let advice = format!("GRANT {lacking} ON {}.* TO this user, or create the table", quote::name(&database));
    Ok(vec![Obstacle::new(what).advise(advice)])
}

/// Whether this user may create tables in a database.
pub(crate) async fn may_create(connection: &mut MySqlConnection, database: &str) -> Result<bool, Fault> {
    Ok(grants(connection).await?.iter().any(|grant| gives(grant, "CREATE", database)))
}

/// The grants of this user, and of its roles in use.
async fn grants(connection: &mut MySqlConnection) -> Result<Vec<String>, Fault> {
    let rows =
        texts(connection, "SHOW GRANTS").await.map_err(|error| fault("reading the rights of this user", error))?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// ``GRANT SELECT, CREATE ON `shop`.* TO …``: database names are patterns, as of LIKE.
fn gives(grant: &str, right: &str, database: &str) -> bool {
    let split = grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON "));
    let Some((rights, rest)) = split else { return false };
    let has_right = rights.split(", ").any(|given| given == right || matches!(given, "ALL PRIVILEGES" | "ALL"));
    let Some((of, _)) = rest.split_once(".* TO ") else { return false };
    let pattern = of.trim_matches('`').replace("``", "`");
    has_right && (of == "*" || is_like(&pattern, database))
}

fn is_like(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('%') => {
            text.char_indices().map(|(at, _)| &text[at..]).chain([""]).any(|text| is_like(rest.as_str(), text))
        }
        first => {
            let mut text = text.chars();
            let wanted = if first == Some('\\') { rest.next() } else { first };
            let Some(found) = text.next() else { return false };
            (first == Some('_') || wanted == Some(found)) && is_like(rest.as_str(), text.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_as_the_server_reads_it() {
        for (grant, expected) in [
            ("GRANT ALL PRIVILEGES ON *.* TO `me`@`%` WITH GRANT OPTION", true),
            ("GRANT SELECT, CREATE ON `shop`.* TO `me`@`%`", true),
            ("GRANT SELECT, CREATE ON `sh\\_p`.* TO `me`@`%`", false),
            ("GRANT CREATE ON `sh_p`.* TO `me`@`%`", true),
            ("GRANT CREATE ON `s%`.* TO `me`@`%`", true),
            ("GRANT CREATE ON `shop`.`orders` TO `me`@`%`", false),
            ("GRANT CREATE ROUTINE ON `shop`.* TO `me`@`%`", false),
            ("GRANT USAGE ON *.* TO `me`@`%`", false),
            ("GRANT `role` TO `me`@`%`", false),
        ] {
            assert_eq!(gives(grant, "CREATE", "shop"), expected, "{grant}");
        }
    }
}
