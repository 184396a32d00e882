//! A Redis of a test's own, which may be killed and come back empty.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Redis {
    pub address: SocketAddr,
    process: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let process = launch(address, folder.path());
        let redis = Self { address, process, folder };
        redis.wait().await;
        redis
    }

    /// Kills it as kill -9 does, forgets all it ever knew, and starts it again.
    pub async fn lose_everything(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        self.process = launch(self.address, self.folder.path());
        self.wait().await;
    }

    /// Changes a setting while it runs.
    pub async fn set(&self, setting: &str, value: &str) {
        self.does(&format!("CONFIG SET {setting} {value}")).await;
    }

    /// Forgets everything while it runs.
    pub async fn flush(&self) {
        self.does("FLUSHALL").await;
    }

    async fn does(&self, command: &str) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen at {}", self.address);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

fn launch(address: SocketAddr, folder: &Path) -> Child {
    let port = address.port().to_string();
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port, "--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed: run this through tests/parts/redis")
}
