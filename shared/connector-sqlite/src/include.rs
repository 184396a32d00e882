//! Related tables, nested into the row as JSON by the query that reads the row: its fingerprint covers them.
//!
//! Integers and decimals keep their digits. A REAL is written by SQLite with 17 significant digits, which read back as
//! the same float. Bytes, which JSON cannot hold, become `\x…` in hex.

use std::sync::Arc;

use fides_core::{Arity, Column, Decode, Fault, Include, Key, Kind, RowCodec, Selection, Value};

use crate::query::{joined, list, quoted, table};

/// Opens the object that stands in for a second match. Its quotes cannot occur inside a JSON string unescaped, so only
/// an object with this very field can look like it.
const MATCHES: &str = "{\"fides:matches\":";

/// The include as a scalar subquery over `parent`: a JSON text, or NULL where arity one finds nothing. Aliases are
/// numbered by `next`.
pub(crate) fn subquery(include: &Include, parent: &str, next: &mut usize) -> Result<String, Fault> {
    let alias = format!("i{next}");
    *next += 1;
    let columns = include.columns.iter().map(|column| Ok(named(&column.name, &field(column, &alias))));
    let nested = include.includes.iter().map(|inner| {
        // The outer json() tells json_object that the text is JSON.
        Ok(named(&inner.name, &format!("json({})", subquery(inner, &alias, &mut *next)?)))
    });
    let object = format!("json_object({})", joined(columns.chain(nested).collect::<Result<Vec<_>, Fault>>()?, ", "));
    let of = |column: &String| format!("{alias}.{}", quoted(column));
    let on = include.on.iter().map(|(own, parents)| format!("{} = {parent}.{}", of(own), quoted(parents)));
    let from = format!("FROM {} AS {alias} WHERE {}", table(&include.namespace)?, joined(on, " AND "));
    Ok(match include.arity {
        Arity::Many => {
            // Ties are broken by all columns, so that the same state always gives the same text.
            let order = include.order_by.iter().chain(include.columns.iter().map(|column| &column.name));
            let order = list(order, |column| format!("{} COLLATE BINARY", of(column)));
            format!("(SELECT json_group_array({object} ORDER BY {order}) {from})")
        }
        Arity::One => format!(
            "(SELECT CASE count(*) WHEN 0 THEN NULL WHEN 1 THEN min({object}) \
             ELSE json_object('fides:matches', count(*), 'include', {}) END {from})",
            literal(&include.name)
        ),
    })
}

fn named(name: &str, value: &str) -> String {
    format!("{}, {value}", literal(name))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A column as an argument of `json_object`, which refuses BLOBs and knows neither booleans nor JSON.
fn field(column: &Column, alias: &str) -> String {
    let value = format!("{alias}.{}", quoted(&column.name));
    let class = match column.kind {
        Kind::Bool => {
            format!(
                "WHEN 'integer' THEN CASE {value} WHEN 0 THEN json('false') WHEN 1 THEN json('true') ELSE {value} END"
            )
        }
        Kind::Json => format!("WHEN 'text' THEN CASE WHEN json_valid({value}) THEN json({value}) ELSE {value} END"),
        _ => String::new(),
    };
    format!("CASE typeof({value}) WHEN 'blob' THEN '\\x' || lower(hex({value})) {class} ELSE {value} END")
}

/// The decoder of a selection's rows. Where an include of arity one may have a second match, that record, and only
/// that record, fails when it is decoded.
pub(crate) fn decoder(selection: &Selection) -> Arc<dyn Decode> {
    fn any_one(includes: &[Include]) -> bool {
        includes.iter().any(|include| include.arity == Arity::One || any_one(&include.includes))
    }
    if !any_one(&selection.includes) {
        return Arc::new(RowCodec);
    }
    Arc::new(OneMatch {
        place: selection.namespace.to_string(),
        key: selection.key_positions(),
        includes: selection.includes.iter().map(|include| include.name.clone()).collect(),
        columns: selection.columns.len(),
    })
}

struct OneMatch {
    place: String,
    key: Vec<usize>,
    includes: Vec<String>,
    columns: usize,
}

impl Decode for OneMatch {
    fn decode<'a>(&self, row: &'a [u8], values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        RowCodec.decode(row, values)?;
        let nested = values.get(self.columns..).unwrap_or_default();
        for (value, name) in nested.iter().zip(&self.includes) {
            if let Value::Json(text) = value
                && text.contains(MATCHES)
            {
                let key: Vec<Value<'_>> = self.key.iter().filter_map(|&at| values.get(at).cloned()).collect();
                let key = Key::encode(&key).map_or_else(|_| "?".to_owned(), |key| key.to_string());
                return Err(Fault::permanent(format!(
                    "record {key} of {}: include {name} finds more than one match where `one` was declared",
                    self.place
                ))
                .advise("declare it as `many`, or make the columns it is joined on unique"));
            }
        }
        Ok(())
    }
}
