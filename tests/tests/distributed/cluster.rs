//! A PostgreSQL cluster of a test's own: with other settings than the shared one, and to be killed, copied and restored.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

const USER: &str = "fides_test";
/// How long a server may take to answer or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// One server on a loopback port of its own; stopped when it is dropped.
pub struct Cluster {
    port: u16,
    password: String,
    process: Child,
    data: PathBuf,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Makes a cluster, and starts it with `settings` (`name = value`) in its configuration, over those that following a log
    /// needs.
    pub async fn start(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("fides-cluster.").tempdir_in("/tmp").unwrap();
        let folder_path = folder.path();
        if is_root() {
            // The server refuses to run as root.
            succeed(Command::new("chown").arg("postgres:postgres").arg(folder_path));
        }
        let password = uuid::Uuid::now_v7().simple().to_string();
        let (file, data) = (folder_path.join("password"), folder_path.join("data"));
        std::fs::write(&file, &password).unwrap();
        let mut initdb = as_server(folder_path, &bin().join("initdb"));
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&file);
        initdb.args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        succeed(&mut initdb);
        let usual =
            ["listen_addresses = '127.0.0.1'", "wal_level = logical", "max_connections = 100", "timezone = UTC"];
        configure(&data, &[&usual, settings].concat());
        let (port, process) = launch_anywhere(folder_path, &data).await;
        let cluster = Self { port, password, process, data, folder };
        cluster.answers().await;
        cluster
    }

    /// Where a database of it is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database)).await.unwrap()
    }

    /// Copies the running cluster, as an operator makes a backup or the beginning of a standby. Slots are not part of it.
    pub fn back_up(&self) -> PathBuf {
        let backup = self.folder.path().join(format!("backup-{}", uuid::Uuid::now_v7().simple()));
        let mut copying = as_server(self.folder.path(), &bin().join("pg_basebackup"));
        copying.env("PGPASSWORD", &self.password).arg("--pgdata").arg(&backup);
        copying.args(["--host=127.0.0.1", "--port", &self.port.to_string(), "--username", USER]);
        copying.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--no-password"]);
        succeed(&mut copying);
        backup
    }

    /// Ends the server as kill -9 does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a backup as a standby in the place of the server that was killed, and promotes it: it begins a timeline of
    /// its own, without what was committed after the backup.
    pub async fn fail_over_to(&mut self, backup: &Path) {
        assert!(self.process.try_wait().unwrap().is_some(), "the primary was killed before");
        let signal = backup.join("standby.signal");
        succeed(as_server(self.folder.path(), Path::new("touch")).arg(signal));
        backup.clone_into(&mut self.data);
        self.restart().await;
        let promoted: bool =
            sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut self.connect("postgres").await).await.unwrap();
        assert!(promoted);
    }

    /// Stops the server, and starts it again: what ALTER SYSTEM has set counts from then on.
    pub async fn stop_and_start(&mut self) {
        // A fast shutdown: everything is written.
        succeed(Command::new("kill").args(["-INT", &self.process.id().to_string()]));
        self.process.wait().unwrap();
        self.restart().await;
    }

    /// Starts the server again, on its port, with its present data.
    pub async fn restart(&mut self) {
        // A server that was killed may leave children that end a moment later, and hold its port and its memory till then.
        let started = Instant::now();
        loop {
            self.process = launch(self.folder.path(), &self.data, self.port);
            if ready(&mut self.process, self.folder.path(), self.port).await {
                return self.answers().await;
            }
            assert!(started.elapsed() < PATIENCE, "{}", said(self.folder.path()));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn answers(&self) {
        let started = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return drop(connection.close().await),
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}: {}", said(self.folder.path())),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT is an immediate shutdown: its children end with it, after five seconds at most.
        if matches!(self.process.try_wait(), Ok(None)) {
            let pid = self.process.id().to_string();
            let asked = Command::new("kill").args(["-QUIT", &pid]).status();
            if !asked.is_ok_and(|status| status.success()) {
                let _ = self.process.kill();
            }
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            let said = said(self.folder.path());
            eprintln!("--- last words of the cluster\n{}", said.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The directory of the newest server's programs.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists()).max_by_key(version);
    newest
        .map(|path| path.join("bin"))
        .expect("PostgreSQL's server is installed: run this through tests/parts/postgres")
}

/// A program that runs as the server does, with a clean environment, and ends when this process does.
fn as_server(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig", "INT", "--"]).arg(program).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
    command
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds to a cluster's configuration; the last of a name counts.
fn configure(data: &Path, settings: &[&str]) {
    let mut file = std::fs::File::options().append(true).open(data.join("postgresql.conf")).unwrap();
    writeln!(file, "{}", settings.join("\n")).unwrap();
}

fn log(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn said(folder: &Path) -> String {
    std::fs::read_to_string(log(folder)).unwrap_or_default()
}

fn launch(folder: &Path, data: &Path, port: u16) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log(folder)).unwrap();
    let mut server = as_server(folder, &bin().join("postgres"));
    server.arg("-D").arg(data).args(["-p", &port.to_string(), "-k"]).arg(folder);
    server.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// A port that somebody else takes first is not an error: the next one is tried.
async fn launch_anywhere(folder: &Path, data: &Path) -> (u16, Child) {
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = launch(folder, data, port);
        if ready(&mut process, folder, port).await {
            return (port, process);
        }
    }
    panic!("PostgreSQL did not start: {}", said(folder));
}

/// Waits until the server listens; false when it has ended instead.
async fn ready(process: &mut Child, folder: &Path, port: u16) -> bool {
    // Its own socket: somebody else may listen on the port.
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    while process.try_wait().unwrap().is_none() {
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
