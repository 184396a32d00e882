use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fides_core::port::{Fencing, Host, Mapped, Mapper, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{
    Change, FaultKind, Fingerprint, Key, KeyRange, Lane, Namespace, Op, PipelineId, Shape, Value, Version,
};

use super::*;

struct Setup {
    target: FakeTarget,
    faults: Faults,
    wrapped: Arc<Faulty<FakeTarget>>,
    sink: Sink,
    shape: Arc<Shape>,
    lane: Lane,
}

impl Setup {
    async fn new(fencing: Fencing) -> Self {
        let pipeline = PipelineId::new("p");
        let target = FakeTarget::with_fencing(fencing);
        let faults = Faults::none();
        let wrapped = Arc::new(Faulty::new(Arc::new(target.clone()), &faults));
        let sink = Sink { pipeline: pipeline.clone(), namespace: Namespace(vec!["docs".into()]), version_field: None };
        let shape = Arc::clone(FakeMapper::new(0).shape());
        wrapped.prepare(&sink, &shape, true).await.unwrap();
        let lane = Lane { pipeline, index: 0 };
        wrapped.claim(&sink, &lane, 1).await.unwrap();
        Self { target, faults, wrapped, sink, shape, lane }
    }

    async fn apply(&self, token: u64, changes: &[Change]) -> Vec<Outcome> {
        let write = Write { sink: &self.sink, shape: &self.shape, lane: &self.lane, token };
        self.wrapped.apply(&write, changes).await
    }

    fn held(&self) -> Vec<Key> {
        self.target.documents(&self.sink.namespace).into_keys().collect()
    }
}

fn upsert(id: i64, position: u64) -> Change {
    let document = FakeMapper::new(0).document(id, position as i64).unwrap();
    Change {
        key: FakeHost::key(id),
        version: Version::scan(1, position),
        fingerprint: Some(Fingerprint(0)),
        op: Op::Upsert(Bytes::from(document)),
        forced: false,
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<String> {
    let name = |outcome: &Outcome| match outcome {
        Outcome::Applied => "applied".into(),
        Outcome::Stale => "stale".into(),
        Outcome::Unknown(_) => "unknown".into(),
        Outcome::Failed(fault) => format!("{:?}", fault.kind).to_lowercase(),
    };
    outcomes.iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_late_write_lands_without_a_fence_and_not_with_one() {
    for (fenced, regressions) in [(true, 0), (false, 1)] {
        let setup = Arc::new(Setup::new(Fencing::LaneToken).await);
        if !fenced {
            setup.target.stop_fencing();
        }
        setup.faults.script("target.apply", [Act::Late(Duration::from_secs(5))]);
        let old = Arc::clone(&setup);
        let client = tokio::spawn(async move { old.apply(1, &[upsert(1, 10)]).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.abort();
        setup.wrapped.claim(&setup.sink, &setup.lane, 2).await.unwrap();
        assert_eq!(kinds(&setup.apply(2, &[upsert(1, 20)]).await), ["applied"]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(setup.target.regressions().len(), regressions, "fenced: {fenced}");
        assert!(setup.wrapped.claim(&setup.sink, &setup.lane, 1).await.is_err());
    }
}

#[tokio::test]
async fn a_conditional_target_calls_an_older_write_stale_even_after_a_deletion() {
    let setup = Setup::new(Fencing::Conditional).await;
    let delete = Change { op: Op::Delete, fingerprint: None, ..upsert(1, 20) };
    assert_eq!(kinds(&setup.apply(1, &[delete, upsert(2, 5)]).await), ["applied", "applied"]);
    assert_eq!(kinds(&setup.apply(1, &[upsert(1, 10), upsert(2, 5)]).await), ["stale", "applied"]);
    assert_eq!(setup.held(), [FakeHost::key(2)]);
}

#[tokio::test]
async fn poison_fails_alone_and_a_partial_failure_writes_the_others() {
    let setup = Setup::new(Fencing::LaneToken).await;
    setup.faults.poison([FakeHost::key(2)]);
    let changes: Vec<_> = (1..=3).map(|id| upsert(id, 1)).collect();
    assert_eq!(kinds(&setup.apply(1, &changes).await), ["applied", "permanent", "applied"]);
    setup.faults.poison([]);
    setup.faults.script("target.apply", [Act::Partial(FaultKind::Deferred)]);
    let changes: Vec<_> = (10..40).map(|id| upsert(id, 1)).collect();
    let outcomes = setup.apply(1, &changes).await;
    let applied = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied)).count();
    assert!(applied > 0 && applied < 30);
    assert_eq!(setup.held().len(), 2 + applied);
}

#[tokio::test]
async fn an_outcome_nobody_knows_was_written_or_not() {
    let setup = Setup::new(Fencing::LaneToken).await;
    setup.faults.script("target.apply", (0..20).map(|_| Act::FailAfter(FaultKind::Transient)));
    for id in 0..20 {
        assert_eq!(kinds(&setup.apply(1, &[upsert(id, 1)]).await), ["unknown"]);
    }
    let held = setup.held().len();
    assert!(held > 0 && held < 20, "{held}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_ends_the_process_at_the_call() {
    for (act, written) in [(Act::CrashBefore, 0), (Act::CrashAfter, 1)] {
        let setup = Setup::new(Fencing::LaneToken).await;
        setup.faults.script("target.apply", [act]);
        let changes = [upsert(1, 1)];
        tokio::select! {
            _ = setup.apply(1, &changes) => panic!("the call returned"),
            () = setup.faults.crashed() => {}
        }
        assert!(setup.faults.has_crashed());
        assert_eq!(setup.held().len(), written);
        let after = tokio::time::timeout(Duration::from_secs(9), setup.apply(1, &[upsert(2, 1)])).await;
        assert!(after.is_err(), "a crashed process called again");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_failures() {
    let run = async |seed| {
        let rates = Rates { transient: 0.2, fail_after: 0.2, slow: 0.2, delay_ms_max: 50, ..Rates::default() };
        let faults = Faults::new(seed, rates);
        let state = faults.around(&Disk::new(1).open()).state;
        let started = tokio::time::Instant::now();
        let mut story = Vec::new();
        for _ in 0..100 {
            let drawn = state.next_position(&PipelineId::new("p")).await;
            story.push((drawn.map_err(|fault| fault.to_string()), started.elapsed()));
        }
        assert_eq!(faults.calls("state.next_position"), 100);
        story
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn a_scan_fails_after_it_was_done_and_a_held_one_waits_for_its_gate() {
    let host = FakeHost::new(Order::Host);
    host.commit(&[(1, Some(1))]);
    let faults = Faults::none();
    let wrapped = Faulty::new(Arc::new(host), &faults);
    let snapshot = wrapped.snapshot(&FakeHost::selection(0, 9), Version::scan(1, 1)).await.unwrap();
    let gate = Gate::new();
    faults.script("host.scan", [Act::FailAfter(FaultKind::Transient), Act::Hold(gate.clone())]);
    assert!(snapshot.scan(&KeyRange::ALL, None).await.is_err());
    let held = tokio::spawn(async move { snapshot.scan(&KeyRange::ALL, None).await });
    tokio::task::yield_now().await;
    assert!(!held.is_finished());
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn the_mapper_maps_host_rows_to_what_the_target_should_hold() {
    let host = FakeHost::new(Order::Host);
    host.commit(&[(1, Some(10)), (2, Some(11)), (3, Some(12))]);
    let mut mapper = FakeMapper::new(5);
    (mapper.excludes, mapper.rejects) = (vec![11], vec![12]);
    let snapshot = host.snapshot(&FakeHost::selection(5, 9), Version::scan(1, 1)).await.unwrap();
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    let mut out = Vec::new();
    assert_eq!(mapper.map(&page.values(0).unwrap(), &mut out).unwrap(), Mapped::Document);
    assert_eq!(Some(&out), mapper.document(1, 10).as_ref());
    assert_eq!(fides_core::decode_row(&out).unwrap()[1], Value::I64(15));
    assert_eq!(mapper.map(&page.values(1).unwrap(), &mut out).unwrap(), Mapped::Excluded);
    assert_eq!(mapper.map(&page.values(2).unwrap(), &mut out).unwrap_err().kind, FaultKind::Permanent);
    assert_eq!(Some(out), mapper.document(1, 10));
}

#[tokio::test]
async fn a_target_is_read_as_documents() {
    let setup = Setup::new(Fencing::LaneToken).await;
    setup.apply(1, &[upsert(2, 7), upsert(1, 7)]).await;
    let mut selection = FakeHost::selection(0, 9);
    selection.namespace = setup.sink.namespace.clone();
    selection.columns.truncate(2);
    selection.columns[1].name = "value".into();
    let snapshot: Arc<dyn Snapshot> = setup.wrapped.snapshot(&setup.sink, &selection).await.unwrap();
    let page = snapshot.scan(&KeyRange::ALL, None).await.unwrap();
    assert_eq!(page.values(1).unwrap(), [Value::I64(2), Value::I64(7)]);
    selection.columns[1].name = "nothing".into();
    assert!(setup.wrapped.snapshot(&setup.sink, &selection).await.is_err());
}
