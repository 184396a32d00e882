//! The guard before a backplane, over the fake one, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use fides_core::port::{Backplane, Expect};
use fides_core::{Envelope, Fault, FaultKind, FenceId, Lane, Limits, Message, PipelineId};
use fides_testkit::fake::{Act, Disk, Faults};
use tokio::time::Instant;

use super::{TIMEOUT, guard_backplane};
use crate::NoMeter;

fn guarded(disk: &Disk, limits: &Limits) -> (Backplane, Faults) {
    let faults = Faults::none();
    let inner = faults.around(&disk.open());
    (guard_backplane(inner, disk.admin(), "broker", "store", limits, &|| Arc::new(NoMeter)).0, faults)
}

fn lane() -> Lane {
    Lane { pipeline: PipelineId::new("p"), index: 0 }
}

fn marker() -> Envelope {
    Envelope { lane: lane(), message: Message::Fence(FenceId { epoch: 1, number: 1 }) }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_may_not_is_told() {
    let (backplane, faults) = guarded(&Disk::new(4), &Limits::default());
    let transient = || Act::Reject(FaultKind::Transient);
    faults.script("state.put", [transient(), transient()]);
    backplane.state.put("k", b"v", Expect::Absent).await.unwrap().expect("the third attempt");
    assert_eq!(faults.calls("state.put"), 3);
    faults.script("queue.publish", [transient()]);
    backplane.queue.publish(&[marker()]).await.unwrap();
    assert_eq!(faults.calls("queue.publish"), 2);
    faults.script("state.get", [Act::Reject(FaultKind::Permanent)]);
    assert_eq!(backplane.state.get("k").await.unwrap_err().kind, FaultKind::Permanent);
    assert_eq!(faults.calls("state.get"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_is_given_up() {
    let limits = Limits { retry_attempts_max: 1, ..Limits::default() };
    let (backplane, faults) = guarded(&Disk::new(4), &limits);
    faults.script("state.now_ms", [Act::Slow(Duration::from_hours(1))]);
    let began = Instant::now();
    let fault = backplane.state.now_ms().await.unwrap_err();
    assert_eq!((fault.kind, began.elapsed()), (FaultKind::Transient, TIMEOUT), "{fault}");
}

/// The stores of one Redis share a breaker; the broker has another one.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_stops_the_calls_to_it_and_none_to_the_broker() {
    let limits = Limits { breaker_failures: 3, retry_attempts_max: 3, ..Limits::default() };
    let (backplane, faults) = guarded(&Disk::new(4), &limits);
    faults.script("state.get", vec![Act::Reject(FaultKind::Transient); 3]);
    backplane.state.get("k").await.unwrap_err();
    let is_open = |fault: Fault| fault.kind == FaultKind::Unavailable && fault.to_string().contains("store: circuit");
    let asked = faults.calls("state.get");
    assert!(is_open(backplane.state.get("k").await.unwrap_err()));
    assert!(is_open(backplane.hashes.incarnation().await.unwrap_err()));
    assert!(is_open(backplane.dead.count(&lane().pipeline).await.unwrap_err()));
    assert_eq!(faults.calls("state.get"), asked, "nothing reaches it");
    assert_eq!(backplane.queue.depth(&lane()).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(limits.breaker_open_ms)).await;
    backplane.state.get("k").await.expect("a probe closes it");
    backplane.hashes.incarnation().await.unwrap();
}

/// A lane that is full is no fault: its publisher waits, and nobody else's call is refused meanwhile.
#[tokio::test(start_paused = true)]
async fn a_full_lane_is_waited_for_as_long_as_it_takes() {
    let disk = Disk::new(1);
    let (backplane, _) = guarded(&disk, &Limits { breaker_failures: 1, ..Limits::default() });
    backplane.queue.publish(&[marker()]).await.unwrap();
    let queue = backplane.queue.clone();
    let waiting = tokio::spawn(async move { queue.publish(&[marker()]).await });
    tokio::time::sleep(100 * TIMEOUT).await;
    assert!(!waiting.is_finished(), "there is no room");
    assert_eq!(backplane.queue.depth(&lane()).await.unwrap(), 1, "other calls pass");
    let mut consumer = backplane.queue.consume(&lane()).await.unwrap();
    let first = consumer.next().await.unwrap();
    consumer.settle(&[first.tag]).await.unwrap();
    waiting.await.unwrap().unwrap();
}
