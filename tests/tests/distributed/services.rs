//! The services as processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fides_tests::program;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a process may take to answer a probe, or to stop: more than its grace period.
const PATIENCE: Duration = Duration::from_mins(1);

/// One process of a service; killed when it is dropped.
pub struct Process {
    pub name: &'static str,
    config: PathBuf,
    log: PathBuf,
    /// Bytes of the log that are of earlier lives.
    before: usize,
    child: Child,
}

impl Process {
    /// Starts a service. `index` tells it from others of the same name.
    pub fn start(name: &'static str, config: &Path, index: usize) -> Self {
        let log = config.with_file_name(format!("{name}-{index}.log"));
        let child = launch(name, config, &log);
        Self { name, config: config.to_owned(), log, before: 0, child }
    }

    /// Ends it as kill -9 does. Whether it was still alive.
    pub fn kill(&mut self) -> bool {
        let alive = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        alive
    }

    /// Starts it again, with a log that goes on.
    pub fn restart(&mut self) {
        self.before = self.log().len();
        self.child = launch(self.name, &self.config, &self.log);
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Starts it again with another configuration.
    pub fn restart_with(&mut self, config: &Path) {
        config.clone_into(&mut self.config);
        self.restart();
    }

    /// Sends it a signal, by its name without SIG.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Asks it to stop, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not stop within {PATIENCE:?}", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has logged in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has logged since it was started last.
    pub fn log_of_this_life(&self) -> String {
        let log = self.log();
        log.get(self.before..).unwrap_or_default().to_owned()
    }

    /// Resident memory, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Where its present life answers probes, once it does.
    fn probes(&self) -> Option<String> {
        let log = self.log_of_this_life();
        let line = log.lines().rev().find(|line| line.contains("\"answering probes\""))?;
        Some(serde_json::from_str::<serde_json::Value>(line).ok()?["fides.address"].as_str()?.to_owned())
    }

    /// The body and the status line of a probe; waits until the process answers at all.
    pub async fn probe(&self, path: &str) -> (String, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = self.probes()
                && let Ok(answer) = get(&address, path).await
                && let Some((head, body)) = answer.split_once("\r\n\r\n")
            {
                return (head.lines().next().unwrap_or_default().to_owned(), body.to_owned());
            }
            assert!(Instant::now() < deadline, "{} did not answer {path} within {PATIENCE:?}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `/readyz` names as missing, by part: why. Empty when it is ready.
    pub async fn waits_for(&self) -> BTreeMap<String, String> {
        let (status, body) = self.probe("/readyz").await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let waiting = answer["waiting"].as_array().cloned().unwrap_or_default();
        assert_eq!(status.contains("200"), waiting.is_empty(), "{status} {body}");
        let text = |it: &serde_json::Value| it.as_str().unwrap_or_default().to_owned();
        waiting.iter().map(|it| (text(&it["part"]), text(&it["for"]))).collect()
    }

    /// The sum of all samples of a metric whose line has every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, body) = self.probe("/metrics").await;
        let is_it = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        body.lines().filter(is_it).filter_map(value).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        if let Some(folder) = std::env::var_os("FIDES_TEST_LOGS") {
            keep(&Path::new(&folder).join(format!("{}.log", self.name)), &self.log());
        }
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(12).collect();
            eprintln!("--- last words of {}", self.log.display());
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Appends to a file that several tests write.
fn keep(file: &Path, log: &str) {
    let _ = File::options().create(true).append(true).open(file).and_then(|mut file| file.write_all(log.as_bytes()));
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: fides\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn launch(name: &str, config: &Path, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let complaints = log.try_clone().unwrap();
    Command::new(program(&format!("fides-{name}")))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(complaints)
        .spawn()
        .unwrap()
}
