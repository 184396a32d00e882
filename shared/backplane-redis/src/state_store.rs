//! Small durable state. Leases and time are on Redis' own clock.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{Entry, Expect, Lease, StateStore};
use fides_core::{Fault, PipelineId};
use redis::{Script, cmd};

use crate::index::{Index, Keys};
use crate::link::Link;
use crate::names::Names;

pub(crate) struct States {
    link: Arc<Link>,
    names: Names,
    entries: Keys,
    index: Index,
    put: Script,
    lease: Script,
    release: Script,
}

impl States {
    pub(crate) fn new(link: Arc<Link>, names: Names) -> Self {
        Self {
            link,
            entries: [names.state("state"), names.state("state:index")],
            names,
            index: Index::new(),
            put: Script::new(include_str!("lua/put.lua")),
            lease: Script::new(include_str!("lua/lease.lua")),
            release: Script::new(include_str!("lua/release.lua")),
        }
    }

    fn entry(&self, stored: &[u8]) -> Result<Entry, Fault> {
        let Some((revision, value)) = stored.split_first_chunk::<8>() else {
            return Err(self.link.strange("an entry of the state has another form"));
        };
        Ok(Entry { revision: u64::from_be_bytes(*revision), value: value.to_vec() })
    }
}

#[async_trait]
impl StateStore for States {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Fault> {
        let stored: Option<Vec<u8>> = self.link.query(cmd("HGET").arg(&self.entries[0]).arg(key)).await?;
        stored.as_deref().map(|stored| self.entry(stored)).transpose()
    }

    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Option<u64>, Fault> {
        let mut call = self.put.key(&self.entries);
        call.key(self.names.state("revision")).arg(key).arg(value);
        match expect {
            Expect::Any => call.arg(""),
            Expect::Absent => call.arg("-"),
            Expect::Revision(revision) => call.arg(&revision.to_be_bytes()[..]),
        };
        self.link.run(&call).await
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.index.remove(&self.link, &self.entries, &[key.as_bytes()]).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, Fault> {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => format!("({after}"),
            None => format!("[{prefix}"),
        };
        // No text has this byte: it sorts behind everything that begins with the prefix.
        let to = [b"(", prefix.as_bytes(), &[0xff]].concat();
        let found = self.index.list(&self.link, &self.entries, from.into_bytes(), &to, limit).await?;
        let entry = |(key, stored): (Vec<u8>, Vec<u8>)| {
            let key = String::from_utf8(key).map_err(|_| self.link.strange("a key of the state is no text, other"))?;
            Ok((key, self.entry(&stored)?))
        };
        found.into_iter().map(entry).collect()
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>, Fault> {
        let mut call = self.lease.key(self.names.state("leases"));
        call.key(self.names.state("token")).arg(key).arg(holder).arg(ttl_ms);
        let token: Option<u64> = self.link.run(&call).await?;
        Ok(token.map(|token| Lease { token }))
    }

    async fn release(&self, key: &str, holder: &str) -> Result<(), Fault> {
        self.link.run(self.release.key(self.names.state("leases")).arg(key).arg(holder)).await
    }

    async fn next_position(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.link.query(cmd("INCR").arg(self.names.state(&format!("position:{pipeline}")))).await
    }

    async fn now_ms(&self) -> Result<u64, Fault> {
        let (seconds, micros): (u64, u64) = self.link.query(&cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }
}
