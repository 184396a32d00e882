//! Related tables, nested into the row as JSON by the query that reads the row: its fingerprint covers them.
//!
//! Integers and decimals keep their digits; NaN and the infinities, which JSON has no number for, become strings.

use fides_core::{Arity, Fault, Include};
use sqlx::PgConnection;

use crate::catalog::{self, Relation};
use crate::quote;

/// The include as a scalar subquery over `parent`. `next` numbers the aliases.
pub(crate) fn subquery(include: &Include, parent: &str, next: &mut usize) -> Result<String, Fault> {
    let alias = format!("i{next}");
    *next += 1;
    let of = |column: &str| format!("{alias}.{}", quote::name(column));
    let mut fields: Vec<String> = include.columns.iter().map(|column| of(&column.name)).collect();
    for inner in &include.includes {
        fields.push(format!("{} AS {}", subquery(inner, &alias, next)?, quote::name(&inner.name)));
    }
    // row_to_json of a subselect: json_build_object takes 100 arguments at most. `o.*`: a column may be called o, too.
    let object = format!("(SELECT row_to_json(o.*) FROM (SELECT {}) o)", fields.join(", "));
    let on: Vec<String> =
        include.on.iter().map(|(own, parents)| format!("{} = {parent}.{}", of(own), quote::name(parents))).collect();
    let from = format!("FROM {} AS {alias} WHERE {}", quote::table(&include.namespace)?, on.join(" AND "));
    Ok(match include.arity {
        Arity::Many => {
            let sorts = (0..include.order_by.len()).map(|at| format!("q.o{at}"));
            // Ties are broken by the whole object, so that the same state always gives the same text.
            let order: Vec<String> = sorts.chain(["q.j::text COLLATE \"C\"".to_owned()]).collect();
            let columns = include.order_by.iter().enumerate().map(|(at, name)| format!(", {} AS o{at}", of(name)));
            let columns = columns.collect::<Vec<_>>().concat();
            format!(
                "(SELECT coalesce(json_agg(q.j ORDER BY {}), '[]'::json) FROM (SELECT {object} AS j{columns} {from}) q)",
                order.join(", ")
            )
        }
        Arity::One => format!(
            "(SELECT CASE count(*) WHEN 0 THEN NULL WHEN 1 THEN (array_agg(q.j))[1] \
             ELSE '{{\"fides:matches\":2}}'::json END FROM (SELECT {object} AS j {from} LIMIT 2) q)"
        ),
    })
}

/// Whether a record may meet a second match.
pub(crate) fn any_one(includes: &[Include]) -> bool {
    includes.iter().any(|include| include.arity == Arity::One || any_one(&include.includes))
}

/// Names everything that the includes read and the database does not have.
pub(crate) async fn check(
    connection: &mut PgConnection,
    includes: &[Include],
    parent: &Relation,
    missing: &mut Vec<String>,
) -> Result<(), Fault> {
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
        missing.extend(parents.map(|name| format!("column {}.{}.{name}", parent.schema, parent.table)));
        Box::pin(check(connection, &include.includes, &relation, missing)).await?;
    }
    Ok(())
}
