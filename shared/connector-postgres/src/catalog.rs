//! What the system catalogs say of a table.

use fides_core::{Fault, Namespace};
use sqlx::{PgConnection, Row};

use crate::fault::fault;
use crate::kind::PgType;
use crate::quote;

/// A table, view or materialized view.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) oid: i64,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) records_estimate: u64,
    pub(crate) columns: Vec<Attribute>,
    pub(crate) indexes: Vec<Index>,
    /// Whether a trigger may change a row before it is inserted.
    pub(crate) has_trigger: bool,
    /// Whether rules or triggers are there for the statement that writes, and not for its rows.
    pub(crate) sees_statements: bool,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    /// As people write it: `character varying(10)`.
    pub(crate) native: String,
    /// `pg_type.oid` of its own type.
    pub(crate) type_oid: i64,
    /// Name of the base type: `varchar`.
    pub(crate) base: String,
    /// The base type as people write it: `character varying(10)`, also where the column's own type is a domain over it.
    pub(crate) base_native: String,
    pub(crate) ty: PgType,
    pub(crate) not_null: bool,
    /// Computed by the server: cannot be written.
    pub(crate) generated: bool,
    /// Whether a row that says nothing of it has a value all the same.
    pub(crate) filled: bool,
    pub(crate) collation: Collation,
}

/// How texts of a column compare by its own collation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collation {
    /// As their bytes do, which is the order of the key encoding.
    Bytes,
    /// In another order; equal texts have the same bytes.
    Language,
    /// Different texts may be equal.
    Folding,
}

/// When a unique index refuses a second record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unique {
    /// At once, as ON CONFLICT needs.
    Immediate,
    /// Perhaps only at the end of the transaction.
    Deferrable,
}

/// An index on whole columns, without a predicate.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) primary: bool,
    pub(crate) unique: Option<Unique>,
    /// Whether it is a B-tree, and so kept in order.
    pub(crate) sorted: bool,
    pub(crate) columns: Vec<String>,
    /// Whether each column is kept in the collation "C".
    pub(crate) in_c: Vec<bool>,
}

impl Relation {
    pub(crate) fn column(&self, name: &str) -> Option<&Attribute> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether an index is sorted by these columns in the order of the key encoding.
    pub(crate) fn sorted_by(&self, key: &[String]) -> bool {
        let fits = |index: &&Index| {
            index.sorted
                && index.columns.starts_with(key)
                && key.iter().zip(&index.in_c).all(|(name, in_c)| {
                    self.column(name).is_some_and(|column| {
                        column.ty != PgType::Text || column.collation == Collation::Bytes || *in_c
                    })
                })
        };
        self.indexes.iter().any(|index| fits(&index))
    }

    /// Sets of columns that are unique and not null.
    pub(crate) fn unique(&self) -> Vec<Vec<String>> {
        let not_null = |index: &&Index| {
            index.unique.is_some()
                && index.columns.iter().all(|name| self.column(name).is_some_and(|column| column.not_null))
        };
        let mut sets: Vec<&Index> = self.indexes.iter().filter(not_null).collect();
        sets.sort_by_key(|index| !index.primary);
        let mut unique: Vec<Vec<String>> = Vec::new();
        for index in sets {
            if !unique.contains(&index.columns) {
                unique.push(index.columns.clone());
            }
        }
        unique
    }

    /// Sets of columns beside the primary key that are unique.
    pub(crate) fn contested(&self) -> Vec<Vec<String>> {
        let others = self.indexes.iter().filter(|index| index.unique.is_some() && !index.primary);
        others.map(|index| index.columns.clone()).collect()
    }
}

const RELATION: &str = "\
SELECT c.oid::bigint, n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::bigint, \
  EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7), \
  c.relhasrules OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgenabled <> 'D' AND g.tgtype & 1 = 0) \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

const COLUMNS: &str = "\
WITH RECURSIVE base(root, oid, next, modifier) AS ( \
  SELECT t.oid, t.oid, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type t \
  WHERE t.oid IN (SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid) \
  UNION ALL SELECT b.root, t.oid, t.typbasetype, CASE t.typbasetype WHEN 0 THEN b.modifier ELSE t.typtypmod END \
  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.next) \
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '', \
  t.typname::text, t.typtype::text, e.typname::text, e.typtype::text, e.typdelim::text, \
  coalesce(CASE l.collprovider WHEN 'd' THEN d.locale IN ('C', 'POSIX') AND d.provider = 'c' \
    WHEN 'c' THEN l.collcollate IN ('C', 'POSIX') ELSE false END, false), \
  coalesce(l.collisdeterministic, true), \
  pg_catalog.format_type(t.oid, CASE WHEN b.root = b.oid THEN a.atttypmod ELSE b.modifier END), a.atttypid::bigint, \
  a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL OR own.typdefault IS NOT NULL \
FROM pg_catalog.pg_attribute a \
JOIN base b ON b.root = a.atttypid AND b.next = 0 \
JOIN pg_catalog.pg_type own ON own.oid = a.atttypid \
JOIN pg_catalog.pg_type t ON t.oid = b.oid \
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid \
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
CROSS JOIN (SELECT datcollate::text AS locale, coalesce(to_jsonb(pg_database)->>'datlocprovider', 'c') AS provider \
  FROM pg_catalog.pg_database WHERE datname = current_database()) d \
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const INDEXES: &str = "\
SELECT i.indisprimary, i.indisunique, i.indimmediate, m.amname = 'btree', \
  array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, at) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num \
    WHERE k.at <= i.indnkeyatts ORDER BY k.at), \
  array(SELECT coalesce(l.collname = 'C', false) FROM unnest(i.indcollation::oid[]) WITH ORDINALITY k(oid, at) \
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = k.oid ORDER BY k.at) \
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam \
WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indexrelid";

/// Looks a table up; `None` when there is none of that name.
pub(crate) async fn relation(connection: &mut PgConnection, namespace: &Namespace) -> Result<Option<Relation>, Fault> {
    let named = quote::table(namespace)?;
    look_up(connection, &named).await.map_err(|error| fault(&format!("describing table {namespace}"), error))
}

/// As [`relation`]; a missing table is a Permanent fault.
pub(crate) async fn require(connection: &mut PgConnection, namespace: &Namespace) -> Result<Relation, Fault> {
    relation(connection, namespace).await?.ok_or_else(|| {
        Fault::permanent(format!("there is no table {namespace}"))
            .advise("check its name and schema, and that this user may see it")
    })
}

async fn look_up(connection: &mut PgConnection, named: &str) -> Result<Option<Relation>, sqlx::Error> {
    let Some(found) = sqlx::query(RELATION).bind(named).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let oid: i64 = found.try_get(0)?;
    let columns = sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *connection).await?;
    let indexes = sqlx::query(INDEXES).bind(oid).fetch_all(&mut *connection).await?;
    Ok(Some(Relation {
        oid,
        schema: found.try_get(1)?,
        table: found.try_get(2)?,
        records_estimate: found.try_get::<i64, _>(3)?.unsigned_abs(),
        columns: columns.iter().map(attribute).collect::<Result<_, _>>()?,
        indexes: indexes.iter().map(index).collect::<Result<_, _>>()?,
        has_trigger: found.try_get(4)?,
        sees_statements: found.try_get(5)?,
    }))
}

fn attribute(row: &sqlx::postgres::PgRow) -> Result<Attribute, sqlx::Error> {
    let (base, class): (String, String) = (row.try_get(4)?, row.try_get(5)?);
    let element: Option<String> = row.try_get(6)?;
    let ty = match element {
        // The arrays of `box` are separated by semicolons.
        Some(element) if row.try_get::<&str, _>(8)? == "," => {
            PgType::Array(Box::new(PgType::of(&element, row.try_get(7)?)))
        }
        Some(_) => PgType::Other,
        None => PgType::of(&base, &class),
    };
    Ok(Attribute {
        name: row.try_get(0)?,
        native: row.try_get(1)?,
        type_oid: row.try_get(12)?,
        base: if class == "e" { "enum".to_owned() } else { base },
        base_native: row.try_get(11)?,
        ty,
        not_null: row.try_get(2)?,
        generated: row.try_get(3)?,
        filled: row.try_get(13)?,
        collation: match (row.try_get(9)?, row.try_get(10)?) {
            (_, false) => Collation::Folding,
            (true, true) => Collation::Bytes,
            (false, true) => Collation::Language,
        },
    })
}

fn index(row: &sqlx::postgres::PgRow) -> Result<Index, sqlx::Error> {
    let immediate: bool = row.try_get(2)?;
    Ok(Index {
        primary: row.try_get(0)?,
        unique: row.try_get::<bool, _>(1)?.then_some(if immediate { Unique::Immediate } else { Unique::Deferrable }),
        sorted: row.try_get(3)?,
        columns: row.try_get(4)?,
        in_c: row.try_get(5)?,
    })
}
