//! Marks rebuilt from what both sides hold (L11), while others write.

use std::time::Duration;

use fides_core::{KeyRange, Origin, Version};
use fides_engine::import::{Lead, Mode};
use fides_engine::{RebuildReport, current_epoch, establish, publish};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};

use crate::stand::{Process, Stand, namespace, upsert, within};

const ROWS: i64 = 40;

async fn rebuilt(process: &Process) -> RebuildReport {
    let lead = Lead::take(&process.pipeline, &process.worker).await.unwrap().expect("nobody else imports");
    let report = within(lead.during(lead.rebuild())).await.unwrap();
    lead.release().await;
    report
}

/// An epoch is a second long at least.
async fn lose_everything(stand: &Stand) {
    stand.disk.lose_everything();
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_store_an_unchanged_host_sends_nothing() {
    let stand = Stand::new(ROWS);
    let mut mapper = FakeMapper::new(1);
    mapper.excludes = vec![3];
    let process = stand.process_of("a", mapper).await;
    stand.host.commit(&[(7, Some(3))]);
    process.copy().await;
    let (written, epoch) = (stand.target.history().len(), current_epoch(&process.pipeline).await.unwrap());
    lose_everything(&stand).await;

    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert!(current_epoch(&process.pipeline).await.unwrap() > epoch, "the loss was noticed");
    assert_eq!((report.counts.read, report.counts.unchanged), (ROWS as u64, ROWS as u64));
    assert_eq!((report.counts.published, stand.target.history().len()), (0, written));
    assert_eq!(report.sweep.candidates, 0);
}

#[tokio::test(start_paused = true)]
async fn what_differs_is_sent_and_what_only_the_target_has_is_deleted() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    lose_everything(&stand).await;
    stand.host.commit(&[(0, Some(5)), (1, None), (100, Some(1))]);
    stand.target.tamper(&namespace(), &FakeHost::key(2), None);
    stand.target.tamper(&namespace(), &FakeHost::key(3), FakeMapper::new(1).document(3, 9).map(Into::into));

    let _consumers = process.consume();
    let report = rebuilt(&process).await;
    assert_eq!((report.host_records, report.marked, report.differing), (40, 36, 4));
    assert_eq!((report.sweep.candidates, report.sweep.deleted), (1, 1));
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(report.counts.published, 4);
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(1), None);
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
}

/// Marks that survived are older than what the target holds, or newer: they are not taken at their word.
#[tokio::test(start_paused = true)]
async fn after_a_restored_target_only_what_differs_is_sent() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    let backup = stand.target.back_up();
    stand.host.commit(&[(0, Some(5)), (1, None), (100, Some(1))]);
    process.copy().await;
    stand.target.restore(&backup);
    let written = stand.target.history().len();

    process.copy().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(stand.document(1), None);
    assert_eq!(stand.target.history().len() - written, 3, "the two that changed, and the one that is gone");
}

/// A person says that the marks are wrong, and nothing else does.
#[tokio::test(start_paused = true)]
async fn marks_that_nobody_doubts_are_rebuilt_when_asked() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    stand.target.tamper(&namespace(), &FakeHost::key(3), None);
    let _consumers = process.consume();
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0, "no import sees it");
    let report = rebuilt(&process).await;
    assert_eq!((report.marked, report.differing), (39, 1));
    assert_eq!(process.import(Mode::Delta).await.counts.published, 1);
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// Holds the rebuild in front of a call of `operation`, after so many others of it, and lets `meanwhile` happen.
async fn while_held(
    process: &Process,
    operation: &'static str,
    calls_before: usize,
    meanwhile: impl Future<Output = ()>,
) -> RebuildReport {
    let gate = Gate::new();
    let earlier = process.faults.calls(operation);
    let acts = std::iter::repeat_n(Act::Pass, calls_before).chain([Act::Hold(gate.clone())]);
    process.faults.script(operation, acts);
    let meanwhile = async {
        while process.faults.calls(operation) <= earlier + calls_before as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        meanwhile.await;
        gate.open();
    };
    tokio::join!(rebuilt(process), meanwhile).0
}

/// Holds the rebuild when it has read both sides and is about to mark.
async fn while_it_marks(process: &Process, advances_before: usize, meanwhile: impl Future<Output = ()>) {
    while_held(process, "hashes.advance", advances_before, meanwhile).await;
}

async fn send(process: &Process, id: i64, version: Version, v: i64) {
    let change = upsert(id, version, FakeMapper::new(1).document(id, v).unwrap());
    publish(&process.pipeline, process.pipeline.mapper.shape(), Origin::Event, vec![change]).await.unwrap();
}

/// Two changes are on their way, to another value and back; the first is written when the target was read and not yet
/// marked. A mark as new as the host's snapshot would refuse the second.
#[tokio::test(start_paused = true)]
async fn changes_on_their_way_win_over_a_rebuilt_mark() {
    let stand = Stand::new(ROWS);
    let (consumer, process) = (stand.process("consumer").await, stand.process("a").await);
    consumer.copy().await;
    lose_everything(&stand).await;
    establish(&process.pipeline).await.unwrap();
    let epoch = current_epoch(&process.pipeline).await.unwrap();
    let mut positions = Vec::new();
    for _ in 0..2 {
        positions.push(process.pipeline.backplane.state.next_position(&process.pipeline.id).await.unwrap());
    }
    let _consumers = consumer.consume();
    consumer.settle().await;
    while_it_marks(&process, 0, async {
        send(&consumer, 0, Version::scan(epoch, positions[0]), 7).await;
        consumer.settle().await;
    })
    .await;
    assert_eq!(stand.differing(1), [0]);
    send(&consumer, 0, Version::scan(epoch, positions[1]), 1).await;
    consumer.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// A change of the earlier epoch that is published late, by a process that has not noticed: it must not hide behind the
/// rebuilt mark.
#[tokio::test(start_paused = true)]
async fn a_late_change_of_an_earlier_epoch_is_not_hidden() {
    let stand = Stand::new(ROWS);
    let (consumer, process) = (stand.process("consumer").await, stand.process("a").await);
    consumer.copy().await;
    let old = current_epoch(&process.pipeline).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Marks survive this, and positions lose their meaning.
    stand.host.set_lineage("fake-2");
    establish(&process.pipeline).await.unwrap();
    let _consumers = consumer.consume();
    consumer.settle().await;
    // One bucket after the other is lifted before both sides are read.
    let hashes = &process.pipeline.backplane.hashes;
    let lifts = hashes.buckets(&process.pipeline.id, &KeyRange::ALL).await.unwrap().len();
    while_it_marks(&process, lifts, async {
        send(&consumer, 0, Version::scan(old, 1 << 40), 7).await;
        consumer.settle().await;
    })
    .await;
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
}

/// The mark says that the record was deleted, the restored target holds it, and the host has it again for a moment that
/// only the rebuild sees.
#[tokio::test(start_paused = true)]
async fn a_deleted_record_that_a_restored_target_holds_again_is_remembered() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    let backup = stand.target.back_up();
    stand.host.commit(&[(1, None)]);
    process.copy().await;
    stand.target.restore(&backup);
    let _consumers = process.consume();
    // When the walk has found it, and before the host is asked again.
    let report = while_held(&process, "hashes.distrust", 0, async {
        stand.host.commit(&[(1, Some(1))]);
    })
    .await;
    assert_eq!((report.sweep.candidates, report.sweep.deleted), (1, 0));
    stand.host.commit(&[(1, None)]);

    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.document(1), None);
}

/// A writer changes the host all the while.
#[tokio::test(start_paused = true)]
async fn a_rebuild_beside_a_writer_converges() {
    let stand = Stand::new(ROWS);
    let process = stand.process("a").await;
    process.copy().await;
    lose_everything(&stand).await;
    process.faults.script("target.scan", (0..20).map(|_| Act::Slow(Duration::from_millis(50))));
    let _consumers = process.consume();
    let writer = async {
        for turn in 0..60 {
            let (id, value) = (turn % 13, (turn % 5 != 0).then_some(turn % 2));
            stand.host.commit(&[(id, value)]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (_, ()) = tokio::join!(rebuilt(&process), writer);
    process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    let held = stand.target.documents(&namespace()).len();
    assert_eq!(held, stand.host.rows().len(), "and nothing else");
}
