//! Commands: taken once, carried out by those who do such work anyway, and kept over restarts.

use std::time::Duration;

use fides_core::command::{Action, Extent, KeySpan, KeyText, Status};
use fides_core::port::Expect;
use fides_engine::admin::{commands, paused, receive};
use fides_engine::import::{Mode, demanded};
use fides_engine::inspect::status;
use fides_testkit::fake::{Act, FakeHost, Gate};
use serde_json::json;

use crate::stand::{Stand, within};

fn pause() -> Action {
    Action::Pause { pipelines: vec![] }
}

fn resume() -> Action {
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
    stand.host.commit(&[(0, Some(2)), (20, Some(1))]);
    let mut import = tokio::spawn({
        let (pipeline, worker) = (second.pipeline.clone(), second.worker.clone());
        async move { fides_engine::import::import(&pipeline, Mode::Delta, &worker).await }
    });
    let told = "paused by eve; `fides resume p` goes on";
    within(async {
        while second.worker.progress.paused().as_deref() != Some(told) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::time::timeout(Duration::from_secs(60), &mut import).await.expect_err("it waits");
    assert_eq!(stand.differing(1), [0, 20], "nothing is written");
    assert_eq!(status(&second.pipeline).await.unwrap().paused.unwrap().requester, "eve");

    assert_eq!(second.ask("2", resume()).await.status, Status::Done);
    within(import).await.unwrap().unwrap();
    second.settle().await;
    assert_eq!(stand.differing(1), [0; 0]);
    assert_eq!(second.worker.progress.paused(), None);
}
