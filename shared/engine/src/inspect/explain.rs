//! One record's story.

use fides_core::decide::lane_of;
use fides_core::port::DeadLetter;
use fides_core::{Fault, Held, Key, Lane, Mark};
use serde::Serialize;

use crate::edit::Edit;
use crate::record::shown;
use crate::{Mapping, Pipeline};

/// Everything that is known of one key.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// Its lane.
    pub lane: u16,
    /// Messages waiting in that lane.
    pub lane_depth: u64,
    /// The host's record now, as JSON.
    pub host: Option<String>,
    /// What the mapping makes of it, as JSON.
    pub document: Option<String>,
    /// Why the mapping makes nothing of it.
    pub unmapped: Option<String>,
    /// What the target holds now, as JSON.
    pub target: Option<String>,
    /// What the target is known to hold.
    pub mark: Option<Mark>,
    /// Whether the host's record equals the mark's.
    pub mark_is_current: bool,
    /// Its dead letter.
    pub dead: Option<DeadLetter>,
    /// All of that in one sentence.
    pub verdict: String,
}

/// Reads both sides, the mark, the lane and the dead letter of a key.
pub async fn explain(pipeline: &Pipeline, key: &Key) -> Result<Explanation, Fault> {
    let keys = std::slice::from_ref(key);
    let host = pipeline.peek_host().await?.fetch(keys).await?;
    let target = match pipeline.target.describe(&pipeline.sink.namespace).await? {
        Some(_) => Some(pipeline.open_target().await?.fetch(keys).await?),
        None => None,
    };
    let mark = pipeline.backplane.hashes.get(&pipeline.id, keys).await?.into_iter().next().flatten();
    let index = lane_of(key.as_bytes(), pipeline.limits.lanes);
    let lane = Lane { pipeline: pipeline.id.clone(), index };
    let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
    let shape = pipeline.shape();
    let (mut document, mut unmapped) = (None, None);
    let at = host.find(key.as_bytes());
    match at.map(|at| mapping.map(&host, at)) {
        Some(Ok(Some(row))) => {
            document = Some(fides_format::document_to_json(shape, &fides_core::decode_row(&row)?));
        }
        Some(Ok(None)) => unmapped = Some(String::from("left out by the mapping's `when`")),
        Some(Err(fault)) => unmapped = Some(fault.to_string()),
        None => {}
    }
    let target = match target.as_ref().and_then(|page| page.find(key.as_bytes()).map(|at| (page, at))) {
        Some((page, at)) => Some(fides_format::document_to_json(shape, &page.values(at)?)),
        None => None,
    };
    let mut explanation = Explanation {
        key: key.to_string(),
        lane: index,
        lane_depth: pipeline.backplane.queue.depth(&lane).await?,
        host: at.map(|at| shown(&pipeline.selection, host.rows.get(at), &*host.decoder)),
        document,
        unmapped,
        target,
        mark,
        mark_is_current: at.is_some_and(|at| mark.is_some_and(|mark| mark.fingerprint == Some(host.fingerprints[at]))),
        dead: pipeline.backplane.dead.get(&pipeline.id, key).await?,
        verdict: String::new(),
    };
    explanation.verdict = verdict(&explanation, Edit::open(pipeline).await?.is_some());
    Ok(explanation)
}

fn verdict(story: &Explanation, is_edited: bool) -> String {
    let held = story.mark.map(|mark| mark.held);
    let text = match (&story.host, held) {
        _ if story.dead.is_some() => "a dead letter: mend the cause, then `fides dead replay`",
        (None, None) => "neither the host nor the marks know this key",
        (None, Some(Held::Absent)) => "deleted on the host, and deleted at the target",
        (None, Some(_)) => "gone from the host; the next import's clean-up judges its deletion",
        (Some(_), Some(Held::Dead)) if story.mark_is_current => {
            "its dead letter was dropped: the target stays as it is until the host changes the record, or `fides sync \
             --once --full` sends it"
        }
        (Some(_), _) if story.unmapped.is_some() && story.document.is_none() && story.target.is_none() => {
            "the mapping makes no document of it"
        }
        (Some(_), None) => "not imported yet",
        (Some(_), Some(_)) if story.mark_is_current => "in step",
        (Some(_), Some(_)) if is_edited => {
            "the mapping was edited since it was written; the next import sends it if its document changes"
        }
        (Some(_), Some(_)) => "changed on the host since it was written; the next import sends it",
    };
    text.to_owned()
}
