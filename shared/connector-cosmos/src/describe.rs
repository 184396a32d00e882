//! What a container holds, as far as some of its documents tell: a container has no columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use fides_core::{Column, Fault, Kind, Namespace, Selection, Table, Value};

use crate::condition::{Keying, Sql, path};
use crate::container::Container;
use crate::document::Document;
use crate::layout::{GONE, RESERVED};
use crate::reading::Reading;

/// What up to `documents` of a container tell of it.
pub(crate) async fn describe(container: Container, namespace: &Namespace, documents: usize) -> Result<Table, Fault> {
    let key = vec!["id".to_owned()];
    let selection = Selection {
        namespace: namespace.clone(),
        key: key.clone(),
        columns: Vec::new(),
        includes: Vec::new(),
        seed: 0,
        page_records_max: 1,
    };
    let reading = Reading { container: Arc::new(container), selection, keying: Keying::Fields(key) };
    let sample = format!("SELECT TOP {documents} * FROM c WHERE NOT IS_DEFINED({})", path(GONE));
    let sample = reading.items(Sql::new(sample), u32::try_from(documents).unwrap_or(u32::MAX)).await?;
    let sample: Vec<&str> = sample.iter().map(|item| item.get()).collect();
    // The driver cannot count over partitions: where there are more than these, nobody knows how many.
    let count = if sample.len() < documents { sample.len() as u64 } else { 0 };
    table(&reading.container, &sample, count)
}

/// The fields of a sample, in the order in which they were met.
fn table(container: &Container, sample: &[&str], count: u64) -> Result<Table, Fault> {
    let mut names: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for json in sample {
        for (name, value) in Document::parse(json)?.fields() {
            if RESERVED.contains(&name) {
                continue;
            }
            if !found.contains_key(name) {
                names.push(name.to_owned());
            }
            found.entry(name.to_owned()).or_default().meet(value);
        }
    }
    let columns = names.into_iter().filter_map(|name| {
        let found = found.get(&name)?;
        let nullable = name != "id" && (found.is_null || found.met < sample.len());
        Some(Column { kind: found.kind.unwrap_or(Kind::Any), native: found.native().to_owned(), nullable, name })
    });
    let columns: Vec<Column> = columns.collect();
    let key = key(container, &columns);
    let warnings = if key.len() > 1 {
        vec![format!(
            "it is read in the order of {}: that takes a composite index of these paths, in this order",
            key.join(", ")
        )]
    } else {
        Vec::new()
    };
    Ok(Table {
        columns,
        unique: vec![key.clone()],
        // A deletion leaves a tombstone, and a unique key holds within one partition only.
        contested: Vec::new(),
        primary_key: key,
        references: Vec::new(),
        records_estimate: count,
        warnings,
        store_warnings: vec![format!(
            "Cosmos DB does not describe documents: fields and their kinds are those of {} of them",
            sample.len()
        )],
    })
}

/// A document is identified by partition key and id.
fn key(container: &Container, columns: &[Column]) -> Vec<String> {
    let mut key: Vec<String> = Vec::new();
    for path in &container.definition.paths {
        let is_read = path.is_top() && columns.iter().any(|column| column.name == path.field());
        if is_read && path.field() != "id" {
            key.push(path.field().to_owned());
        }
    }
    key.push("id".to_owned());
    key
}

#[derive(Default)]
struct Found {
    met: usize,
    is_null: bool,
    kind: Option<Kind>,
}

impl Found {
    fn meet(&mut self, value: &Value<'_>) {
        self.met += 1;
        // Numbers are floats; those that are whole are told as such.
        let kind = match value.kind() {
            None => {
                self.is_null = true;
                return;
            }
            Some(Kind::Decimal | Kind::U64) => Kind::F64,
            Some(kind) => kind,
        };
        self.kind = Some(match (self.kind, kind) {
            (None, kind) => kind,
            (Some(known), kind) if known == kind => kind,
            (Some(Kind::I64 | Kind::F64), Kind::I64 | Kind::F64) => Kind::F64,
            _ => Kind::Any,
        });
    }

    fn native(&self) -> &'static str {
        match self.kind {
            None => "null",
            Some(Kind::Bool) => "boolean",
            Some(Kind::I64 | Kind::F64) => "number",
            Some(Kind::String) => "string",
            Some(Kind::Json) => "object or array",
            Some(_) => "various",
        }
    }
}
