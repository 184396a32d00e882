//! Everything happens that one can measure, or wants to be woken for.

use std::time::Duration;

use fides_core::port::{Outcome, Target, Write};
use fides_core::{Change, FaultKind, Op, Version};
use fides_engine::inspect::verify_due;
use fides_testkit::fake::{Act, FakeHost, FakeMapper};

use super::stand::{ROWS, Stand, configured, copy};
use crate::health::Health;
use crate::readiness::Starting;
use crate::service;

const MINE: &str = "pipeline=\"orders\"";
const TARGET: &str = "part=\"target search\"";

/// All of it, one after the other.
pub async fn happens(stand: &mut Stand) {
    is_copied(stand).await;
    is_imported_again(stand).await;
    follows(stand).await;
    deletes(stand).await;
    refuses_to_delete(stand).await;
    drifts(stand).await;
    gets_a_message_twice(stand).await;
    finds_a_newer_document(stand).await;
    loses_its_target(stand).await;
    loses_its_host(stand).await;
    loses_its_marks(stand).await;
    starts_in_vain(stand).await;
}

/// A host is copied; one of its records cannot be written.
async fn is_copied(stand: &mut Stand) {
    for name in ["read", "published", "written", "dead"] {
        stand.tells(&format!("fides_records_{name}_total"), &[MINE]).await;
    }
    for name in ["fides_lanes_owned", "fides_letters_waiting", "fides_marks_stored", "fides_marks_size_bytes"] {
        stand.tells(name, &[MINE]).await;
    }
    stand.tells("fides_call_records_total", &[TARGET, "operation=\"apply\"", "outcome=\"done\""]).await;
    stand.tells("fides_call_records_total", &[TARGET, "operation=\"apply\"", "outcome=\"failed\""]).await;
    stand.tells("fides_call_duration_seconds", &[TARGET, "operation=\"apply\"", "error_type=\"permanent\""]).await;
    stand.tells("target_info", &["service_name=\"fides-test\""]).await;
    stand.tells("process_memory_usage_bytes", &[]).await;
    stand.says("import finished", 0).await;
    stand.says("clean-up finished", 0).await;
    stand.settles().await;
}

/// Nothing has changed: it is compared by records first, by buckets then.
async fn is_imported_again(stand: &mut Stand) {
    stand.imports().await;
    stand.tells("fides_records_unchanged_total", &[MINE]).await;
    stand.tells("fides_records_still_dead_total", &[MINE]).await;
    stand.imports().await;
    stand.tells("fides_records_summarised_total", &[MINE]).await;
    stand.tells("fides_commands_total", &["command=\"reimport\""]).await;
}

/// The host's log tells a change, and is kept longer than it should.
async fn follows(stand: &mut Stand) {
    stand.host.commit(&[(1, Some(2))]);
    stand.tells("fides_records_followed_total", &[MINE]).await;
    stand.host.set_log_lag(1 << 20);
    stand.tells("fides_log_lag_bytes", &[MINE]).await;
    stand.host.set_log_lag(0);
}

/// Two rows are gone, which the log does not tell.
async fn deletes(stand: &mut Stand) {
    stand.host.hide_from(Some(ROWS - 2));
    stand.imports().await;
    stand.tells("fides_records_deletions_total", &[MINE]).await;
}

/// Nearly all are gone.
async fn refuses_to_delete(stand: &mut Stand) {
    stand.host.hide_from(Some(10));
    stand.imports().await;
    stand.tells("fides_cleanup_refused_total", &[MINE]).await;
    stand.host.hide_from(None);
    stand.imports().await;
}

/// Somebody else writes to the target.
async fn drifts(stand: &mut Stand) {
    let compared = verify_due(&stand.pipeline, &stand.worker(), 1).await.unwrap().unwrap();
    assert_eq!(compared.drifted, 0);
    let wrong = FakeMapper::new(1).document(3, 77).unwrap();
    stand.target.tamper(&copy(), &FakeHost::key(3), Some(wrong.into()));
    let verified = verify_due(&stand.pipeline, &stand.worker(), 2).await.unwrap().unwrap();
    assert_eq!(verified.keys, ["3"]);
    stand.tells("fides_records_verified_total", &[MINE]).await;
    stand.tells("fides_records_drifted_total", &[MINE]).await;
}

/// The broker goes away between mark and ack (L2).
async fn gets_a_message_twice(stand: &mut Stand) {
    stand.faults.script("queue.settle", vec![Act::Reject(FaultKind::Unavailable); 8]);
    stand.host.commit(&[(4, Some(9))]);
    stand.tells("fides_messages_redelivered_total", &[MINE]).await;
    stand.tells("fides_records_stale_total", &[MINE]).await;
    stand.settles().await;
}

/// Another writer was there with a later version.
async fn finds_a_newer_document(stand: &mut Stand) {
    let Stand { pipeline, target, .. } = &*stand;
    let lane = &pipeline.lanes()[0];
    let write = Write { sink: &pipeline.sink, shape: pipeline.shape(), lane, token: 0 };
    let version = Version::scan(u32::MAX, 1);
    let op = Op::Upsert(FakeMapper::new(1).document(5, 5).unwrap().into());
    let change = Change { key: FakeHost::key(5), version, fingerprint: None, op, forced: false };
    let outcomes = target.apply(&write, &[change]).await;
    assert!(matches!(outcomes[..], [Outcome::Applied]), "{outcomes:?}");
    stand.host.commit(&[(5, Some(3))]);
    stand.tells("fides_records_newer_total", &[MINE]).await;
    stand.settles().await;
}

/// The target stumbles, asks for patience, and is away with changes in hand; then it comes back.
async fn loses_its_target(stand: &mut Stand) {
    let unavailable = |times| vec![Act::Reject(FaultKind::Unavailable); times];
    let after = Duration::from_millis(100);
    stand
        .faults
        .script("target.apply", [Act::Reject(FaultKind::Transient), Act::Reject(FaultKind::Throttled { after })]);
    stand.faults.script("target.apply", unavailable(60));
    stand.faults.script("target.describe", unavailable(20));
    stand.host.commit(&(10..30).map(|id| (id, Some(8))).collect::<Vec<_>>());
    stand.tells("fides_call_retries_total", &[TARGET, "operation=\"apply\""]).await;
    stand.tells("fides_call_throttles_total", &[TARGET]).await;
    stand.tells_more("fides_breaker_state", &[TARGET], 1.5).await;
    stand.tells("fides_lanes_paused", &[MINE]).await;
    stand.tells("fides_lane_lag_seconds", &[MINE, "lane="]).await;
    stand.tells("fides_lane_depth", &[MINE, "lane="]).await;
    stand.says("not ready", 0).await;
    stand.settles().await;
    stand.says("breaker closed", 0).await;
}

/// The host is away when an import begins.
async fn loses_its_host(stand: &mut Stand) {
    stand.faults.script("host.snapshot", vec![Act::Reject(FaultKind::Unavailable); 20]);
    stand.ask("reimport").await;
    stand.says("stopped by a fault; it goes on after a while", 0).await;
}

/// The hash store is empty, and the target cannot be walked to learn anew what it holds (L11).
async fn loses_its_marks(stand: &mut Stand) {
    stand.disk.lose_everything();
    stand.faults.script("target.snapshot", vec![Act::Reject(FaultKind::Permanent); 8]);
    stand.says("versions have a new authority, or marks were lost: the epoch has risen", 0).await;
    stand.says("nothing was deleted", 0).await;
}

/// Another process starts that cannot reach its backplane.
async fn starts_in_vain(stand: &Stand) {
    let (config, health) = (configured(), Health::new());
    let mut starting = Starting::new(&health);
    tokio::select! {
        () = stand.says("waiting for parts that cannot be reached", 0) => {}
        _ = service::open(&config, &stand.metrics, &mut starting) => panic!("there is nobody"),
    }
}
