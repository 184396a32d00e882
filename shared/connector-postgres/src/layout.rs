//! How documents of one shape lie in a target table: checked once, then the SQL of every write.

use std::hash::{DefaultHasher, Hash, Hasher};

use fides_core::port::{Obstacle, Sink};
use fides_core::{Fault, Field, Kind, Shape, Value};
use sqlx::PgConnection;

use crate::catalog::{self, Attribute, Relation};
use crate::connect::run;
use crate::fault::{fault, state};
use crate::kind::PgType;
use crate::{fence, inspect, key, quote};

/// The SQL of writes of one shape to one table.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) place: String,
    /// The quoted name of the table.
    pub(crate) table: String,
    /// Types of the fields.
    pub(crate) types: Vec<PgType>,
    /// The key fields.
    pub(crate) key: Vec<KeyField>,
    pub(crate) is_versioned: bool,
    /// The table of the lanes' tokens.
    pub(crate) lanes: String,
    /// The temporary table.
    pub(crate) stage: String,
    /// Makes sure of the temporary table, and begins the transaction.
    pub(crate) begin: String,
    pub(crate) copy: String,
    /// More rows than these come by COPY.
    pub(crate) inline_rows_max: usize,
    /// From the temporary table that COPY has filled.
    pub(crate) staged: Statements,
    /// From a parameter: an array of rows as texts.
    pub(crate) inline: Statements,
    /// The same as a transaction of one statement: the parameter, and those of [`fence::bind`]. `None` where rules may make
    /// another statement of it, of which PostgreSQL lets some stand only by themselves, or where a trigger would hear of one that
    /// writes nothing because the lane is lost.
    pub(crate) at_once: Option<AtOnce>,
}

/// Statements that hold the lane's token and write where it is theirs; they answer with how many tokens they hold.
#[derive(Debug)]
pub(crate) struct AtOnce {
    pub(crate) delete: String,
    pub(crate) upsert: String,
}

/// What writes rows from one place.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) delete: String,
    pub(crate) insert: String,
    /// Which rows were older than what the target holds.
    pub(crate) stale: String,
}

/// A field of the key.
#[derive(Debug)]
pub(crate) struct KeyField {
    /// Its position among the fields.
    pub(crate) at: usize,
    /// How a key of this table is read.
    ty: PgType,
    native: String,
    /// `varchar(n)` cuts spaces off behind its length, and does not tell.
    chars_max: Option<usize>,
}

impl KeyField {
    fn new(at: usize, kind: Kind, column: &Attribute) -> Self {
        let length = column.base_native.strip_prefix("character varying(").and_then(|rest| rest.strip_suffix(')'));
        Self {
            at,
            ty: column.ty.clone().read_as(kind),
            native: column.native.clone(),
            chars_max: length.and_then(|length| length.parse().ok()),
        }
    }

    /// Why the column would give another key back than this one; `None` when it does not.
    pub(crate) fn refuses(&self, value: &Value<'_>) -> Option<String> {
        let kind = value.kind()?.name();
        if !key::is_of(value, &self.ty) {
            return Some(format!(
                "a key of kind {kind} would be read back from a column of type {} as another",
                self.native
            ));
        }
        match (value, self.chars_max) {
            (Value::String(text), Some(max)) if text.len() > max && text.chars().count() > max => {
                Some(format!("a key of {} characters does not fit {}", text.chars().count(), self.native))
            }
            _ => None,
        }
    }
}

impl Layout {
    /// Checks that documents of `shape` fit; everything that is missing is named in one Permanent fault.
    pub(crate) fn new(sink: &Sink, shape: &Shape, relation: &Relation, inline_rows_max: usize) -> Result<Self, Fault> {
        let namespace = &sink.namespace;
        Obstacle::refuse(namespace, &inspect::columns(sink, shape, relation))?;
        let key_columns = shape.key.iter().filter_map(|&at| {
            let field = &shape.fields[at];
            Some((at, field.kind, relation.column(&field.name)?))
        });
        let table = quote::table(namespace)?;
        let types =
            shape.fields.iter().filter_map(|field| relation.column(&field.name)).map(|column| column.ty.clone());
        Ok(Self {
            place: namespace.to_string(),
            types: types.collect(),
            key: key_columns.map(|(at, kind, column)| KeyField::new(at, kind, column)).collect(),
            is_versioned: sink.version_field.is_some(),
            lanes: fence::table(&relation.schema),
            inline_rows_max,
            ..statements(sink, shape, relation, &table)
        })
    }
}

/// The statements of a layout; the other fields are left empty.
fn statements(sink: &Sink, shape: &Shape, relation: &Relation, table: &str) -> Layout {
    let fields: Vec<String> = shape.fields.iter().map(|field| quote::name(&field.name)).collect();
    let staged: Vec<String> = (0..fields.len()).map(|at| format!("c{at}")).collect();
    let stage = stage_name(sink, shape, relation);
    let joined = join(shape.key.iter().map(|&at| format!("t.{} = s.c{at}", fields[at])), " AND ");
    // A deletion has nothing but its key. A domain may refuse NULL: it judges when the row is written, not before.
    let typed = |(at, (field, staged)): (usize, (&String, &String))| {
        let column = relation.column(&shape.fields[at].name).filter(|column| column.native != column.base_native);
        match column.filter(|_| !shape.key.contains(&at)) {
            Some(column) => format!("t.{field}::{} AS {staged}", column.base_native),
            None => format!("t.{field} AS {staged}"),
        }
    };
    let typed = join(fields.iter().zip(&staged).enumerate().map(typed), ", ");
    let updates = (0..fields.len()).filter(|at| !shape.key.contains(at)).map(|at| &fields[at]);
    let mut columns = fields.clone();
    let mut values = staged.clone();
    let mut sets: Vec<String> = updates.map(|field| format!("{field} = excluded.{field}")).collect();
    let (mut only_newer, mut only_older, mut newer_held) = (String::new(), String::new(), String::new());
    if let Some(version) = &sink.version_field {
        let version = quote::name(version);
        columns.push(version.clone());
        values.push("v".to_owned());
        sets.push(format!("{version} = excluded.{version}"));
        // An equal version is the same state written again, or a repair that is forced.
        let newer = |than: &str| format!("t.{version}::text COLLATE \"C\" > {than}::text COLLATE \"C\"");
        only_newer = format!(" WHERE ({}) IS NOT TRUE", newer(&format!("excluded.{version}")));
        only_older = format!(" AND ({}) IS NOT TRUE", newer("s.v"));
        newer_held = newer("s.v");
    }
    let resolve =
        if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}{only_newer}", sets.join(", ")) };
    let key = quote::names("", shape.key_names());
    let delete = |source: &str| format!("DELETE FROM {table} t USING {source} s WHERE s.d AND {joined}{only_older}");
    let insert = |source: &str| {
        format!(
            "INSERT INTO {table} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {source} s WHERE NOT d \
             ON CONFLICT ({key}) DO {resolve}",
            columns.join(", "),
            values.join(", ")
        )
    };
    // OFFSET keeps a row from being read once for each of its columns.
    let rows =
        format!("(SELECT (l.r).* FROM (SELECT text::pg_temp.{stage} AS r FROM unnest($1::text[]) text OFFSET 0) l)");
    let held = fence::held(&fence::table(&relation.schema));
    let held_rows = format!("(SELECT r.* FROM {rows} r, held)");
    let at_once = |write: &str| format!("WITH {held}, written AS ({write}) SELECT count(*) FROM held");
    let from = |source: &str| Statements {
        delete: delete(source),
        insert: insert(source),
        stale: format!("SELECT s.n FROM {source} s JOIN {table} t ON {joined} WHERE {newer_held}"),
    };
    Layout {
        place: String::new(),
        table: table.to_owned(),
        types: Vec::new(),
        key: Vec::new(),
        is_versioned: false,
        lanes: String::new(),
        inline_rows_max: 0,
        // Columns of a query keep type and collation, and drop every constraint. Committed first: prepared statements keep
        // the type of its rows, and must not outlive it when the write is rolled back.
        begin: format!(
            "BEGIN; CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS \
             SELECT 0 AS n, false AS d, ''::text AS v, {typed} FROM {table} t WITH NO DATA; COMMIT; BEGIN"
        ),
        copy: format!("COPY pg_temp.{stage} (n, d, v, {}) FROM STDIN", staged.join(", ")),
        staged: from(&format!("pg_temp.{stage}")),
        inline: from(&rows),
        at_once: (!relation.sees_statements)
            .then(|| AtOnce { delete: at_once(&delete(&held_rows)), upsert: at_once(&insert(&held_rows)) }),
        stage,
    }
}

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

/// One temporary table per table, shape and column types: after an ALTER TABLE it is another one.
fn stage_name(sink: &Sink, shape: &Shape, relation: &Relation) -> String {
    let mut hasher = DefaultHasher::new();
    (relation.oid, &sink.version_field).hash(&mut hasher);
    for field in &shape.fields {
        let column = relation.column(&field.name);
        let column = column.map(|column| (&column.native, column.type_oid, format!("{:?}", column.collation)));
        (&field.name, column).hash(&mut hasher);
    }
    format!("_fides_{:016x}", hasher.finish())
}

/// Creates the table, which is missing; its description.
pub(crate) async fn make_table(connection: &mut PgConnection, sink: &Sink, shape: &Shape) -> Result<Relation, Fault> {
    let namespace = &sink.namespace;
    match run(connection, create_table(sink, shape)?).await {
        // Another process created it at the same moment.
        Err(error) if matches!(state(&error).as_deref(), Some("42P07" | "42710" | "23505")) => {}
        done => done.map_err(|error| fault(&format!("creating table {namespace}"), error))?,
    }
    catalog::require(connection, namespace).await
}

/// The statement that creates the table of a shape.
pub(crate) fn create_table(sink: &Sink, shape: &Shape) -> Result<String, Fault> {
    let column = |(at, field): (usize, &Field)| {
        let collation = if shape.key.contains(&at) && is_text(field.kind) { " COLLATE \"C\"" } else { "" };
        format!("{} {}{collation}", quote::name(&field.name), native(field.kind))
    };
    let version = sink.version_field.iter().map(|name| format!("{} text", quote::name(name)));
    let columns = join(shape.fields.iter().enumerate().map(column).chain(version), ", ");
    let key = quote::names("", shape.key_names());
    Ok(format!("CREATE TABLE {} ({columns}, PRIMARY KEY ({key}))", quote::table(&sink.namespace)?))
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Any)
}

/// The type of a column that holds every value of a kind.
pub(crate) fn native(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I64 => "bigint",
        Kind::U64 => "numeric(20,0)",
        Kind::Decimal => "numeric",
        Kind::F64 => "double precision",
        Kind::String | Kind::Any => "text",
        Kind::Bytes => "bytea",
        Kind::Uuid => "uuid",
        Kind::Date => "date",
        Kind::Time => "time",
        Kind::Timestamp => "timestamp",
        Kind::TimestampTz => "timestamptz",
        Kind::Json => "jsonb",
    }
}
