//! A connection that is opened again when it was lost: by the next call, once for all callers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fides_core::Fault;
use futures::{Stream, StreamExt};
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use lapin::{Channel, Connection, Event};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::dial::dial;
use crate::fault::{Failure, failure, timeout};
use crate::settings::{Address, Settings};

/// What a connection is for. Two of them, because a broker that is short of memory or disk stops reading from connections
/// that publish: acknowledgements on the same one would not arrive, and the lanes would never be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publishing,
    Consuming,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
        }
    }
}

/// A place for a connection.
pub(crate) struct Link {
    address: Address,
    settings: Settings,
    role: Role,
    current: tokio::sync::Mutex<Current>,
}

#[derive(Default)]
struct Current {
    open: Option<Arc<Open>>,
    /// When the last attempt failed, and how: told to all who waited for it.
    failed: Option<(Instant, Fault)>,
}

impl Link {
    pub(crate) fn new(address: Address, settings: Settings, role: Role) -> Self {
        Self { address, settings, role, current: tokio::sync::Mutex::default() }
    }

    /// The connection, opened now if there is none. Cancel-safe: a dropped attempt is begun anew by the next caller.
    pub(crate) async fn open(&self) -> Result<Arc<Open>, Fault> {
        let asked = Instant::now();
        let mut current = self.current.lock().await;
        if let Some(open) = current.open.as_ref().filter(|open| open.is_usable()) {
            return Ok(open.clone());
        }
        if let Some((at, fault)) = &current.failed
            && *at >= asked
        {
            return Err(fault.clone());
        }
        current.open = None;
        match Open::new(&self.address, &self.settings, self.role).await {
            Ok(open) => Ok(current.open.insert(Arc::new(open)).clone()),
            Err(fault) => {
                current.failed = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }
}

/// One connection while it lasts, its channels, and the topology that was declared over it.
pub(crate) struct Open {
    connection: Connection,
    role: Role,
    place: String,
    call_timeout: Duration,
    /// Why the broker takes no messages, while it takes none.
    blocked: watch::Receiver<Option<String>>,
    /// Queues that this connection has declared; a new connection may be to a new broker.
    declared: Mutex<HashSet<ShortString>>,
    idle: Mutex<Vec<Channel>>,
    slots: Arc<Semaphore>,
}

impl Open {
    async fn new(address: &Address, settings: &Settings, role: Role) -> Result<Self, Fault> {
        let name = format!("{} ({})", settings.connection_name, role.as_str());
        let connection = dial(address, settings, &name).await?;
        tracing::debug!(place = %address, role = role.as_str(), "connected to RabbitMQ");
        let (told, blocked) = watch::channel(None);
        tokio::spawn(watch_blocked(connection.events_listener(), told));
        Ok(Self {
            connection,
            role,
            place: address.to_string(),
            call_timeout: settings.call_timeout(),
            blocked,
            declared: Mutex::default(),
            idle: Mutex::default(),
            slots: Arc::new(Semaphore::new(usize::from(settings.publish_channels.max(1)))),
        })
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker takes no messages at present.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// The answer of one call: an error, silence and a broker that has stopped reading are failures that say `what` could
    /// not be done. On cancellation the outcome is unknown.
    pub(crate) async fn call<T>(&self, what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
        self.within(self.call_timeout, what, call).await?.map_err(|error| failure(&self.at(what), &error))
    }

    /// The same, with a patience of its own and the errors left to the caller.
    pub(crate) async fn within<T>(
        &self,
        patience: Duration,
        what: &str,
        call: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let mut blocked = self.blocked.clone();
        tokio::select! {
            biased;
            done = tokio::time::timeout(patience, call) => done.map_err(|_| timeout(&self.at(what), patience)),
            Ok(reason) = blocked.wait_for(Option::is_some) => Err(self.blocked_fault(reason.as_deref())),
        }
    }

    pub(crate) fn at(&self, what: &str) -> String {
        format!("RabbitMQ at {}: {what}", self.place)
    }

    fn blocked_fault(&self, reason: Option<&str>) -> Fault {
        let reason = reason.unwrap_or("no reason given");
        Fault::unavailable(format!("RabbitMQ at {} takes no messages: {reason}", self.place))
            .advise("the broker is short of memory or disk: free some; consumers go on meanwhile")
    }

    /// A new channel.
    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        let channel = self.call("opening a channel", self.connection.create_channel()).await?;
        if self.role == Role::Publishing {
            let select = channel.confirm_select(ConfirmSelectOptions::default());
            self.call("asking for confirms", select).await?;
        }
        Ok(channel)
    }

    /// A channel for one thing at a time; waits while all are taken (L10).
    pub(crate) async fn borrow(self: &Arc<Self>) -> Result<Borrowed, Failure> {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| Fault::transient(self.at("the connection was closed")))?;
        // Not held over the await below.
        let idle = self.idle().pop();
        let channel = match idle {
            Some(channel) if channel.status().connected() => channel,
            _ => self.channel().await?,
        };
        Ok(Borrowed { channel, open: self.clone(), _slot: slot })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_declared(&self, queue: &ShortString) -> bool {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).contains(queue)
    }

    pub(crate) fn declared(&self, queue: ShortString) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(queue);
    }

    /// A queue is gone, or what led to it.
    pub(crate) fn forget(&self, queue: &ShortString) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}

/// A channel for one user. Dropped, it is closed: whoever gave up in the middle of a call leaves nothing behind for the
/// next one. [`Borrowed::give_back`] keeps it.
pub(crate) struct Borrowed {
    pub(crate) channel: Channel,
    open: Arc<Open>,
    _slot: OwnedSemaphorePermit,
}

impl Borrowed {
    pub(crate) fn give_back(self) {
        self.open.idle().push(self.channel);
    }
}

/// Tells when the broker begins and ends to refuse messages; ends with the connection or with those who listen.
async fn watch_blocked(events: impl Stream<Item = Event>, told: watch::Sender<Option<String>>) {
    tokio::pin!(events);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = told.closed() => return,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => told.send_replace(Some(reason)),
            Some(Event::ConnectionUnblocked) => told.send_replace(None),
            Some(_) => continue,
            None => return,
        };
    }
}
