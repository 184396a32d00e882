use async_trait::async_trait;
use bytes::Bytes;

use crate::Fault;

/// The way of commands ([`crate::command`]) from whoever asks to whoever decides. What travels is bytes: who reads them
/// refuses what makes no sense.
#[async_trait]
pub trait AdminQueue: Send + Sync {
    /// Sends a command durably and waits for its answer; `None` when there was none in time. The command may be carried
    /// out all the same: asking again with the same id tells. Dropping the future gives up the waiting, not the command.
    async fn ask(&self, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault>;

    /// Becomes the one who answers. Several processes may wish to: one is active, and when it ends the next one gets what it
    /// has not answered.
    async fn serve(&self) -> Result<Box<dyn Desk>, Fault>;
}

/// Where commands arrive. Dropping it returns what is not answered.
#[async_trait]
pub trait Desk: Send {
    /// The next command; waits for one. Cancel-safe: a command is lost to nobody when the future is dropped.
    async fn next(&mut self) -> Result<Request, Fault>;

    /// Sends the answer to whoever waits for it, and only then settles the command, once. An answer that nobody waits for
    /// any more is no fault.
    async fn answer(&mut self, tag: u64, body: &[u8]) -> Result<(), Fault>;
}

/// A command that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it to [`Desk::answer`].
    pub tag: u64,
    /// The command's bytes, as they were sent.
    pub body: Bytes,
    /// Whether somebody waits for the answer.
    pub wants_reply: bool,
}
