use std::collections::HashMap;
use std::sync::Arc;

use fides_core::port::{Host, Obstacle};
use fides_core::{Fault, PipelineId, Shape};

use crate::config::{self, Config};
use crate::finding::{Finding, located};
use crate::{backplane, convert, intake, registry, wire};

/// Looks for everything that would stop or surprise a sync, and changes nothing. Without `connect` only the file was
/// checked, which reading it has done already; with it the backplane, every host and every target is asked too. What is
/// wrong at one of them hides nothing that is wrong at another. How each target fences late writers off is told, too (L6).
pub async fn check(config: &Config, connect: bool) -> Vec<Finding> {
    if !connect {
        return Vec::new();
    }
    let mut findings = backplane::check(&config.backplane, &convert::limits(&config.limits)).await;
    let hosts = hosts(config, &mut findings).await;
    for pipeline in &config.pipelines {
        let host = hosts.get(pipeline.host.as_str());
        let mapped = match host {
            Some(host) => wire::map(pipeline, &**host).await,
            None => Err(Vec::new()),
        };
        let shape = match mapped {
            Ok(mapped) => {
                match (&pipeline.events, host) {
                    (Some(config::Events::Log), Some(host)) => findings.extend(log(pipeline, &**host, &mapped).await),
                    (Some(_), _) => findings.extend(intake::check(pipeline, &mapped.selection).await),
                    _ => {}
                }
                findings.extend(mapped.warnings);
                Some(mapped.mapper.shape().clone())
            }
            Err(found) => {
                findings.extend(found);
                None
            }
        };
        findings.extend(target(config, pipeline, shape.as_deref()).await);
    }
    located(config, findings)
}

async fn hosts<'a>(config: &'a Config, findings: &mut Vec<Finding>) -> HashMap<&'a str, Arc<dyn Host>> {
    let mut hosts: HashMap<&str, Arc<dyn Host>> = HashMap::new();
    for (name, store) in &config.hosts {
        match registry::host(store, false).await {
            Ok(host) => {
                hosts.insert(name, host);
            }
            Err(fault) => findings.push(Finding::fault(format!("hosts.{name}"), &fault)),
        }
    }
    hosts
}

/// What stands in the way of following the host's log.
async fn log(pipeline: &config::Pipeline, host: &dyn Host, mapped: &wire::Mapped) -> Vec<Finding> {
    let path = format!("pipelines.{}.events", pipeline.id);
    match host.check_log(&mapped.selection, &PipelineId::new(&pipeline.id)).await {
        Ok(concerns) => concerns.into_iter().map(|concern| Finding::concern(&path, concern)).collect(),
        Err(fault) => vec![Finding::fault(path, &fault)],
    }
}

/// How a pipeline's target is written, and what is wrong with it; `shape` is missing where the host's side is wrong.
async fn target(config: &Config, pipeline: &config::Pipeline, shape: Option<&Shape>) -> Vec<Finding> {
    let Some(store) = config.targets.get(&pipeline.target) else { return Vec::new() };
    let target = match registry::target(store, &convert::limits(&pipeline.limits)).await {
        Ok(target) => target,
        Err(fault) => return vec![Finding::fault(format!("targets.{}", pipeline.target), &fault)],
    };
    let (path, sink) = (format!("pipelines.{}.into", pipeline.id), wire::sink(pipeline));
    let obstacles: Result<Vec<Obstacle>, Fault> = match shape {
        // As preparing it for a sync would.
        Some(shape) => target.inspect(&sink, shape, pipeline.create).await,
        // Of which columns a table needs nothing is known, but that it is needed.
        None => target.describe(&sink.namespace).await.map(|table| match table {
            None if !pipeline.create => {
                vec![Obstacle::new("it does not exist").advise("create it, or set `create: true`")]
            }
            _ => Vec::new(),
        }),
    };
    let mut findings = vec![Finding::fencing(&pipeline.target, target.fencing())];
    match obstacles {
        Ok(found) => findings.extend(found.into_iter().map(|one| Finding::obstacle(&path, &sink.namespace, one))),
        Err(fault) => findings.push(Finding::fault(path, &fault)),
    }
    findings
}
