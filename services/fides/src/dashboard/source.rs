//! What the page shows, from the state store: asked once for everybody who looks, and not too often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use fides_engine::admin::{CommandStatus, commands};
use fides_engine::inspect::Heartbeat;
use fides_runtime::config::Config;
use fides_runtime::{Access, App};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::commands::status::{self, Look, Standing};
use crate::exit::Exit;
use crate::failure::Failure;

/// What was found is shown for so long, to everybody.
const FRESH: Duration = Duration::from_secs(2);
/// …and for so many times as long as the look took: the page never costs the store more than a share of its time.
const SHARE: u32 = 4;
/// How long nothing is opened after opening failed.
const REOPEN: Duration = Duration::from_secs(5);
/// Commands that are shown.
const COMMANDS_MAX: usize = 20;

/// Where everything stands.
#[derive(Serialize)]
struct Seen {
    /// By the store's clock, in milliseconds since 1970.
    at_ms: u64,
    release: &'static str,
    pipelines: Vec<Standing>,
    /// Who works.
    processes: Vec<Heartbeat>,
    /// The latest, the newest first.
    commands: Vec<CommandStatus>,
}

/// Opens the backplane when somebody looks, and again while it cannot be opened: the page may start before all else.
pub struct Source {
    config: Config,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    app: Option<Arc<App>>,
    failed: Option<(Instant, String)>,
    seen: Option<(Instant, Bytes)>,
}

impl Source {
    pub fn new(config: Config) -> Self {
        Self { config, inner: Mutex::default() }
    }

    /// The wired pipelines.
    pub async fn app(&self) -> Result<Arc<App>, Failure> {
        self.inner.lock().await.open(&self.config).await
    }

    /// Where everything stands, as JSON. Whoever comes while somebody is looking sees what that one finds.
    pub async fn status(&self) -> Result<Bytes, Failure> {
        let mut inner = self.inner.lock().await;
        if let Some((until, seen)) = &inner.seen
            && Instant::now() < *until
        {
            return Ok(seen.clone());
        }
        let app = inner.open(&self.config).await?;
        let began = Instant::now();
        let seen = look(&app).await?;
        // A state file that was not there yet was opened as an empty one: the next look finds it, if it is there by then.
        if is_empty(&seen) {
            inner.app = None;
        }
        let seen = serde_json::to_vec(&seen)
            .map_err(|error| Failure::new(Exit::Internal, format!("the status is not JSON: {error}")))?;
        let seen = Bytes::from(seen);
        inner.seen = Some((Instant::now() + FRESH.max(began.elapsed() * SHARE), seen.clone()));
        Ok(seen)
    }
}

impl Inner {
    async fn open(&mut self, config: &Config) -> Result<Arc<App>, Failure> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        if let Some((at, why)) = &self.failed
            && at.elapsed() < REOPEN
        {
            return Err(Failure::new(Exit::Unavailable, why.clone()));
        }
        match App::open(config, Access::Read, &[]).await {
            Ok(app) => {
                let app = Arc::new(app);
                (self.app, self.failed) = (Some(app.clone()), None);
                Ok(app)
            }
            Err(error) => {
                let failure = Failure::from(error);
                self.failed = Some((Instant::now(), failure.text()));
                Err(failure)
            }
        }
    }
}

async fn look(app: &App) -> Result<Seen, Failure> {
    let Look { at_ms, pipelines, processes } = status::look(app).await?;
    let commands = match app.pipelines.first() {
        Some(any) => commands(&*any.backplane.state, COMMANDS_MAX).await?,
        None => Vec::new(),
    };
    Ok(Seen { at_ms, release: env!("CARGO_PKG_VERSION"), pipelines, processes, commands })
}

fn is_empty(seen: &Seen) -> bool {
    seen.commands.is_empty() && seen.processes.is_empty() && seen.pipelines.iter().all(Standing::is_new)
}
