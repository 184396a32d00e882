//! What a service needs to work, as `/readyz` tells it: while it starts what it waits for, then every part that its roles
//! use, by its place in the configuration.
//!
//! A lane that is paused is not told here. Where a part is away, the part is told; where it is not (too many dead letters,
//! a message of a newer release) every replica would be unready for the same reason, and the release that mends it could
//! not be rolled out. `fides_lanes_paused` and the log tell of lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use fides_core::Fault;
use futures::future::{BoxFuture, join_all};
use tokio::time::sleep;

use crate::app::App;
use crate::backplane::{AMQP, REDIS};
use crate::config::Config;
use crate::finding::Finding;
use crate::health::{Health, Part};
use crate::serve::Role;

/// How often a service that works looks whether its parts are still there.
const PROBE: Duration = Duration::from_secs(2);

/// What a service that starts waits for.
pub(crate) struct Starting<'a> {
    health: &'a Health,
    start: Part,
    /// Parts that were missing, by name.
    missing: BTreeMap<String, Part>,
}

impl<'a> Starting<'a> {
    pub(crate) fn new(health: &'a Health) -> Self {
        Self { health, start: health.part("start"), missing: BTreeMap::new() }
    }

    /// Says which parts cannot be reached. What was missing before and is not among them is there now.
    pub(crate) fn waits_for(&mut self, findings: &[Finding]) {
        let names: BTreeSet<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        self.start.waiting(format!("waits for {}", names.iter().copied().collect::<Vec<_>>().join(", ")));
        for finding in findings {
            let part = self.missing.entry(finding.path.clone()).or_insert_with_key(|path| self.health.part(path));
            part.waiting(&finding.message);
        }
        for (_, part) in self.missing.iter().filter(|(path, _)| !names.contains(path.as_str())) {
            part.ready();
        }
    }

    /// Everything was reached.
    pub(crate) fn done(self) {
        self.missing.values().for_each(Part::ready);
        self.start.ready();
    }
}

impl Role {
    fn uses_host(self) -> bool {
        matches!(self, Role::Importer | Role::CleanupScheduler | Role::EventHandler)
    }

    fn uses_target(self) -> bool {
        matches!(self, Role::PublishingConsumer | Role::CleanupScheduler)
    }
}

/// One part, and how it is asked.
type Probe<'a> = (Part, Box<dyn Fn() -> BoxFuture<'a, Result<(), Fault>> + Send + Sync + 'a>);

/// The parts that `roles` use. They wait until they have answered for the first time.
pub(crate) struct Readiness<'a>(Vec<Probe<'a>>);

impl<'a> Readiness<'a> {
    pub(crate) fn new(app: &'a App, config: &Config, roles: &[Role], health: &Health) -> Self {
        let mut probes: BTreeMap<String, Probe<'a>> = BTreeMap::new();
        let mut add = |name: String, ask: Box<dyn Fn() -> BoxFuture<'a, Result<(), Fault>> + Send + Sync + 'a>| {
            probes.entry(name).or_insert_with_key(|name| (health.part(name), ask));
        };
        for pipeline in &app.pipelines {
            let (state, queue) = (&pipeline.backplane.state, &pipeline.backplane.queue);
            add(REDIS.into(), Box::new(|| Box::pin(async { state.now_ms().await.map(drop) })));
            if let Some(lane) = pipeline.lanes().into_iter().next() {
                let ask = move || -> BoxFuture<'a, _> {
                    let lane = lane.clone();
                    Box::pin(async move { queue.depth(&lane).await.map(drop) })
                };
                add(AMQP.into(), Box::new(ask));
            }
            let Some(configured) = config.pipelines.iter().find(|it| it.id == pipeline.id.as_str()) else { continue };
            // Not by its lineage: whoever asks for that accepts the answer, and only the epoch may (DESIGN §5).
            if roles.iter().any(|role| role.uses_host()) {
                let ask = || -> BoxFuture<'a, _> {
                    Box::pin(async { pipeline.host.describe(&pipeline.selection.namespace).await.map(drop) })
                };
                add(format!("hosts.{}", configured.host), Box::new(ask));
            }
            // Of the host's broker: also whether there is the exchange, without which nothing is received.
            if let Some(reception) = app.receptions.get(&pipeline.id).filter(|_| roles.contains(&Role::EventHandler)) {
                let ask = || -> BoxFuture<'a, _> { Box::pin(async { reception.state() }) };
                add(format!("pipelines.{}.events.amqp", pipeline.id), Box::new(ask));
            }
            if roles.iter().any(|role| role.uses_target()) {
                let ask = || -> BoxFuture<'a, _> {
                    Box::pin(async { pipeline.target.describe(&pipeline.sink.namespace).await.map(drop) })
                };
                add(format!("targets.{}", configured.target), Box::new(ask));
            }
        }
        Self(probes.into_values().collect())
    }

    /// Asks every part again and again, each by itself: one that is silent holds up no other.
    pub(crate) async fn watch(self) -> Infallible {
        let watched = self.0.into_iter().map(|(part, ask)| async move {
            loop {
                match ask().await {
                    Ok(()) => part.ready(),
                    Err(fault) => part.waiting(fault),
                }
                sleep(PROBE).await;
            }
        });
        join_all(watched).await;
        // Without pipelines there is nothing to ask.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(path: &str) -> Finding {
        Finding { unavailable: true, ..Finding::error(path, "connection refused") }
    }

    fn told(health: &Health) -> Vec<(String, String)> {
        health.waiting().into_iter().map(|waiting| (waiting.part, waiting.reason)).collect()
    }

    #[test]
    fn only_what_is_missing_is_named_while_a_service_starts() {
        let health = Health::new();
        let mut starting = Starting::new(&health);
        starting.waits_for(&[missing("backplane.amqp"), missing("backplane.redis")]);
        let refused = |path: &str| (path.to_owned(), "connection refused".to_owned());
        let start = |what: &str| ("start".to_owned(), format!("waits for {what}"));
        assert_eq!(
            told(&health),
            [refused("backplane.amqp"), refused("backplane.redis"), start("backplane.amqp, backplane.redis")]
        );
        starting.waits_for(&[missing("backplane.amqp")]);
        assert_eq!(told(&health), [refused("backplane.amqp"), start("backplane.amqp")]);
        starting.done();
        assert_eq!(told(&health), []);
    }
}
