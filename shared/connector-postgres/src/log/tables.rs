//! The tables that a log follows: the root, and what is nested into its records.

use std::collections::BTreeSet;

use fides_core::{Fault, FaultKind, Include};
use sqlx::PgConnection;

use super::columns::Expected;
use super::identity;
use super::path::Path;
use crate::catalog::{self, Relation};
use crate::fault::fault;
use crate::quote;
use crate::read::Reading;

/// One of them; a table may be in several places of a record.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) table: String,
    /// The columns of a raw line in its order, when this is the root. What a record nests is not among them.
    pub(super) root: Option<Vec<Expected>>,
    /// The ways from a record of this table to the roots that nest it.
    pub(super) paths: Vec<Path>,
    /// The columns whose old values are needed.
    needed: BTreeSet<String>,
}

impl Followed {
    fn new(relation: &Relation) -> Self {
        Self {
            oid: relation.oid as u32,
            schema: relation.schema.clone(),
            table: relation.table.clone(),
            root: None,
            paths: Vec::new(),
            needed: BTreeSet::new(),
        }
    }

    /// `schema.table`, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn quoted(&self) -> String {
        format!("{}.{}", quote::name(&self.schema), quote::name(&self.table))
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Tables(pub(super) Vec<Followed>);

impl Tables {
    /// Looks the tables up, and refuses those whose log would not say all that is needed.
    pub(super) async fn open(connection: &mut PgConnection, reading: &Reading) -> Result<Self, Fault> {
        let tables = Self::find(connection, reading).await?;
        match tables.refused(connection).await?.into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(tables),
        }
    }

    /// Looks the tables up.
    pub(super) async fn find(connection: &mut PgConnection, reading: &Reading) -> Result<Self, Fault> {
        let mut tables = Self(Vec::new());
        let mut root = Followed::new(&reading.relation);
        let names = reading.lines.columns.iter().map(|(_, at)| &reading.selection.columns[*at].name);
        root.root = Some(Expected::all(&reading.relation, names));
        root.needed = reading.selection.key.iter().cloned().collect();
        tables.0.push(root);
        let mut chains = Vec::new();
        collect(&reading.selection.includes, &mut Vec::new(), &mut chains);
        for chain in chains {
            let Some(last) = chain.last() else { continue };
            let relation = catalog::require(connection, &last.namespace).await?;
            let path = Path::new(&chain, &relation, reading)?;
            let followed = tables.of(&relation);
            followed.needed.extend(last.on.iter().map(|(own, _)| own.clone()));
            followed.paths.push(path);
        }
        Ok(tables)
    }

    /// Why the log of some of them would not say all that is needed: a Permanent fault each.
    pub(super) async fn refused(&self, connection: &mut PgConnection) -> Result<Vec<Fault>, Fault> {
        let mut refused = Vec::new();
        for followed in &self.0 {
            match identity::check(connection, followed.oid, &followed.place(), &followed.needed).await {
                Ok(()) => {}
                Err(fault) if fault.kind == FaultKind::Permanent => refused.push(fault),
                Err(fault) => return Err(fault),
            }
        }
        Ok(refused)
    }

    fn of(&mut self, relation: &Relation) -> &mut Followed {
        let at = self.0.iter().position(|followed| i64::from(followed.oid) == relation.oid);
        let at = at.unwrap_or_else(|| {
            self.0.push(Followed::new(relation));
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Whether their names still lead to them.
    pub(super) async fn are_those(&self, connection: &mut PgConnection) -> Result<bool, Fault> {
        const SAME: &str = "SELECT bool_and(to_regclass(name)::oid::bigint IS NOT DISTINCT FROM oid) \
            FROM unnest($1::bigint[], $2::text[]) AS followed (oid, name)";
        let (oids, names): (Vec<i64>, Vec<String>) = self.published().into_iter().unzip();
        let same: Option<bool> = sqlx::query_scalar(SAME)
            .bind(oids)
            .bind(names)
            .fetch_one(connection)
            .await
            .map_err(|error| fault("looking up the tables that are followed", error))?;
        Ok(same.unwrap_or(true))
    }

    /// What a publication has to hold: OIDs and quoted names.
    pub(super) fn published(&self) -> Vec<(i64, String)> {
        self.0.iter().map(|followed| (i64::from(followed.oid), followed.quoted())).collect()
    }
}

/// Every include with those around it, outermost first.
fn collect<'i>(includes: &'i [Include], around: &mut Vec<&'i Include>, chains: &mut Vec<Vec<&'i Include>>) {
    for include in includes {
        around.push(include);
        chains.push(around.clone());
        collect(&include.includes, around, chains);
        around.pop();
    }
}
