//! The marks, in buckets of neighbouring keys (DESIGN §9).
//!
//! A bucket covers the keys from its lower bound to the next one. The directory is a sorted set of the lower bounds, each
//! behind a byte, so that the first one, which is empty, is a member too. Writing appends patches to the tails of buckets
//! and reads nothing (`append.lua`); reading merges (`value.rs`). Marks are a maximum by version, so it does not matter who
//! merges when (L4), and lanes that meet in a bucket do not wait for each other. A tail that has outgrown its bound is
//! merged by the client that saw it (`compact.rs`).

mod append;
mod compact;
mod directory;
mod incarnation;
mod read;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{BucketInfo, HashStore, Relabel};
use fides_core::{Fault, Key, KeyRange, Mark, PipelineId};
use redis::{Script, ScriptInvocation, Value};

use crate::link::Link;
use crate::names::Names;
use crate::portions;
use directory::Directories;
use incarnation::Remembered;
use value::Patch;

/// Buckets that one script writes to or whose headers it reads.
const HEADERS_MAX: usize = 256;
/// Buckets that one script reads.
const READS_MAX: usize = 32;
/// Other clients may split buckets while a call is on its way; so often in a row, something is wrong.
const ROUTE_ATTEMPTS_MAX: usize = 64;

pub(crate) struct Buckets {
    link: Arc<Link>,
    names: Names,
    marks_max: usize,
    remembered: Remembered,
    directories: Directories,
    scripts: Scripts,
}

struct Scripts {
    append: Script,
    read: Script,
    walk: Script,
    store: Script,
    summarise: Script,
}

impl Buckets {
    pub(crate) fn new(link: Arc<Link>, names: Names, marks_max: usize) -> Self {
        let script = |code: &str| Script::new(&[include_str!("../lua/marks.lua"), code].concat());
        let scripts = Scripts {
            append: script(include_str!("../lua/append.lua")),
            read: script(include_str!("../lua/read.lua")),
            walk: script(include_str!("../lua/walk.lua")),
            store: script(include_str!("../lua/store.lua")),
            summarise: script(include_str!("../lua/summarise.lua")),
        };
        Self { link, names, marks_max, remembered: Remembered::new(), directories: Directories::default(), scripts }
    }

    /// Runs a script on a pipeline's marks; `arguments` adds what is its own. It carries the incarnation that this client
    /// works with (L11): an answer is always from that one.
    async fn run(
        &self,
        pipeline: &PipelineId,
        script: &Script,
        arguments: impl Fn(&mut ScriptInvocation<'_>) + Send + Sync,
    ) -> Result<Vec<Value>, Fault> {
        // A second time when the pipeline had no copy yet; a third when the store was named meanwhile.
        for _ in 0..3 {
            let name = self.remembered.name(&self.link, &self.names).await?;
            let mut call = script.prepare_invoke();
            for key in ["incarnation", "buckets", "writes"] {
                call.key(self.names.of(pipeline, key));
            }
            call.arg(&name).arg(self.names.of(pipeline, ""));
            arguments(&mut call);
            if let Some(answer) = self.link.run::<Option<Vec<Value>>>(&call).await? {
                return Ok(answer);
            }
            self.remembered.adopt(&self.link, &self.names, pipeline, &name).await?;
        }
        Err(incarnation::lost())
    }

    async fn summarise_portion(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        self.run(pipeline, &self.scripts.summarise, |call| {
            for (bucket, summary) in summaries {
                call.arg(member(bucket.range.lower.as_ref().map_or(&[][..], Key::as_bytes)))
                    .arg(&bucket.writes.to_be_bytes()[..])
                    .arg(&summary.to_be_bytes()[..]);
            }
        })
        .await?;
        Ok(())
    }
}

/// A lower bound as a member of the directory.
fn member(lower: &[u8]) -> Vec<u8> {
    [b".", lower].concat()
}

#[async_trait]
impl HashStore for Buckets {
    async fn get(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<Vec<Option<Mark>>, Fault> {
        self.marks_of(pipeline, keys).await
    }

    async fn range(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<(Key, Mark)>, Fault> {
        self.marks_in(pipeline, range).await
    }

    async fn buckets(&self, pipeline: &PipelineId, range: &KeyRange) -> Result<Vec<BucketInfo>, Fault> {
        self.infos_in(pipeline, range).await
    }

    async fn advance(&self, pipeline: &PipelineId, marks: &[(Key, Mark)]) -> Result<(), Fault> {
        let mut newest: BTreeMap<&Key, &Mark> = BTreeMap::new();
        for (key, mark) in marks {
            let kept = newest.entry(key).or_insert(mark);
            if mark.version >= kept.version {
                *kept = mark;
            }
        }
        let newest = newest.into_iter().map(|(key, mark)| (key.clone(), *mark)).collect();
        self.append(pipeline, &Patch::Advance(newest)).await
    }

    async fn distrust(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        self.append(pipeline, &Patch::Distrust(keys)).await
    }

    async fn relabel(&self, pipeline: &PipelineId, labels: &[Relabel]) -> Result<(), Fault> {
        let mut labels = labels.to_vec();
        labels.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        self.append(pipeline, &Patch::Relabel(labels)).await
    }

    async fn summarise(&self, pipeline: &PipelineId, summaries: &[(BucketInfo, u128)]) -> Result<(), Fault> {
        let calls = summaries.chunks(HEADERS_MAX).map(|portion| self.summarise_portion(pipeline, portion)).collect();
        portions::all(calls).await?;
        Ok(())
    }

    async fn size(&self, pipeline: &PipelineId) -> Result<(u64, u64), Fault> {
        self.sizes(pipeline).await
    }

    async fn incarnation(&self) -> Result<Option<String>, Fault> {
        self.remembered.read(&self.link, &self.names).await
    }

    async fn create_incarnation(&self, name: &str) -> Result<(), Fault> {
        self.remembered.create(&self.link, &self.names, name).await
    }
}
