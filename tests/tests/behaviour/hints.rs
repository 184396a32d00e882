//! Hints: what is offered is published before it is answered, and what is not found is looked for twice.

use std::time::Duration;

use fides_core::{FaultKind, Key};
use fides_engine::admin::{self, refusal};
use fides_engine::{Hints, establish, hints, take_hints};
use fides_testkit::fake::{Act, FakeHost, Gate};
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stand::{Process, Stand, within};

/// A process that takes hints, until it is dropped.
struct Taking {
    hints: Hints,
    taking: JoinHandle<()>,
    stop: CancellationToken,
    _consumers: DropGuard,
}

impl Taking {
    async fn begin(process: &Process) -> Self {
        establish(&process.pipeline).await.unwrap();
        let (place, offers) = hints(&process.pipeline);
        let stop = CancellationToken::new();
        let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
        let taking = tokio::spawn(async move { take_hints(&pipeline, &worker, offers, &stopped).await });
        Self { hints: place, taking, stop, _consumers: process.consume() }
    }

    /// As kill -9 does.
    fn kill(&self) {
        self.taking.abort();
    }
}

fn keys(ids: impl IntoIterator<Item = i64>) -> Vec<Key> {
    ids.into_iter().map(FakeHost::key).collect()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(10), waiting).await.is_ok(), "it never came to be: {what}");
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_published_and_many_hints_are_one_fetch() {
    let stand = Stand::new(10);
    let mut process = stand.process("a").await;
    process.pipeline.limits.batch_records_max = 100;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    stand.host.commit(&(0..10).map(|id| (id, Some(2))).collect::<Vec<_>>());
    let fetched = process.faults.calls("host.fetch");
    let offers = (0..10).chain(0..10).map(|id| taking.hints.offer(keys([id])));
    for answer in within(join_all(offers)).await {
        answer.unwrap();
    }
    assert_eq!(process.faults.calls("host.fetch") - fetched, 1, "twenty hints of ten records");
    // Answered means that it is in the lanes, whatever becomes of the process.
    taking.kill();
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_gone_is_looked_for_twice_and_then_deleted() {
    let stand = Stand::new(10);
    let process = stand.process("a").await;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    stand.host.commit(&[(3, None)]);
    within(taking.hints.offer(keys([3]))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(process.pipeline.limits.hint_settle_ms / 2)).await;
    assert!(stand.document(3).is_some(), "it is not believed yet");
    until("it is deleted", || stand.document(3).is_none()).await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// A hint that was faster than its change: what was not there at first is sent, not deleted.
#[tokio::test(start_paused = true)]
async fn a_record_that_comes_late_is_sent() {
    let stand = Stand::new(3);
    let process = stand.process("a").await;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    within(taking.hints.offer(keys([7]))).await.unwrap();
    stand.host.commit(&[(7, Some(5))]);
    until("it is there", || stand.document(7).is_some()).await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// A host that finds nothing any more deletes nothing, and a person is told.
#[tokio::test(start_paused = true)]
async fn deletions_above_the_ratio_are_refused_and_told() {
    let stand = Stand::new(40);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 5;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    stand.host.commit(&(0..20).map(|id| (id, None)).collect::<Vec<_>>());
    within(taking.hints.offer(keys(0..20))).await.unwrap();
    let told = async {
        loop {
            if let Some(refusal) = refusal(&process.pipeline).await.unwrap() {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refusal = within(told).await;
    assert_eq!(refusal.candidates, 20);
    assert!(refusal.why.contains(&format!("fides approve p {} --deletions-max 20", refusal.run)), "{}", refusal.why);
    process.settle().await;
    assert!((0..20).all(|id| stand.document(id).is_some()), "nothing was deleted");
}

/// kill -9 after the answer, before the second look: another process has it.
#[tokio::test(start_paused = true)]
async fn a_crash_between_the_looks_loses_no_deletion() {
    let stand = Stand::new(10);
    let dying = stand.process("a").await;
    dying.copy().await;
    let first = Taking::begin(&dying).await;
    stand.host.commit(&[(4, None)]);
    within(first.hints.offer(keys([4]))).await.unwrap();
    first.kill();
    drop(first);
    let process = stand.process("b").await;
    let _second = Taking::begin(&process).await;
    until("it is deleted", || stand.document(4).is_none()).await;
}

/// A crash at any call on the way: what was answered arrives, and what was not is offered again.
#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_loses_nothing_that_was_answered() {
    for (operation, act) in [
        ("state.next_position", Act::CrashBefore),
        ("host.snapshot", Act::CrashAfter),
        ("host.fetch", Act::CrashAfter),
        ("queue.publish", Act::CrashBefore),
        ("queue.publish", Act::CrashAfter),
        ("state.put", Act::CrashBefore),
        ("state.put", Act::CrashAfter),
    ] {
        let stand = Stand::new(10);
        let dying = stand.process("a").await;
        dying.copy().await;
        stand.host.commit(&[(1, Some(9)), (2, None)]);
        let mut answered = false;
        {
            let taking = Taking::begin(&dying).await;
            dying.faults.script(operation, [act.clone()]);
            tokio::select! {
                biased;
                () = dying.faults.crashed() => {}
                offered = taking.hints.offer(keys([1, 2])) => answered = offered.is_ok(),
            }
            // After the answer as well, somewhere between the looks.
            if !answered {
                assert!(dying.faults.has_crashed(), "{operation}");
            }
            taking.kill();
        }
        let process = stand.process("b").await;
        let taking = Taking::begin(&process).await;
        if !answered {
            within(taking.hints.offer(keys([1, 2]))).await.unwrap();
        }
        until("both arrived", || stand.differing(1).is_empty() && stand.document(2).is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_is_told_at_once_and_has_an_end() {
    let stand = Stand::new(10);
    let mut process = stand.process("a").await;
    process.pipeline.limits.hint_backlog_records_max = 2;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    let gate = Gate::new();
    process.faults.script("host.fetch", [Act::Hold(gate.clone())]);
    let held = tokio::spawn({
        let hints = taking.hints.clone();
        async move { hints.offer(keys([1, 2])).await }
    });
    until("it is fetched", || process.faults.calls("host.fetch") > 0).await;
    tokio::task::yield_now().await;
    let refused = taking.hints.offer(keys([3])).await.unwrap_err();
    assert!(matches!(refused.kind, FaultKind::Throttled { .. }), "{refused}");
    let too_many = taking.hints.offer(keys([3, 4, 5])).await.unwrap_err();
    assert_eq!(too_many.kind, FaultKind::Permanent, "they would never fit: {too_many}");
    gate.open();
    within(held).await.unwrap().unwrap();
    within(taking.hints.offer(keys([3]))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_the_answer_and_one_that_a_key_has_harms_no_other() {
    let stand = Stand::new(10);
    let process = stand.process("a").await;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    process.faults.script("queue.publish", [Act::Reject(FaultKind::Unavailable)]);
    let fault = within(taking.hints.offer(keys([1]))).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    // Together they are refused, then the first one alone; the probe and the second one pass.
    stand.host.commit(&[(2, Some(7))]);
    let permanent = || Act::Reject(FaultKind::Permanent);
    process.faults.script("host.fetch", [permanent(), permanent()]);
    let (first, second) =
        within(async { tokio::join!(taking.hints.offer(keys([1])), taking.hints.offer(keys([2]))) }).await;
    assert_eq!(first.unwrap_err().kind, FaultKind::Permanent, "it is the key's");
    second.unwrap();
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    // Where nothing can be fetched it is not the key's fault.
    process.faults.script("host.fetch", [permanent(), permanent(), permanent()]);
    let fault = within(taking.hints.offer(keys([1]))).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_in_hand_and_refuses_the_rest() {
    let stand = Stand::new(10);
    let mut process = stand.process("a").await;
    process.pipeline.limits.batch_records_max = 1;
    process.copy().await;
    let taking = Taking::begin(&process).await;
    let gate = Gate::new();
    process.faults.script("host.fetch", [Act::Hold(gate.clone())]);
    let offer = |id| {
        let hints = taking.hints.clone();
        tokio::spawn(async move { hints.offer(keys([id])).await })
    };
    let first = offer(1);
    until("it is fetched", || process.faults.calls("host.fetch") > 0).await;
    let second = offer(2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    taking.stop.cancel();
    gate.open();
    within(first).await.unwrap().unwrap();
    assert_eq!(within(second).await.unwrap().unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(taking.hints.offer(keys([3])).await.unwrap_err().kind, FaultKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_paused_pipeline_takes_no_hints() {
    let stand = Stand::new(3);
    let process = stand.process("a").await;
    process.copy().await;
    let _serving = process.serve();
    let taking = Taking::begin(&process).await;
    let all = || fides_core::command::Action::Pause { pipelines: vec![] };
    process.ask_and_wait("pause", all()).await;
    assert!(admin::paused(&process.pipeline).await.unwrap().is_some());
    let fault = within(taking.hints.offer(keys([1]))).await.unwrap_err();
    assert!(fault.kind == FaultKind::Unavailable && fault.to_string().contains("paused by eve"), "{fault}");
}
