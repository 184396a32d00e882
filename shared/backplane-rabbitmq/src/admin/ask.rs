use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fides_core::Fault;
use lapin::BasicProperties;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use uuid::Uuid;

use super::{How, Sent, queue_name, send};
use crate::broker::Broker;
use crate::fault::Failure;
use crate::inbox::{Arrived, Feed, Inbox};
use crate::link::Open;
use crate::topology;

/// The broker's own way to answer: no queue is made, and what nobody waits for any more is dropped.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Sends a command and waits for its answer. A queue that somebody deleted is declared again, once.
pub(super) async fn ask(broker: &Broker, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault> {
    let queue = queue_name(broker)?;
    let patience = Duration::from_millis(timeout_ms);
    let mut lost = None;
    for _ in 0..2 {
        let open = broker.publishing.open().await?;
        match attempt(broker, &open, &queue, command).await {
            Ok(Some(answers)) => return answers.wait(patience).await,
            Ok(None) => {}
            Err(failure) if failure.missing => lost = Some(failure.fault),
            Err(failure) => return Err(failure.fault),
        }
        open.forget(&queue);
    }
    let lost = lost.unwrap_or_else(|| Fault::unavailable(format!("publishing to queue {queue}: nothing takes it")));
    Err(lost.advise("somebody deletes this queue as fast as Fides declares it: find out who"))
}

/// Where the answer to one command arrives.
struct Answers {
    inbox: std::sync::Arc<Inbox>,
    id: ShortString,
    /// Answers come over the channel that asked.
    _channel: lapin::Channel,
    _consumer: lapin::Consumer,
}

impl Answers {
    async fn wait(&self, patience: Duration) -> Result<Option<Bytes>, Fault> {
        let read = |arrived: &Arrived| Ok((arrived.correlation_id.clone(), arrived.body.clone()));
        let answer = async {
            loop {
                let (correlation, body) = self.inbox.next(read).await?;
                if correlation.as_ref() == Some(&self.id) {
                    return Ok(body);
                }
            }
        };
        tokio::time::timeout(patience, answer).await.ok().transpose()
    }
}

/// Sends it once, on a channel of its own, whose consumer must be there before; `None` when no queue took it.
async fn attempt(
    broker: &Broker,
    open: &Open,
    queue: &ShortString,
    command: &[u8],
) -> Result<Option<Answers>, Failure> {
    let channel = open.channel().await?;
    topology::declare_admin(open, &channel, queue).await?;
    let inbox = Inbox::new(open.at(&format!("waiting for the answer from queue {queue}")));
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(REPLY_TO.into(), ShortString::default(), options, FieldTable::default());
    let consumer = open.call("asking for a place for answers", consuming).await?;
    consumer.set_delegate(Feed(inbox.clone()));
    let id = ShortString::from(Uuid::now_v7().to_string());
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let properties = BasicProperties::default()
        .with_reply_to(REPLY_TO.into())
        .with_correlation_id(id.clone())
        .with_message_id(id.clone())
        .with_timestamp(now_s);
    let how = How { patience: broker.settings.confirm_timeout(), mandatory: true };
    match send(open, &channel, queue, (command, properties), how).await? {
        Sent::Taken => Ok(Some(Answers { inbox, id, _channel: channel, _consumer: consumer })),
        Sent::Returned => Ok(None),
        Sent::Refused => Err(Fault::unavailable(open.at(&format!("queue {queue} is full")))
            .advise("nobody takes commands: start an importer")
            .into()),
    }
}
