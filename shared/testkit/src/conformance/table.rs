use fides_core::{Column, Field, Include, Kind, Namespace, Selection, Shape};

/// A table as the suites think of it, for a fixture to create in its store. Key columns are not nullable.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name; a fixture maps it to a namespace of its own.
    pub name: &'static str,
    /// Name, kind and whether it may be NULL.
    pub columns: Vec<(&'static str, Kind, bool)>,
    /// The primary key.
    pub key: Vec<&'static str>,
    /// Further columns that are unique, each by itself.
    pub unique: Vec<&'static str>,
}

/// A column for [`Spec::columns`] that may be NULL.
pub fn column(name: &'static str, kind: Kind) -> (&'static str, Kind, bool) {
    (name, kind, true)
}

impl Spec {
    /// A table whose first `key` columns are its key; key columns are not nullable, the others as they say.
    pub fn new(name: &'static str, key: usize, columns: &[(&'static str, Kind, bool)]) -> Self {
        let mut columns = columns.to_vec();
        columns[..key].iter_mut().for_each(|column| column.2 = false);
        let key = columns[..key].iter().map(|column| column.0).collect();
        Self { name, columns, key, unique: Vec::new() }
    }

    /// Its columns as a selection or an include reads them.
    pub fn read(&self) -> Vec<Column> {
        let column = |&(name, kind, nullable): &(&str, Kind, bool)| Column {
            name: name.to_owned(),
            kind,
            native: kind.name().to_owned(),
            nullable,
        };
        self.columns.iter().map(column).collect()
    }

    /// All of it, in pages of `page_records_max`.
    pub fn selection(&self, namespace: Namespace, page_records_max: usize) -> Selection {
        Selection {
            namespace,
            key: self.key.iter().map(ToString::to_string).collect(),
            columns: self.read(),
            includes: Vec::new(),
            seed: 7,
            page_records_max,
        }
    }

    /// The same with related tables.
    pub fn selection_with(&self, namespace: Namespace, includes: Vec<Include>) -> Selection {
        Selection { includes, ..self.selection(namespace, 100) }
    }

    /// Documents of this table.
    pub fn shape(&self) -> Shape {
        let field = |&(name, kind, _): &(&str, Kind, bool)| Field { name: name.to_owned(), kind };
        let position = |name| self.columns.iter().position(|column| column.0 == name);
        Shape {
            fields: self.columns.iter().map(field).collect(),
            key: self.key.iter().filter_map(|name| position(*name)).collect(),
        }
    }
}
