use std::fmt;

use crate::Kind;

/// A table, collection or container: one or more name parts (`public.orders`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(pub Vec<String>);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A column as its store describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What Fides reads it as.
    pub kind: Kind,
    /// The store's name of its type, for people and for messages ("timestamp with time zone").
    pub native: String,
    /// Whether it can be NULL.
    pub nullable: bool,
}

/// What a store says of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its columns, in the store's order.
    pub columns: Vec<Column>,
    /// Columns of the primary key; empty when there is none.
    pub primary_key: Vec<String>,
    /// Foreign keys, for `init`: own columns, other namespace, its columns.
    pub references: Vec<(Vec<String>, Namespace, Vec<String>)>,
    /// Sets of columns that are unique and not null, the primary key included.
    pub unique: Vec<Vec<String>>,
    /// Sets of columns beside the primary key whose values no two records share, where a record can be gone for a moment and
    /// nothing else happens: no foreign key points to it, no trigger or rule sees it. Empty also where nobody can tell.
    pub contested: Vec<Vec<String>>,
    /// An estimate of the number of records.
    pub records_estimate: u64,
    /// What a user should know before syncing it ("text key without an index in C collation: read by one sorted cursor").
    pub warnings: Vec<String>,
    /// What a user should know of the store that holds it, the same for each of its tables.
    pub store_warnings: Vec<String>,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What is read of a namespace: the rows of a snapshot are `columns` in order, then one JSON value per include.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The root namespace.
    pub namespace: Namespace,
    /// The key columns; each is one of `columns`.
    pub key: Vec<String>,
    /// The columns read, key columns among them.
    pub columns: Vec<Column>,
    /// Related tables, nested into the row as JSON, part of its fingerprint.
    pub includes: Vec<Include>,
    /// Seed of the fingerprints: the mapping's revision.
    pub seed: u64,
    /// At most this many records per page.
    pub page_records_max: usize,
}

impl Selection {
    /// Positions of the key columns in `columns`; a key column that is missing is left out, which `describe` prevents.
    pub fn key_positions(&self) -> Vec<usize> {
        let position = |name: &String| self.columns.iter().position(|column| column.name == *name);
        self.key.iter().filter_map(position).collect()
    }
}

/// A related table that is read with its parent in one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Name of the nested value.
    pub name: String,
    /// The related table.
    pub namespace: Namespace,
    /// Pairs of (column of the related table, column of the parent).
    pub on: Vec<(String, String)>,
    /// An object or an array.
    pub arity: Arity,
    /// Columns of the related table, in the order in which they appear in the nested object.
    pub columns: Vec<Column>,
    /// Order of the array; ties are broken by all columns, so that the fingerprint is stable.
    pub order_by: Vec<String>,
    /// Tables related to the related table.
    pub includes: Vec<Include>,
}

/// How many related records belong to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// An object, or null; a second match is a Permanent fault of the record, never a silent choice.
    One,
    /// An array, perhaps empty.
    Many,
}
