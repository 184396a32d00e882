//! The other side of the desk: whoever asks. One client of the queue among others, but for this: where nobody owns the state
//! file, the command is taken and carried out by this process.

use std::sync::Arc;
use std::time::Duration;

use fides_core::Fault;
use fides_core::command::{Answer, Command, Status};
use fides_core::port::{AdminQueue, StateStore};
use fides_engine::admin::{self, Office};
use fides_engine::import::{Mode, demanded};
use fides_engine::{Pipeline, raise_fence, wait_for_fence};
use fides_guard::TracingMeter;
use futures::future::try_join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::app::{Access, App};
use crate::backplane::{self, Desk};
use crate::config::Config;
use crate::finding::StartError;
use crate::sync::{beside_consumers, worker};
use crate::{convert, patience};

/// How often is looked whether a command is carried out.
const LOOK: Duration = Duration::from_millis(50);

/// Where commands go.
pub enum Commands {
    /// To another process: a running sync, or the importers.
    Elsewhere(Arc<dyn AdminQueue>),
    /// Nowhere else: no sync runs, and the state file is ours meanwhile.
    Here(Box<App>),
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Commands::Elsewhere(_) => f.write_str("Elsewhere"),
            Commands::Here(app) => f.debug_tuple("Here").field(app).finish(),
        }
    }
}

impl Commands {
    /// Finds whoever takes commands. `pipelines` are those that will be named, none for all: only where this process has to
    /// do the work are they wired, with their hosts and targets.
    pub async fn find(config: &Config, pipelines: &[String]) -> Result<Self, StartError> {
        match backplane::desk(&config.backplane, &convert::limits(&config.limits)).await? {
            Desk::Elsewhere(queue) => Ok(Self::Elsewhere(queue)),
            Desk::Here(opened) => {
                let meters = || Arc::new(TracingMeter) as _;
                Ok(Self::Here(App::over(config, opened, Access::Own, pipelines, &meters).await?.into()))
            }
        }
    }

    /// Sends a command and waits for its answer. `None`: it is queued, and nobody has answered in time. The same command
    /// asked again tells how far it is.
    pub async fn ask(&self, command: &Command, timeout_ms: u64) -> Result<Option<Answer>, Fault> {
        let queue = match self {
            Self::Here(app) => return admin::accept(&app.pipelines, command).await.map(Some),
            Self::Elsewhere(queue) => queue,
        };
        let Some(answer) = queue.ask(&command.to_bytes(), timeout_ms).await? else { return Ok(None) };
        let answer = serde_json::from_slice(&answer).map_err(|error| {
            Fault::permanent("the answer cannot be read by this release")
                .because(error)
                .advise("use one release for all")
        });
        answer.map(Some)
    }
}

impl App {
    /// Carries out a command that was accepted here, and waits until what that publishes is written. Where a pipeline is
    /// paused it is left for later. Ends early when `stop` is asked for: the next sync goes on from there.
    pub async fn carry_out(&self, command: &Command, stop: CancellationToken) -> Result<(), Fault> {
        let work = self.pipelines.iter().map(|pipeline| carry_out(pipeline, command, &stop));
        try_join_all(work.collect::<Vec<_>>()).await.map(drop)
    }
}

async fn carry_out(pipeline: &Pipeline, command: &Command, stop: &CancellationToken) -> Result<(), Fault> {
    if admin::paused(pipeline).await?.is_some() {
        return Ok(());
    }
    let worker = worker(Arc::default());
    let work = async {
        let jobs = async {
            let send = admin::carry_out(pipeline, &worker, Office::Sending, stop);
            futures::join!(send, admin::carry_out(pipeline, &worker, Office::Comparing, stop));
            std::future::pending::<()>().await;
        };
        let imports = async {
            if demanded(pipeline).await? {
                patience::import(pipeline, Mode::Delta, &worker).await?;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = ended(pipeline, command) => ended?,
            fault = imports => return fault,
            () = jobs => {}
        }
        let fence = raise_fence(pipeline).await?;
        wait_for_fence(pipeline, fence).await.map(drop)
    };
    Box::pin(beside_consumers(pipeline, &worker, stop, work)).await
}

/// Waits until a command is carried out in a pipeline, or is not going to be.
async fn ended(pipeline: &Pipeline, command: &Command) -> Result<(), Fault> {
    while waits(pipeline, command).await? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn waits(pipeline: &Pipeline, command: &Command) -> Result<bool, Fault> {
    let answer = admin::accept(std::slice::from_ref(pipeline), command).await?;
    let of = answer.detail.as_ref().and_then(|detail| detail.get(pipeline.id.as_str()));
    Ok(of.is_some_and(|of| of.get("status").is_some_and(|status| *status == json!(Status::Accepted))))
}

/// The small state of a deployment, to be looked at: what became of commands, for one. Neither hosts nor targets have to be
/// there.
pub async fn state(config: &Config) -> Result<Arc<dyn StateStore>, StartError> {
    let limits = convert::limits(&config.limits);
    let opened = backplane::open(&config.backplane, &limits, Access::Read, &|| Arc::new(TracingMeter)).await?;
    Ok(opened.backplane.state)
}
