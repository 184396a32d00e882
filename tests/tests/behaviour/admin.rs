//! Commands: taken once, carried out by those who do such work anyway, and kept over restarts.

use std::time::Duration;

use fides_core::command::{Action, Extent, KeySpan, KeyText, Status};
use fides_core::{Fault, Origin};
use fides_engine::admin::{commands, paused, receive};
use fides_engine::import::{Mode, Report, demanded, import};
use fides_engine::inspect::status;
use fides_engine::{Progress, follow, refresh};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate, Order};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stand::{Process, Stand, namespace, within};

pub fn pause() -> Action {
    Action::Pause { pipelines: vec![] }
}

pub fn resume() -> Action {
    Action::Resume { pipelines: vec![] }
}

#[tokio::test(start_paused = true)]
async fn a_pause_survives_restarts_and_what_is_queued_stays_queued() {
    let stand = Stand::new(12);
    let first = stand.process("first").await;
    first.copy().await;
    assert_eq!(first.ask("1", pause()).await.status, Status::Done);
    drop(first);

    let second = stand.process("second").await;
    let _at_work = second.serve();
    stand.host.commit(&[(0, Some(2)), (5, Some(2)), (20, Some(1))]);
    refresh(&second.pipeline, &[FakeHost::key(5)], Origin::Event, false).await.unwrap();
    let mut import = importing(&second);
    let told = "paused by eve; `fides resume p` goes on";
    within(async {
        while second.worker.progress.paused().as_deref() != Some(told) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::time::timeout(Duration::from_mins(1), &mut import).await.expect_err("it waits");
    assert_eq!(stand.differing(1), [0, 5, 20], "nothing is written, not even what is queued");
    assert_eq!(status(&second.pipeline).await.unwrap().paused.unwrap().requester, "eve");

    assert_eq!(second.ask("2", resume()).await.status, Status::Done);
    within(import).await.unwrap().unwrap();
    second.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(second.worker.progress.paused(), None);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_not_followed_while_the_pipeline_is_paused() {
    let stand = Stand::of(FakeHost::new(Order::Host), 4);
    let process = stand.process("a").await;
    let stop = CancellationToken::new();
    let (pipeline, worker, stopped) = (process.pipeline.clone(), process.worker.clone(), stop.clone());
    let following = tokio::spawn(async move { follow(&pipeline, &worker, &stopped).await });
    let _consumers = process.consume();
    process.import(Mode::Delta).await;
    process.ask("1", pause()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told = Progress::get(&process.worker.progress.followed);
    stand.host.commit(&[(0, Some(9))]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(Progress::get(&process.worker.progress.followed), told);
    process.ask("2", resume()).await;
    within(async {
        while stand.differing(1) != [0; 0] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A stop ends it, paused or not.
    process.ask("3", pause()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    within(following).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_paused_in_the_middle_goes_on_there() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    stand.host.commit(&(0..40).map(|id| (id, Some(2))).collect::<Vec<_>>());
    let before = process.faults.calls("host.scan");
    let gate = Gate::new();
    process.faults.script("host.scan", (0..5).map(|_| Act::Pass).chain([Act::Hold(gate.clone())]));
    let import = importing(&process);
    until_called(&process, "host.scan", before + 6).await;
    process.ask("1", pause()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.open();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(process.faults.calls("host.scan"), before + 6, "it does not read on");
    process.ask("2", resume()).await;
    let report = within(import).await.unwrap().unwrap();
    process.settle().await;
    assert_eq!((report.resumed, report.counts.read, report.cancelled), (1, 40, None));
    assert_eq!(stand.differing(1), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_waits_for_the_end_of_a_pause() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    let _at_work = process.serve();
    stand.host.commit(&[(3, None)]);
    process.ask("1", pause()).await;
    assert_eq!(process.ask("2", Action::Cleanup { pipelines: vec![] }).await.status, Status::Accepted);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(stand.document(3).is_some());
    process.ask("3", resume()).await;
    let answer = process.ask_and_wait("2", Action::Cleanup { pipelines: vec![] }).await;
    assert_eq!(answer.detail.unwrap()["p"], json!({"status": "done", "candidates": 1, "deleted": 1, "foreign": 0}));
    process.settle().await;
    assert_eq!(stand.document(3), None);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_is_the_same_command_and_another_one_under_it_is_refused() {
    let stand = Stand::new(4);
    let process = stand.process("a").await;
    process.copy().await;
    let first = process.ask("1", pause()).await;
    process.ask("2", resume()).await;
    assert_eq!(process.ask("1", pause()).await, first, "it is answered again");
    assert_eq!(paused(&process.pipeline).await.unwrap(), None, "and not done again");
    let other = process.ask("1", resume()).await;
    assert_eq!(other.status, Status::Refused);
    let reason = other.reason.unwrap();
    assert!(reason.contains("`id`: \"1\" was used for another command (pause by eve)"), "{reason}");

    let all = commands(&*process.pipeline.backplane.state, 10).await.unwrap();
    let listed: Vec<_> = all.iter().map(|known| (known.command.as_str(), known.answer.id.as_str())).collect();
    assert!(listed.contains(&("pause", "1")) && listed.contains(&("resume", "2")) && listed.len() == 2, "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_interrupted_while_it_was_taken_is_taken_again() {
    let stand = Stand::new(4);
    let process = stand.process("a").await;
    process.copy().await;
    // It is kept, and then the process dies.
    let dying = stand.process("dying").await;
    dying.faults.script("state.put", [Act::Pass, Act::Pass, Act::CrashBefore]);
    tokio::select! {
        _ = dying.ask("1", pause()) => panic!("it dies"),
        () = dying.faults.crashed() => {}
    }
    assert_eq!(paused(&process.pipeline).await.unwrap(), None);
    assert_eq!(process.ask("1", pause()).await.status, Status::Done);
    assert!(paused(&process.pipeline).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn commands_are_forgotten_after_a_week_but_for_those_that_wait() {
    let stand = Stand::new(4);
    let process = stand.process("a").await;
    process.copy().await;
    process.ask("done", resume()).await;
    process.ask("waits", Action::Cleanup { pipelines: vec![] }).await;
    tokio::time::sleep(Duration::from_hours(24 * 8)).await;
    process.ask("new", resume()).await;
    let all = commands(&*process.pipeline.backplane.state, 10).await.unwrap();
    let ids: Vec<_> = all.iter().map(|known| known.answer.id.as_str()).collect();
    assert_eq!(ids, ["new", "waits"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_its_place() {
    let stand = Stand::new(4);
    let process = stand.process("a").await;
    process.copy().await;
    for (at, (fields, expected)) in [
        (
            json!({"command": "pause", "pipelines": ["p", "q"]}),
            "`pipelines`: there is no pipeline \"q\"; expected some of p",
        ),
        (json!({"command": "replay", "pipeline": "q"}), "`pipeline`: there is no pipeline \"q\""),
        (json!({"command": "reimport", "pipelines": ["p"], "keys": [1, "x"]}), "`keys`: key x: \"x\" is not a i64"),
        (json!({"command": "reimport", "pipelines": ["p"], "ranges": [{"to": "y"}]}), "`ranges`: key y"),
        (json!({"command": "approve", "pipeline": "p", "run": "r", "deletions_max": 1}), "no clean-up of p is refused"),
        (json!({"command": "explode"}), "`command`: found \"explode\""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = json!({"id": format!("c{at}"), "requester": "eve"});
        command.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = receive(std::slice::from_ref(&process.pipeline), command.to_string().as_bytes()).await.unwrap();
        assert_eq!((answer.id, answer.status), (format!("c{at}"), Status::Refused));
        let reason = answer.reason.unwrap();
        assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
    }
    assert_eq!(
        paused(&process.pipeline).await.unwrap(),
        None,
        "of several pipelines all are there, or nothing is done"
    );
}

pub fn reimport(mode: Extent, keys: &[i64], ranges: Vec<KeySpan>) -> Action {
    let keys = keys.iter().map(|key| KeyText(key.to_string())).collect();
    Action::Reimport { pipelines: vec!["p".into()], mode, keys, ranges }
}

/// Rows whose documents were changed behind everybody's back: no mark tells.
pub fn tamper(stand: &Stand, ids: impl IntoIterator<Item = i64>) {
    let mapper = FakeMapper::new(1);
    for id in ids {
        stand.target.tamper(&namespace(), &FakeHost::key(id), mapper.document(id, 77).map(Into::into));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reimport_is_carried_out_by_the_next_import_and_a_full_one_sends_everything() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    assert!(!demanded(&process.pipeline).await.unwrap());
    tamper(&stand, [2, 5]);

    assert_eq!(process.ask("delta", reimport(Extent::Delta, &[], vec![])).await.status, Status::Accepted);
    assert!(demanded(&process.pipeline).await.unwrap());
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0);
    assert!(!demanded(&process.pipeline).await.unwrap(), "it is carried out once");
    assert_eq!(process.ask("delta", reimport(Extent::Delta, &[], vec![])).await.status, Status::Done);
    assert_eq!(stand.differing(1), [2, 5]);

    let before = stand.target.history().len();
    process.ask("full", reimport(Extent::Full, &[], vec![])).await;
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.counts.published, stand.target.history().len() - before), (12, 12));
    assert_eq!(stand.differing(1), [0; 0]);
    let answer = process.ask("full", reimport(Extent::Full, &[], vec![])).await;
    assert_eq!(answer.detail.unwrap()["p"]["published"], 12);
    assert_eq!(process.import(Mode::Delta).await.counts.published, 0, "and not again");
}

/// What was asked for while an import read is not carried out by that import: it may have passed the place already.
#[tokio::test(start_paused = true)]
async fn a_reimport_that_is_asked_for_during_an_import_waits_for_the_next_one() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    let gate = Gate::new();
    let before = process.faults.calls("host.scan");
    process.faults.script("host.scan", [Act::Hold(gate.clone())]);
    let import = importing(&process);
    until_called(&process, "host.scan", before + 1).await;
    process.ask("1", reimport(Extent::Delta, &[], vec![])).await;
    gate.open();
    within(import).await.unwrap().unwrap();
    assert!(demanded(&process.pipeline).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_full_reimport_goes_on_where_a_crash_ended_it() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    let _consumers = process.consume();
    process.ask("1", reimport(Extent::Full, &[], vec![])).await;
    let before = stand.target.history().len();
    {
        let dying = stand.process("dying").await;
        dying.faults.script("host.scan", (0..7).map(|_| Act::Pass).chain([Act::CrashBefore]));
        tokio::select! {
            _ = import(&dying.pipeline, Mode::Delta, &dying.worker) => panic!("it dies"),
            () = dying.faults.crashed() => {}
        }
    }
    assert!(demanded(&process.pipeline).await.unwrap());
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.resumed, report.counts.published), (1, 40));
    let written = stand.target.history().len() - before;
    assert!((40..=48).contains(&written), "{written}: a page or two are sent twice");
    assert_eq!(process.ask("1", reimport(Extent::Full, &[], vec![])).await.status, Status::Done);
}

#[tokio::test(start_paused = true)]
async fn keys_are_sent_whatever_their_marks_say() {
    let stand = Stand::new(40);
    let process = stand.process("a").await;
    process.copy().await;
    let _at_work = process.serve();
    tamper(&stand, [2, 5, 8, 11, 14]);
    let answer = process.ask_and_wait("1", reimport(Extent::Full, &[2, 5, 8], vec![])).await;
    process.settle().await;
    assert_eq!((answer.status, answer.detail.unwrap()["p"]["published"].as_u64()), (Status::Done, Some(3)));
    assert_eq!(stand.differing(1), [11, 14]);
}

/// Of what can never be done a person is told; the rest is done.
#[tokio::test(start_paused = true)]
async fn keys_whose_deletion_is_refused_stop_no_others() {
    let stand = Stand::new(40);
    let mut process = stand.process("a").await;
    process.pipeline.limits.delete_count_min = 0;
    process.copy().await;
    let _at_work = process.serve();
    stand.host.commit(&(0..10).map(|id| (id, None)).collect::<Vec<_>>());
    tamper(&stand, [20, 21, 22]);
    let keys = [0, 20, 1, 21, 2, 3, 4, 5, 6, 7, 8, 9, 22];
    let answer = process.ask_and_wait("1", reimport(Extent::Full, &keys, vec![])).await;
    process.settle().await;
    assert_eq!(answer.status, Status::Refused);
    assert!(answer.reason.unwrap().contains("are gone from the host, and deleting them was refused"));
    assert_eq!(stand.differing(1), [0; 0]);
    assert!(stand.target.documents(&namespace()).len() > 34, "not all of them are deleted");
}

#[tokio::test(start_paused = true)]
async fn ranges_are_sent_and_go_on_where_a_crash_ended_them() {
    let stand = Stand::new(60);
    let process = stand.process("a").await;
    process.copy().await;
    tamper(&stand, 0..60);
    let span = |from: Option<i64>, to: Option<i64>| KeySpan {
        from: from.map(|key| KeyText(key.to_string())),
        to: to.map(|key| KeyText(key.to_string())),
    };
    let ranges = || reimport(Extent::Full, &[], vec![span(Some(10), Some(30)), span(Some(50), None)]);
    process.ask("1", ranges()).await;
    let before = stand.target.history().len();
    {
        let dying = stand.process("dying").await;
        dying.faults.script("host.scan", (0..3).map(|_| Act::Pass).chain([Act::CrashBefore]));
        let _at_work = dying.serve();
        within(dying.faults.crashed()).await;
    }
    let _at_work = process.serve();
    assert_eq!(process.ask_and_wait("1", ranges()).await.status, Status::Done);
    process.settle().await;
    let expected: Vec<i64> = (0..10).chain(30..50).collect();
    assert_eq!(stand.differing(1), expected);
    let written = stand.target.history().len() - before;
    assert!((30..=34).contains(&written), "{written}: at most a page is sent twice");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_replayed() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.faults.poison([3, 4, 5].map(FakeHost::key));
    process.copy().await;
    assert_eq!(status(&process.pipeline).await.unwrap().dead, 3);
    process.faults.poison([FakeHost::key(5)]);
    let _at_work = process.serve();
    let all = Action::Replay { pipeline: "p".into(), keys: vec![] };
    let answer = process.ask_and_wait("1", all).await;
    process.settle().await;
    assert_eq!((answer.status, answer.detail.unwrap()["p"]["published"].as_u64()), (Status::Done, Some(3)));
    assert_eq!(status(&process.pipeline).await.unwrap().dead, 1, "what is still broken is dead again");
    process.faults.poison([]);
    let one = Action::Replay { pipeline: "p".into(), keys: vec![KeyText("5".into())] };
    assert_eq!(process.ask_and_wait("2", one).await.status, Status::Done);
    process.settle().await;
    assert_eq!((status(&process.pipeline).await.unwrap().dead, stand.differing(1)), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_comparison_tells_its_counts_and_repairs_if_asked() {
    let stand = Stand::new(12);
    let process = stand.process("a").await;
    process.copy().await;
    let _at_work = process.serve();
    tamper(&stand, [2, 5]);
    let verify = |repair| Action::Verify { pipelines: vec![], repair };
    let counts = process.ask_and_wait("1", verify(false)).await.detail.unwrap()["p"].clone();
    assert_eq!(
        (&counts["different"], &counts["equal"], &counts["equal_sides"]),
        (&json!(2), &json!(10), &json!(false))
    );
    assert_eq!(stand.differing(1), [2, 5]);
    let counts = process.ask_and_wait("2", verify(true)).await.detail.unwrap()["p"].clone();
    assert_eq!(counts["mended"], 2);
    process.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(process.ask_and_wait("3", verify(false)).await.detail.unwrap()["p"]["equal_sides"], true);
}

pub fn importing(process: &Process) -> JoinHandle<Result<Report, Fault>> {
    let (pipeline, worker) = (process.pipeline.clone(), process.worker.clone());
    tokio::spawn(async move { import(&pipeline, Mode::Delta, &worker).await })
}

/// Waits until an operation was called so often.
pub async fn until_called(process: &Process, operation: &str, calls: u64) {
    within(async {
        while process.faults.calls(operation) < calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
