//! What the backplane holds, which somebody must ask it for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fides_core::{Fault, Lane, PipelineId};
use fides_engine::Pipeline;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// How often the backplane is asked.
const EVERY: Duration = Duration::from_secs(30);
/// How often of these for the size of the marks, for which the hash store looks at every bucket.
const MARKS_EVERY: u32 = 10;

/// What each pipeline holds, when it was asked last. One whose backplane does not answer is left out.
#[derive(Default)]
pub(super) struct Stock(Mutex<BTreeMap<PipelineId, Held>>);

/// What one pipeline holds.
pub(super) struct Held {
    /// Messages of each lane.
    pub depths: Vec<u64>,
    pub marks: u64,
    pub mark_bytes: u64,
    pub letters: u64,
}

/// A number that a pipeline has one of.
type Number = (&'static str, &'static str, &'static str, fn(&Held) -> u64);

const NUMBERS: [Number; 3] = [
    ("fides.marks.stored", "{mark}", "Marks of records that the target may hold.", |it| it.marks),
    ("fides.marks.size", "By", "What the hash store holds for the marks.", |it| it.mark_bytes),
    ("fides.letters.waiting", "{letter}", "Dead letters that wait to be replayed or dropped.", |it| it.letters),
];

impl Stock {
    /// Stock that is shown as it was taken last.
    pub fn observed(meter: &Meter) -> Arc<Self> {
        let stock = Arc::new(Self::default());
        for (name, unit, about, read) in NUMBERS {
            let stock = Arc::clone(&stock);
            let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(about);
            gauge
                .with_callback(move |observer| {
                    for (id, held) in &*stock.held() {
                        observer.observe(read(held), &[KeyValue::new("pipeline", id.to_string())]);
                    }
                })
                .build();
        }
        let lanes = Arc::clone(&stock);
        meter
            .u64_observable_gauge("fides.lane.depth")
            .with_unit("{message}")
            .with_description("Messages of a lane that are not settled.")
            .with_callback(move |observer| {
                for (id, held) in &*lanes.held() {
                    for (lane, depth) in (0i64..).zip(&held.depths) {
                        let place = [KeyValue::new("pipeline", id.to_string()), KeyValue::new("lane", lane)];
                        observer.observe(*depth, &place);
                    }
                }
            })
            .build();
        stock
    }

    /// Asks for what `pipelines` hold, for as long as it is polled. A fault is no line in the log: who cannot be reached is
    /// told by whoever works with it.
    pub async fn keep(&self, pipelines: &[Pipeline]) -> Infallible {
        let mut looks = 0u32;
        loop {
            for pipeline in pipelines {
                let before = self.held().get(&pipeline.id).map(|held| (held.marks, held.mark_bytes));
                match take(pipeline, before.filter(|_| !looks.is_multiple_of(MARKS_EVERY))).await {
                    Ok(held) => self.show(&pipeline.id, held),
                    Err(_) => drop(self.held().remove(&pipeline.id)),
                }
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(EVERY).await;
        }
    }

    pub fn show(&self, id: &PipelineId, held: Held) {
        self.held().insert(id.clone(), held);
    }

    /// No code panics while it holds it, so a poisoned one is whole.
    fn held(&self) -> MutexGuard<'_, BTreeMap<PipelineId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for everything, but for the size of the marks where that is `known`.
async fn take(pipeline: &Pipeline, known: Option<(u64, u64)>) -> Result<Held, Fault> {
    let (id, backplane) = (&pipeline.id, &pipeline.backplane);
    let mut depths = Vec::new();
    for index in 0..pipeline.limits.lanes {
        depths.push(backplane.queue.depth(&Lane { pipeline: id.clone(), index }).await?);
    }
    let (marks, mark_bytes) = match known {
        Some(known) => known,
        None => backplane.hashes.size(id).await?,
    };
    Ok(Held { depths, marks, mark_bytes, letters: backplane.dead.count(id).await? })
}
