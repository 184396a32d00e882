//! The tables that a log follows: the root, and what is nested into its records.

use fides_core::{Fault, Include};
use sqlx::MySqlConnection;

use super::columns::Expected;
use super::path::Path;
use crate::catalog::{self, Relation};
use crate::reading::Reading;

/// One of them; a table may be in several places of a record.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) database: String,
    pub(super) table: String,
    /// How many columns it has.
    pub(super) width: usize,
    pub(super) engine: Option<String>,
    /// The key's columns, when this is the root.
    pub(super) root: Option<Vec<Expected>>,
    /// The ways from a record of this table to the roots that nest it.
    pub(super) paths: Vec<Path>,
}

impl Followed {
    fn new(relation: &Relation) -> Self {
        Self {
            database: relation.database.clone(),
            table: relation.table.clone(),
            width: relation.columns.len(),
            engine: relation.engine.clone(),
            root: None,
            paths: Vec::new(),
        }
    }

    /// `database.table`, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// Why the log does not say all that is needed of it.
    pub(super) fn refused(&self) -> Vec<Fault> {
        let read = self.root.iter().flatten().chain(self.paths.iter().flat_map(|path| &path.own));
        let refused = read.filter_map(|column| Some((column, column.refused()?)));
        let faults = refused.map(|(column, why)| {
            Fault::permanent(format!(
                "column {}.{} {why}, which is not read from the log",
                self.place(),
                column.name
            ))
            .advise(
                "use columns of integers, decimals, bytes, uuids, and texts in utf8mb4, ascii or latin1 for keys and \
                 joins; or leave `events` out of the pipeline: imports find what changed",
            )
        });
        faults.collect()
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Tables(pub(super) Vec<Followed>);

impl Tables {
    /// Looks the tables up, and refuses those whose log would not say all that is needed.
    pub(super) async fn open(connection: &mut MySqlConnection, reading: &Reading) -> Result<Self, Fault> {
        let tables = Self::find(connection, reading).await?;
        match tables.refused().into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(tables),
        }
    }

    /// Looks the tables up.
    pub(super) async fn find(connection: &mut MySqlConnection, reading: &Reading) -> Result<Self, Fault> {
        let mut tables = Self(Vec::new());
        let mut root = Followed::new(&reading.relation);
        let selection = &reading.selection;
        let key = selection.key_positions().into_iter().map(|at| &selection.columns[at]);
        root.root = Some(Expected::all(&reading.relation, key.map(|column| (column.name.as_str(), Some(column.kind)))));
        tables.0.push(root);
        let mut chains = Vec::new();
        collect(&selection.includes, &mut Vec::new(), &mut chains);
        for chain in chains {
            let Some(last) = chain.last() else { continue };
            let relation = catalog::require(connection, &last.namespace).await?;
            let path = Path::new(&chain, &relation, reading)?;
            tables.of(&relation).paths.push(path);
        }
        Ok(tables)
    }

    /// Why the log of some of them would not say all that is needed: a Permanent fault each.
    pub(super) fn refused(&self) -> Vec<Fault> {
        self.0.iter().flat_map(Followed::refused).collect()
    }

    /// Which of them has this name.
    pub(super) fn position(&self, database: &str, table: &str) -> Option<usize> {
        self.0.iter().position(|followed| followed.database == database && followed.table == table)
    }

    fn of(&mut self, relation: &Relation) -> &mut Followed {
        let at = self.position(&relation.database, &relation.table).unwrap_or_else(|| {
            self.0.push(Followed::new(relation));
            self.0.len() - 1
        });
        &mut self.0[at]
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
