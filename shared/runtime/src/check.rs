use std::collections::HashMap;
use std::sync::Arc;

use fides_core::port::Host;

use crate::config::{self, Config};
use crate::finding::Finding;
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
                    findings.extend(check_target(config, pipeline, &mapped).await);
                }
                Err(found) => findings.extend(found),
            }
        }
    }
    findings
}

/// Asks the target what stands in the way, as preparing it for a sync would.
async fn check_target(config: &Config, pipeline: &config::Pipeline, mapped: &wire::Mapped) -> Vec<Finding> {
    let Some(store) = config.targets.get(&pipeline.target) else { return Vec::new() };
    let target = match registry::target(store, &convert::limits(&pipeline.limits)).await {
        Ok(target) => target,
        Err(fault) => return vec![Finding::fault(format!("targets.{}", pipeline.target), &fault)],
    };
    let path = format!("pipelines.{}.into", pipeline.id);
    let sink = wire::sink(pipeline);
    match target.inspect(&sink, mapped.mapper.shape(), pipeline.create).await {
        Ok(obstacles) => obstacles.into_iter().map(|found| Finding::obstacle(&path, &sink.namespace, found)).collect(),
        Err(fault) => vec![Finding::fault(path, &fault)],
    }
}
