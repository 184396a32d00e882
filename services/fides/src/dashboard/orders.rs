//! What the page asks: it goes the way of all commands, and is carried out by this process only where nobody else would.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use fides_core::command::{Action, Answer, Command, Status};
use fides_runtime::config::Config;
use fides_runtime::{App, Commands};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Refusal;
use crate::failure::Failure;

/// How long an answer, or the command before, is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Sends commands.
pub struct Orders {
    config: Config,
    requester: String,
    /// One at a time: while this process carries one out it owns the state file, and nobody would answer the next.
    turn: Arc<Semaphore>,
    under_way: TaskTracker,
    stop: CancellationToken,
}

impl Orders {
    /// Commands in somebody's name. What is under way when `stop` is asked for is left to the next sync.
    pub fn new(config: Config, requester: String, stop: CancellationToken) -> Self {
        Self { config, requester, turn: Arc::new(Semaphore::new(1)), under_way: TaskTracker::new(), stop }
    }

    /// Sends a command and returns its answer. `None`: it is queued, and nobody has answered in time.
    pub async fn send(&self, id: String, action: Action) -> Result<Option<Answer>, Refusal> {
        let unknown = |name: &&String| !self.config.pipelines.iter().any(|pipeline| pipeline.id == **name);
        if let Some(name) = action.pipelines().iter().find(unknown) {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no pipeline {name:?}")));
        }
        let command = Command { id, requester: self.requester.clone(), action };
        // What this would be refused for elsewhere is told before anything is opened.
        let command = match Command::parse(&command.to_bytes()) {
            Ok(command) => command,
            Err(answer) => return Ok(Some(answer)),
        };
        let Ok(Ok(turn)) = timeout(ANSWER_MAX, self.turn.clone().acquire_owned()).await else {
            return Err(Refusal::unavailable(
                "this process is carrying out the command before: try again when that has ended",
            ));
        };
        let found = Commands::find(&self.config, command.action.pipelines()).await.map_err(Failure::from)?;
        let timeout_ms = u64::try_from(ANSWER_MAX.as_millis()).unwrap_or(u64::MAX);
        let answer = found.ask(&command, timeout_ms).await?;
        if let (Commands::Here(app), Some(Status::Accepted)) = (found, answer.as_ref().map(|answer| answer.status)) {
            self.under_way.spawn(carry_out(app, command, self.stop.clone(), turn));
        }
        Ok(answer)
    }

    /// Waits until what is under way has ended, or has been left.
    pub async fn end(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

async fn carry_out(app: Box<App>, command: Command, stop: CancellationToken, turn: OwnedSemaphorePermit) {
    if let Err(fault) = app.carry_out(&command, stop).await {
        tracing::error!(%fault, id = command.id, "a command could not be carried out; it waits for the next sync");
    }
    // The file is free before the next command looks for somebody who takes it.
    drop(app);
    drop(turn);
}
