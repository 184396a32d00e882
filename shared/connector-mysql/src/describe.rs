//! `describe` and `namespaces`: the catalog in the words of the ports.

use fides_core::{Column, Fault, Namespace, Table};
use sqlx::MySqlConnection;

use crate::catalog::{self, Attribute, Order, Relation};
use crate::fault::fault;
use crate::kind::MyType;
use crate::query::texts;
use crate::{fence, quote};

/// Every table and view of the URL's database that this user may see.
pub(crate) async fn namespaces(connection: &mut MySqlConnection) -> Result<Vec<Namespace>, Fault> {
    let sql = format!(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name <> {}",
        quote::text(fence::TABLE)
    );
    let rows = texts(connection, &sql).await.map_err(|error| fault("listing tables", error))?;
    let mut found: Vec<Namespace> =
        rows.into_iter().map(|row| Namespace(row.into_iter().flatten().collect())).collect();
    found.sort();
    Ok(found)
}

/// A table in the words of the ports; `None` when there is none.
pub(crate) async fn describe(connection: &mut MySqlConnection, namespace: &Namespace) -> Result<Option<Table>, Fault> {
    let Some(relation) = catalog::relation(connection, namespace).await? else { return Ok(None) };
    let read = |error| fault(&format!("describing table {namespace}"), error);
    let references = references(connection, namespace).await.map_err(read)?;
    let primary = relation.indexes.iter().find(|index| index.is_primary());
    Ok(Some(Table {
        columns: relation.columns.iter().map(column).collect(),
        primary_key: primary.map(|index| index.columns.clone()).unwrap_or_default(),
        references,
        unique: relation.unique(),
        // The server shows foreign keys and triggers only to who has rights on them.
        contested: Vec::new(),
        records_estimate: relation.records_estimate,
        warnings: warnings(&relation),
        store_warnings: Vec::new(),
    }))
}

type Reference = (Vec<String>, Namespace, Vec<String>);

async fn references(connection: &mut MySqlConnection, namespace: &Namespace) -> Result<Vec<Reference>, sqlx::Error> {
    let sql = format!(
        "SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, referenced_column_name \
         FROM information_schema.key_column_usage WHERE {} AND referenced_table_name IS NOT NULL \
         ORDER BY constraint_name, ordinal_position",
        catalog::named(namespace)
    );
    let mut references: Vec<(String, Reference)> = Vec::new();
    for row in texts(connection, &sql).await? {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || fields.next().unwrap_or_default();
        let (name, own, database, table, theirs) = (next(), next(), next(), next(), next());
        if references.last().is_none_or(|(last, _)| *last != name) {
            references.push((name, (Vec::new(), Namespace(vec![database, table]), Vec::new())));
        }
        if let Some((_, (owns, _, others))) = references.last_mut() {
            owns.push(own);
            others.push(theirs);
        }
    }
    Ok(references.into_iter().map(|(_, reference)| reference).collect())
}

fn column(attribute: &Attribute) -> Column {
    Column {
        name: attribute.name.clone(),
        kind: attribute.ty.kind(),
        native: attribute.native.clone(),
        nullable: !attribute.not_null,
    }
}

fn warnings(relation: &Relation) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(engine) = relation.engine.as_deref().filter(|engine| !engine.eq_ignore_ascii_case("InnoDB")) {
        warnings.push(format!(
            "its engine is {engine}, which has no transactions: a scan of it is not one state; run: ALTER TABLE {}.{} \
             ENGINE = InnoDB",
            quote::name(&relation.database),
            quote::name(&relation.table)
        ));
    }
    let unsorted = |key: &&Vec<String>| !relation.sorted_by(key);
    let text = |name: &&String| {
        relation.column(name).is_some_and(|column| column.ty == MyType::Text && column.order != Order::Key)
    };
    for key in relation.unique().iter().filter(unsorted) {
        let texts: Vec<&str> = key.iter().filter(text).map(String::as_str).collect();
        let mend = if texts.is_empty() {
            String::new()
        } else {
            format!(
                "; to read it in ranges, give {} a collation by code point without padding (utf8mb4_nopad_bin of \
                 MariaDB, utf8mb4_0900_bin of MySQL)",
                texts.join(", ")
            )
        };
        warnings.push(format!(
            "key ({}) is not kept in the order of its bytes: each page sorts what is left of the table{mend}",
            key.join(", ")
        ));
    }
    warnings
}
