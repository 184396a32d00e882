//! The file as a whole and its small sections.

use std::collections::BTreeMap;

use super::collection::{NameRule, Named, complete};
use super::errors::Spot;
use super::fields::{Fields, Section, section};
use super::form::Reading;
use super::limits::LimitsPatch;
use super::model::{Backplane, Config, Dashboard, Intake, Limits, Log, LogFormat, Pipeline, Service, Telemetry};
use super::pipeline::Draft;
use super::places::Places;
use super::scalar::{Listen, Number, Word};
use super::store::AnyStore;
use super::validate::{apart, referring};

impl Section for Config {
    const NAME: &'static str = "configuration";
    const ABOUT: &'static str = "a configuration of Fides";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "where the queue, the hash store and the state store are";
        let backplane = fields.defaulted("backplane", about, section::<Backplane>(), "");
        let stores = |expected| Named { names: NameRule::Id, of: AnyStore, expected };
        let hosts = fields.required("hosts", "the stores that are followed, by name", stores("a map of hosts by name"));
        let about = "the stores that are kept in step, by name";
        let targets = fields.required("targets", about, stores("a map of targets by name"));
        let drafts = Named { names: NameRule::Id, of: section::<Draft>(), expected: "a map of pipelines by id" };
        let drafts = fields.required("pipelines", "the pipelines, by id", drafts);
        let limits = fields.defaulted("limits", "bounds of every pipeline", section::<LimitsPatch>(), "");
        let about = "how the process is watched and stopped";
        let service = fields.defaulted("service", about, section::<Service>(), "");
        let about = "where events are received over HTTP";
        let intake = fields.defaulted("intake", about, section::<Intake>(), "");
        let about = "where `fides dashboard` serves the status page, and who may see it";
        let dashboard = fields.defaulted("dashboard", about, section::<Dashboard>(), "");
        let log = fields.defaulted("log", "how the process logs", section::<Log>(), "");
        let telemetry = fields.defaulted("telemetry", "where traces, metrics and logs go", section::<Telemetry>(), "");

        let limits = fields.check(|reading, node| {
            let limits = limits?.over(&Limits::default());
            let spot = node.get("limits").map_or(&node.spot, |limits| &limits.spot);
            consistent(reading, spot, limits)
        });
        let pipelines = fields.check(|reading, _| {
            let mut drafts = drafts?;
            let referring = referring(reading, &drafts, hosts.as_deref(), targets.as_deref());
            let apart = apart(reading, &drafts, hosts.as_deref().unwrap_or(&[]), targets.as_deref().unwrap_or(&[]));
            let pipelines = drafts.iter_mut().map(|(id, draft)| {
                (id.clone(), draft.as_mut().and_then(|draft| settle(reading, id, draft, limits.as_ref())))
            });
            let pipelines = complete(pipelines.collect());
            referring.and(apart)?;
            Some(pipelines?.into_iter().map(|(_, pipeline)| pipeline).collect())
        });
        Some(Self {
            backplane: backplane?,
            hosts: BTreeMap::from_iter(complete(hosts?)?),
            targets: BTreeMap::from_iter(complete(targets?)?),
            pipelines: pipelines?,
            limits: limits?,
            service: service?,
            intake: intake?,
            dashboard: dashboard?,
            log: log?,
            telemetry: telemetry?,
            places: fields.check(|_, node| Some(Places::of(node)))?,
        })
    }
}

impl Section for Service {
    const NAME: &'static str = "service";
    const ABOUT: &'static str = "how the process is watched and stopped";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "where /healthz, /readyz and /metrics are answered; port 0 takes a free one";
        let listen = fields.defaulted("listen", about, Listen, "127.0.0.1:8080");
        let about = "how long what is in hand may take once the process was asked to stop, in seconds";
        let grace_seconds = fields.defaulted("grace_seconds", about, Number(0..=3600), "30");
        Some(Self { listen: listen?, grace_seconds: grace_seconds? })
    }
}

impl Section for Log {
    const NAME: &'static str = "log";
    const ABOUT: &'static str = "how the process logs";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let formats = Word(&[
            ("auto", LogFormat::Auto),
            ("pretty", LogFormat::Pretty),
            ("ecs", LogFormat::Ecs),
            ("json", LogFormat::Ecs),
        ]);
        let about = "what a line looks like; ecs is JSON in the terms of the Elastic Common Schema, json is the same, \
                     auto is pretty on a terminal and ecs elsewhere";
        let format = fields.defaulted("format", about, formats, "auto");
        let levels = Word(&[
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("info", tracing::Level::INFO),
            ("debug", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
        ]);
        let level = fields.defaulted("level", "the least severe level that is logged", levels, "info");
        Some(Self { format: format?, level: level? })
    }
}

/// Gives a pipeline its id and its limits.
fn settle(reading: &mut Reading<'_>, id: &str, draft: &mut Draft, base: Option<&Limits>) -> Option<Pipeline> {
    let limits = match (&draft.limits, base) {
        (_, None) => None,
        (None, Some(base)) => Some(base.clone()),
        (Some((patch, written)), Some(base)) => consistent(reading, &written.spot, patch.over(base)),
    };
    Some(Pipeline { id: id.to_owned(), limits: limits?, ..draft.pipeline.take()? })
}

fn consistent(reading: &mut Reading<'_>, spot: &Spot, limits: Limits) -> Option<Limits> {
    let contradictions = limits.contradictions();
    for (found, expected) in &contradictions {
        reading.refuse_at::<()>(spot, found, *expected);
    }
    contradictions.is_empty().then_some(limits)
}
