//! The life of one service of the distributed mode: read the configuration, answer probes, wait for the parts, work, and
//! on SIGTERM finish what is in hand within the grace period.

use std::fmt::Display;
use std::future::pending;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, Command, value_parser};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::app::{Access, App};
use crate::config::{self, Config};
use crate::finding::{Finding, StartError};
use crate::health::{self, Health};
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Starting};
use crate::serve::{Role, serve};
use crate::{Stream, Telemetry, Watched};

/// How long a service waits before it looks for its parts again.
const RETRY: Duration = Duration::from_secs(1);

const EXIT_STATUS: &str = "\
Exit status:
    0  stopped by a signal, with nothing in hand
   64  the command line or the configuration is wrong, or does not fit the stores
   69  the address of the probes is taken
   70  an internal error
   75  stopped by a signal, and the grace period was over before what was in hand was finished (nothing is lost)

/healthz, /readyz (names what it waits for) and /metrics are answered at `service.listen` of the configuration.";

/// What distinguishes a service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub about: &'static str,
    /// What it does for the pipelines.
    pub roles: &'static [Role],
}

/// Why a service ended.
struct Ended {
    code: u8,
    why: Option<String>,
}

impl Ended {
    fn new(code: u8, why: impl Display) -> Self {
        Self { code, why: Some(why.to_string()) }
    }
}

/// Runs a service until a signal. The whole of its `main`.
pub fn run(service: Service) -> ExitCode {
    let file = Arg::new("config").short('c').long("config").value_name("FILE").env("FIDES_CONFIG");
    let file = file.help("The configuration").default_value("fides.yaml").value_parser(value_parser!(PathBuf));
    let command = Command::new(service.name).version(env!("CARGO_PKG_VERSION")).about(service.about);
    let matches = match command.arg(file).after_help(EXIT_STATUS).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help may be cut short by its reader; there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { 64.into() } else { ExitCode::SUCCESS };
        }
    };
    let file = matches.get_one::<PathBuf>("config").cloned().unwrap_or_default();
    let ended = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let mut telemetry = None;
            let ended = runtime.block_on(live(service, file, &mut telemetry));
            if let Some(telemetry) = telemetry {
                telemetry.end();
            }
            ended
        }
        Err(error) => Ended::new(70, format!("the process cannot start its threads: {error}")),
    };
    if let Some(why) = ended.why {
        eprintln!("{}: {why}", service.name);
    }
    ended.code.into()
}

async fn live(service: Service, file: PathBuf, telemetry: &mut Option<Telemetry>) -> Ended {
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(errors) => return Ended::new(config::EXIT_CODE, errors),
    };
    if let config::Backplane::Embedded { .. } = config.backplane {
        let finding =
            Finding::error("backplane", "is `embedded`, which is one process: `fides sync` runs all services");
        return Ended::new(config::EXIT_CODE, finding);
    }
    let telemetry = match Telemetry::install(service.name, &config, Stream::Out) {
        Ok(installed) => telemetry.insert(installed),
        Err(fault) => return Ended::new(config::EXIT_CODE, fault),
    };
    let stop = match stop_on_signals() {
        Ok(stop) => stop,
        Err(error) => return Ended::new(70, format!("signals cannot be received: {error}")),
    };
    let metrics = telemetry.metrics().clone();
    let health = Health::new();
    let probes = CancellationToken::new();
    let served = health::serve(config.service.listen, health.clone(), metrics.clone(), probes.clone());
    let answering = match served {
        Ok((address, answering)) => {
            tracing::info!(%address, "answering probes");
            tokio::spawn(answering)
        }
        Err(fault) => return Ended::new(69, fault),
    };
    let ended = work(service, &config, &health, &metrics, &stop).await;
    probes.cancel();
    match answering.await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::warn!(%fault, "the probes did not end cleanly"),
        Err(error) => tracing::warn!(%error, "the probes did not end cleanly"),
    }
    ended
}

async fn work(
    service: Service,
    config: &Config,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Ended {
    let mut starting = Starting::new(health);
    let app = tokio::select! {
        opened = open(config, metrics, &mut starting) => match opened {
            Ok(app) => app,
            Err(error) => return Ended::new(error.exit_code(), error),
        },
        () = stop.cancelled() => return Ended { code: 0, why: None },
    };
    // Before it says that it has started: it is ready when every part has answered.
    let parts = Readiness::new(&app, config, service.roles, health);
    starting.done();
    tracing::info!(pipeline_count = app.pipelines.len(), "ready");
    let watch = |watched: Watched| metrics.pipeline(&watched.pipeline, watched.progress);
    let serving = serve(&app, service.roles, watch, stop.clone());
    // Importers are few: everybody would be told the same.
    let stock = async {
        if service.roles.contains(&Role::Importer) { metrics.keep_stock(&app.pipelines).await } else { pending().await }
    };
    let state = app.pipelines.first().map(|pipeline| pipeline.backplane.state.clone());
    let heart = async {
        match &state {
            Some(state) => metrics.keep_heartbeat(&**state).await,
            None => pending().await,
        }
    };
    let within_grace = async {
        stop.cancelled().await;
        sleep(Duration::from_secs(u64::from(config.service.grace_seconds))).await;
    };
    let ended = tokio::select! {
        served = serving => match served {
            Ok(()) => Ended { code: 0, why: None },
            Err(fault) => Ended::new(70, fault),
        },
        () = within_grace => Ended::new(75, "the grace period was over before what was in hand was finished; nothing is lost"),
        never = parts.watch() => match never {},
        never = stock => match never {},
        never = heart => match never {},
    };
    if let Some(state) = &state {
        metrics.farewell(&**state).await;
    }
    ended
}

/// Opens everything, waiting for what cannot be reached yet: the order in which services and parts start does not matter.
pub(crate) async fn open(config: &Config, metrics: &Metrics, starting: &mut Starting<'_>) -> Result<App, StartError> {
    let mut told = String::new();
    loop {
        let error = match App::open_metered(config, Access::Own, &[], &|| metrics.meter()).await {
            Ok(app) => return Ok(app.counted(metrics)),
            Err(error) => error,
        };
        if error.findings.iter().any(|finding| !finding.unavailable) {
            return Err(error);
        }
        let waits_for: Vec<String> =
            error.findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect();
        let waits_for = waits_for.join("; ");
        starting.waits_for(&error.findings);
        if told != waits_for {
            tracing::warn!(waits_for, "waiting for parts that cannot be reached");
            told = waits_for;
        }
        sleep(RETRY).await;
    }
}

/// Cancelled by SIGTERM or Ctrl-C; a second signal ends the process at once.
fn stop_on_signals() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        tracing::info!("stopping after what is in hand");
        asked.cancel();
        next().await;
        std::process::exit(75);
    });
    Ok(stop)
}
