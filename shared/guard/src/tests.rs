//! The whole stack over fakes, on a paused clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{Fencing, Mapper, Outcome, Sink, Target, Write};
use fides_core::{
    Change, Fault, FaultKind, Fingerprint, Key, KeyRange, Lane, Limits, Namespace, Op, PipelineId, Version,
};
use fides_testkit::fake::{Act, Applies, Around, FakeHost, FakeMapper, FakeTarget, Faults, Faulty, Hollow, Order};
use tokio::time::Instant;

use crate::{BreakerState, Called, Meter, NoMeter, Tally, guard_host, guard_target};

fn throttled(ms: u64) -> FaultKind {
    FaultKind::Throttled { after: Duration::from_millis(ms) }
}

fn key(id: i64) -> Key {
    FakeHost::key(id)
}

fn changes(ids: impl IntoIterator<Item = i64>) -> Vec<Change> {
    let change = |id| Change {
        key: key(id),
        version: Version::scan(1, 1),
        fingerprint: Some(Fingerprint(1)),
        op: Op::Upsert(Bytes::from(FakeMapper::new(0).document(id, 1).unwrap())),
        forced: false,
    };
    ids.into_iter().map(change).collect()
}

fn names(outcomes: &[Outcome]) -> Vec<&'static str> {
    let name = |outcome: &Outcome| match outcome {
        Outcome::Applied => "applied",
        Outcome::Stale => "stale",
        Outcome::Unknown(_) => "unknown",
        Outcome::Failed(_) => "failed",
    };
    outcomes.iter().map(name).collect()
}

/// Applies `changes` to a target, as a consumer does.
async fn apply(target: &dyn Target, changes: &[Change]) -> Vec<Outcome> {
    let pipeline = PipelineId::new("p");
    let sink = Sink { pipeline: pipeline.clone(), namespace: Namespace(vec!["docs".into()]), version_field: None };
    let shape = Arc::clone(FakeMapper::new(0).shape());
    let lane = Lane { pipeline, index: 0 };
    target.apply(&Write { sink: &sink, shape: &shape, lane: &lane, token: 1 }, changes).await
}

type Script = dyn Fn(usize, &Change) -> Outcome + Send + Sync;

/// A target that only answers: by attempt (from 0) and change. Keeps what it was asked.
struct Scripted {
    fencing: Fencing,
    script: Box<Script>,
    /// Key of each change of each attempt, and when.
    attempts: Mutex<Vec<(Vec<Key>, Instant)>>,
}

impl Scripted {
    /// A target of which writes are conditional.
    fn new(script: impl Fn(usize, &Change) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Self::with_fencing(Fencing::Conditional, script)
    }

    fn with_fencing(fencing: Fencing, script: impl Fn(usize, &Change) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { fencing, script: Box::new(script), attempts: Mutex::default() })
    }

    fn asked(&self) -> Vec<Vec<Key>> {
        self.attempts.lock().unwrap().iter().map(|(keys, _)| keys.clone()).collect()
    }
}

#[async_trait]
impl Applies for Scripted {
    async fn apply(&self, _: &dyn Target, _: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            attempts.push((changes.iter().map(|change| change.key.clone()).collect(), Instant::now()));
            attempts.len() - 1
        };
        changes.iter().map(|change| (self.script)(attempt, change)).collect()
    }
}

fn guarded(target: &Arc<Scripted>, limits: &Limits) -> Arc<dyn Target> {
    guarded_by(target, limits, Arc::new(NoMeter))
}

fn guarded_by(target: &Arc<Scripted>, limits: &Limits, meter: Arc<dyn Meter>) -> Arc<dyn Target> {
    let inner = Arc::new(FakeTarget::with_fencing(target.fencing));
    guard_target("shop", Arc::new(Around { target: inner, how: Arc::clone(target) }), limits, meter)
}

fn failed(kind: FaultKind) -> Outcome {
    Outcome::Failed(Fault::new(kind, "scripted"))
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_is_resubmitted() {
    let target = Scripted::new(|attempt, change| match (attempt, change) {
        (_, change) if change.key == key(1) => failed(FaultKind::Permanent),
        (_, change) if change.key == key(2) => failed(FaultKind::Deferred),
        (0 | 1, change) if change.key == key(3) => failed(FaultKind::Transient),
        (0, change) if change.key == key(4) => Outcome::Unknown(Fault::transient("lost")),
        (_, change) if change.key == key(5) => Outcome::Stale,
        _ => Outcome::Applied,
    });
    let outcomes = apply(&*guarded(&target, &Limits::default()), &changes(0..6)).await;
    assert_eq!(names(&outcomes), ["applied", "failed", "failed", "applied", "applied", "stale"]);
    assert_eq!(target.asked()[1..], [vec![key(3), key(4)], vec![key(3)]]);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_for_every_kind() {
    for kind in [FaultKind::Transient, throttled(10)] {
        let target = Scripted::new(move |_, _| failed(kind));
        let limits = Limits { retry_attempts_max: 4, breaker_failures: 100, ..Limits::default() };
        let outcomes = apply(&*guarded(&target, &limits), &changes([1])).await;
        assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == kind));
        assert_eq!(target.asked().len(), 4, "{kind:?}");
    }
    let target = Scripted::new(|_, _| failed(FaultKind::Unavailable));
    apply(&*guarded(&target, &Limits::default()), &changes([1])).await;
    assert_eq!(target.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_stays_so_until_an_attempt_succeeds() {
    for (later, expected) in [
        (Outcome::Applied, "applied"),
        (failed(FaultKind::Transient), "unknown"),
        (failed(FaultKind::Permanent), "unknown"),
        (failed(FaultKind::Unavailable), "unknown"),
        (Outcome::Unknown(Fault::transient("lost")), "unknown"),
    ] {
        let target = Scripted::new(move |attempt, _| match attempt {
            0 => Outcome::Unknown(Fault::transient("lost")),
            _ => later.clone(),
        });
        assert_eq!(names(&apply(&*guarded(&target, &Limits::default()), &changes([1])).await), [expected]);
        assert!(target.asked().len() > 1);
    }
}

/// L6: it may still be under way, and what is older must not land behind what is newer.
#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_not_resubmitted_under_the_same_token() {
    for fencing in [Fencing::LaneToken, Fencing::WaitOut] {
        let target = Scripted::with_fencing(fencing, |attempt, change| match (attempt, change) {
            (0, change) if change.key == key(1) => Outcome::Unknown(Fault::transient("lost")),
            (0, change) if change.key == key(2) => failed(FaultKind::Transient),
            _ => Outcome::Applied,
        });
        let outcomes = apply(&*guarded(&target, &Limits::default()), &changes(0..3)).await;
        assert_eq!(names(&outcomes), ["applied", "unknown", "applied"], "{fencing:?}");
        assert_eq!(target.asked()[1..], [vec![key(2)]], "{fencing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_write_stays_unknown_when_the_breaker_opens_meanwhile() {
    let target = Scripted::new(|_, _| Outcome::Unknown(Fault::transient("lost")));
    let limits = Limits { breaker_failures: 2, breaker_open_ms: 600_000, ..Limits::default() };
    let outcomes = apply(&*guarded(&target, &limits), &changes([1, 2])).await;
    assert_eq!(names(&outcomes), ["unknown", "unknown"]);
    assert_eq!(target.asked().len(), 2);
    assert!(matches!(&outcomes[0], Outcome::Unknown(fault) if fault.to_string().contains("shop")));
}

#[tokio::test(start_paused = true)]
async fn throttled_waits_exactly_as_long_as_asked_and_never_trips_the_breaker() {
    let target = Scripted::new(|attempt, _| if attempt < 7 { failed(throttled(300)) } else { Outcome::Applied });
    let limits = Limits { breaker_failures: 1, ..Limits::default() };
    let outcomes = apply(&*guarded(&target, &limits), &changes([1])).await;
    assert_eq!(names(&outcomes), ["applied"]);
    let attempts = target.attempts.lock().unwrap();
    assert_eq!(attempts[1].1 - attempts[0].1, Duration::from_millis(300));
    assert!(attempts.windows(2).all(|pair| pair[1].1 - pair[0].1 >= Duration::from_millis(300)));
}

/// Deliveries are held while this waits: what takes longer is for the lane, which gives them back.
#[tokio::test(start_paused = true)]
async fn a_long_throttle_is_told_instead_of_waited_for() {
    let limits = Limits::default();
    let asked = throttled(limits.retry_cap_ms + 1);
    let target = Scripted::new(move |_, _| failed(asked));
    let began = Instant::now();
    let outcomes = apply(&*guarded(&target, &limits), &changes([1])).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(fault)] if fault.kind == asked), "{outcomes:?}");
    assert_eq!((target.asked().len(), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_does_not_trip_the_breaker() {
    let target = Scripted::new(|_, change| match change {
        change if change.key == key(0) => failed(FaultKind::Permanent),
        _ => failed(FaultKind::Deferred),
    });
    let limits = Limits { breaker_failures: 1, ..Limits::default() };
    let guarded = guarded(&target, &limits);
    for _ in 0..20 {
        apply(&*guarded, &changes(0..2)).await;
    }
    assert_eq!(target.asked().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_too_long_is_unknown() {
    let faults = Faults::none();
    let inner = FakeTarget::with_fencing(Fencing::WaitOut);
    let wrapped: Arc<dyn Target> = Arc::new(Faulty::new(Arc::new(inner), &faults));
    let limits = Limits { write_timeout_ms_max: 1_000, retry_attempts_max: 1, ..Limits::default() };
    let target = guard_target("shop", wrapped, &limits, Arc::new(NoMeter));
    faults.script("target.apply", [Act::Slow(Duration::from_millis(1_001))]);
    let started = Instant::now();
    let outcomes = apply(&*target, &changes(0..3)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    assert_eq!(names(&outcomes), ["unknown"; 3]);
    let Outcome::Unknown(fault) = &outcomes[2] else { panic!("not unknown") };
    assert!(fault.kind == FaultKind::Transient && fault.to_string().starts_with("shop: apply"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_miscounts_tells_nothing() {
    let miscounts = Hollow(|_| vec![Outcome::Applied]);
    let target = guard_target("shop", Arc::new(miscounts), &Limits::default(), Arc::new(NoMeter));
    assert_eq!(names(&apply(&*target, &changes(0..2)).await), ["unknown", "unknown"]);
    assert!(apply(&*target, &[]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn writes_are_paced_and_reads_are_not() {
    let target = Scripted::new(|_, _| Outcome::Applied);
    let limits = Limits { rate_records_per_second: Some(100), ..Limits::default() };
    let guarded = guarded(&target, &limits);
    let started = Instant::now();
    for _ in 0..5 {
        apply(&*guarded, &changes(0..50)).await;
        guarded.describe(&Namespace(Vec::new())).await.unwrap();
    }
    assert_eq!(started.elapsed().as_millis(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_host_and_its_snapshots_are_guarded() {
    let host = FakeHost::new(Order::Host);
    host.commit(&[(1, Some(1)), (2, Some(2))]);
    let faults = Faults::none();
    let limits = Limits { host_timeout_ms: 1_000, ..Limits::default() };
    let guarded = guard_host("crm", Arc::new(Faulty::new(Arc::new(host), &faults)), &limits, Arc::new(NoMeter));
    faults.script("host.snapshot", [Act::Reject(FaultKind::Transient)]);
    let snapshot = guarded.snapshot(&FakeHost::selection(0, 9), Version::scan(1, 1)).await.unwrap();
    faults.script("host.scan", [Act::Slow(Duration::from_mins(1)), Act::Reject(throttled(50))]);
    assert_eq!(snapshot.scan(&KeyRange::ALL, None).await.unwrap().len(), 2);
    assert_eq!(faults.calls("host.scan"), 3);
    faults.script("host.lineage", [Act::Reject(FaultKind::Permanent)]);
    assert_eq!(guarded.lineage().await.unwrap_err().kind, FaultKind::Permanent);
    assert_eq!(faults.calls("host.lineage"), 1);
}

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Meter for Recorder {
    fn called(&self, call: &Called<'_>) {
        let Tally { done, stale, unknown, failed } = call.tally;
        let line = format!("{} {} {done}/{stale}/{unknown}/{failed}", call.name, call.operation);
        self.0.lock().unwrap().push(line);
    }

    fn retrying(&self, _: &str, _: &'static str, attempt: u32, wait: Duration) {
        assert!(wait <= Duration::from_millis(Limits::default().retry_base_ms) || attempt > 1);
        self.0.lock().unwrap().push(format!("retrying after attempt {attempt}"));
    }

    fn breaker(&self, _: &str, state: BreakerState) {
        self.0.lock().unwrap().push(format!("{state:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_meter_hears_of_calls_attempts_and_the_breaker() {
    let target = Scripted::new(|attempt, _| match attempt {
        1 => Outcome::Applied,
        _ => failed(FaultKind::Transient),
    });
    let recorder = Arc::new(Recorder::default());
    let limits = Limits { retry_attempts_max: 2, breaker_failures: 2, ..Limits::default() };
    let guarded = guarded_by(&target, &limits, Arc::clone(&recorder) as Arc<dyn Meter>);
    apply(&*guarded, &changes(0..2)).await;
    apply(&*guarded, &changes(0..2)).await;
    let expected =
        ["retrying after attempt 1", "shop apply 2/0/0/0", "retrying after attempt 1", "Open", "shop apply 0/0/0/2"];
    assert_eq!(*recorder.0.lock().unwrap(), expected);
}
