//! What the tests share: the Redis that they are given, and one of their own.

#![allow(dead_code)] // each test uses a part of it

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fides_backplane_redis::{RedisBackplane, Settings, connect};
use fides_core::{Fingerprint, Key, Limits, Mark, Value, Version};
use tempfile::TempDir;

/// The Redis for tests.
pub fn url() -> String {
    std::env::var("FIDES_TEST_REDIS_URL").expect(
        "FIDES_TEST_REDIS_URL is not set: run this with `tests/parts/redis cargo test -p fides-backplane-redis`",
    )
}

/// A prefix of keys that nobody else uses.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{:x}-{}", fastrand::u64(..), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Settings for a prefix of one's own.
pub fn settings() -> Settings {
    Settings { prefix: prefix(), ..Settings::new(url().into()) }
}

pub async fn open(settings: &Settings) -> RedisBackplane {
    connect(settings.clone(), &Limits::default()).await.expect("the Redis for tests answers")
}

/// A connection beside the backplane's.
pub async fn beside(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).expect("the URL is one of Redis");
    client.get_multiplexed_async_connection().await.expect("the Redis for tests answers")
}

pub fn key(id: i64) -> Key {
    Key::encode(&[Value::I64(id)]).expect("numbers are keys")
}

pub fn present(position: u64) -> Mark {
    Mark::present(Version::scan(1, position), Fingerprint(u128::from(position) << 64 | 7))
}

/// A Redis of a test's own, which ends with it.
pub struct OwnRedis {
    child: Child,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
}

impl OwnRedis {
    pub async fn start(options: &[&str]) -> Self {
        let mut folder = TempDir::new().expect("a folder for temporary files");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        for _ in 0..20 {
            let port = free_port();
            let mut redis = Self { child: spawn(&folder, port, &options), folder, port, options: options.clone() };
            if redis.answers().await {
                return redis;
            }
            // Somebody else took the port first.
            folder = redis.replaced_folder();
        }
        panic!("redis-server does not start");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn settings(&self) -> Settings {
        Settings::new(self.url().into())
    }

    /// Kills it and starts it again, with what it had on disk or without.
    pub async fn restart(&mut self, keep: bool) {
        self.kill();
        if !keep {
            self.folder = TempDir::new().expect("a folder for temporary files");
        }
        self.child = spawn(&self.folder, self.port, &self.options);
        assert!(self.answers().await, "redis-server does not start again");
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Stops the process without ending it, as a machine that hangs does.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("there is a kill");
        assert!(sent.success());
    }

    async fn answers(&mut self) -> bool {
        let client = redis::Client::open(self.url()).expect("the URL is one of Redis");
        let patience = Instant::now() + Duration::from_mins(1);
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(Instant::now() < patience, "redis-server runs and does not answer");
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                match redis::cmd("PING").query_async::<String>(&mut connection).await {
                    Ok(_) => return true,
                    Err(error) if error.code() == Some("NOAUTH") => return true,
                    Err(_) => {}
                }
            }
            // Its start is awaited; there is nothing to be notified by.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    fn replaced_folder(&mut self) -> TempDir {
        std::mem::replace(&mut self.folder, TempDir::new().expect("a folder for temporary files"))
    }
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

fn spawn(folder: &TempDir, port: u16, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"])
        .args(options)
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (Debian: redis-server)")
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
