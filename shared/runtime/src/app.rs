use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fides_core::port::{AdminQueue, Backplane, Host};
use fides_core::{Fault, PipelineId};
use fides_engine::Pipeline;
use fides_guard::{Meter, TracingMeter, guard_host, guard_target};
use fides_intake_amqp::Reception;

use crate::backplane::Opened;
use crate::config::{self, Config};
use crate::finding::{Finding, StartError, located};
use crate::metrics::Metrics;
use crate::schedule::Task;
use crate::{backplane, convert, intake, registry, wire};

/// Whether this process runs pipelines or only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Owns the state file: another process that wants to own it is refused.
    Own,
    /// Reads beside a running sync.
    Read,
}

/// Makes meters: every guard tells one of its own, because a meter remembers the state of the breaker behind it.
pub type Meters<'a> = &'a (dyn Fn() -> Arc<dyn Meter> + Send + Sync);

/// Wired pipelines.
pub struct App {
    /// In the order of the configuration.
    pub pipelines: Vec<Pipeline>,
    /// How commands come in. `None` where others answer them: this process has a part of the pipelines, and would refuse
    /// commands for the rest.
    pub(crate) admin: Option<Arc<dyn AdminQueue>>,
    /// Who counts commands.
    pub(crate) metrics: Option<Metrics>,
    /// When each pipeline is imported, cleaned up and verified.
    pub(crate) schedules: HashMap<(PipelineId, Task), config::Schedule>,
    /// Pipelines whose host's log is followed.
    pub(crate) followed: HashSet<PipelineId>,
    /// Pipelines that are told of changes, and how.
    pub(crate) hinted: HashMap<PipelineId, config::Events>,
    /// Of those that are told over AMQP, whether their events are received.
    pub(crate) receptions: HashMap<PipelineId, Reception>,
    /// Where events are received over HTTP.
    pub(crate) intake: config::Intake,
    /// Whether a pipeline creates its target namespace.
    pub(crate) create: HashMap<PipelineId, bool>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pipelines.iter().map(|pipeline| &pipeline.id)).finish()
    }
}

impl App {
    /// Opens the backplane and wires the pipelines named in `only` (all of them when it is empty). With [`Access::Own`]
    /// the targets are prepared too: created where `create: true`, otherwise checked.
    pub async fn open(config: &Config, access: Access, only: &[String]) -> Result<App, StartError> {
        Self::open_metered(config, access, only, &|| Arc::new(TracingMeter)).await
    }

    /// Counts the commands that it answers.
    #[must_use]
    pub fn counted(mut self, metrics: &Metrics) -> App {
        self.metrics = Some(metrics.clone());
        self
    }

    /// [`App::open`] with somebody who learns of every call that crosses a network.
    pub async fn open_metered(
        config: &Config,
        access: Access,
        only: &[String],
        meters: Meters<'_>,
    ) -> Result<App, StartError> {
        let opened = Self::wire(config, access, only, meters).await;
        opened.map_err(|error| StartError { findings: located(config, error.findings) })
    }

    async fn wire(config: &Config, access: Access, only: &[String], meters: Meters<'_>) -> Result<App, StartError> {
        choose(config, only)?;
        let limits = convert::limits(&config.limits);
        let opened = backplane::open(&config.backplane, &limits, access, meters).await?;
        Self::over(config, opened, access, only, meters).await
    }

    /// Wires pipelines to a backplane that is open already.
    pub(crate) async fn over(
        config: &Config,
        opened: Opened,
        access: Access,
        only: &[String],
        meters: Meters<'_>,
    ) -> Result<App, StartError> {
        let chosen = choose(config, only)?;
        let Opened { backplane, admin } = opened;
        // Nobody else could answer beside the owner of a state file.
        let answers =
            chosen.len() == config.pipelines.len() || matches!(config.backplane, config::Backplane::Embedded { .. });
        let mut app = App {
            pipelines: Vec::new(),
            admin: answers.then_some(admin),
            metrics: None,
            schedules: HashMap::new(),
            followed: HashSet::new(),
            hinted: HashMap::new(),
            receptions: HashMap::new(),
            intake: config.intake,
            create: HashMap::new(),
        };
        let mut findings = Vec::new();
        let mut hosts: Hosts<'_> = HashMap::new();
        for &pipeline in &chosen {
            match build(config, pipeline, &mut hosts, &backplane, meters).await {
                Ok(built) => app.add(pipeline, built),
                Err(found) => findings.extend(found),
            }
        }
        if access == Access::Own && findings.is_empty() {
            findings.extend(app.prepare(&chosen).await);
        }
        if findings.is_empty() { Ok(app) } else { Err(StartError { findings }) }
    }

    /// The pipeline of that name.
    pub fn pipeline(&self, id: &str) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.id.as_str() == id)
    }

    fn add(&mut self, configured: &config::Pipeline, built: Pipeline) {
        let schedules = [
            (Task::Import, &configured.schedule),
            (Task::CleanUp, &configured.cleanup),
            (Task::Verify, &configured.verify),
        ];
        for (task, schedule) in schedules {
            if let Some(schedule) = schedule {
                self.schedules.insert((built.id.clone(), task), schedule.clone());
            }
        }
        match &configured.events {
            Some(config::Events::Log) => {
                self.followed.insert(built.id.clone());
            }
            Some(hints) => {
                if let config::Events::Amqp(_) = hints {
                    self.receptions.insert(built.id.clone(), Reception::default());
                }
                self.hinted.insert(built.id.clone(), hints.clone());
            }
            None => {}
        }
        self.create.insert(built.id.clone(), configured.create);
        self.pipelines.push(built);
    }

    async fn prepare(&self, chosen: &[&config::Pipeline]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for pipeline in &self.pipelines {
            let create = self.create.get(&pipeline.id).copied().unwrap_or_default();
            if let Err(fault) = pipeline.target.prepare(&pipeline.sink, pipeline.shape(), create).await {
                let finding = Finding::fault(format!("pipelines.{}.into", pipeline.id), &fault);
                let configured = chosen.iter().find(|configured| configured.id == pipeline.id.as_str());
                findings.push(match configured {
                    Some(configured) => finding.of_store("targets", &configured.target),
                    None => finding,
                });
            }
        }
        findings
    }
}

/// The pipelines to work with.
fn choose<'a>(config: &'a Config, only: &[String]) -> Result<Vec<&'a config::Pipeline>, StartError> {
    let known: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.id.as_str()).collect();
    let unknown: Vec<Finding> = only
        .iter()
        .filter(|id| !known.contains(&id.as_str()))
        .map(|id| Finding::error("pipelines", format!("there is no pipeline {id:?}; there are {}", known.join(", "))))
        .collect();
    if !unknown.is_empty() {
        return Err(StartError { findings: unknown });
    }
    Ok(config.pipelines.iter().filter(|pipeline| only.is_empty() || only.contains(&pipeline.id)).collect())
}

/// Hosts by name, and by whether their log is followed: only then they have to be asked for more than snapshots.
type Hosts<'a> = HashMap<(&'a str, bool), Arc<dyn Host>>;

async fn build<'a>(
    config: &'a Config,
    pipeline: &'a config::Pipeline,
    hosts: &mut Hosts<'a>,
    backplane: &Backplane,
    meters: Meters<'_>,
) -> Result<Pipeline, Vec<Finding>> {
    let limits = convert::limits(&pipeline.limits);
    let missing = |section: &str, name: &str| vec![Finding::error(format!("{section}.{name}"), "is not configured")];
    let fault = |section: &str, name: &str| {
        let path = format!("{section}.{name}");
        move |fault: Fault| vec![Finding::fault(path, &fault)]
    };
    let follows = matches!(pipeline.events, Some(config::Events::Log));
    let host = if let Some(host) = hosts.get(&(pipeline.host.as_str(), follows)) {
        host.clone()
    } else {
        let store = config.hosts.get(&pipeline.host).ok_or_else(|| missing("hosts", &pipeline.host))?;
        let host = registry::host(store, follows).await.map_err(fault("hosts", &pipeline.host))?;
        let host = guard_host(&format!("host {}", pipeline.host), host, &limits, meters());
        hosts.insert((&pipeline.host, follows), host.clone());
        host
    };
    let of_host = |found: Vec<Finding>| found.into_iter().map(|it| it.of_store("hosts", &pipeline.host)).collect();
    let mapped = wire::map(pipeline, &*host).await.map_err::<Vec<Finding>, _>(of_host)?;
    for warning in &mapped.warnings {
        tracing::warn!(path = warning.path, "{}", warning.message);
    }
    let unfit: Vec<Finding> = intake::unfit(pipeline, &mapped.selection).into_iter().collect();
    if !unfit.is_empty() {
        return Err(unfit);
    }
    let store = config.targets.get(&pipeline.target).ok_or_else(|| missing("targets", &pipeline.target))?;
    let target = registry::target(store, &limits).await.map_err(fault("targets", &pipeline.target))?;
    let target = guard_target(&format!("target {}", pipeline.target), target, &limits, meters());
    Ok(wire::assemble(pipeline, mapped, host, target, backplane.clone()))
}
