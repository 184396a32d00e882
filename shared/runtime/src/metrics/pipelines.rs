use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fides_core::PipelineId;
use fides_engine::Progress;
use fides_engine::inspect::Work;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// One number of a pipeline: its name, unit and meaning, and where it is read.
struct Number {
    name: &'static str,
    unit: &'static str,
    about: &'static str,
    read: fn(&Progress) -> u64,
}

/// Declares numbers that are read from a [`Progress`].
macro_rules! numbers {
    ($($name:literal $unit:literal $about:literal = $read:expr;)+) => {
        &[$(Number { name: $name, unit: $unit, about: $about, read: $read },)+]
    };
}

/// What only grows.
const COUNTERS: &[Number] = numbers! {
    "fides.records.read" "{record}" "Records read from the host." = |it| Progress::get(&it.read);
    "fides.records.unchanged" "{record}" "Records equal to their marks, therefore not sent."
        = |it| Progress::get(&it.unchanged);
    "fides.records.summarised" "{record}" "Of the unchanged records, those whose bucket's summary said so."
        = |it| Progress::get(&it.summarised);
    "fides.records.still_dead" "{record}" "Records equal to a dead letter, therefore not sent again."
        = |it| Progress::get(&it.still_dead);
    "fides.records.published" "{record}" "Records sent to the lanes, deletions included."
        = |it| Progress::get(&it.published);
    "fides.records.deletions" "{record}" "Of the published records, deletions." = |it| Progress::get(&it.deletions);
    "fides.records.written" "{record}" "Records written to the target." = |it| Progress::get(&it.written);
    "fides.records.stale" "{record}" "Records dropped by a consumer, because the mark is newer."
        = |it| Progress::get(&it.stale);
    "fides.records.newer" "{record}" "Records not written, because the target holds a newer version."
        = |it| Progress::get(&it.newer);
    "fides.records.dead" "{record}" "Records that became dead letters." = |it| Progress::get(&it.dead);
    "fides.records.followed" "{record}" "Changes that the host told: by its log, or by hints." = |it| Progress::get(&it.followed);
    "fides.records.verified" "{record}" "Records of the host compared with the target by schedule."
        = |it| Progress::get(&it.verified);
    "fides.records.drifted" "{record}" "Records that a scheduled comparison found different, and that no import mends."
        = |it| Progress::get(&it.drifted);
    "fides.cleanup.refused" "{refusal}" "Clean-ups and repairs that deleted nothing, because it would have been too much."
        = |it| Progress::get(&it.refused);
    "fides.messages.redelivered" "{message}" "Messages of the queue that were delivered before."
        = |it| Progress::get(&it.redelivered);
};

/// What is so many now.
const GAUGES: &[Number] = numbers! {
    "fides.lanes.owned" "{lane}" "Lanes that this process holds and consumes now; a paused one is not among them." = |it| Progress::get(&it.lanes);
    "fides.lanes.paused" "{lane}" "Lanes that are paused, because something cannot be used."
        = |it| it.paused_lanes() as u64;
    "fides.log.lag" "By" "Log that the host keeps because it is not read yet, as the process that follows it sees it."
        = |it| Progress::get(&it.log_lag);
};

/// The pipelines that are shown, each with the counters of its present run.
#[derive(Default)]
pub(super) struct Pipelines(RwLock<BTreeMap<PipelineId, Arc<Progress>>>);

impl Pipelines {
    /// Pipelines whose numbers are read whenever somebody asks.
    pub fn observed(meter: &Meter) -> Arc<Self> {
        let pipelines = Arc::new(Self::default());
        for Number { name, unit, about, read } in COUNTERS {
            let pipelines = Arc::clone(&pipelines);
            meter
                .u64_observable_counter(*name)
                .with_unit(*unit)
                .with_description(*about)
                .with_callback(move |observer| {
                    pipelines.each(*read, |value, attributes| observer.observe(value, attributes));
                })
                .build();
        }
        for Number { name, unit, about, read } in GAUGES {
            let pipelines = Arc::clone(&pipelines);
            meter
                .u64_observable_gauge(*name)
                .with_unit(*unit)
                .with_description(*about)
                .with_callback(move |observer| {
                    pipelines.each(*read, |value, attributes| observer.observe(value, attributes));
                })
                .build();
        }
        let lanes = Arc::clone(&pipelines);
        meter
            .f64_observable_gauge("fides.lane.lag")
            .with_unit("s")
            .with_description("How long ago the oldest change was sent that a lane has taken and not written.")
            .with_callback(move |observer| lanes.lags(|seconds, attributes| observer.observe(seconds, attributes)))
            .build();
        pipelines
    }

    /// The lag of every lane that has something in hand, by the clocks of sender and reader.
    fn lags(&self, mut observe: impl FnMut(f64, &[KeyValue])) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (id, progress) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            for (lane, sent_ms) in progress.in_hand() {
                let lag = now.saturating_sub(Duration::from_millis(sent_ms));
                let place = [KeyValue::new("pipeline", id.to_string()), KeyValue::new("lane", i64::from(lane))];
                observe(lag.as_secs_f64(), &place);
            }
        }
    }

    pub fn show(&self, id: &PipelineId, progress: Arc<Progress>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), progress);
    }

    /// What is done for each pipeline.
    pub fn work(&self) -> BTreeMap<String, Work> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.iter().map(|(id, progress)| (id.to_string(), Work::of(progress))).collect()
    }

    fn each(&self, read: fn(&Progress) -> u64, mut observe: impl FnMut(u64, &[KeyValue])) {
        for (id, progress) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            observe(read(progress), &[KeyValue::new("pipeline", id.to_string())]);
        }
    }
}
