//! From a pipeline of the configuration to a pipeline of the engine. Everything that does not fit is found, not only the
//! first thing.

use std::sync::Arc;

use fides_core::port::{Backplane, Host, Sink, Target};
use fides_core::{Arity, Column, Include, Namespace, PipelineId, Selection, Shape, Table};
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline};
use fides_mapping as mapping;

use crate::config;
use crate::convert;
use crate::finding::Finding;

/// A pipeline's host side, described and compiled: no queue and no target yet.
pub(crate) struct Mapped {
    pub(crate) selection: Selection,
    pub(crate) mapper: Arc<dyn fides_core::port::Mapper>,
    pub(crate) warnings: Vec<Finding>,
}

/// Describes the host namespace and compiles the mapping against it.
pub(crate) async fn map(pipeline: &config::Pipeline, host: &dyn Host) -> Result<Mapped, Vec<Finding>> {
    let place = |key: &str| format!("pipelines.{}.{key}", pipeline.id);
    let from = convert::namespace(&pipeline.from);
    let table = describe(host, &from, &place("from")).await.map_err(|finding| vec![finding])?;
    let mut findings = Vec::new();
    let key = key_of(pipeline, &table, &mut findings);
    let (mut includes, mut unread) = (Vec::new(), Vec::new());
    for relation in &pipeline.include {
        let at = place(&format!("include.{}", relation.name));
        match include(host, relation, &table, &from, &at, &mut findings).await {
            Some(include) => includes.push(include),
            None => unread.push(relation.name.clone()),
        }
    }
    let spec = mapping::Spec { fields: convert::fields(&pipeline.fields), when: pipeline.when.clone(), key };
    let mistaken = |error: &mapping::MappingError| Finding {
        advice: error.nearest.as_ref().map(|near| format!("did you mean {near:?}?")),
        ..Finding::error(place(&error.place), format!("found {}, expected {}", error.found, error.expected))
    };
    if !findings.is_empty() {
        // A wrong key is told once.
        let is_keyed = findings.iter().any(|finding| finding.path == place("key"));
        let mistakes = mapping::mistakes(&spec, &table, &includes, &unread);
        let news = mistakes.iter().filter(|error| !(is_keyed && error.place == "key"));
        findings.extend(news.map(mistaken));
        return Err(findings);
    }
    let compiled =
        mapping::compile(&spec, &table, &includes).map_err(|errors| errors.iter().map(mistaken).collect::<Vec<_>>())?;
    let of_table = table.warnings.iter().map(|warning| Finding::warning(place("key"), warning));
    let of_store = table.store_warnings.iter();
    let of_store = of_store.map(|warning| Finding::warning(format!("hosts.{}", pipeline.host), warning));
    let warnings = of_table.chain(of_store).collect();
    let mut selection = compiled.selection(from, pipeline.limits.page_records_max);
    let mut mapper = compiled.mapper;
    if let config::Delete::Soft { field, value } = &pipeline.delete {
        let cleared = convert::soft(field, value).around(mapper);
        mapper = cleared.map_err(|fault| vec![Finding::fault(place("delete.soft.field"), &fault)])?;
        selection.seed = mapper.revision();
    }
    Ok(Mapped { selection, mapper, warnings })
}

/// Puts a pipeline together.
pub(crate) fn assemble(
    pipeline: &config::Pipeline,
    mapped: Mapped,
    host: Arc<dyn Host>,
    target: Arc<dyn Target>,
    backplane: Backplane,
) -> Pipeline {
    let sink = sink(pipeline);
    let target_selection = read_back(&sink.namespace, mapped.mapper.shape(), mapped.selection.page_records_max);
    Pipeline {
        id: sink.pipeline.clone(),
        host,
        target,
        mapper: mapped.mapper,
        selection: mapped.selection,
        sink,
        target_selection,
        limits: convert::limits(&pipeline.limits),
        delete: match &pipeline.delete {
            config::Delete::Hard => DeletePolicy::Hard,
            config::Delete::Never => DeletePolicy::Never,
            config::Delete::Soft { field, value } => DeletePolicy::Soft(convert::soft(field, value)),
        },
        foreign: match pipeline.foreign {
            config::Foreign::Keep => ForeignPolicy::Keep,
            config::Foreign::Delete => ForeignPolicy::Delete,
        },
        backplane,
    }
}

/// Where a pipeline writes.
pub(crate) fn sink(pipeline: &config::Pipeline) -> Sink {
    Sink {
        pipeline: PipelineId::new(&pipeline.id),
        namespace: convert::namespace(&pipeline.into),
        version_field: pipeline.version_field.clone(),
    }
}

/// How the target is read back: every field of the shape, in its order.
fn read_back(namespace: &Namespace, shape: &Shape, page_records_max: usize) -> Selection {
    let column = |field: &fides_core::Field| Column {
        name: field.name.clone(),
        kind: field.kind,
        native: String::new(),
        nullable: true,
    };
    Selection {
        namespace: namespace.clone(),
        key: shape.key_names().map(ToOwned::to_owned).collect(),
        columns: shape.fields.iter().map(column).collect(),
        includes: Vec::new(),
        seed: 0,
        page_records_max,
    }
}

async fn describe(host: &dyn Host, namespace: &Namespace, place: &str) -> Result<Table, Finding> {
    match host.describe(namespace).await {
        Ok(Some(table)) => {
            tracing::debug!(%namespace, columns = table.columns.len(), "described");
            Ok(table)
        }
        Ok(None) => {
            let mut finding = Finding::error(place, format!("the host has no table {namespace}"));
            let names: Vec<String> = match host.namespaces().await {
                Ok(names) => names.iter().map(ToString::to_string).collect(),
                Err(_) => Vec::new(),
            };
            finding.advice = nearest(&namespace.to_string(), names.iter().map(String::as_str))
                .map(|near| format!("did you mean {near}?"));
            Err(finding)
        }
        Err(fault) => Err(Finding::fault(place, &fault)),
    }
}

/// The key columns: as configured, or the primary key.
fn key_of(pipeline: &config::Pipeline, table: &Table, findings: &mut Vec<Finding>) -> Vec<String> {
    let place = format!("pipelines.{}.key", pipeline.id);
    let Some(key) = &pipeline.key else {
        if table.primary_key.is_empty() {
            let mut finding = Finding::error(place, "the table has no primary key, and no key is configured");
            finding.advice = Some("name columns that are unique and not null: key: [column]".into());
            findings.push(finding);
        }
        return table.primary_key.clone();
    };
    for name in key {
        if table.column(name).is_none() {
            findings.push(missing_column(&place, name, &pipeline.from.join("."), table));
        }
    }
    key.clone()
}

fn missing_column(place: &str, name: &str, namespace: &str, table: &Table) -> Finding {
    let mut finding = Finding::error(place, format!("table {namespace} has no column {name:?}"));
    let near = nearest(name, table.columns.iter().map(|column| column.name.as_str()));
    finding.advice = near.map(|near| format!("did you mean {near:?}?"));
    finding
}

/// Describes a related table and checks the columns that join and order it.
async fn include(
    host: &dyn Host,
    relation: &config::Relation,
    parent: &Table,
    parent_name: &Namespace,
    place: &str,
    findings: &mut Vec<Finding>,
) -> Option<Include> {
    let namespace = convert::namespace(&relation.from);
    let table = match describe(host, &namespace, &format!("{place}.from")).await {
        Ok(table) => table,
        Err(finding) => {
            findings.push(finding);
            return None;
        }
    };
    let before = findings.len();
    for (own, theirs) in &relation.on {
        if table.column(own).is_none() {
            findings.push(missing_column(&format!("{place}.on"), own, &namespace.to_string(), &table));
        }
        if parent.column(theirs).is_none() {
            findings.push(missing_column(&format!("{place}.on"), theirs, &parent_name.to_string(), parent));
        }
    }
    let mut columns = Vec::new();
    let wanted: Vec<&String> = match &relation.columns {
        config::Columns::All => table.columns.iter().map(|column| &column.name).collect(),
        config::Columns::Only(names) => names.iter().collect(),
    };
    for name in wanted {
        match table.column(name) {
            Some(column) => columns.push(column.clone()),
            None => findings.push(missing_column(&format!("{place}.columns"), name, &namespace.to_string(), &table)),
        }
    }
    for name in &relation.order_by {
        if table.column(name).is_none() {
            findings.push(missing_column(&format!("{place}.order_by"), name, &namespace.to_string(), &table));
        }
    }
    let mut includes = Vec::new();
    for nested in &relation.include {
        let at = format!("{place}.include.{}", nested.name);
        includes.extend(Box::pin(include(host, nested, &table, &namespace, &at, findings)).await);
    }
    (findings.len() == before).then(|| Include {
        name: relation.name.clone(),
        namespace,
        on: relation.on.clone(),
        arity: match relation.arity {
            config::Arity::One => Arity::One,
            config::Arity::Many => Arity::Many,
        },
        columns,
        order_by: relation.order_by.clone(),
        includes,
    })
}

/// The known name that is most like a wrong one, if it is like it at all.
fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::jaro_winkler(wrong, name), name));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
