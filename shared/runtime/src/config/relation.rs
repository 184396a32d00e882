//! `include`: related tables that are read with each record.

use super::collection::{DottedPath, NameRule, Named, Names, complete};
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Arity, Columns, Relation};
use super::node::{Content, Node};
use super::scalar::{Text, Word};

/// The related tables of one record or of one related table; none when absent.
pub(super) fn include(fields: &mut Fields<'_, '_>) -> Option<Vec<Relation>> {
    let relations =
        Named { names: NameRule::Field, of: section::<Unnamed>(), expected: "related tables by field name" };
    let about = "related tables, by the field that they become; read in the same query as the record";
    let Some(relations) = fields.optional("include", about, relations)? else { return Some(Vec::new()) };
    let named = |(name, Unnamed(relation))| Relation { name, ..relation };
    Some(complete(relations)?.into_iter().map(named).collect())
}

/// A relation whose name, the key it stands under, is still to come.
struct Unnamed(Relation);

impl Section for Unnamed {
    const NAME: &'static str = "relation";
    const ABOUT: &'static str = "a related table";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let from = fields.required("from", "the related table", DottedPath("a table"));
        let parents =
            Named { names: NameRule::Field, of: Text("a column of the parent"), expected: "a map of columns" };
        let on = fields.required("on", "what joins it: its own column, and the column of the parent", parents);
        let arities = Word(&[("one", Arity::One), ("many", Arity::Many)]);
        let arity = fields.required("as", "how many of its rows belong to one parent", arities);
        let columns = fields.defaulted("columns", "which of its columns are read", ColumnChoice, "*");
        let order = fields.optional("order_by", "the columns that order its rows", Names("a column"));
        let order_fits = fields.check(|reading, node| match node.get("order_by") {
            Some(order) if arity == Some(Arity::One) && !order.is_null() => {
                reading.refuse_at(&order.spot, "an order of at most one row", "`order_by` only beside `as: many`")
            }
            _ => Some(()),
        });
        let include = include(fields);
        order_fits?;
        Some(Self(Relation {
            name: String::new(),
            from: from?,
            on: complete(on?)?,
            arity: arity?,
            columns: columns?,
            order_by: order?.unwrap_or_default(),
            include: include?,
        }))
    }
}

/// `*` for all columns, or a list of them.
pub(super) struct ColumnChoice;

impl Form for ColumnChoice {
    type Value = Columns;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Columns> {
        match &node.content {
            Content::List(_) => Names("a column").read(reading, node).map(Columns::Only),
            _ if node.scalar() == Some("*") => Some(Columns::All),
            _ => reading.refuse(node, "'*' or a list of columns"),
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "const": "*" }, Names("a column").schema(definitions)] })
    }
}
