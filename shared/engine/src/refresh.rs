use fides_core::decide::Verdict;
use fides_core::{Fault, Key, Origin};

use crate::{DeletePolicy, Mapping, Pipeline, publisher, sweep};

/// Sends the host's present state of `keys`: a version is drawn, the records are fetched, mapped and published. Serves
/// replays and changes whose label lost its meaning (L11). A key that the host does not have is judged like
/// every deletion. Returns how many changes were published.
pub async fn refresh(pipeline: &Pipeline, keys: &[Key], origin: Origin, forced: bool) -> Result<u64, Fault> {
    let (published, absent) = send_present(pipeline, keys, origin, forced).await?;
    if absent.is_empty() || pipeline.delete == DeletePolicy::Never {
        return Ok(published);
    }
    // A fetch in a snapshot proves these absences; the host's size is not known here, and only an empty one matters.
    match sweep::judge(pipeline, absent.len() as u64, u64::MAX, true, 0).await? {
        Verdict::Allowed => Ok(published + sweep::delete_absent(pipeline, &absent).await?),
        Verdict::Refused(why) => Err(Fault::permanent(format!(
            "{} records are gone from the host, and deleting them was refused: {why}",
            absent.len()
        ))),
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
        let changes: Vec<_> = (0..page.len()).map(|at| mapping.change(&page, at, forced)).collect();
        published += changes.len() as u64;
        publisher::publish(pipeline, pipeline.shape(), origin, changes).await?;
    }
    Ok((published, absent))
}
