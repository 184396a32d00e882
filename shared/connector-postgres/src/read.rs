//! What a snapshot reads: the SELECT behind every COPY, and how its lines are understood.

use std::sync::Arc;

use fides_core::{Fault, Key, KeyRange, Selection};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::catalog::{self, Relation};
use crate::copy_text::Lines;
use crate::fault::fault;
use crate::key::{Bound, KeyColumns};
use crate::{include, quote};

/// A selection, checked against the database.
pub(crate) struct Reading {
    pub(crate) selection: Selection,
    pub(crate) relation: Relation,
    pub(crate) key: KeyColumns,
    pub(crate) lines: Arc<Lines>,
    /// `SELECT … FROM … AS p`
    select: String,
}

impl Reading {
    /// Checks a selection and prepares its SQL. Everything that is missing is named in one Permanent fault.
    pub(crate) async fn open(connection: &mut PgConnection, selection: &Selection) -> Result<Self, Fault> {
        let namespace = &selection.namespace;
        let relation = catalog::require(connection, namespace).await?;
        let named = selection.columns.iter().map(|column| &column.name).chain(&selection.key);
        let unknown = named.filter(|name| relation.column(name).is_none());
        let mut missing: Vec<String> = unknown.map(|name| format!("column {namespace}.{name}")).collect();
        include::check(connection, &selection.includes, &relation, &mut missing).await?;
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            return Err(Fault::permanent(format!("missing: {}", missing.join(", ")))
                .advise("check their names, and that this user may see them"));
        }
        let key = KeyColumns::new(selection, &relation)?;
        refuse_null_keys(connection, selection, &relation).await?;
        let lines = Arc::new(lines(selection, &relation, &key));
        let select = select(selection, &lines)?;
        Ok(Self { selection: selection.clone(), relation, key, lines, select })
    }

    /// The SELECT of a range, after a key.
    pub(crate) fn range(&self, range: &KeyRange, after: Option<&Key>) -> Result<String, Fault> {
        let mut conditions = Vec::new();
        // A bound that another one implies would only cost the planner.
        let lower = range.lower.as_ref().filter(|lower| after.is_none_or(|after| after < *lower));
        for (bound, key) in [(Bound::From, lower), (Bound::After, after), (Bound::Before, range.upper.as_ref())] {
            if let Some(key) = key {
                conditions.push(self.key.compare(bound, key)?);
            }
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        Ok(self.ordered(&filter))
    }

    /// The COPY of some keys; `None` when the table can hold none of them.
    pub(crate) fn keys<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<Option<String>, Fault> {
        Ok(self.key.among(keys)?.map(|condition| copy(&self.ordered(&format!(" WHERE {condition}")))))
    }

    /// The COPY of the first keys under a condition, behind a key.
    pub(crate) fn roots(&self, condition: &str, after: Option<&Key>, keys_max: usize) -> Result<String, Fault> {
        let after = after.map(|after| self.key.compare(Bound::After, after)).transpose()?;
        let after = after.map(|after| format!(" AND {after}")).unwrap_or_default();
        let names = quote::names("p.", self.key.columns.iter().map(|column| column.name.as_str()));
        let table = quote::table(&self.selection.namespace)?;
        let order = self.key.order();
        Ok(format!(
            "COPY (SELECT {names} FROM {table} AS p WHERE {condition}{after} ORDER BY {order} LIMIT {keys_max}) TO STDOUT"
        ))
    }

    fn ordered(&self, filter: &str) -> String {
        format!("{}{filter} ORDER BY {}", self.select, self.key.order())
    }
}

/// The COPY of a SELECT.
pub(crate) fn copy(select: &str) -> String {
    format!("COPY ({select}) TO STDOUT")
}

fn lines(selection: &Selection, relation: &Relation, key: &KeyColumns) -> Lines {
    let keys = selection.key_positions();
    let others = (0..selection.columns.len()).filter(|at| !keys.contains(at));
    let own = |at: usize| {
        let column = &selection.columns[at];
        let found = relation.column(&column.name).map(|found| found.ty.clone());
        (found.unwrap_or(crate::kind::PgType::Other).read_as(column.kind), at)
    };
    Lines {
        place: selection.namespace.to_string(),
        columns: keys.iter().copied().chain(others).map(own).collect(),
        key: key.columns.len(),
        includes: selection.includes.iter().map(|include| include.name.clone()).collect(),
        one: include::any_one(&selection.includes),
    }
}

fn select(selection: &Selection, lines: &Lines) -> Result<String, Fault> {
    let names = lines.columns.iter().map(|(_, at)| selection.columns[*at].name.as_str());
    let mut fields = quote::names("p.", names);
    let mut next = 0;
    for include in &selection.includes {
        fields.push_str(", ");
        fields.push_str(&include::subquery(include, "p", &mut next)?);
    }
    Ok(format!("SELECT {fields} FROM {} AS p", quote::table(&selection.namespace)?))
}

/// Comparisons skip NULLs, so that a scan of ranges would miss such a record silently. Only columns that are not
/// declared NOT NULL are asked.
async fn refuse_null_keys(
    connection: &mut PgConnection,
    selection: &Selection,
    relation: &Relation,
) -> Result<(), Fault> {
    let namespace = &selection.namespace;
    for name in selection.key.iter().filter(|name| relation.column(name).is_some_and(|column| !column.not_null)) {
        let sql =
            format!("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)", quote::table(namespace)?, quote::name(name));
        let found: bool = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| fault(&format!("reading table {namespace}"), error))?;
        if found {
            return Err(Fault::permanent(format!("key column {namespace}.{name} holds NULL"))
                .advise("choose key columns that are declared NOT NULL and unique, or remove the record"));
        }
    }
    Ok(())
}
