//! What `information_schema` says of a table.

use fides_core::{Fault, Namespace};
use sqlx::MySqlConnection;

use crate::fault::fault;
use crate::kind::MyType;
use crate::query::{scalar, texts};
use crate::quote;

/// A table or view.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) database: String,
    pub(crate) table: String,
    /// `InnoDB`; nothing for a view.
    pub(crate) engine: Option<String>,
    pub(crate) records_estimate: u64,
    pub(crate) columns: Vec<Attribute>,
    pub(crate) indexes: Vec<Index>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    /// As people write it: `varchar(10)`.
    pub(crate) native: String,
    /// Without its length: `varchar`.
    pub(crate) base: String,
    pub(crate) ty: MyType,
    pub(crate) not_null: bool,
    /// Computed by the server: cannot be written.
    pub(crate) generated: bool,
    /// Whether a row that says nothing of it has a value all the same.
    pub(crate) filled: bool,
    pub(crate) order: Order,
    /// The character set of a text: `utf8mb4`.
    pub(crate) charset: Option<String>,
    /// Characters or bytes that it holds.
    pub(crate) length_max: Option<usize>,
    /// Digits behind the point: of a decimal, or of the seconds.
    pub(crate) scale: Option<usize>,
}

/// How values of a column compare in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the key encoding does.
    Key,
    /// In another order, but what is equal has equal bytes.
    Other,
    /// Different texts may be equal.
    Folding,
}

/// An index.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) unique: bool,
    /// Whether it is a B-tree on whole columns: not on their first characters, and not on expressions.
    pub(crate) is_whole: bool,
    pub(crate) columns: Vec<String>,
}

impl Index {
    pub(crate) fn is_primary(&self) -> bool {
        self.name == "PRIMARY"
    }
}

impl Relation {
    pub(crate) fn column(&self, name: &str) -> Option<&Attribute> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether an index is sorted by these columns in the order of the key encoding.
    pub(crate) fn sorted_by(&self, key: &[String]) -> bool {
        let in_order = |name: &String| self.column(name).is_some_and(|column| column.order == Order::Key);
        key.iter().all(in_order) && self.indexes.iter().any(|index| index.is_whole && index.columns.starts_with(key))
    }

    /// Sets of columns that are unique and not null, the primary key first.
    pub(crate) fn unique(&self) -> Vec<Vec<String>> {
        let not_null = |index: &&Index| {
            index.unique
                && index.is_whole
                && index.columns.iter().all(|name| self.column(name).is_some_and(|column| column.not_null))
        };
        let mut sets: Vec<&Index> = self.indexes.iter().filter(not_null).collect();
        sets.sort_by_key(|index| !index.is_primary());
        let mut unique: Vec<Vec<String>> = Vec::new();
        for index in sets {
            if !unique.contains(&index.columns) {
                unique.push(index.columns.clone());
            }
        }
        unique
    }
}

/// Whether the server is MariaDB, which has JSON as a constraint, UUIDs, and snapshots with an exact position.
pub(crate) async fn is_mariadb(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    Ok(scalar(connection, "SELECT VERSION()").await?.is_some_and(|version| version.contains("MariaDB")))
}

/// Looks a table up; `None` when there is none of that name, or none that this user may see.
pub(crate) async fn relation(
    connection: &mut MySqlConnection,
    namespace: &Namespace,
) -> Result<Option<Relation>, Fault> {
    // Says what is no name of a table.
    quote::table(namespace)?;
    look_up(connection, namespace).await.map_err(|error| fault(&format!("describing table {namespace}"), error))
}

/// As [`relation`]; a missing table is a Permanent fault.
pub(crate) async fn require(connection: &mut MySqlConnection, namespace: &Namespace) -> Result<Relation, Fault> {
    relation(connection, namespace).await?.ok_or_else(|| {
        Fault::permanent(format!("there is no table {namespace}"))
            .advise("check its name and database, and that this user may see it")
    })
}

/// The condition that keeps the rows of `information_schema` about one table.
pub(crate) fn named(namespace: &Namespace) -> String {
    let (database, table) = match &namespace.0[..] {
        [database, table] => (quote::text(database), table),
        rest => ("DATABASE()".to_owned(), rest.last().unwrap_or(const { &String::new() })),
    };
    format!("table_schema = {database} AND table_name = {}", quote::text(table))
}

async fn look_up(connection: &mut MySqlConnection, namespace: &Namespace) -> Result<Option<Relation>, sqlx::Error> {
    let named = named(namespace);
    let sql = format!(
        "SELECT table_schema, table_name, engine, COALESCE(table_rows, 0) FROM information_schema.tables WHERE {named}"
    );
    let Some(found) = texts(connection, &sql).await?.into_iter().next() else { return Ok(None) };
    let [database, table, engine, records] = take(found);
    let (database, table) = (database.unwrap_or_default(), table.unwrap_or_default());
    let json = if is_mariadb(connection).await? {
        let sql = format!(
            "SELECT check_clause FROM information_schema.check_constraints WHERE constraint_schema = {} \
             AND table_name = {}",
            quote::text(&database),
            quote::text(&table)
        );
        texts(connection, &sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
    } else {
        Vec::new()
    };
    let sql = format!(
        "SELECT column_name, column_type, data_type, is_nullable, extra, column_default IS NOT NULL, \
         COALESCE(generation_expression, '') <> '', collation_name, character_maximum_length, \
         COALESCE(datetime_precision, numeric_scale) \
         FROM information_schema.columns WHERE {named} ORDER BY ordinal_position"
    );
    let columns = texts(connection, &sql).await?.into_iter().map(|row| attribute(row, &json)).collect();
    Ok(Some(Relation {
        database,
        table,
        engine,
        records_estimate: records.and_then(|text| text.parse().ok()).unwrap_or_default(),
        columns,
        indexes: indexes(connection, &named).await?,
    }))
}

/// The fields of a row; what is missing is NULL.
fn take<const N: usize>(row: Vec<Option<String>>) -> [Option<String>; N] {
    let mut fields = row.into_iter();
    std::array::from_fn(|_| fields.next().flatten())
}

fn attribute(row: Vec<Option<String>>, json: &[String]) -> Attribute {
    let [name, native, base, nullable, extra, has_default, generated, collation, length, scale] = take(row);
    let (name, native, base) =
        (name.unwrap_or_default(), native.unwrap_or_default(), base.unwrap_or_default().to_ascii_lowercase());
    let is = |flag: Option<String>, text: &str| flag.is_some_and(|flag| flag.eq_ignore_ascii_case(text));
    let extra = extra.unwrap_or_default().to_ascii_lowercase();
    let generated = is(generated, "1") || extra.contains("virtual generated") || extra.contains("stored generated");
    let is_json = json.contains(&format!("json_valid({})", quote::name(&name)));
    let ty = MyType::of(&base, &native.to_ascii_lowercase(), is_json);
    let not_null = is(nullable, "NO");
    Attribute {
        order: order(ty, &base, collation.as_deref()),
        // A collation begins with the name of its character set.
        charset: collation.as_deref().and_then(|name| name.split('_').next()).map(str::to_owned),
        filled: is(has_default, "1") || extra.contains("auto_increment") || extra.contains("default_generated"),
        ty,
        not_null,
        generated,
        length_max: length.and_then(|text| text.parse().ok()),
        scale: scale.and_then(|text| text.parse().ok()),
        name,
        native,
        base,
    }
}

fn order(ty: MyType, base: &str, collation: Option<&str>) -> Order {
    match ty {
        MyType::Text | MyType::Json => match collation.unwrap_or_default() {
            _ if matches!(base, "enum" | "set") => Order::Other,
            // Their order is that of the code points, and nothing is padded.
            "utf8mb4_nopad_bin" | "utf8mb3_nopad_bin" | "ascii_nopad_bin" | "utf8mb4_0900_bin" => Order::Key,
            collation if collation.ends_with("_nopad_bin") => Order::Other,
            _ => Order::Folding,
        },
        // Bytes and the server's own order of UUIDs, which puts the last group first.
        MyType::Uuid => Order::Other,
        _ => Order::Key,
    }
}

async fn indexes(connection: &mut MySqlConnection, named: &str) -> Result<Vec<Index>, sqlx::Error> {
    let sql = format!(
        "SELECT index_name, non_unique, column_name, sub_part IS NOT NULL OR column_name IS NULL OR index_type <> 'BTREE' \
         FROM information_schema.statistics WHERE {named} ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index"
    );
    let mut indexes: Vec<Index> = Vec::new();
    for row in texts(connection, &sql).await? {
        let [name, non_unique, column, partial] = take(row);
        let name = name.unwrap_or_default();
        if indexes.last().is_none_or(|index| index.name != name) {
            let unique = non_unique.as_deref() == Some("0");
            indexes.push(Index { name, unique, is_whole: true, columns: Vec::new() });
        }
        if let Some(index) = indexes.last_mut() {
            index.columns.extend(column);
            index.is_whole &= partial.as_deref() != Some("1");
        }
    }
    Ok(indexes)
}
