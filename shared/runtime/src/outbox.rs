//! The change log of SQLite hosts: triggers and an outbox, made and removed by command only, because they are written into
//! a store that Fides does not own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fides_core::Selection;

use crate::config::{self, Config, Store};
use crate::finding::{Finding, StartError, located};
use crate::{registry, wire};

/// What was done to one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxOf {
    /// The host's name in the configuration.
    pub host: String,
    /// Its file.
    pub path: PathBuf,
    /// What was made: tables with the columns that are told. What was there already is not named.
    pub made: Vec<String>,
    /// How many pipelines follow it.
    pub pipelines: usize,
}

/// Makes the outbox and its triggers in every SQLite host whose log a pipeline follows. Where anything is wrong with a
/// pipeline, nothing is made at all. Repeating it is harmless.
pub async fn install_outboxes(config: &Config) -> Result<Vec<OutboxOf>, StartError> {
    let (mut selections, mut findings) = (BTreeMap::<&str, (&Path, Vec<Selection>)>::new(), Vec::new());
    for (pipeline, path) in followed(config) {
        let store = Store::Sqlite { path: path.to_owned() };
        let mapped = match registry::host(&store, false).await {
            Ok(host) => wire::map(pipeline, &*host).await,
            Err(fault) => Err(vec![Finding::fault(format!("hosts.{}", pipeline.host), &fault)]),
        };
        match mapped {
            Ok(mapped) => {
                selections.entry(&pipeline.host).or_insert((path, Vec::new())).1.push(mapped.selection);
            }
            Err(found) => findings.extend(found),
        }
    }
    let mut done = Vec::new();
    if findings.is_empty() {
        for (host, (path, selections)) in selections {
            match registry::install_outbox(path, &selections).await {
                Ok(made) => {
                    let (host, path) = (host.to_owned(), path.to_owned());
                    done.push(OutboxOf { host, path, made, pipelines: selections.len() });
                }
                Err(fault) => findings.push(Finding::fault(format!("hosts.{host}"), &fault)),
            }
        }
    }
    if findings.is_empty() { Ok(done) } else { Err(StartError { findings: located(config, findings) }) }
}

/// Removes what [`install_outboxes`] made from every SQLite host of the configuration, followed or not; gives the files
/// that had any of it.
pub async fn remove_outboxes(config: &Config) -> Result<Vec<PathBuf>, StartError> {
    let (mut done, mut findings) = (Vec::new(), Vec::new());
    for (name, store) in &config.hosts {
        let Store::Sqlite { path } = store else { continue };
        match registry::remove_outbox(path).await {
            Ok(true) => done.push(path.clone()),
            Ok(false) => {}
            Err(fault) => findings.push(Finding::fault(format!("hosts.{name}"), &fault)),
        }
    }
    if findings.is_empty() { Ok(done) } else { Err(StartError { findings: located(config, findings) }) }
}

/// Pipelines that follow the log of a SQLite file.
fn followed(config: &Config) -> impl Iterator<Item = (&config::Pipeline, &Path)> {
    config.pipelines.iter().filter_map(|pipeline| match (&pipeline.events, config.hosts.get(&pipeline.host)) {
        (Some(config::Events::Log), Some(Store::Sqlite { path })) => Some((pipeline, path.as_path())),
        _ => None,
    })
}
