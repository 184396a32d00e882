//! Opens the backplane: the only place that knows in which mode Fides runs.

use std::path::Path;
use std::sync::Arc;

use fides_backplane_embedded::Embedded;
use fides_core::port::{AdminQueue, Backplane};
use fides_core::{Fault, Limits};
use fides_guard::{TracingMeter, guard_admin_queue, guard_backplane};

use crate::app::{Access, Meters};
use crate::config::{self, Amqp, Redis};
use crate::finding::Finding;

/// An open backplane.
#[derive(Clone)]
pub(crate) struct Opened {
    /// What pipelines need.
    pub backplane: Backplane,
    /// How commands come in.
    pub admin: Arc<dyn AdminQueue>,
}

impl From<Embedded> for Opened {
    fn from(embedded: Embedded) -> Self {
        Self { backplane: embedded.backplane(), admin: embedded.admin() }
    }
}

/// Opens queue, hash store, state store, dead letters and the queue of commands. What crosses a network is guarded.
pub(crate) async fn open(
    configured: &config::Backplane,
    limits: &Limits,
    access: Access,
    meters: Meters<'_>,
) -> Result<Opened, Vec<Finding>> {
    match (configured, access) {
        (config::Backplane::Embedded { path }, Access::Own) => {
            Ok(fides_backplane_embedded::open(path, limits).await.map_err(found(EMBEDDED))?.into())
        }
        (config::Backplane::Embedded { path }, Access::Read) => {
            Ok(fides_backplane_embedded::open_read_only(path).await.map_err(found(EMBEDDED))?.into())
        }
        (config::Backplane::Distributed { amqp, redis }, _) => {
            // Both are asked, so that both are told where both are missing.
            let (queue, store) = futures::join!(broker(amqp, limits), store(redis, limits));
            let (queue, store) = match (queue, store) {
                (Ok(queue), Ok(store)) => (queue, store),
                (queue, store) => {
                    let faults = [queue.err().map(found(AMQP)), store.err().map(found(REDIS))];
                    return Err(faults.into_iter().flatten().flatten().collect());
                }
            };
            let backplane = Backplane {
                queue: queue.queue(),
                hashes: store.hashes(),
                state: store.state(),
                dead: store.dead_letters(),
            };
            let (backplane, admin) =
                guard_backplane(backplane, queue.admin(), "backplane amqp", "backplane redis", limits, meters);
            Ok(Opened { backplane, admin })
        }
    }
}

/// Whoever takes commands now.
pub(crate) enum Desk {
    /// Another process: a running sync, or the importers.
    Elsewhere(Arc<dyn AdminQueue>),
    /// Nobody: the file is ours meanwhile.
    Here(Opened),
}

/// Finds the desk. Of a distributed backplane only the broker has to be there.
pub(crate) async fn desk(configured: &config::Backplane, limits: &Limits) -> Result<Desk, Vec<Finding>> {
    match configured {
        config::Backplane::Embedded { path } => {
            if let Some(own) =
                fides_backplane_embedded::open_unless_in_use(path, limits).await.map_err(found(EMBEDDED))?
            {
                return Ok(Desk::Here(own.into()));
            }
            let beside = fides_backplane_embedded::open_read_only(path).await.map_err(found(EMBEDDED))?;
            Ok(Desk::Elsewhere(beside.admin()))
        }
        config::Backplane::Distributed { amqp, .. } => {
            let admin = broker(amqp, limits).await.map_err(found(AMQP))?.admin();
            Ok(Desk::Elsewhere(guard_admin_queue(admin, "backplane amqp", limits, Arc::new(TracingMeter))))
        }
    }
}

fn found(path: &'static str) -> impl Fn(Fault) -> Vec<Finding> {
    move |fault| vec![Finding::fault(path, &fault)]
}

const EMBEDDED: &str = "backplane.embedded";
/// Its part's place in the configuration.
pub(crate) const AMQP: &str = "backplane.amqp";
/// Its part's place in the configuration.
pub(crate) const REDIS: &str = "backplane.redis";

/// Asks the parts of a distributed backplane whether they keep what they confirm (L11). Changes nothing.
pub(crate) async fn check(configured: &config::Backplane, limits: &Limits) -> Vec<Finding> {
    let config::Backplane::Distributed { amqp, redis } = configured else { return Vec::new() };
    let (queue, store) = futures::join!(broker(amqp, limits), store(redis, limits));
    let mut findings: Vec<Finding> = queue.err().map(|fault| Finding::fault(AMQP, &fault)).into_iter().collect();
    let lossy = match store {
        Ok(store) => store.check().await,
        Err(fault) => Err(fault),
    };
    match lossy {
        Ok(lossy) => findings.extend(lossy.into_iter().map(|lossy| {
            let accepted = redis.accept.iter().any(|setting| setting == lossy.setting);
            let finding = Finding { advice: Some(lossy.advice), ..Finding::error(REDIS, lossy.what) };
            if accepted { Finding { severity: crate::Severity::Warning, ..finding } } else { finding }
        })),
        Err(fault) => findings.push(Finding::fault(REDIS, &fault)),
    }
    findings
}

async fn broker(amqp: &Amqp, limits: &Limits) -> Result<fides_backplane_rabbitmq::RabbitQueue, Fault> {
    let mut settings = fides_backplane_rabbitmq::Settings::new(amqp.url.clone());
    settings.ca_file.clone_from(&amqp.ca_file);
    settings.admin_queue.clone_from(&amqp.admin_queue);
    settings.connection_name = format!("fides-{}", std::process::id());
    fides_backplane_rabbitmq::connect(settings, limits).await
}

async fn store(redis: &Redis, limits: &Limits) -> Result<fides_backplane_redis::RedisBackplane, Fault> {
    let mut settings = fides_backplane_redis::Settings::new(redis.url.clone());
    settings.dead_letters_max = redis.dead_letters_max;
    settings.ca_pem = redis.ca_file.as_deref().map(pem).transpose()?;
    fides_backplane_redis::connect(settings, limits).await
}

fn pem(file: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(file).map_err(|error| {
        Fault::permanent(format!("the certificates in {} cannot be read", file.display())).because(error)
    })
}
