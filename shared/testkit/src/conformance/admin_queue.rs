//! What every queue of commands promises: nothing that was sent is lost, everything is answered once, by one desk.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::port::{AdminQueue, Desk, Request};
use futures::FutureExt;

/// A queue of commands under test, empty at first, used by nobody else.
#[async_trait]
pub trait CommandQueue: Send {
    /// Opens it as the process does that serves it. Every handle of the time before has been dropped, without a farewell.
    async fn open(&mut self) -> Arc<dyn AdminQueue>;

    /// Opens it as another process does, which only asks.
    async fn beside(&mut self) -> Arc<dyn AdminQueue>;
}

/// Longer than any answer takes: a case that would wait so long hangs.
const PATIENCE_MS: u64 = 100_000;

/// Runs every case on a queue that `fresh` makes for it.
pub async fn run_all<C: CommandQueue>(mut fresh: impl AsyncFnMut() -> C) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {
            $( super::run(stringify!($case), $case(&mut fresh().await)).await; )+
        };
    }
    cases![
        a_command_is_answered,
        whatever_is_sent_arrives_whole_and_in_order,
        each_asker_gets_its_own_answer,
        a_command_that_nobody_answers_waits_for_a_desk,
        an_answered_command_never_comes_again,
        a_desk_that_is_dropped_returns_what_it_has_not_answered,
        one_desk_is_active_at_a_time,
        a_killed_process_loses_no_command,
        an_asker_who_went_away_harms_nothing,
        a_wait_that_is_cancelled_loses_nothing,
    ];
}

async fn take(desk: &mut Box<dyn Desk>) -> Request {
    desk.next().await.unwrap()
}

/// Leaves a command behind that nobody waits for.
async fn leave(queue: &Arc<dyn AdminQueue>, body: &[u8]) {
    assert_eq!(queue.ask(body, 0).await.unwrap(), None, "nobody has answered");
}

async fn a_command_is_answered(commands: &mut dyn CommandQueue) {
    let own = commands.open().await;
    let other = commands.beside().await;
    let mut desk = own.serve().await.unwrap();
    for asker in [own, other] {
        let served = async {
            let request = take(&mut desk).await;
            assert_eq!(request.body, "what?");
            assert!(request.wants_reply);
            desk.answer(request.tag, b"that").await.unwrap();
        };
        let (answer, ()) = tokio::join!(asker.ask(b"what?", PATIENCE_MS), served);
        assert_eq!(answer.unwrap(), Some(Bytes::from_static(b"that")));
    }
}

async fn whatever_is_sent_arrives_whole_and_in_order(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    let sent = [vec![], vec![0, 255, b'{', 10, 13], "für".into(), vec![7; 300 << 10], vec![1]];
    for body in &sent {
        leave(&queue, body).await;
    }
    let mut desk = queue.serve().await.unwrap();
    for body in &sent {
        let request = take(&mut desk).await;
        assert!(request.body == body, "{} bytes are not the {} that were sent", request.body.len(), body.len());
        desk.answer(request.tag, b"").await.unwrap();
    }
    assert!(desk.next().now_or_never().is_none(), "there is nothing more");
}

async fn each_asker_gets_its_own_answer(commands: &mut dyn CommandQueue) {
    let (own, other) = (commands.open().await, commands.beside().await);
    let mut desk = own.serve().await.unwrap();
    let served = async {
        let mut requests = Vec::new();
        for _ in 0..3 {
            let request = take(&mut desk).await;
            desk.answer(request.tag, &[b"re: ", &request.body[..]].concat()).await.unwrap();
            requests.push(request);
        }
        assert!(requests.windows(2).all(|pair| pair[0].tag < pair[1].tag), "tags ascend");
    };
    let ask = async |queue: &Arc<dyn AdminQueue>, body: &'static str| {
        let answer = queue.ask(body.as_bytes(), PATIENCE_MS).await.unwrap();
        assert_eq!(answer, Some(Bytes::from(format!("re: {body}"))));
    };
    tokio::join!(served, ask(&own, "a"), ask(&other, "b"), ask(&own, "c"));
}

async fn a_command_that_nobody_answers_waits_for_a_desk(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    let asker = commands.beside().await;
    assert_eq!(asker.ask(b"early", 50).await.unwrap(), None);
    let mut desk = queue.serve().await.unwrap();
    let request = take(&mut desk).await;
    assert_eq!(request.body, "early");
    desk.answer(request.tag, b"late").await.unwrap();
    leave(&asker, b"next").await;
    assert_eq!(take(&mut desk).await.body, "next");
}

async fn an_answered_command_never_comes_again(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    leave(&queue, b"1").await;
    leave(&queue, b"2").await;
    let mut desk = queue.serve().await.unwrap();
    let request = take(&mut desk).await;
    desk.answer(request.tag, b"done").await.unwrap();
    desk.answer(request.tag, b"done twice").await.unwrap();
    drop((desk, queue));
    let queue = commands.open().await;
    let mut desk = queue.serve().await.unwrap();
    assert_eq!(take(&mut desk).await.body, "2");
    assert!(desk.next().now_or_never().is_none());
}

async fn a_desk_that_is_dropped_returns_what_it_has_not_answered(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    leave(&queue, b"1").await;
    leave(&queue, b"2").await;
    for _ in 0..3 {
        let mut desk = queue.serve().await.unwrap();
        assert_eq!(take(&mut desk).await.body, "1");
    }
    let mut desk = queue.serve().await.unwrap();
    for body in ["1", "2"] {
        let request = take(&mut desk).await;
        assert_eq!(request.body, body);
        desk.answer(request.tag, b"").await.unwrap();
    }
}

async fn one_desk_is_active_at_a_time(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    let mut first = queue.serve().await.unwrap();
    leave(&queue, b"1").await;
    let request = take(&mut first).await;
    // Either may wait: for the desk, or for its first request.
    let second = async {
        let mut desk = queue.serve().await.unwrap();
        let request = take(&mut desk).await;
        (desk, request)
    };
    tokio::pin!(second);
    leave(&queue, b"2").await;
    assert!(second.as_mut().now_or_never().is_none(), "the first is still there");
    first.answer(request.tag, b"").await.unwrap();
    let request = take(&mut first).await;
    assert_eq!(request.body, "2");
    assert!(second.as_mut().now_or_never().is_none(), "the first is still there");
    drop(first);
    let (mut second, request) = second.await;
    assert_eq!(request.body, "2");
    second.answer(request.tag, b"").await.unwrap();
}

async fn a_killed_process_loses_no_command(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    for body in [b"1", b"2", b"3"] {
        leave(&queue, body).await;
    }
    let mut desk = queue.serve().await.unwrap();
    let request = take(&mut desk).await;
    desk.answer(request.tag, b"").await.unwrap();
    assert_eq!(take(&mut desk).await.body, "2");
    drop((desk, queue));
    let queue = commands.open().await;
    let mut desk = queue.serve().await.unwrap();
    for body in ["2", "3"] {
        let request = take(&mut desk).await;
        assert_eq!(request.body, body);
        desk.answer(request.tag, b"").await.unwrap();
    }
}

async fn an_asker_who_went_away_harms_nothing(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    let mut desk = queue.serve().await.unwrap();
    let asker = commands.beside().await;
    let asked = async { asker.ask(b"gone", PATIENCE_MS).await };
    let request = tokio::select! {
        answer = asked => panic!("nobody has answered, but: {answer:?}"),
        request = desk.next() => request.unwrap(),
    };
    drop(asker);
    desk.answer(request.tag, b"for nobody").await.unwrap();
    leave(&queue, b"next").await;
    let request = take(&mut desk).await;
    assert_eq!(request.body, "next");
    desk.answer(request.tag, b"").await.unwrap();
}

async fn a_wait_that_is_cancelled_loses_nothing(commands: &mut dyn CommandQueue) {
    let queue = commands.open().await;
    let mut desk = queue.serve().await.unwrap();
    for number in 0..5_u8 {
        leave(&queue, &[number]).await;
        let mut patience = 1;
        let request = loop {
            let turns = async {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                request = desk.next() => break request.unwrap(),
                () = turns => patience *= 2,
            }
        };
        assert_eq!(request.body, [number][..]);
        desk.answer(request.tag, b"").await.unwrap();
    }
}
