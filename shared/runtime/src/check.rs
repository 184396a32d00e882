use std::collections::HashMap;
use std::sync::Arc;

use fides_core::PipelineId;
use fides_core::port::Host;

use crate::config::{self, Config};
use crate::finding::{Finding, Severity};
use crate::{backplane, convert, registry, wire};

/// Looks for everything that would stop or surprise a sync, and changes nothing. Without `connect` only the file was
/// checked, which reading it has done already; with it the backplane, every host and every target is asked too.
pub async fn check(config: &Config, connect: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !connect {
        return findings;
    }
    findings.extend(backplane::check(&config.backplane, &convert::limits(&config.limits)).await);
    let mut hosts: HashMap<&str, Arc<dyn Host>> = HashMap::new();
    for (name, store) in &config.hosts {
        match registry::host(store, false).await {
            Ok(host) => {
                hosts.insert(name, host);
            }
            Err(fault) => findings.push(Finding::fault(format!("hosts.{name}"), &fault)),
        }
    }
    for pipeline in &config.pipelines {
        if let Some(host) = hosts.get(pipeline.host.as_str()) {
            match wire::map(pipeline, &**host).await {
                Ok(mapped) => {
                    findings.extend(mapped.warnings.iter().cloned());
                    if pipeline.events.is_some() {
                        findings.extend(check_log(pipeline, &**host, &mapped).await);
                    }
                    findings.extend(check_target(config, pipeline, &mapped).await);
                }
                Err(found) => findings.extend(found),
            }
        }
    }
    findings
}

/// Asks the host whether its log can be followed.
async fn check_log(pipeline: &config::Pipeline, host: &dyn Host, mapped: &wire::Mapped) -> Vec<Finding> {
    let path = format!("pipelines.{}.events", pipeline.id);
    match host.check_log(&mapped.selection, &PipelineId::new(&pipeline.id)).await {
        Ok(concerns) => concerns.into_iter().map(|concern| Finding::concern(&path, concern)).collect(),
        Err(fault) => vec![Finding::fault(path, &fault)],
    }
}

/// Compares the target namespace with the documents' shape.
async fn check_target(config: &Config, pipeline: &config::Pipeline, mapped: &wire::Mapped) -> Vec<Finding> {
    let Some(store) = config.targets.get(&pipeline.target) else { return Vec::new() };
    let target_path = format!("targets.{}", pipeline.target);
    let target = match registry::target(store, &convert::limits(&pipeline.limits)).await {
        Ok(target) => target,
        Err(fault) => return vec![Finding::fault(target_path, &fault)],
    };
    let path = format!("pipelines.{}.into", pipeline.id);
    let namespace = convert::namespace(&pipeline.into);
    let table = match target.describe(&namespace).await {
        Ok(Some(table)) => table,
        Ok(None) if pipeline.create => return Vec::new(),
        Ok(None) => {
            let mut finding = Finding::error(path, format!("the target has no table {namespace}"));
            finding.advice = Some("create it, or set create: true".into());
            return vec![finding];
        }
        Err(fault) => return vec![Finding::fault(path, &fault)],
    };
    let shape = mapped.mapper.shape();
    let mut wanted: Vec<&str> = shape.fields.iter().map(|field| field.name.as_str()).collect();
    wanted.extend(pipeline.version_field.as_deref());
    let missing: Vec<&str> = wanted.into_iter().filter(|name| table.column(name).is_none()).collect();
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let message = format!("table {namespace} of the target has no column {}", missing.join(", "));
        findings.push(Finding { severity: Severity::Error, ..Finding::error(path.clone(), message) });
    }
    let mut key: Vec<&str> = shape.key_names().collect();
    key.sort_unstable();
    let unique = |columns: &Vec<String>| {
        let mut columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        columns == key
    };
    if missing.is_empty() && !table.unique.iter().any(unique) {
        let message = format!("table {namespace} of the target has no unique, not null key on {}", key.join(", "));
        findings.push(Finding::error(path, message));
    }
    findings
}
