//! How documents of one shape lie in a target table: checked once, then the SQL of every write.

use fides_core::port::{Obstacle, Sink};
use fides_core::{Fault, Field, Kind, Shape, Value};
use sqlx::MySqlConnection;

use crate::catalog::{self, Attribute, Relation};
use crate::cells::Cells;
use crate::fault::fault;
use crate::key::{self, KeyColumn, KeyColumns};
use crate::kind::MyType;
use crate::query::{run, scalar};
use crate::{fence, inspect, quote};

/// What else than a row a statement holds, generously.
const STATEMENT_BYTES: usize = 64 * 1024;

/// The SQL of writes of one shape to one table.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) place: String,
    /// The quoted name of the table.
    pub(crate) table: String,
    /// The columns of the fields.
    pub(crate) fields: Vec<Attribute>,
    /// The key fields.
    pub(crate) key: Vec<KeyField>,
    /// The same in SQL.
    pub(crate) key_columns: KeyColumns,
    /// Reads keys that were looked up.
    pub(crate) keys: Cells,
    /// The quoted version column.
    pub(crate) version: Option<String>,
    /// Whether a row may also meet another row by an index that is not the key.
    pub(crate) is_guarded: bool,
    /// Bytes of one row in a statement.
    pub(crate) row_bytes_max: usize,
    /// The table of the lanes' tokens.
    pub(crate) lanes: String,
    /// Up to the rows.
    pub(crate) insert: String,
    /// Behind the rows, where they may be there already.
    pub(crate) replace: String,
}

/// A field of the key.
#[derive(Debug)]
pub(crate) struct KeyField {
    /// Its position among the fields.
    pub(crate) at: usize,
    /// How a key of this table is read.
    ty: MyType,
    native: String,
    /// `varchar(n)` cuts spaces off behind its length, and does not tell.
    chars_max: Option<usize>,
}

impl KeyField {
    fn new(at: usize, kind: Kind, column: &Attribute) -> Self {
        let chars_max = column.length_max.filter(|_| column.ty == MyType::Text);
        Self { at, ty: column.ty.read_as(kind), native: column.native.clone(), chars_max }
    }

    /// Why the column would give another key back than this one; `None` when it does not.
    pub(crate) fn refuses(&self, value: &Value<'_>) -> Option<String> {
        let kind = value.kind()?.name();
        let is_number = matches!(value, Value::I64(_) | Value::U64(_)) && self.ty == MyType::Bool;
        if !key::is_of(value, self.ty) || is_number {
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
    pub(crate) async fn new(
        connection: &mut MySqlConnection,
        sink: &Sink,
        shape: &Shape,
        relation: &Relation,
    ) -> Result<Self, Fault> {
        let namespace = &sink.namespace;
        Obstacle::refuse(namespace, &inspect::columns(sink, shape, relation))?;
        let packet = scalar(connection, "SELECT @@max_allowed_packet")
            .await
            .map_err(|error| fault("asking for max_allowed_packet", error))?;
        let packet: usize = packet.and_then(|text| text.parse().ok()).unwrap_or(1 << 20);
        let fields: Vec<Attribute> =
            shape.fields.iter().filter_map(|field| relation.column(&field.name)).cloned().collect();
        let keys = shape.key.iter().map(|&at| (at, shape.fields[at].kind, &fields[at]));
        let columns = keys.clone().filter_map(|(_, kind, column)| KeyColumn::new(column, kind)).collect();
        let read = keys.clone().map(|(_, kind, column)| (column.name.clone(), column.ty.read_as(kind))).collect();
        let version = sink.version_field.as_deref().map(quote::name);
        let (insert, replace) = statements(shape, version.as_deref(), &quote::table(namespace)?);
        Ok(Self {
            place: namespace.to_string(),
            table: quote::table(namespace)?,
            key: keys.map(|(at, kind, column)| KeyField::new(at, kind, column)).collect(),
            key_columns: KeyColumns { columns, indexed: true },
            keys: Cells {
                place: namespace.to_string(),
                columns: read,
                key: (0..shape.key.len()).collect(),
                includes: Vec::new(),
            },
            version,
            is_guarded: inspect::others_unique(shape, relation).next().is_some(),
            row_bytes_max: packet.saturating_sub(STATEMENT_BYTES),
            lanes: fence::table(&relation.database),
            insert,
            replace,
            fields,
        })
    }
}

fn statements(shape: &Shape, version: Option<&str>, table: &str) -> (String, String) {
    let fields: Vec<String> = shape.fields.iter().map(|field| quote::name(&field.name)).collect();
    let columns: Vec<&str> = fields.iter().map(String::as_str).chain(version).collect();
    let others = (0..fields.len()).filter(|at| !shape.key.contains(at)).map(|at| fields[at].as_str()).chain(version);
    let mut sets: Vec<String> = others.map(|name| format!("{name} = VALUES({name})")).collect();
    if let (true, Some(&key)) = (sets.is_empty(), shape.key.first()) {
        // Nothing but its key: whoever is there already is the document.
        sets.push(format!("{0} = {table}.{0}", fields[key]));
    }
    (
        format!("INSERT INTO {table} ({}) VALUES ", columns.join(", ")),
        format!(" ON DUPLICATE KEY UPDATE {}", sets.join(", ")),
    )
}

/// Creates the table, which is missing; its description.
pub(crate) async fn make_table(
    connection: &mut MySqlConnection,
    sink: &Sink,
    shape: &Shape,
) -> Result<Relation, Fault> {
    let namespace = &sink.namespace;
    let failed = |error| fault(&format!("creating table {namespace}"), error);
    let is_mariadb = catalog::is_mariadb(connection).await.map_err(failed)?;
    let sql = create_table(sink, shape, is_mariadb)?;
    run(connection, &sql).await.map_err(failed)?;
    let relation = catalog::require(connection, namespace).await?;
    let lanes = fence::table(&relation.database);
    fence::ensure(connection, &lanes).await?;
    fence::forget(connection, &lanes, &sink.pipeline).await?;
    Ok(relation)
}

/// The statement that creates the table of a shape.
pub(crate) fn create_table(sink: &Sink, shape: &Shape, is_mariadb: bool) -> Result<String, Fault> {
    let long = shape.key.iter().filter(|&&at| is_long(shape.fields[at].kind)).count().max(1);
    let column = |(at, field): (usize, &Field)| {
        let is_key = shape.key.contains(&at);
        let native = match field.kind {
            // An index takes 3072 bytes.
            Kind::String | Kind::Any if is_key => {
                let collation = if is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
                format!("varchar({}) CHARACTER SET utf8mb4 COLLATE {collation}", 700 / long)
            }
            Kind::Bytes if is_key => format!("varbinary({})", 2_800 / long),
            Kind::String | Kind::Any => "longtext CHARACTER SET utf8mb4".to_owned(),
            kind => native(kind, is_mariadb).to_owned(),
        };
        let null = if is_key { "NOT NULL" } else { "NULL DEFAULT NULL" };
        format!("{} {native} {null}", quote::name(&field.name))
    };
    let version = sink.version_field.iter();
    let version =
        version.map(|name| format!("{} varchar(32) CHARACTER SET ascii NULL DEFAULT NULL", quote::name(name)));
    let columns: Vec<String> = shape.fields.iter().enumerate().map(column).chain(version).collect();
    let key = quote::names("", shape.key_names());
    Ok(format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({key})) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4",
        quote::table(&sink.namespace)?,
        columns.join(", ")
    ))
}

fn is_long(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Any | Kind::Bytes)
}

/// The type of a column that holds the values of a kind.
pub(crate) fn native(kind: Kind, is_mariadb: bool) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::I64 => "bigint",
        Kind::U64 => "bigint unsigned",
        Kind::Decimal => "decimal(65,30)",
        Kind::F64 => "double",
        Kind::String | Kind::Any => "varchar(700) COLLATE utf8mb4_nopad_bin (of MySQL: utf8mb4_0900_bin)",
        Kind::Bytes => "longblob",
        Kind::Uuid if is_mariadb => "uuid",
        Kind::Uuid => "binary(16)",
        Kind::Date => "date",
        Kind::Time => "time(6)",
        Kind::Timestamp => "datetime(6)",
        Kind::TimestampTz => "timestamp(6)",
        Kind::Json => "json",
    }
}
