//! Events that somebody sends: where they are received, and to whose pipeline they go.

use std::collections::HashMap;

use fides_cloudevents::Rule;
use fides_core::{Fault, PipelineId, Selection};
use fides_engine::{Hints, Offers, hints};
use fides_intake_amqp as amqp;
use fides_intake_webhook as webhook;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{self, Events, Hinted, Sender};
use crate::finding::Finding;

/// Everything that this process receives events with.
#[derive(Default)]
pub(crate) struct Intake {
    /// The listener, if a pipeline has a webhook.
    bound: Option<webhook::Bound>,
    routes: Vec<webhook::Route>,
    queues: Vec<(amqp::Settings, amqp::Route, amqp::Reception)>,
    /// Of each pipeline, until somebody takes them.
    offers: HashMap<PipelineId, Offers>,
}

impl Intake {
    /// Prepares what the pipelines are told with, and takes the address of the listener. Nothing is received yet.
    pub(crate) fn open(app: &App) -> Result<Self, Fault> {
        let mut intake = Self::default();
        for pipeline in &app.pipelines {
            let Some(events) = app.hinted.get(&pipeline.id) else { continue };
            let (place, offers) = hints(pipeline);
            match events {
                Events::Log => continue,
                Events::Webhook(of) => intake.routes.push(route(of, place)),
                Events::Amqp(of) => {
                    let route = amqp::Route { rule: rule(&of.hinted), hints: place };
                    let reception = app.receptions.get(&pipeline.id).cloned().unwrap_or_default();
                    intake.queues.push((settings(of, pipeline.id.as_str()), route, reception));
                }
            }
            intake.offers.insert(pipeline.id.clone(), offers);
        }
        if !intake.routes.is_empty() {
            let mut settings = webhook::Settings::new(app.intake.listen);
            settings.body_bytes_max = app.intake.body_bytes_max;
            let bound = webhook::bind(settings)?;
            tracing::info!(address = %bound.address, "receiving events");
            intake.bound = Some(bound);
        }
        Ok(intake)
    }

    /// The hints of a pipeline, once.
    pub(crate) fn offers(&mut self, pipeline: &PipelineId) -> Option<Offers> {
        self.offers.remove(pipeline)
    }

    /// Receives until `stop`, and answers what was received before.
    pub(crate) async fn receive(self, stop: &CancellationToken) -> Result<(), Fault> {
        let Self { bound, routes, queues, .. } = self;
        let posted = async {
            match bound {
                Some(bound) => bound.serve(routes, stop).await,
                None => Ok(()),
            }
        };
        let queued = queues.into_iter().map(|(settings, route, reception)| async move {
            amqp::consume(settings, route, &reception, stop).await;
        });
        futures::join!(posted, join_all(queued)).0
    }
}

fn route(of: &config::Webhook, hints: Hints) -> webhook::Route {
    let credential = match &of.sender {
        Sender::Signature { secret, header } => {
            webhook::Credential::Signature { secret: secret.clone(), header: header.clone() }
        }
        Sender::Bearer(token) => webhook::Credential::Bearer(token.clone()),
    };
    webhook::Route { rule: rule(&of.hinted), hints, credential, origins: of.origins.clone() }
}

fn rule(hinted: &Hinted) -> Rule {
    Rule { types: hinted.types.clone(), key: hinted.key.clone() }
}

fn settings(of: &config::EventQueue, pipeline: &str) -> amqp::Settings {
    let queue = of.queue.clone().unwrap_or_else(|| format!("fides.events.{pipeline}"));
    amqp::Settings {
        ca_file: of.ca_file.clone(),
        routing_keys: of.routing_keys.clone(),
        ..amqp::Settings::new(of.url.clone(), &of.exchange, &queue)
    }
}

/// What of the events of a pipeline does not fit its host's table.
pub(crate) fn unfit(pipeline: &config::Pipeline, selection: &Selection) -> Option<Finding> {
    let (kind, hinted) = match pipeline.events.as_ref()? {
        Events::Log => return None,
        Events::Webhook(of) => ("webhook", &of.hinted),
        Events::Amqp(of) => ("amqp", &of.hinted),
    };
    let (places, columns) = (hinted.key.len(), selection.key.len());
    if places == 1 || places == columns {
        return None;
    }
    let path = format!("pipelines.{}.events.{kind}.key", pipeline.id);
    let found =
        format!("found {places} places, expected one for the whole key, or one for each of its {columns} columns");
    Some(Finding { advice: Some(format!("the key is {}", selection.key.join(", "))), ..Finding::error(path, found) })
}

/// Everything that would keep the events of a pipeline from being received.
pub(crate) async fn check(pipeline: &config::Pipeline, selection: &Selection) -> Vec<Finding> {
    let mut findings: Vec<Finding> = unfit(pipeline, selection).into_iter().collect();
    if let Some(Events::Amqp(of)) = &pipeline.events {
        let path = format!("pipelines.{}.events.amqp", pipeline.id);
        match amqp::check(&settings(of, &pipeline.id)).await {
            Ok(concerns) => findings.extend(concerns.into_iter().map(|concern| Finding::concern(&path, concern))),
            Err(fault) => findings.push(Finding::fault(path, &fault)),
        }
    }
    findings
}
