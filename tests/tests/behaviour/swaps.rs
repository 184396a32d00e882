//! Unique values that change hands (L5, L6): the target ends right, and no document is lost on the way.

use bytes::Bytes;
use fides_core::decide::lane_of;
use fides_core::port::Expect;
use fides_core::{FaultKind, Limits};
use fides_engine::import::Mode;
use fides_testkit::fake::{Act, FakeHost, Gate};
use std::time::Duration;
use tokio_util::sync::DropGuard;

use crate::order::{caught_up, followed_over, following, is_right};
use crate::stand::{Process, Stand, within};

const LANES: u16 = 3;

/// A target that keeps a value of its own for every record.
async fn contested(records_max: usize) -> (Stand, Process, Process, [DropGuard; 2]) {
    let (stand, reader, process, guards) = followed_over(LANES, records_max).await;
    stand.host.commit(&(0..20).map(|id| (id, Some(100 + id))).collect::<Vec<_>>());
    caught_up(&stand, &process).await;
    stand.target.keep_unique(1);
    (stand, reader, process, guards)
}

/// A process that follows others.
async fn successor(stand: &Stand, name: &str) -> Process {
    let mut process = stand.process(name).await;
    process.pipeline.limits.lanes = LANES;
    process
}

fn lane(id: i64) -> u16 {
    lane_of(FakeHost::key(id).as_bytes(), LANES)
}

/// The first record of each lane.
fn apart() -> Vec<i64> {
    (0..LANES).map(|wanted| (0..20).find(|&id| lane(id) == wanted).expect("every lane has a record")).collect()
}

/// Each of these records takes the value of the next one, in one transaction.
fn rotate(stand: &Stand, ids: &[i64]) {
    let values = stand.host.rows();
    let next = ids.iter().cycle().skip(1);
    stand.host.commit(&ids.iter().zip(next).map(|(id, next)| (*id, Some(values[next]))).collect::<Vec<_>>());
}

async fn letters(process: &Process) -> u64 {
    process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap()
}

/// How many lanes keep something of those that step aside, or tell of refused records.
async fn kept(process: &Process) -> usize {
    let state = &process.pipeline.backplane.state;
    let aside = state.list("aside/", None, 100).await.unwrap();
    let is_empty = |value: &[u8]| String::from_utf8_lossy(value).contains("\"message\":[]");
    let told = state.list("waiting/", None, 100).await.unwrap();
    aside.iter().filter(|(_, entry)| !is_empty(&entry.value)).count() + told.len()
}

fn deletions(stand: &Stand) -> usize {
    stand.target.history().iter().filter(|written| written.document.is_none()).count()
}

#[tokio::test(start_paused = true)]
async fn values_change_hands_across_lanes() {
    let (stand, _reader, process, _guards) = contested(1).await;
    for count in [2, 3] {
        rotate(&stand, &apart()[..count]);
        caught_up(&stand, &process).await;
        is_right(&stand);
        assert_eq!((letters(&process).await, kept(&process).await), (0, 0), "among {count}");
        assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn values_change_hands_within_a_lane() {
    let (stand, _reader, process, _guards) = contested(Limits::default().apply_records_max).await;
    let one = 0;
    let other = (1..20).find(|&id| lane(id) == lane(one)).expect("a lane has several records");
    rotate(&stand, &[one, other]);
    caught_up(&stand, &process).await;
    is_right(&stand);
    assert_eq!((letters(&process).await, kept(&process).await), (0, 0));
}

/// Nobody waits for what the record holds, so it keeps what it has; and is well again once the other lets go.
#[tokio::test(start_paused = true)]
async fn a_value_that_stays_taken_costs_no_document() {
    let (stand, _reader, process, _guards) = contested(1).await;
    let [one, other, ..] = apart()[..] else { unreachable!() };
    let before = stand.document(one).unwrap();
    stand.host.commit(&[(one, Some(stand.host.rows()[&other]))]);
    caught_up(&stand, &process).await;
    assert_eq!((stand.document(one), letters(&process).await), (Some(before), 1));
    assert_eq!((stand.differing(1), deletions(&stand), kept(&process).await), (vec![one], 0, 0));

    stand.host.commit(&[(other, Some(999))]);
    caught_up(&stand, &process).await;
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    is_right(&stand);
    assert_eq!(letters(&process).await, 0);
}

/// One waits for a record that keeps what it has, another one for the first: stepping aside would help nobody.
#[tokio::test(start_paused = true)]
async fn nobody_steps_aside_in_vain() {
    let (stand, _reader, process, _guards) = contested(1).await;
    let [one, other, third, ..] = apart()[..] else { unreachable!() };
    let values = stand.host.rows();
    let before = [one, other].map(|id| stand.document(id));
    stand.host.commit(&[(one, Some(values[&third])), (other, Some(values[&one]))]);
    caught_up(&stand, &process).await;
    assert_eq!([one, other].map(|id| stand.document(id)), before);
    assert_eq!((letters(&process).await, deletions(&stand), kept(&process).await), (2, 0, 0));
}

/// A chain is longer than a change is tried: as long as some get through, nobody is given up.
#[tokio::test(start_paused = true)]
async fn a_long_chain_moves_on() {
    let (stand, _reader, process, _guards) = contested(Limits::default().apply_records_max).await;
    let values = stand.host.rows();
    // Everybody moves up by one: the last one first.
    let moves: Vec<_> = (0..20).map(|id| (id, Some(values[&id] + 1))).collect();
    stand.host.commit(&moves);
    caught_up(&stand, &process).await;
    is_right(&stand);
    assert_eq!((letters(&process).await, deletions(&stand)), (0, 0));
}

/// Two records exchange their values, and the process that writes them dies while a document is gone. Both records, and what
/// they had.
async fn died_in_the_middle() -> (Stand, [i64; 2], [Option<Bytes>; 2]) {
    let (stand, _reader, process, _guards) = contested(1).await;
    let [one, other, ..] = apart()[..] else { unreachable!() };
    let before = [one, other].map(|id| stand.document(id));
    // Each of them is refused once; then the second one steps aside.
    process.faults.script("target.apply", [Act::Pass, Act::Pass, Act::CrashAfter]);
    rotate(&stand, &[one, other]);
    within(process.faults.crashed()).await;
    stand.disk.crash();
    assert!([one, other].iter().any(|&id| stand.document(id).is_none()), "it died while a document was gone");
    (stand, [one, other], before)
}

/// A process dies while a document is gone. Its heir brings it back before it consumes anything.
#[tokio::test(start_paused = true)]
async fn what_a_process_left_aside_comes_back() {
    let (stand, records, before) = died_in_the_middle().await;
    let heir = successor(&stand, "heir").await;
    let closed = Gate::new();
    heir.faults.script("queue.consume", (0..LANES).map(|_| Act::Hold(closed.clone())));
    let _consuming = heir.consume();
    until(async || records.map(|id| stand.document(id)) == before).await;
    closed.open();
    heir.settle().await;
    is_right(&stand);
    assert_eq!((letters(&heir).await, kept(&heir).await), (0, 0));
}

/// An entry that outlived what it tells of, because a process died before it was emptied, brings nothing old back: neither over
/// what was written since, nor where it was deleted since.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_too_old_brings_nothing_back() {
    for since in [Some(900), None] {
        let (stand, [one, other], _) = died_in_the_middle().await;
        let heir = successor(&stand, "heir").await;
        let old = heir.pipeline.backplane.state.list("aside/", None, 100).await.unwrap();
        let _guards = [following(&heir), heir.consume()];
        caught_up(&stand, &heir).await;
        // The values that they had are free again: nothing but the entry's age keeps it from coming back.
        stand.host.commit(&[(one, since), (other, since.map(|value| value + 1))]);
        caught_up(&stand, &heir).await;
        is_right(&stand);
        stand.disk.crash();

        let last = successor(&stand, "last").await;
        for (key, entry) in old {
            last.pipeline.backplane.state.put(&key, &entry.value, Expect::Any).await.unwrap();
        }
        assert_eq!(kept(&last).await, 1);
        let _consuming = last.consume();
        until(async || kept(&last).await == 0).await;
        is_right(&stand);
    }
}

async fn until(what: impl AsyncFn() -> bool) {
    within(async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The target refuses a record altogether once its document is gone: the record is not given up while it has none, and the
/// others of its lane wait with it.
#[tokio::test(start_paused = true)]
async fn who_can_neither_go_on_nor_back_is_waited_for() {
    let (stand, _reader, process, _guards) = contested(1).await;
    let ring = apart();
    rotate(&stand, &ring);
    until(async || deletions(&stand) > 0).await;
    let gone = *ring.iter().find(|&&id| stand.document(id).is_none()).expect("one has made room");
    process.faults.poison([FakeHost::key(gone)]);
    let its = lane(gone);
    until(async || process.worker.progress.troubles().get(&its).is_some_and(|why| why.contains("made room"))).await;
    assert_eq!((stand.document(gone), letters(&process).await), (None, 0));
    process.faults.poison([]);
    caught_up(&stand, &process).await;
    is_right(&stand);
    assert_eq!((letters(&process).await, kept(&process).await), (0, 0));
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
}

/// Others take the values while they are free: whoever loses the race is well with its next change.
#[tokio::test(start_paused = true)]
async fn who_loses_the_race_for_a_value_is_well_in_the_end() {
    let (stand, _reader, process, _guards) = contested(1).await;
    let [one, other, third] = apart()[..] else { unreachable!() };
    let values = stand.host.rows();
    rotate(&stand, &[one, other]);
    // Of what these two exchange, the third one gets a half.
    stand.host.commit(&[(one, Some(777))]);
    stand.host.commit(&[(third, Some(values[&other]))]);
    caught_up(&stand, &process).await;
    process.import(Mode::Delta).await;
    caught_up(&stand, &process).await;
    is_right(&stand);
    assert_eq!((letters(&process).await, kept(&process).await), (0, 0));
}

/// What made room is brought back when its lane is given up: nobody may consume it for long.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_aside_by_a_consumer_that_stops() {
    let (stand, _reader, process, guards) = contested(1).await;
    let [one, other, ..] = apart()[..] else { unreachable!() };
    let before = [one, other].map(|id| stand.document(id));
    // Each of them is refused once, one steps aside, and then the target is away for both.
    let away = Act::Reject(FaultKind::Unavailable);
    process.faults.script("target.apply", [Act::Pass, Act::Pass, Act::Pass, away.clone(), away]);
    rotate(&stand, &[one, other]);
    until(async || deletions(&stand) > 0).await;
    drop(guards);
    until(async || [one, other].map(|id| stand.document(id)) == before).await;

    let heir = successor(&stand, "heir").await;
    let _consuming = heir.consume();
    heir.settle().await;
    is_right(&stand);
    assert_eq!((letters(&heir).await, kept(&heir).await), (0, 0));
}
