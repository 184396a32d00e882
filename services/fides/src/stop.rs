//! Ctrl-C and SIGTERM: the first asks for a graceful stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::failure::Failure;

/// Whether this process was asked to stop. What is in hand is finished; the rest stays queued, and the next run goes on.
#[derive(Clone, Debug)]
pub struct Stop {
    token: CancellationToken,
    /// The exit status of the signal that came; 0 while none did.
    signal: Arc<AtomicU8>,
}

impl Stop {
    /// Listens from now on. Commands that only read do not listen: the first signal may end them as they are.
    pub fn listen() -> Result<Self, Failure> {
        let stop = Self { token: CancellationToken::new(), signal: Arc::new(AtomicU8::new(0)) };
        let mut signals = Signals::new().map_err(|error| unheard(&error))?;
        let told = stop.clone();
        tokio::spawn(async move {
            let first = signals.next().await;
            told.signal.store(first as u8, Ordering::Relaxed);
            told.token.cancel();
            eprintln!("fides: stopping after what is in hand; once more to stop at once");
            let second = signals.next().await;
            std::process::exit(i32::from(second as u8));
        });
        Ok(stop)
    }

    /// Cancelled by the first signal.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// The exit status of the signal that came.
    pub fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            code if code == Exit::Terminated as u8 => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}

/// Ends with the first signal: for commands that have nothing in hand, but something to put back.
pub fn ended() -> Result<impl Future<Output = Exit>, Failure> {
    let mut signals = Signals::new().map_err(|error| unheard(&error))?;
    Ok(async move { signals.next().await })
}

fn unheard(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Internal, format!("signals cannot be received: {error}"))
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Exit {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Exit::Interrupted
    }
}
