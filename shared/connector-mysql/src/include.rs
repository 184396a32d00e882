//! Related tables, nested into the row as JSON by the query that reads the row: its fingerprint covers them.
//!
//! The text is put together here, not by the server's JSON functions: MySQL's cannot sort an array, MariaDB's know no
//! truth values, and a number keeps its digits only where nothing parses it. What grows beyond `max_allowed_packet`
//! becomes NULL in either server, so each level stands a mark in for it, and the record is refused when it is decoded.

use fides_core::{Arity, Fault, Include};
use sqlx::MySqlConnection;

use crate::catalog::{self, Order, Relation};
use crate::kind::MyType;
use crate::quote;

/// Opens the object that stands in for a second match. Its quotes cannot occur inside a JSON string unescaped, so only an
/// object with this very field can look like it.
pub(crate) const MATCHES: &str = "{\"fides:matches\":";
/// Stands in for what was too large.
pub(crate) const LARGE: &str = "{\"fides:large\":1}";

/// Tables by the place of their include, looked up once.
#[derive(Debug)]
pub(crate) struct Related {
    pub(crate) relation: Relation,
    pub(crate) includes: Vec<Related>,
}

/// The include as a scalar subquery over `parent`. `next` numbers the aliases.
pub(crate) fn subquery(include: &Include, related: &Related, parent: &str, next: &mut usize) -> Result<String, Fault> {
    let alias = format!("i{next}");
    *next += 1;
    let of = |column: &str| format!("{alias}.{}", quote::name(column));
    let mut fields = Vec::new();
    for column in &include.columns {
        let ty = related.relation.column(&column.name).map_or(MyType::Other, |found| found.ty);
        fields.push((column.name.as_str(), json(ty, &of(&column.name))));
    }
    for (inner, related) in include.includes.iter().zip(&related.includes) {
        fields.push((inner.name.as_str(), subquery(inner, related, &alias, next)?));
    }
    let object = object(&fields);
    let on = include.on.iter().map(|(own, parents)| format!("{} = {parent}.{}", of(own), quote::name(parents)));
    let from =
        format!("FROM {} AS {alias} WHERE {}", quote::table(&include.namespace)?, on.collect::<Vec<_>>().join(" AND "));
    let large = quote::text(LARGE);
    Ok(match include.arity {
        Arity::Many => {
            // Ties are broken by all columns, so that the same state always gives the same text.
            let names = include.order_by.iter().chain(include.columns.iter().map(|column| &column.name));
            let order = names.map(|name| match related.relation.column(name) {
                Some(found) if found.ty == MyType::Text && found.order != Order::Key => {
                    format!("CAST(CONVERT({} USING utf8mb4) AS BINARY)", of(name))
                }
                _ => of(name),
            });
            let order = order.collect::<Vec<_>>().join(", ");
            format!(
                "(SELECT IF(COUNT(*) = 0, '[]', COALESCE(CONCAT('[', GROUP_CONCAT({object} ORDER BY {order} \
                 SEPARATOR ','), ']'), {large})) {from})"
            )
        }
        Arity::One => format!(
            "(SELECT CASE COUNT(*) WHEN 0 THEN NULL WHEN 1 THEN MAX({object}) \
             ELSE CONCAT({}, COUNT(*), '}}') END {from})",
            quote::text(MATCHES)
        ),
    })
}

/// A JSON object of named texts of JSON.
fn object(fields: &[(&str, String)]) -> String {
    let mut parts = vec!["'{'".to_owned()];
    for (at, (name, json)) in fields.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let name = fides_format::to_json(&fides_core::Value::String((*name).into()));
        parts.push(quote::text(&format!("{comma}{name}:")));
        parts.push(format!("COALESCE({json}, 'null')"));
    }
    parts.push("'}'".to_owned());
    format!("COALESCE(CONCAT({}), {})", parts.join(", "), quote::text(LARGE))
}

/// A column as a text of JSON, or NULL.
fn json(ty: MyType, column: &str) -> String {
    match ty {
        MyType::Bool => format!("CASE {column} WHEN 0 THEN 'false' WHEN 1 THEN 'true' ELSE {column} END"),
        // Without the zeros of ZEROFILL.
        MyType::Int | MyType::Unsigned | MyType::Bit => format!("{column} + 0"),
        MyType::Float => format!("{column} * 1e0"),
        MyType::Decimal | MyType::Whole | MyType::Double | MyType::Json => column.to_owned(),
        MyType::Text | MyType::UuidText => format!("JSON_QUOTE(CONVERT({column} USING utf8mb4))"),
        MyType::Bytes | MyType::UuidBytes => format!("CONCAT('\"\\\\\\\\x', LOWER(HEX({column})), '\"')"),
        MyType::Uuid | MyType::Date | MyType::Time => format!("CONCAT('\"', {column}, '\"')"),
        MyType::Timestamp => format!("CONCAT('\"', REPLACE({column}, ' ', 'T'), '\"')"),
        MyType::TimestampTz => format!("CONCAT('\"', REPLACE({column}, ' ', 'T'), 'Z\"')"),
        MyType::Other => format!("JSON_QUOTE(CAST({column} AS CHAR))"),
    }
}

/// Looks the related tables up; names everything that the includes read and the database does not have.
pub(crate) async fn look_up(
    connection: &mut MySqlConnection,
    includes: &[Include],
    parent: &Relation,
    missing: &mut Vec<String>,
) -> Result<Vec<Related>, Fault> {
    let mut found = Vec::with_capacity(includes.len());
    for include in includes {
        let Some(relation) = catalog::relation(connection, &include.namespace).await? else {
            missing.push(format!("table {}", include.namespace));
            continue;
        };
        let own = include.on.iter().map(|(own, _)| own).chain(&include.order_by);
        let named = include.columns.iter().map(|column| &column.name).chain(own);
        let unknown = named.filter(|name| relation.column(name).is_none());
        missing.extend(unknown.map(|name| format!("column {}.{name}", include.namespace)));
        let parents = include.on.iter().map(|(_, parent)| parent).filter(|name| parent.column(name).is_none());
        missing.extend(parents.map(|name| format!("column {}.{}.{name}", parent.database, parent.table)));
        let includes = Box::pin(look_up(connection, &include.includes, &relation, missing)).await?;
        found.push(Related { relation, includes });
    }
    Ok(found)
}
