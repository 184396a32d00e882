use fides_core::{Change, Fault, Key, KeyRange, Op, Origin};

use crate::deletions::{self, Wanted};
use crate::edit::{self, Edit};
use crate::{DeletePolicy, Mapping, Pipeline, publisher, sweep};

/// What became of keys that were refreshed.
pub(crate) struct Refreshed {
    /// Changes, deletions included.
    pub(crate) published: u64,
    /// Keys that the host does not have.
    pub(crate) absent: u64,
    /// Why those were not deleted, if that was refused.
    pub(crate) refused: Option<String>,
}

/// Sends the host's present state of `keys`: a version is drawn, the records are fetched, mapped and published. Serves
/// replays and changes whose label lost its meaning (L11). A key that the host does not have is judged like
/// every deletion. Returns how many changes were published.
pub async fn refresh(pipeline: &Pipeline, keys: &[Key], origin: Origin, forced: bool) -> Result<u64, Fault> {
    // Many may refresh at the same moment.
    let name = format!("refresh-{:016x}", fastrand::u64(..));
    let refreshed = refresh_named(pipeline, &name, keys, origin, forced).await;
    if refreshed.is_err() {
        // Nobody comes again under this name.
        deletions::forget(pipeline, &name).await?;
    }
    refreshed
}

/// [`refresh`] for whoever does it again under the same name after a fault or a crash, and at no other place at the same
/// time.
pub(crate) async fn refresh_named(
    pipeline: &Pipeline,
    name: &str,
    keys: &[Key],
    origin: Origin,
    forced: bool,
) -> Result<u64, Fault> {
    let Refreshed { published, absent, refused } = refresh_judged(pipeline, name, keys, origin, forced).await?;
    match refused {
        None => Ok(published),
        Some(why) => Err(Fault::permanent(format!(
            "{absent} records are gone from the host, and deleting them was refused: {why}"
        ))),
    }
}

/// [`refresh_named`] for whoever goes on after a refusal.
pub(crate) async fn refresh_judged(
    pipeline: &Pipeline,
    name: &str,
    keys: &[Key],
    origin: Origin,
    forced: bool,
) -> Result<Refreshed, Fault> {
    let (published, missing) = send_present(pipeline, keys, origin, forced).await?;
    let absent = missing.len() as u64;
    if absent == 0 || pipeline.delete == DeletePolicy::Never {
        return Ok(Refreshed { published, absent, refused: None });
    }
    // A fetch in a snapshot proves these absences. How many records the host has is not known here; whether it has any is.
    let is_empty = pipeline.peek_host().await?.scan(&KeyRange::ALL, None).await?.is_empty();
    let host_records = if is_empty { 0 } else { u64::MAX };
    let wanted = Wanted { deletions: absent, host_records, listing_complete: true, approved: 0 };
    match deletions::reserve(pipeline, name, &wanted).await? {
        Ok(grant) => {
            let deleted = sweep::delete_absent(pipeline, &missing, &grant).await?;
            grant.end().await;
            Ok(Refreshed { published: published + deleted, absent, refused: None })
        }
        Err(why) => Ok(Refreshed { published, absent, refused: Some(why) }),
    }
}

/// The part of [`refresh`] that sends what the host has. Returns how many changes were published, and the other keys.
pub(crate) async fn send_present(
    pipeline: &Pipeline,
    keys: &[Key],
    origin: Origin,
    forced: bool,
) -> Result<(u64, Vec<Key>), Fault> {
    let snapshot = pipeline.open_host().await?;
    let mut published = 0;
    let mut absent: Vec<Key> = Vec::new();
    for portion in keys.chunks(pipeline.limits.batch_records_max.max(1)) {
        let page = snapshot.fetch(portion).await?;
        absent.extend(portion.iter().filter(|key| page.find(key.as_bytes()).is_none()).cloned());
        let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        let changes = (0..page.len()).map(|at| mapping.change(&page, at, forced)).collect();
        let changes = without_unjudged(pipeline, changes).await?;
        published += changes.len() as u64;
        publisher::publish(pipeline, pipeline.shape(), origin, changes).await?;
    }
    Ok((published, absent))
}

/// Takes out what the mapping leaves out and no import has judged (L8): it was edited, or the marks do not tell.
pub(crate) async fn without_unjudged(pipeline: &Pipeline, changes: Vec<Change>) -> Result<Vec<Change>, Fault> {
    if changes.iter().all(|change| change.op != Op::Delete) {
        return Ok(changes);
    }
    if Box::pin(Edit::open(pipeline)).await?.is_some() {
        return Ok(changes.into_iter().filter(|change| change.op != Op::Delete).collect());
    }
    let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
    let known = pipeline.backplane.hashes.get(&pipeline.id, &keys).await?;
    Ok(edit::split(pipeline, changes, &known).await?.0)
}
