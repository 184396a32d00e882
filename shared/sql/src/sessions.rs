//! At most so many sessions (L10), kept for the next user.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fides_core::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::connect::Connect;

/// How long somebody waits for a free session.
const WAIT_MS_MAX: u64 = 25_000;
/// A session that answered just now is not asked whether it is there: a write of one row would take twice as long.
const FRESH: Duration = Duration::from_secs(1);

/// The sessions of one server.
pub struct Sessions<S: Connect> {
    server: S,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Open<S::Connection>>>,
    max: u32,
}

/// A connection, and what is known of it.
struct Open<C> {
    connection: C,
    /// When it answered last.
    answered: Instant,
    made: HashSet<String>,
}

impl<C> Open<C> {
    fn new(connection: C) -> Self {
        Self { connection, answered: Instant::now(), made: HashSet::new() }
    }
}

impl<S: Connect> Sessions<S> {
    /// Sessions that are opened when they are needed, at most `max` of them.
    pub fn new(server: S, max: u32) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self { server, permits: Arc::new(Semaphore::new(max as usize)), idle: Mutex::default(), max })
    }

    /// A session that no transaction is open in; waits, boundedly, for a free one. `make_room` is called when none is.
    pub async fn take(self: &Arc<Self>, make_room: impl FnOnce()) -> Result<Session<S>, Fault> {
        let permit = self.permit(make_room).await?;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut open) = idle else { break };
            // The server may have closed it meanwhile.
            if open.answered.elapsed() < FRESH || S::answers(&mut open.connection).await {
                return Ok(Session { open, sessions: self.clone(), permit });
            }
        }
        let open = Open::new(self.server.connect().await?);
        Ok(Session { open, sessions: self.clone(), permit })
    }

    async fn permit(&self, make_room: impl FnOnce()) -> Result<OwnedSemaphorePermit, Fault> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        make_room();
        match timeout(Duration::from_millis(WAIT_MS_MAX), self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Fault::transient(format!(
                "{} {}: all {} connections were busy for {WAIT_MS_MAX} ms",
                S::KIND,
                self.server.place(),
                self.max
            ))
            .advise("raise `connections`")),
        }
    }

    /// What `ask` finds out on a session that no transaction is open in. It leaves none open; where it fails, the session
    /// is closed.
    pub async fn with<T>(
        self: &Arc<Self>,
        ask: impl AsyncFnOnce(&mut S::Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut session = self.take(|| ()).await?;
        let answer = ask(session.connection()).await?;
        session.give_back();
        Ok(answer)
    }
}

/// One session in use. It goes back only through [`Session::give_back`]; dropped anywhere else (a cancelled call, an
/// error in the middle of an answer) it is closed, because nobody knows what the server still has to say on it.
pub struct Session<S: Connect> {
    open: Open<S::Connection>,
    sessions: Arc<Sessions<S>>,
    permit: OwnedSemaphorePermit,
}

impl<S: Connect> Session<S> {
    /// The connection.
    pub fn connection(&mut self) -> &mut S::Connection {
        &mut self.open.connection
    }

    /// Whether something of that name was made that lasts as long as the session: a temporary table.
    pub fn has(&self, name: &str) -> bool {
        self.open.made.contains(name)
    }

    /// Something of that name was made in this session, and that is committed.
    pub fn made(&mut self, name: &str) {
        if !self.has(name) {
            self.open.made.insert(name.to_owned());
        }
    }

    /// Ends the transaction and keeps the connection for others; closes it when that fails.
    pub async fn roll_back(mut self) {
        if S::roll_back(self.connection()).await {
            self.give_back();
        }
    }

    /// Keeps the connection for others: no transaction is open in it, and every answer has been read.
    pub fn give_back(self) {
        let Self { mut open, sessions, permit } = self;
        open.answered = Instant::now();
        sessions.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        // Whoever has waited for it finds the connection.
        drop(permit);
    }
}
