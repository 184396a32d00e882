//! The lane's token (L6): a document in Fides' own container that says who may write a lane.
//!
//! Cosmos has no transaction over partition keys, so that the token cannot be checked in the write's own transaction, as in
//! a database. It is read before writes, and again every few seconds, and keeps a writer out that was displaced; what such a
//! writer sent before, and what lands late, meets the condition of every write (`record`).

use std::time::Duration;

use fides_core::port::Write;
use fides_core::{Fault, Lane, Namespace};
use serde_json::{Value as Json, json};

use crate::account::Account;
use crate::container::{Container, place};
use crate::fault::Failure;
use crate::item::{Item, Put};
use crate::record::{LOOKS_MAX, raw};
use crate::settings::ContainerSettings;

/// Fides' own container, beside the one that is written.
pub(crate) const OWN: &str = "_fides";
/// How long a writer relies on having read its token.
pub(crate) const RELIED_ON: Duration = Duration::from_secs(5);

/// Where Fides' own container is for documents in `namespace`.
pub(crate) fn own(account: &Account, namespace: &Namespace) -> Result<Namespace, Fault> {
    let (database, _) = place(account, namespace)?;
    Ok(Namespace(vec![database.to_owned(), OWN.to_owned()]))
}

/// How it is made.
pub(crate) fn settings(account: &Account) -> ContainerSettings {
    account.settings.containers.get(OWN).cloned().unwrap_or_default()
}

/// Makes `token` the only one of a lane; an older one is refused. A token of a container that is no more says nothing.
pub(crate) async fn claim(own: &Container, of: &Container, lane: &Lane, token: u64) -> Result<(), Fault> {
    let what = format!("claiming {lane}");
    for _ in 0..LOOKS_MAX {
        let found = look(own, of, lane).await.map_err(|failure| failure.fault(&what))?;
        if let Some(owner) =
            found.as_ref().and_then(|found| found.token(&of.definition.rid)).filter(|owner| *owner > token)
        {
            return Err(Fault::permanent(format!("{lane}: token {token} is older than the one that owns it, {owner}"))
                .advise("another process owns this lane now"));
        }
        let id = id(of, lane);
        let body = json!({ "id": id, "token": token.to_string(), "of": of.definition.rid }).to_string();
        let body = raw(&body)?;
        let put = match &found {
            None => own.create(id.clone().into(), &id, &body).await,
            Some(found) => own.replace(id.clone().into(), &id, &body, &found.item.etag).await,
        };
        if let Put::Written(_) = put.map_err(|error| Failure::from(error).fault(&what))? {
            return Ok(());
        }
    }
    Err(Fault::transient(format!("{what}: others claim it at the same time")))
}

/// The present token of a lane, if it was claimed since the container was made.
pub(crate) async fn claimed(own: &Container, of: &Container, lane: &Lane) -> Result<Option<u64>, Fault> {
    let found = look(own, of, lane).await.map_err(|failure| failure.fault(&format!("reading the token of {lane}")))?;
    Ok(found.and_then(|found| found.token(&of.definition.rid)))
}

/// Whether the lane is still the writer's. Unavailable, not Permanent: the records are sound and its new owner's.
pub(crate) async fn hold(own: &Container, of: &Container, write: &Write<'_>) -> Result<(), Fault> {
    match claimed(own, of, write.lane).await? {
        Some(token) if token == write.token => Ok(()),
        found => {
            let owner = found.map_or("nobody".to_owned(), |token| format!("token {token}"));
            Err(Fault::unavailable(format!("{} belongs to {owner}, not to token {}", write.lane, write.token))
                .advise("another process has taken it over; this one stops writing it"))
        }
    }
}

struct Found {
    item: Item,
    json: Json,
}

impl Found {
    fn token(&self, rid: &str) -> Option<u64> {
        let is_of = self.json["of"].as_str() == Some(rid);
        self.json["token"].as_str().filter(|_| is_of)?.parse().ok()
    }
}

async fn look(own: &Container, of: &Container, lane: &Lane) -> Result<Option<Found>, Failure> {
    let id = id(of, lane);
    let Some(item) = own.read(id.clone().into(), &id).await? else { return Ok(None) };
    let damaged = |_| Fault::permanent(format!("the document {id} of container {OWN} is damaged"));
    let json = serde_json::from_str(&item.json).map_err(damaged)?;
    Ok(Some(Found { item, json }))
}

fn id(of: &Container, lane: &Lane) -> String {
    format!("lane:{}:{}:{}", of.name, lane.pipeline.as_str(), lane.index)
}
