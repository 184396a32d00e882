//! What stands in the way of writing a table, found without writing.

use fides_core::port::{Obstacle, Sink};
use fides_core::{Fault, Kind, Shape};
use sqlx::{PgConnection, Row};

use crate::catalog::{self, Attribute, Collation, Relation, Unique};
use crate::fault::fault;
use crate::layout::{create_table, native};
use crate::{fence, key, quote};

/// Hexadecimal digits of a version.
const VERSION_CHARS: usize = 32;

/// The table, if there is one, and everything that stands in the way of writing it.
pub(crate) async fn target(
    connection: &mut PgConnection,
    sink: &Sink,
    shape: &Shape,
    create: bool,
) -> Result<(Option<Relation>, Vec<Obstacle>), Fault> {
    let relation = catalog::relation(connection, &sink.namespace).await?;
    let obstacles = match &relation {
        Some(relation) => {
            let mut obstacles = columns(sink, shape, relation);
            obstacles.extend(rights(connection, sink, shape, relation).await?);
            obstacles
        }
        None if create => creation(connection, sink).await?,
        None => {
            let missing = Obstacle::new("it does not exist");
            vec![missing.advise(format!("set `create: true`, or run: {}", create_table(sink, shape)?))]
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
        let fills_itself = !column.not_null || column.generated || column.filled || relation.has_trigger;
        !(fills_itself || written.contains(&&column.name))
    };
    let of_rest =
        |column: &Attribute| format!("column {} is NOT NULL without a default, and no field fills it", column.name);
    let key_columns = shape.key.iter().filter_map(|&at| {
        let field = &shape.fields[at];
        unkept(relation.column(&field.name)?, field.kind)
    });
    let version = sink.version_field.as_ref().and_then(|name| unordered(relation.column(name)?));
    let obstacles = written.iter().filter_map(of_field);
    let obstacles = obstacles.chain(relation.columns.iter().filter(unfilled).map(of_rest));
    let obstacles = obstacles.chain(key_columns).chain(version).chain(not_unique(shape, relation));
    obstacles.map(|what| Obstacle::new(what).advise(advice)).collect()
}

fn written<'a>(sink: &'a Sink, shape: &'a Shape) -> impl Iterator<Item = &'a String> {
    shape.fields.iter().map(|field| &field.name).chain(&sink.version_field)
}

fn not_unique(shape: &Shape, relation: &Relation) -> Option<String> {
    let key: Vec<&str> = shape.key_names().collect();
    let is_key = |columns: &[String]| {
        columns.len() == key.len() && key.iter().all(|name| columns.iter().any(|column| column == name))
    };
    let mut unique = relation.indexes.iter().filter(|index| index.unique == Some(Unique::Immediate));
    (key.is_empty() || !unique.any(|index| is_key(&index.columns)))
        .then(|| format!("there is no unique index on the key ({})", key.join(", ")))
}

/// Why a column does not give keys of `kind` back as they were written; `None` when it does.
fn unkept(column: &Attribute, kind: Kind) -> Option<String> {
    if key::keeps(column, kind) {
        return None;
    }
    let collation = match column.collation {
        Collation::Folding => " with a collation under which different texts are equal",
        Collation::Bytes | Collation::Language => "",
    };
    Some(format!(
        "key column {} is of type {}{collation}, which does not give keys of kind {kind} back as they were written: \
         a column of type {} is needed",
        column.name,
        column.native,
        native(kind)
    ))
}

/// Why a column does not give versions back as they were written; `None` when it does. They are compared as text.
fn unordered(column: &Attribute) -> Option<String> {
    let length = column.base_native.strip_prefix("character varying(").and_then(|rest| rest.strip_suffix(')'));
    let is_short = length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length < VERSION_CHARS);
    let is_text = matches!(column.base.as_str(), "text" | "varchar");
    (!is_text || is_short).then(|| {
        format!(
            "version column {} is of type {}, which does not hold {VERSION_CHARS} hex digits as they were written: \
             a column of type text is needed",
            column.name, column.native
        )
    })
}

/// A right, and what it is needed for.
struct Right {
    held: bool,
    what: String,
    advice: String,
}

fn lacking(rights: impl IntoIterator<Item = Right>) -> Vec<Obstacle> {
    let lacking = rights.into_iter().filter(|right| !right.held);
    lacking.map(|right| Obstacle::new(right.what).advise(right.advice)).collect()
}

const RIGHTS: &str = "\
SELECT coalesce(bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')), true), \
  coalesce(bool_and(has_column_privilege(a.attrelid, a.attnum, 'INSERT')), true), \
  coalesce(bool_and(has_column_privilege(a.attrelid, a.attnum, 'UPDATE')) FILTER (WHERE a.attname <> ALL ($3)), true), \
  has_table_privilege($1::oid, 'DELETE') \
FROM pg_catalog.pg_attribute a \
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)";

/// What this user may not do with a table that is there.
async fn rights(
    connection: &mut PgConnection,
    sink: &Sink,
    shape: &Shape,
    relation: &Relation,
) -> Result<Vec<Obstacle>, Fault> {
    let read = |error| fault(&format!("reading the rights on table {}", sink.namespace), error);
    let written: Vec<&str> = written(sink, shape).map(String::as_str).collect();
    let row = sqlx::query(RIGHTS)
        .bind(relation.oid)
        .bind(written)
        .bind(shape.key_names().collect::<Vec<_>>())
        .fetch_one(&mut *connection)
        .await
        .map_err(read)?;
    let table = quote::name(&relation.schema) + "." + &quote::name(&relation.table);
    let right = |(at, name): (usize, &str)| {
        Ok(Right {
            held: row.try_get(at)?,
            what: format!("this user lacks the right {name}"),
            advice: format!("GRANT {name} ON {table} TO this user"),
        })
    };
    let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"].into_iter().enumerate().map(right);
    let mut obstacles = lacking(rights.collect::<Result<Vec<_>, _>>().map_err(read)?);
    obstacles.extend(temporary(connection).await?);
    obstacles.extend(fence::inspect(connection, &relation.schema).await?);
    Ok(obstacles)
}

/// What stands in the way of creating a table.
async fn creation(connection: &mut PgConnection, sink: &Sink) -> Result<Vec<Obstacle>, Fault> {
    // Says what is no name of a table.
    quote::table(&sink.namespace)?;
    let schema = match &sink.namespace.0[..] {
        [schema, _] => Some(schema.as_str()),
        _ => None,
    };
    let sql = "SELECT n.nspname::text, has_schema_privilege(n.oid, 'CREATE'), has_schema_privilege(n.oid, 'USAGE') \
               FROM pg_catalog.pg_namespace n WHERE n.nspname = coalesce($1, current_schema())";
    let found: Option<(String, bool, bool)> =
        sqlx::query_as(sql)
            .bind(schema)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| fault(&format!("reading the rights on the schema of {}", sink.namespace), error))?;
    let Some((name, create, usage)) = found else {
        let what = schema.map_or("no schema of the search path is there".to_owned(), |name| {
            format!("there is no schema {name} to create it in")
        });
        return Ok(vec![Obstacle::new(what).advise("create the schema; Fides creates tables only")]);
    };
    let right = |(held, right): (bool, &str)| Right {
        held,
        what: format!("it is missing, and this user lacks the right {right} on schema {name}"),
        advice: format!("GRANT {right} ON SCHEMA {} TO this user, or create the table", quote::name(&name)),
    };
    let mut obstacles = lacking([(create, "CREATE"), (usage, "USAGE")].map(right));
    obstacles.extend(temporary(connection).await?);
    Ok(obstacles)
}

/// Every write goes through a temporary table.
async fn temporary(connection: &mut PgConnection) -> Result<Vec<Obstacle>, Fault> {
    let sql = "SELECT current_database()::text, has_database_privilege(current_database(), 'TEMP')";
    let (database, held): (String, bool) = sqlx::query_as(sql)
        .fetch_one(connection)
        .await
        .map_err(|error| fault("reading the rights on the database", error))?;
    Ok(lacking([Right {
        held,
        what: format!("this user lacks the right TEMPORARY on database {database}, which every write needs"),
        advice: format!("GRANT TEMPORARY ON DATABASE {} TO this user", quote::name(&database)),
    }]))
}
