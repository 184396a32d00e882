//! A host or a target that is gone in the middle: `sync --once` waits and finishes when it is back; when it stays away the
//! program gives up and says so, and the next run goes on.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fides_tests::{program, released};
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::stand::{Stand, count, sync, verify};

/// So many that the work is far from done at the first row, with pages and writes as small as these.
fn table() -> i64 {
    if released() { 300_000 } else { 60_000 }
}

const LIMITS: &str = "{ lanes: 2, host_partitions: 2, page_records_max: 500, apply_records_max: 500, \
     batch_records_max: 100, lane_depth_batches_max: 4, retry_cap_ms: 1000 }";
/// Longer than the program's own patience, which is what ends the wait.
const PATIENCE: Duration = Duration::from_mins(3);
const UNAVAILABLE: Option<i32> = Some(69);

/// What goes away.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Host,
    Target,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_waits_for_its_target_and_finishes() {
    gone_and_back(Side::Target, "target_back", "lane paused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_waits_for_its_host_and_finishes() {
    gone_and_back(Side::Host, "host_back", "resumed when its host answers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_stays_away_is_named_and_the_next_run_goes_on() {
    gone_for_good(Side::Target, "target_away").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_stays_away_is_named_and_the_next_run_goes_on() {
    gone_for_good(Side::Host, "host_away").await;
}

/// A target that lets itself be claimed and refuses every write: trying again is no sign that it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_whose_disk_is_full_is_given_up_too() {
    let Scene { stand, mut watcher, config, .. } = Scene::new(Side::Target, "target_full").await;
    let refuse = "CREATE TABLE copy (LIKE items INCLUDING ALL);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE ''could not extend file'' USING ERRCODE = ''53100''; END';
        CREATE TRIGGER refuse BEFORE INSERT ON copy FOR EACH STATEMENT EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(refuse).execute(&mut watcher).await.unwrap();
    let (code, _, said) = Running::start(&config).end().await;
    assert_eq!(code, UNAVAILABLE, "{said}");
    let told = last_word(&said);
    for expected in ["could not extend file", "public.copy", "lane items.lane.", "nothing is lost"] {
        assert!(told.contains(expected), "{expected:?} is not in: {told}");
    }

    sqlx::raw_sql("DROP TRIGGER refuse ON copy").execute(&mut watcher).await.unwrap();
    sync(&config);
    prove(&config);
    drop(watcher);
    stand.close().await;
}

/// Cuts the way three times, each time until the program has said that it waits.
async fn gone_and_back(side: Side, name: &str, says: &str) {
    let Scene { stand, mut watcher, mut proxy, config } = Scene::new(side, name).await;
    let mut running = Running::start(&config);
    let mut written = 0;
    for cut in 1..=3 {
        written = until_written(&mut watcher, &mut running, written + table() / 10).await;
        proxy.cut().await;
        running.until_said(says, cut).await;
        proxy.mend().await;
    }
    let (code, stdout, said) = running.end().await;
    assert_eq!(code, Some(0), "{said}");
    let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told[0]["read"], table(), "{told}");
    prove(&config);
    drop(watcher);
    stand.close().await;
}

async fn gone_for_good(side: Side, name: &str) {
    let Scene { stand, mut watcher, mut proxy, config } = Scene::new(side, name).await;
    let mut running = Running::start(&config);
    until_written(&mut watcher, &mut running, table() / 10).await;
    proxy.cut().await;
    let (code, _, said) = running.end().await;
    assert_eq!(code, UNAVAILABLE, "{said}");
    let told = last_word(&said);
    for expected in [proxy.address().as_str(), "nothing is lost"] {
        assert!(told.contains(expected), "{expected:?} is not in: {told}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let copied = count(&mut watcher, "SELECT count(*) FROM copy").await;
    assert!((1..table()).contains(&copied), "{copied} rows: the way was not cut in the middle");

    proxy.mend().await;
    sync(&config);
    prove(&config);
    drop(watcher);
    stand.close().await;
}

/// What is said at the end, to people.
fn last_word(said: &str) -> &str {
    &said[said.find("fides: pipeline items").unwrap_or_else(|| panic!("no last word: {said}"))..]
}

/// Both sides are equal, and the marks know it.
fn prove(config: &Path) {
    verify(config, table());
    let (nothing, _) = sync(config);
    assert_eq!(nothing["published"], 0, "{nothing}");
}

struct Scene {
    stand: Stand,
    /// A session that does not go through the proxy.
    watcher: PgConnection,
    proxy: Proxy,
    config: std::path::PathBuf,
}

impl Scene {
    /// A filled host, and a configuration in which one side is reached through a proxy.
    async fn new(side: Side, name: &str) -> Self {
        let stand = Stand::new(name).await;
        let watcher = stand.fill(table()).await;
        let direct = stand.url();
        let proxy = Proxy::open(&direct);
        let through = proxy.url(&direct);
        let (host, target) = if side == Side::Host { (&through, &direct) } else { (&direct, &through) };
        let host = format!("{{ kind: postgres, url: \"{host}\" }}");
        let config = stand.configure_to(&host, "public.items", target, LIMITS);
        Self { stand, watcher, proxy, config }
    }
}

/// A sync whose words are listened to.
struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(program("fides"))
            .arg("--config")
            .arg(config)
            .args(["--log-level", "warn", "sync", "--once", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = listen(child.stdout.take().unwrap());
        let stderr = listen(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    fn said(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has said something so many times.
    async fn until_said(&mut self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.said().matches(text).count() < times {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.said());
            assert!(Instant::now() < deadline, "{text:?} was not said: {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await; // awaits the process
        }
    }

    /// Waits for its end: exit status, standard output, standard error.
    async fn end(mut self) -> (Option<i32>, String, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Only we and its listener hold a text until the listener has heard the end.
            let heard = Arc::strong_count(&self.stdout) == 1 && Arc::strong_count(&self.stderr) == 1;
            if let Some(status) = self.child.try_wait().unwrap().filter(|_| heard) {
                let stdout = self.stdout.lock().unwrap().clone();
                return (status.code(), stdout, self.said());
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await; // awaits the process
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what comes from a pipe.
fn listen(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let heard = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
    text
}

/// Waits until the copy has so many rows; how many it has then.
async fn until_written(watcher: &mut PgConnection, running: &mut Running, rows: i64) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The program creates the table.
        let exists = "SELECT count(*) FROM pg_tables WHERE tablename = 'copy'";
        let copied = match count(watcher, exists).await {
            0 => 0,
            _ => count(watcher, "SELECT count(*) FROM copy").await,
        };
        if copied >= rows {
            assert!(copied < table(), "the work was done before the way could be cut");
            return copied;
        }
        assert!(running.child.try_wait().unwrap().is_none(), "it ended: {}", running.said());
        assert!(Instant::now() < deadline, "{copied} of {rows} rows: {}", running.said());
        tokio::time::sleep(Duration::from_millis(2)).await; // awaits the process
    }
}
