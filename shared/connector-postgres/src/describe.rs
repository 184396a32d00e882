//! `describe` and `namespaces`: the catalogs in the words of the ports.

use fides_core::{Column, Fault, Namespace, Table};
use sqlx::{PgConnection, Row};

use crate::catalog::{self, Attribute, Relation};
use crate::fault::fault;
use crate::kind::PgType;

const REFERENCES: &str = "\
SELECT array(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(num, at) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num ORDER BY k.at), \
  n.nspname::text, t.relname::text, \
  array(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(num, at) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.num ORDER BY k.at) \
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.confrelid \
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
WHERE c.conrelid = $1::oid AND c.contype = 'f' ORDER BY c.conname";

/// Whether something else happens when a row of the table is gone for a moment. Everybody may read this.
const WATCHED: &str = "\
SELECT (SELECT relkind <> 'r' OR relispartition OR relhasrules OR relrowsecurity FROM pg_catalog.pg_class WHERE oid = $1::oid) \
    OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE $1::oid IN (inhrelid, inhparent)) \
    OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1::oid) \
    OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1::oid AND NOT tgisinternal)";

const NAMESPACES: &str = "\
SELECT n.nspname::text, c.relname::text \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' \
  AND c.relname <> '_fides_lane' \
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
ORDER BY n.nspname::text COLLATE \"C\", c.relname::text COLLATE \"C\"";

/// Every table and view that this user may read.
pub(crate) async fn namespaces(connection: &mut PgConnection) -> Result<Vec<Namespace>, Fault> {
    let read = |error| fault("listing tables", error);
    let rows = sqlx::query(NAMESPACES).fetch_all(connection).await.map_err(read)?;
    let namespace = |row: &sqlx::postgres::PgRow| Ok(Namespace(vec![row.try_get(0)?, row.try_get(1)?]));
    rows.iter().map(namespace).collect::<Result<_, _>>().map_err(read)
}

/// A table in the words of the ports; `None` when there is none.
pub(crate) async fn describe(connection: &mut PgConnection, namespace: &Namespace) -> Result<Option<Table>, Fault> {
    let Some(relation) = catalog::relation(connection, namespace).await? else { return Ok(None) };
    let read = |error| fault(&format!("describing table {namespace}"), error);
    let rows = sqlx::query(REFERENCES).bind(relation.oid).fetch_all(&mut *connection).await.map_err(read)?;
    let reference = |row: &sqlx::postgres::PgRow| {
        Ok((row.try_get(0)?, Namespace(vec![row.try_get(1)?, row.try_get(2)?]), row.try_get(3)?))
    };
    let references = rows.iter().map(reference).collect::<Result<_, _>>().map_err(read)?;
    let is_watched: Option<bool> =
        sqlx::query_scalar(WATCHED).bind(relation.oid).fetch_one(connection).await.map_err(read)?;
    let primary = relation.indexes.iter().find(|index| index.primary);
    Ok(Some(Table {
        columns: relation.columns.iter().map(column).collect(),
        primary_key: primary.map(|index| index.columns.clone()).unwrap_or_default(),
        references,
        unique: relation.unique(),
        contested: if is_watched == Some(false) { relation.contested() } else { Vec::new() },
        records_estimate: relation.records_estimate,
        warnings: warnings(&relation),
        store_warnings: Vec::new(),
    }))
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
    let is_text = |name: &String| relation.column(name).is_some_and(|column| column.ty == PgType::Text);
    let unsorted = |key: &&Vec<String>| key.iter().any(is_text) && !relation.sorted_by(key);
    let warning = |key: &Vec<String>| {
        let Relation { schema, table, .. } = relation;
        let columns: Vec<String> = key
            .iter()
            .map(|name| format!("{}{}", crate::quote::name(name), if is_text(name) { " COLLATE \"C\"" } else { "" }))
            .collect();
        format!(
            "text key ({}) has no index in C collation: read by one sorted cursor; to read in ranges: CREATE INDEX ON {} ({})",
            key.join(", "),
            crate::quote::names("", [schema.as_str()]) + "." + &crate::quote::name(table),
            columns.join(", ")
        )
    };
    relation.unique().iter().filter(unsorted).map(warning).collect()
}
