//! Candidates for deletion, kept on disk until the whole listing is judged: one entry per page that missed any.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

use fides_core::port::Expect;
use fides_core::{Fault, Key, PipelineId};

use crate::{Pipeline, persisted};

/// Entries read at a time.
const LIST_MAX: usize = 64;

fn prefix(pipeline: &PipelineId) -> String {
    format!("candidates/{pipeline}/")
}

/// Who found a candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// An import: the key is marked, and the listing did not meet it.
    Listing,
    /// A walk over host and target: only the target has it.
    Walk,
}

impl Source {
    fn prefix(self) -> &'static str {
        match self {
            Source::Listing => "listing-",
            Source::Walk => "walk-",
        }
    }
}

/// Spools the candidates of one page. Named by its source and the first key, so that a repeated page replaces its entry
/// and no other.
pub(crate) async fn put(pipeline: &Pipeline, run: &str, source: Source, keys: &[Key]) -> Result<(), Fault> {
    let Some(first) = keys.first() else { return Ok(()) };
    let entry = format!("{}{run}/{}{}", prefix(&pipeline.id), source.prefix(), hex(first.as_bytes()));
    store(pipeline, &entry, keys).await
}

/// Spools the candidates of one step of a walk. Named by the range and the key that it began behind: done again it begins
/// there again, whatever it finds then. `again` says that it may have been done before.
pub(crate) async fn put_step(
    pipeline: &Pipeline,
    run: &str,
    (range, after): (usize, Option<&[u8]>),
    keys: &[Key],
    again: bool,
) -> Result<(), Fault> {
    let step = format!("{range:05}-{}", hex(after.unwrap_or_default()));
    let entry = format!("{}{run}/{}{step}", prefix(&pipeline.id), Source::Walk.prefix());
    if !keys.is_empty() {
        return store(pipeline, &entry, keys).await;
    }
    if again { pipeline.backplane.state.remove(&entry).await } else { Ok(()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |name, byte| name + &format!("{byte:02x}"))
}

async fn store(pipeline: &Pipeline, entry: &str, keys: &[Key]) -> Result<(), Fault> {
    let bytes: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
    persisted::store(&*pipeline.backplane.state, entry, &bytes, Expect::Any).await?;
    Ok(())
}

/// The next spooled entry after `after`: its name and its keys.
pub(crate) async fn next(
    pipeline: &Pipeline,
    run: &str,
    after: Option<&str>,
) -> Result<Option<(String, Vec<Key>)>, Fault> {
    next_under(pipeline, &format!("{}{run}/", prefix(&pipeline.id)), after).await
}

async fn next_under(
    pipeline: &Pipeline,
    prefix: &str,
    after: Option<&str>,
) -> Result<Option<(String, Vec<Key>)>, Fault> {
    let listed = pipeline.backplane.state.list(prefix, after, 1).await?;
    let Some((entry, stored)) = listed.into_iter().next() else { return Ok(None) };
    let keys: Vec<Vec<u8>> = persisted::decode(&entry, &stored.value)?;
    Ok(Some((entry, keys.into_iter().map(Key::from_bytes).collect())))
}

/// The candidates of a run's listing in key order: entries are named by their first keys. Holds one entry.
pub(crate) struct Listed<'a> {
    pipeline: &'a Pipeline,
    prefix: String,
    /// The entry at hand; `None` before the first.
    entry: Option<String>,
    keys: Peekable<IntoIter<Key>>,
    is_through: bool,
}

impl<'a> Listed<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, run: &str) -> Self {
        let prefix = format!("{}{run}/{}", prefix(&pipeline.id), Source::Listing.prefix());
        Self { pipeline, prefix, entry: None, keys: Vec::new().into_iter().peekable(), is_through: false }
    }

    /// Those of `keys` that the listing has not spooled: one record is one candidate, however many have found it. Keys
    /// come in ascending order, from call to call.
    pub(crate) async fn without(&mut self, keys: Vec<Key>) -> Result<Vec<Key>, Fault> {
        let mut others = Vec::with_capacity(keys.len());
        for key in keys {
            while self.fill().await? && self.keys.next_if(|listed| *listed < key).is_some() {}
            if self.keys.peek() != Some(&key) {
                others.push(key);
            }
        }
        Ok(others)
    }

    /// Makes the next candidate available; whether there is one.
    async fn fill(&mut self) -> Result<bool, Fault> {
        while self.keys.peek().is_none() && !self.is_through {
            match next_under(self.pipeline, &self.prefix, self.entry.as_deref()).await? {
                Some((entry, keys)) => (self.entry, self.keys) = (Some(entry), keys.into_iter().peekable()),
                None => self.is_through = true,
            }
        }
        Ok(!self.is_through)
    }
}

/// How many candidates an entry holds; 0 when it is gone.
pub(crate) async fn len(pipeline: &Pipeline, entry: &str) -> Result<u64, Fault> {
    let stored = persisted::load::<Vec<Vec<u8>>>(&*pipeline.backplane.state, entry).await?;
    Ok(stored.map_or(0, |(keys, _)| keys.len() as u64))
}

/// The candidates of a run, entry by entry, each once: a page that was done again may have spooled some of its keys under
/// another first key. Holds one entry, and what entries have in common.
pub(crate) struct Distinct<'a> {
    pipeline: &'a Pipeline,
    run: &'a str,
    after: Option<String>,
    /// Keys of earlier entries that may come again. Entries come in the order of their first keys: it is none before that.
    ahead: BTreeSet<Key>,
}

impl<'a> Distinct<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, run: &'a str) -> Self {
        Self { pipeline, run, after: None, ahead: BTreeSet::new() }
    }

    /// The next entry's name, and its keys that no entry before had.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, Vec<Key>)>, Fault> {
        let Some((entry, mut keys)) = next(self.pipeline, self.run, self.after.as_deref()).await? else {
            return Ok(None);
        };
        self.ahead = keys.first().map(|first| self.ahead.split_off(first)).unwrap_or_default();
        keys.retain(|key| self.ahead.insert(key.clone()));
        self.after = Some(entry.clone());
        Ok(Some((entry, keys)))
    }
}

/// How many candidates a run has spooled.
pub(crate) async fn count(pipeline: &Pipeline, run: &str) -> Result<u64, Fault> {
    let (mut count, mut entries) = (0, Distinct::new(pipeline, run));
    while let Some((_, keys)) = entries.next().await? {
        count += keys.len() as u64;
    }
    Ok(count)
}

/// Forgets what one source has found for a run.
pub(crate) async fn clear(pipeline: &Pipeline, run: &str, source: Source) -> Result<(), Fault> {
    let state = &*pipeline.backplane.state;
    let prefix = format!("{}{run}/{}", prefix(&pipeline.id), source.prefix());
    while let Some((entry, _)) = state.list(&prefix, None, 1).await?.pop() {
        state.remove(&entry).await?;
    }
    Ok(())
}

/// Forgets the candidates of every other run of the same kind: imports and clean-ups may go on side by side.
pub(crate) async fn clear_others(pipeline: &Pipeline, kind: &str, run: &str) -> Result<(), Fault> {
    let keep = format!("{}{run}/", prefix(&pipeline.id));
    let of_kind = format!("{}{kind}", prefix(&pipeline.id));
    let mut after: Option<String> = None;
    loop {
        let listed = pipeline.backplane.state.list(&of_kind, after.as_deref(), LIST_MAX).await?;
        let Some((last, _)) = listed.last() else { return Ok(()) };
        after = Some(last.clone());
        for (entry, _) in listed {
            if !entry.starts_with(&keep) {
                pipeline.backplane.state.remove(&entry).await?;
            }
        }
    }
}
