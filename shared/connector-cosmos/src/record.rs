//! One item at one address, written under the condition that what is there is older.
//!
//! L6: whoever wrote in between, however late, changed the item's etag, and the condition does not hold any more; then it
//! is looked at anew. What is newer stays, and says so (`Stale`).

use std::sync::atomic::Ordering;

use fides_core::Fault;
use fides_core::port::Outcome;
use serde_json::value::RawValue;

use crate::container::Container;
use crate::document::Document;
use crate::fault::{self, Failure};
use crate::item::Put;
use crate::layout::{Address, Layout};

/// An item may change between look and write so often.
pub(crate) const LOOKS_MAX: u32 = 4;

/// What is written, and its version.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    pub json: &'a str,
    pub version: &'a str,
}

/// What is at an address.
#[derive(Clone, Debug)]
pub(crate) struct There {
    pub etag: String,
    pub version: Option<String>,
}

/// Creates or replaces the item of an address, unless what is there is newer.
pub(crate) async fn put(container: &Container, layout: &Layout, address: &Address, body: Body<'_>) -> Outcome {
    let put = attempt(container, layout, address, body).await;
    put.unwrap_or_else(|failure| failure.outcome(&format!("writing container {}", layout.place)))
}

async fn attempt(
    container: &Container,
    layout: &Layout,
    address: &Address,
    body: Body<'_>,
) -> Result<Outcome, Failure> {
    let json = raw(body.json)?;
    let key = address.partition.key()?;
    let id = address.id.as_str();
    let written = |etag: String| {
        if !etag.is_empty() {
            layout.known.put(address, There { etag, version: Some(body.version.to_owned()) });
        }
        Ok(Outcome::Applied)
    };
    // What is newer is looked at: only what is there now makes a write stale.
    let known = layout.known.take(address).filter(|known| known.version.as_deref() <= Some(body.version));
    // Where items are rather new than known, creating comes first and saves the look.
    let mut looked = known.is_none() && !layout.expects_new.load(Ordering::Relaxed);
    let mut there = if looked { look(container, layout, address).await? } else { known };
    for _ in 0..LOOKS_MAX {
        match &there {
            None => match container.create(key.clone(), id, &json).await? {
                Put::Written(etag) => {
                    layout.expects_new.store(true, Ordering::Relaxed);
                    return written(etag);
                }
                Put::Refused => {
                    there = look(container, layout, address).await?;
                    if there.is_none() && looked {
                        return Ok(Outcome::Failed(not_unique(layout, id)));
                    }
                    looked = true;
                }
            },
            Some(held) if held.version.as_deref() > Some(body.version) => return Ok(Outcome::Stale),
            Some(held) => {
                layout.expects_new.store(false, Ordering::Relaxed);
                match container.replace(key.clone(), id, &json, &held.etag).await {
                    Ok(Put::Written(etag)) => return written(etag),
                    Ok(Put::Refused) => there = look(container, layout, address).await?,
                    Err(error) if fault::status(&error).0 == 409 => {
                        return Ok(Outcome::Failed(not_unique(layout, id)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(Outcome::Failed(busy(layout, id)))
}

async fn look(container: &Container, layout: &Layout, address: &Address) -> Result<Option<There>, Failure> {
    let Some(item) = container.read(address.partition.key()?, &address.id).await? else { return Ok(None) };
    let document = Document::parse(&item.json)?;
    let version = document.text(&layout.version_field).map(str::to_owned);
    Ok(Some(There { version, etag: item.etag }))
}

/// JSON as the driver sends it.
pub(crate) fn raw(json: &str) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(json.to_owned())
        .map_err(|error| Fault::permanent("a document that is no JSON").because(error))
}

/// Somebody else keeps writing the same item.
pub(crate) fn busy(layout: &Layout, id: &str) -> Fault {
    Fault::transient(format!("container {}: somebody else keeps writing item {id}", layout.place))
}

/// A value that another document still holds may be free later.
fn not_unique(layout: &Layout, id: &str) -> Fault {
    Fault::deferred(format!(
        "container {}: item {id} has a value that is unique in its partition key, and another item holds it",
        layout.place
    ))
}
