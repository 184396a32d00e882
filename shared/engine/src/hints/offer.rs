use std::sync::Arc;
use std::time::Duration;

use fides_core::{Fault, FaultKind, Key, PipelineId, Selection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::Pipeline;
use crate::inspect::parse_key;

/// How long a sender is asked to wait when the backlog is full.
const FULL: Duration = Duration::from_secs(1);

/// Where hints of one pipeline are offered. Clones are one place.
#[derive(Clone)]
pub struct Hints {
    pipeline: PipelineId,
    selection: Arc<Selection>,
    /// Keys that may wait (L10): every offer holds as many permits as it has keys until it is confirmed.
    backlog: Arc<Semaphore>,
    backlog_max: usize,
    offers: mpsc::UnboundedSender<Offer>,
}

/// Where the offered hints come out, for the one who takes them.
pub struct Offers(pub(super) mpsc::UnboundedReceiver<Offer>);

/// Hints that belong together, and who waits for them.
pub(super) struct Offer {
    pub(super) keys: Vec<Key>,
    pub(super) answer: oneshot::Sender<Result<(), Fault>>,
    /// Given back when the offer is gone.
    pub(super) _room: OwnedSemaphorePermit,
}

/// A place for the hints of a pipeline: both of its ends. At most `hint_backlog_records_max` keys wait in it.
pub fn hints(pipeline: &Pipeline) -> (Hints, Offers) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog_max = pipeline.limits.hint_backlog_records_max.clamp(1, Semaphore::MAX_PERMITS);
    let hints = Hints {
        pipeline: pipeline.id.clone(),
        selection: Arc::new(pipeline.selection.clone()),
        backlog: Arc::new(Semaphore::new(backlog_max)),
        backlog_max,
        offers: sender,
    };
    (hints, Offers(receiver))
}

impl Hints {
    /// The pipeline that they are for.
    pub fn pipeline(&self) -> &PipelineId {
        &self.pipeline
    }

    /// Most keys that one offer may have.
    pub fn offer_max(&self) -> usize {
        self.backlog_max
    }

    /// Reads a key as people write it. A fault is always Permanent and says what was expected.
    pub fn key(&self, text: &str) -> Result<Key, Fault> {
        parse_key(&self.selection, text)
    }

    /// Offers the keys of records that may have changed, and waits until their present state is published and confirmed
    /// (L3). Throttled at once where the backlog is full; Unavailable where nobody takes hints now; Permanent where one of
    /// the keys is none that the host could have. Offering again is harmless. Dropping the future gives up the waiting, not
    /// the hints.
    pub async fn offer(&self, keys: Vec<Key>) -> Result<(), Fault> {
        if keys.is_empty() {
            return Ok(());
        }
        let permits = u32::try_from(keys.len()).ok().filter(|_| keys.len() <= self.backlog_max);
        let Some(permits) = permits else {
            let (found, most) = (keys.len(), self.backlog_max);
            return Err(Fault::permanent(format!("{found} hints at once, hint_backlog_records_max allows {most}"))
                .advise("send fewer at a time"));
        };
        let Ok(room) = self.backlog.clone().try_acquire_many_owned(permits) else {
            return Err(Fault::new(
                FaultKind::Throttled { after: FULL },
                format!("pipeline {}: hint_backlog_records_max {} hints wait already", self.pipeline, self.backlog_max),
            ));
        };
        let (answer, confirmed) = oneshot::channel();
        let away = || Fault::unavailable(format!("pipeline {}: hints are not taken at present", self.pipeline));
        self.offers.send(Offer { keys, answer, _room: room }).map_err(|_| away())?;
        confirmed.await.unwrap_or_else(|_| Err(away()))
    }
}
