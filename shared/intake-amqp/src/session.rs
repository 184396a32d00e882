//! A connection while it lasts.

use std::time::Duration;

use fides_core::Fault;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};

use crate::Settings;
use crate::dial::{Address, dial};
use crate::fault::{fault, is_missing, timeout};

/// An open connection.
pub(crate) struct Session {
    connection: Connection,
    place: String,
    call_max: Duration,
}

impl Session {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let address = Address::parse(settings)?;
        let connection = dial(&address, settings).await?;
        Ok(Self { connection, place: address.to_string(), call_max: settings.call_max })
    }

    /// What one call answers: an error and silence are faults that say what could not be done.
    pub(crate) async fn call<T>(&self, what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
        let answer = self.try_call(what, call).await?;
        answer.ok_or_else(|| Fault::unavailable(format!("{}: it is not there", self.at(what))))
    }

    /// The same; `None` where what was asked for is not there, which closes the channel.
    pub(crate) async fn try_call<T>(
        &self,
        what: &str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<Option<T>, Fault> {
        match tokio::time::timeout(self.call_max, call).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) if is_missing(&error) => Ok(None),
            Ok(Err(error)) => Err(fault(&self.at(what), &error)),
            Err(_) => Err(timeout(&self.at(what), self.call_max)),
        }
    }

    pub(crate) fn at(&self, what: &str) -> String {
        format!("RabbitMQ at {}: {what}", self.place)
    }

    pub(crate) async fn channel(&self) -> Result<Channel, Fault> {
        self.call("opening a channel", self.connection.create_channel()).await
    }

    /// A channel whose messages are confirmed.
    pub(crate) async fn confirming(&self) -> Result<Channel, Fault> {
        let channel = self.channel().await?;
        self.call("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// What is not acknowledged is the broker's again.
    pub(crate) async fn close(self) {
        let closing = self.connection.close(200, "stopped".into());
        if let Err(fault) = self.call("closing the connection", closing).await {
            tracing::debug!(%fault, "the broker has everything back when it notices");
        }
    }
}
