//! The sessions that see one state.
//!
//! A snapshot of MySQL belongs to its session and cannot be handed on. A second session sees the same state when the
//! server says that its snapshot has the same place in the log; one that does not is closed again, and the readers take
//! turns. That needs no lock and no right, and finds a reader for every range on a server that is not written meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fides_core::Fault;
use fides_sql::Connect;
use sqlx::MySqlConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connect::Server;
use crate::place::{self, Taken};

pub(crate) const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// The sessions of one snapshot.
pub(crate) struct Readers {
    server: Server,
    taken: Taken,
    /// As many permits as there are idle sessions; closed when the last session is lost.
    turns: Semaphore,
    idle: Mutex<Vec<Member>>,
    live: Mutex<usize>,
    /// Whether another session may still find the same state.
    grows: AtomicBool,
    /// What the host has left for further sessions, of all snapshots together.
    spare: Arc<Semaphore>,
}

struct Member {
    connection: MySqlConnection,
    _spare: Option<OwnedSemaphorePermit>,
}

impl Readers {
    /// Takes a snapshot. It sees everything that was committed before this call.
    pub(crate) async fn open(server: Server, spare: Arc<Semaphore>) -> Result<(Arc<Self>, Reader), Fault> {
        let (connection, taken) = begin(&server).await?;
        let readers = Arc::new(Self {
            server,
            turns: Semaphore::new(0),
            idle: Mutex::default(),
            live: Mutex::new(1),
            // While somebody waits for a replica, one place stands for two states.
            grows: AtomicBool::new(taken.place.is_some() && taken.is_quiet),
            taken,
            spare,
        });
        let first = Reader { member: Some(Member { connection, _spare: None }), readers: readers.clone() };
        Ok((readers, first))
    }

    /// What the server told of this state.
    pub(crate) fn taken(&self) -> &Taken {
        &self.taken
    }

    /// A session that sees this state; waits for one.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Reader, Fault> {
        if let Ok(turn) = self.turns.try_acquire() {
            turn.forget();
            return Ok(self.pop());
        }
        if let Some(reader) = self.another().await {
            return Ok(reader);
        }
        let turn = self.turns.acquire().await.map_err(|_| {
            Fault::transient(format!("the snapshot of MySQL {} is gone: its connection was lost", self.server.place()))
        })?;
        turn.forget();
        Ok(self.pop())
    }

    fn pop(self: &Arc<Self>) -> Reader {
        let member = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Reader { member, readers: self.clone() }
    }

    /// One more session of the same state.
    async fn another(self: &Arc<Self>) -> Option<Reader> {
        if !self.grows.load(Ordering::Relaxed) || self.turns.is_closed() {
            return None;
        }
        let spare = self.spare.clone().try_acquire_owned().ok()?;
        // A reader more is not worth a fault: those that are there take turns.
        let begun = begin(&self.server).await.ok().filter(|(_, taken)| *taken == self.taken);
        let Some((connection, _)) = begun else {
            // Whatever is committed once stays: no later session can see what this one did not.
            self.grows.store(false, Ordering::Relaxed);
            return None;
        };
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        *live += 1;
        Some(Reader { member: Some(Member { connection, _spare: Some(spare) }), readers: self.clone() })
    }
}

/// One session in use. It goes back only through [`Reader::give_back`]; dropped anywhere else it is closed, because
/// nobody knows what the server still has to say on it.
pub(crate) struct Reader {
    member: Option<Member>,
    readers: Arc<Readers>,
}

impl Reader {
    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut MySqlConnection {
        // There was a turn for it, and only `give_back` takes it out, which consumes the reader.
        &mut self.member.as_mut().expect("a reader has its session until it is given back").connection
    }

    /// Keeps the session for the next reader: every answer has been read.
    pub(crate) fn give_back(mut self) {
        if let Some(member) = self.member.take() {
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(member);
            self.readers.turns.add_permits(1);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.member.is_some() {
            let mut live = self.readers.live.lock().unwrap_or_else(PoisonError::into_inner);
            *live -= 1;
            if *live == 0 {
                self.readers.turns.close();
            }
        }
    }
}

async fn begin(server: &Server) -> Result<(MySqlConnection, Taken), Fault> {
    let mut connection = server.connect().await?;
    let taken = place::take(&mut connection).await?;
    Ok((connection, taken))
}
