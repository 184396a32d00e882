//! Opens the backplane: the only place that knows in which mode Fides runs.

use std::path::Path;

use fides_core::port::Backplane;
use fides_core::{Fault, Limits};
use fides_guard::guard_backplane;

use crate::app::{Access, Meters};
use crate::config::{self, Amqp, Redis};
use crate::finding::Finding;

/// Opens queue, hash store, state store and dead letters. What crosses a network is guarded.
pub(crate) async fn open(
    configured: &config::Backplane,
    limits: &Limits,
    access: Access,
    meters: Meters<'_>,
) -> Result<Backplane, Vec<Finding>> {
    let found = |path: &'static str| move |fault: Fault| vec![Finding::fault(path, &fault)];
    match (configured, access) {
        (config::Backplane::Embedded { path }, Access::Own) => {
            Ok(fides_backplane_embedded::open(path, limits).await.map_err(found("backplane"))?.backplane())
        }
        (config::Backplane::Embedded { path }, Access::Read) => {
            Ok(fides_backplane_embedded::open_read_only(path).await.map_err(found("backplane"))?.backplane())
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
            Ok(guard_backplane(backplane, "backplane amqp", "backplane redis", limits, meters))
        }
    }
}

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
