//! Documents whose partition key is no part of their key: they move when it changes (L12).
//!
//! An *address document* in Fides' own container, under the record's id, says in which partitions the record's document is
//! or may be: it is written before the first document is, and before a move. So whoever takes over after a crash, or before
//! a late write, knows every partition to look into, and leaves a tombstone there that the late write meets. A move is a
//! write of the new document and then a deletion of the old one, so that a document that is refused leaves the old one.

use std::sync::atomic::Ordering;

use fides_core::port::Outcome;
use fides_core::{Fault, Key, Value};
use serde_json::{Map, Value as Json};

use crate::container::Container;
use crate::document;
use crate::fault::Failure;
use crate::item::Put;
use crate::layout::{Address, Layout};
use crate::partition::Partition;
use crate::record::{Body, LOOKS_MAX, busy, put, raw};
use crate::tombstone::{TOMBSTONE_SECONDS, tombstone};

/// The containers of a pipeline whose documents move.
pub(crate) struct Movers<'a> {
    pub documents: &'a Container,
    /// Fides' own.
    pub addresses: &'a Container,
    pub layout: &'a Layout,
}

/// What an address document says.
#[derive(Clone, Debug)]
struct Place {
    etag: String,
    at: Vec<Partition>,
    version: String,
    gone: bool,
}

impl Movers<'_> {
    /// Writes a document where it belongs, and nowhere else.
    pub async fn upsert(&self, key: &Key, row: &[Value<'_>], version: &str) -> Outcome {
        let mut touched = false;
        let outcome = self.try_upsert(key, row, version, &mut touched).await;
        self.told(outcome, touched)
    }

    /// Deletes a record's document, wherever it is.
    pub async fn delete(&self, key: &Key, version: &str) -> Outcome {
        let mut touched = false;
        let outcome = self.try_delete(key, version, &mut touched).await;
        self.told(outcome, touched)
    }

    /// L5: where one of several writes took place, a failure of the next does not say that nothing was written.
    fn told(&self, outcome: Result<Outcome, Failure>, touched: bool) -> Outcome {
        let what = || format!("writing container {}", self.layout.place);
        match outcome.unwrap_or_else(|failure| failure.outcome(&what())) {
            Outcome::Failed(fault) if touched => Outcome::Unknown(fault),
            outcome => outcome,
        }
    }

    async fn try_upsert(
        &self,
        key: &Key,
        row: &[Value<'_>],
        version: &str,
        touched: &mut bool,
    ) -> Result<Outcome, Failure> {
        let address = self.layout.of_row(key, row)?;
        let json = document::write(self.layout, &address.id, key, version, row)?;
        // Where records are rather new than known, creating comes first and saves the look.
        let mut look_first = !self.layout.expects_new.load(Ordering::Relaxed);
        for _ in 0..LOOKS_MAX {
            let found = if look_first { self.look(&address.id).await? } else { None };
            look_first = true;
            if found.as_ref().is_some_and(|place| place.version.as_str() > version) {
                return Ok(Outcome::Stale);
            }
            let Some(place) = self.settle_in(&address, found, version).await? else { continue };
            let outcome = put(self.documents, self.layout, &address, Body { json: &json, version }).await;
            if !matches!(outcome, Outcome::Applied) || place.at.len() <= 1 {
                return Ok(outcome);
            }
            // L5: what fails from here on leaves two documents, which the address names until the change comes again.
            *touched = true;
            match self.leave(&address, &place, version).await {
                Outcome::Applied => {}
                outcome => return Ok(outcome),
            }
            let only = std::slice::from_ref(&address.partition);
            if self.replace(&address.id, &place.etag, only, version, false).await?.is_some() {
                return Ok(Outcome::Applied);
            }
        }
        Ok(Outcome::Failed(busy(self.layout, &address.id)))
    }

    /// Leaves tombstones wherever else the record's document is.
    async fn leave(&self, address: &Address, place: &Place, version: &str) -> Outcome {
        for other in place.at.iter().filter(|at| **at != address.partition) {
            match self.bury(&address.id, other, version).await {
                Outcome::Applied => {}
                // What is newer stayed where it was, and told the address nothing: the document that was written here is none.
                Outcome::Stale => {
                    return match self.bury(&address.id, &address.partition, version).await {
                        Outcome::Applied => Outcome::Stale,
                        outcome => outcome,
                    };
                }
                outcome => return outcome,
            }
        }
        Outcome::Applied
    }

    /// Adds the partition to the record's address before anything is written there; `None` when somebody else was faster.
    async fn settle_in(
        &self,
        address: &Address,
        found: Option<Place>,
        version: &str,
    ) -> Result<Option<Place>, Failure> {
        let here = std::slice::from_ref(&address.partition);
        match found {
            None => {
                let json = raw(&self.json(&address.id, here, version, false))?;
                let id = self.address_id(&address.id);
                Ok(match self.addresses.create(id.clone().into(), &id, &json).await? {
                    Put::Written(etag) => {
                        Some(Place { etag, at: here.to_vec(), version: version.to_owned(), gone: false })
                    }
                    Put::Refused => None,
                })
            }
            Some(place) if !place.gone && place.at == here => Ok(Some(place)),
            Some(place) => {
                let mut at = place.at.clone();
                if !at.contains(&address.partition) {
                    at.push(address.partition.clone());
                }
                self.replace(&address.id, &place.etag, &at, version, false).await
            }
        }
    }

    async fn try_delete(&self, key: &Key, version: &str, touched: &mut bool) -> Result<Outcome, Failure> {
        let id = self.layout.id(key)?;
        for _ in 0..LOOKS_MAX {
            let Some(place) = self.look(&id).await? else {
                // A first write may be on its way: what it would create must be there.
                let json = raw(&self.json(&id, &[], version, true))?;
                let own = self.address_id(&id);
                match self.addresses.create(own.clone().into(), &own, &json).await? {
                    Put::Written(_) => return Ok(Outcome::Applied),
                    Put::Refused => continue,
                }
            };
            if place.version.as_str() > version {
                return Ok(Outcome::Stale);
            }
            for at in &place.at {
                match self.bury(&id, at, version).await {
                    Outcome::Applied => *touched = true,
                    outcome => return Ok(outcome),
                }
            }
            if self.replace(&id, &place.etag, &[], version, true).await?.is_some() {
                return Ok(Outcome::Applied);
            }
        }
        Ok(Outcome::Failed(busy(self.layout, &id)))
    }

    /// Leaves a tombstone in one partition.
    async fn bury(&self, id: &str, partition: &Partition, version: &str) -> Outcome {
        let address = Address { id: id.to_owned(), partition: partition.clone() };
        let json = tombstone(self.layout, &address, version);
        put(self.documents, self.layout, &address, Body { json: &json, version }).await
    }

    async fn look(&self, id: &str) -> Result<Option<Place>, Failure> {
        let own = self.address_id(id);
        let Some(item) = self.addresses.read(own.clone().into(), &own).await? else { return Ok(None) };
        let damaged = || Fault::permanent(format!("the address document {own} of {} is damaged", self.layout.place));
        let json: Json = serde_json::from_str(&item.json).map_err(|_| damaged())?;
        let at = json["at"].as_array().ok_or_else(damaged)?;
        Ok(Some(Place {
            etag: item.etag,
            at: at.iter().map(Partition::from_json).collect::<Option<_>>().ok_or_else(damaged)?,
            version: json["version"].as_str().ok_or_else(damaged)?.to_owned(),
            gone: json["gone"].as_bool().unwrap_or_default(),
        }))
    }

    async fn replace(
        &self,
        id: &str,
        etag: &str,
        at: &[Partition],
        version: &str,
        gone: bool,
    ) -> Result<Option<Place>, Failure> {
        let own = self.address_id(id);
        let json = raw(&self.json(id, at, version, gone))?;
        Ok(match self.addresses.replace(own.clone().into(), &own, &json, etag).await? {
            Put::Written(etag) => Some(Place { etag, at: at.to_vec(), version: version.to_owned(), gone }),
            Put::Refused => None,
        })
    }

    fn address_id(&self, id: &str) -> String {
        format!("at:{}:{id}", self.documents.name)
    }

    /// One that says "gone" expires together with the tombstones that it stands for.
    fn json(&self, id: &str, at: &[Partition], version: &str, gone: bool) -> String {
        let mut document = Map::new();
        document.insert("id".to_owned(), self.address_id(id).into());
        document.insert("at".to_owned(), at.iter().map(Partition::json).collect());
        document.insert("version".to_owned(), version.into());
        if gone {
            document.insert("gone".to_owned(), true.into());
            document.insert("ttl".to_owned(), TOMBSTONE_SECONDS.into());
        }
        Json::Object(document).to_string()
    }
}
