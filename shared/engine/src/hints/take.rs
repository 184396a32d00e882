use std::sync::atomic::Ordering;

use fides_core::{Fault, FaultKind, Key, Kind, Origin, Value};
use tokio_util::sync::CancellationToken;

use super::absence;
use super::gather::{Gatherer, distinct};
use super::offer::{Offer, Offers};
use crate::publishing::Worker;
use crate::refresh::send_present;
use crate::{Pipeline, admin};

/// Takes hints until `stop`, and answers each when it is confirmed; settles what they did not find. What is in hand at
/// `stop` is finished, what waits is refused. While the pipeline is paused every hint is refused: its sender keeps it.
pub async fn take_hints(pipeline: &Pipeline, worker: &Worker, offers: Offers, stop: &CancellationToken) {
    let taking = async {
        let mut gatherer = Gatherer::new(offers);
        while let Some(Some(batch)) = stop.run_until_cancelled(gatherer.next(&pipeline.limits)).await {
            take(pipeline, worker, batch).await;
        }
        gatherer.close();
    };
    tokio::join!(taking, absence::settle_all(pipeline, worker, stop));
}

/// Publishes a batch and answers all who wait for it.
async fn take(pipeline: &Pipeline, worker: &Worker, batch: Vec<Offer>) {
    let keys = distinct(batch.iter().flat_map(|offer| &offer.keys));
    match send(pipeline, &keys).await {
        Ok(()) => {
            worker.progress.followed.fetch_add(keys.len() as u64, Ordering::Relaxed);
            for offer in batch {
                answer(offer, Ok(()));
            }
        }
        // Perhaps one key among them that the host cannot even look for: it must not harm the others.
        Err(fault) if fault.kind == FaultKind::Permanent => {
            for offer in batch {
                let sent = send_alone(pipeline, &offer.keys).await;
                if sent.is_ok() {
                    worker.progress.followed.fetch_add(offer.keys.len() as u64, Ordering::Relaxed);
                }
                answer(offer, sent);
            }
        }
        Err(fault) => {
            for offer in batch {
                answer(offer, Err(fault.clone()));
            }
        }
    }
}

/// Who waited may have gone; the hint is taken all the same.
fn answer(offer: Offer, sent: Result<(), Fault>) {
    let _ = offer.answer.send(sent);
}

async fn send(pipeline: &Pipeline, keys: &[Key]) -> Result<(), Fault> {
    if let Some(paused) = admin::paused(pipeline).await? {
        return Err(Fault::unavailable(format!("pipeline {}: {}", pipeline.id, paused.told(pipeline))));
    }
    let (published, absent) = send_present(pipeline, keys, Origin::Event, false).await?;
    tracing::debug!(pipeline = %pipeline.id, hints = keys.len(), published, absent = absent.len(), "hints taken");
    absence::keep(pipeline, &absent).await
}

/// The same for one offer that is suspected. A fault stays Permanent only where a key is at fault: what is wrong with the
/// host or the pipeline waits until somebody mends it, and no hint is given up for it.
async fn send_alone(pipeline: &Pipeline, keys: &[Key]) -> Result<(), Fault> {
    match send(pipeline, keys).await {
        Err(fault) if fault.kind == FaultKind::Permanent => match can_fetch(pipeline).await {
            Ok(()) => Err(fault),
            Err(_) => Err(Fault { kind: FaultKind::Unavailable, ..fault }),
        },
        sent => sent,
    }
}

/// Whether a key that is certainly one can be looked for.
async fn can_fetch(pipeline: &Pipeline) -> Result<(), Fault> {
    let selection = &pipeline.selection;
    let columns = selection.key.iter().filter_map(|name| selection.columns.iter().find(|it| it.name == *name));
    let values: Vec<Value<'_>> = columns.map(|column| least(column.kind)).collect();
    let key = Key::encode(&values)?;
    pipeline.peek_host().await?.fetch(&[key]).await.map(drop)
}

fn least(kind: Kind) -> Value<'static> {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::U64 => Value::U64(0),
        Kind::String => Value::String("".into()),
        Kind::Bytes => Value::Bytes(Vec::new().into()),
        Kind::Uuid => Value::Uuid([0; 16]),
        _ => Value::I64(0),
    }
}
