//! Dead letters, one per pipeline and key. A letter is stored as a format number, its attempts and first time, which a
//! script adds up, and the letter as JSON.

use std::sync::Arc;

use async_trait::async_trait;
use fides_core::port::{DeadLetter, DeadLetters};
use fides_core::{Fault, Key, PipelineId};
use redis::{Script, cmd};

use crate::index::{Index, Keys};
use crate::link::Link;
use crate::names::Names;

/// Format number of a letter.
const FORMAT: u8 = 1;
/// Letters, and bytes of letters, that one script stores.
const LETTERS_MAX: usize = 256;

pub(crate) struct Letters {
    link: Arc<Link>,
    names: Names,
    most: u64,
    index: Index,
    put: Script,
}

impl Letters {
    pub(crate) fn new(link: Arc<Link>, names: Names, most: u64) -> Self {
        Self { link, names, most, index: Index::new(), put: Script::new(include_str!("lua/letters.lua")) }
    }

    fn keys(&self, pipeline: &PipelineId) -> Keys {
        [self.names.of(pipeline, "dead"), self.names.of(pipeline, "dead:index")]
    }

    fn full(&self, pipeline: &PipelineId, count: u64) -> Fault {
        Fault::unavailable(format!("dead letters are full ({count}) for pipeline {pipeline}: {} are kept", self.most))
            .advise("see `fides dead list`, mend the cause, then replay or drop them: what is queued waits")
    }

    /// Whether the new ones among so many letters that several scripts store them would be too many. Between this look
    /// and the last script another client may fill the store: then a part is stored, and the caller repeats the call.
    async fn check_room(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        let keys: std::collections::BTreeSet<&[u8]> = letters.iter().map(|letter| letter.key.as_bytes()).collect();
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        let mut fresh = 0;
        for portion in keys.chunks(LETTERS_MAX) {
            let mut known = redis::pipe();
            for key in portion {
                known.cmd("HEXISTS").arg(self.names.of(pipeline, "dead")).arg(*key);
            }
            let known: Vec<bool> = self.link.pipe(&known).await?;
            fresh += known.iter().filter(|known| !**known).count() as u64;
        }
        let count = self.count(pipeline).await?;
        if fresh > 0 && count + fresh > self.most { Err(self.full(pipeline, count)) } else { Ok(()) }
    }

    async fn put_portion(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        let mut call = self.put.key(&self.keys(pipeline));
        call.arg(self.most);
        for letter in letters {
            let text = serde_json::to_string(letter).map_err(|error| {
                Fault::permanent(format!("the dead letter of {} cannot be written", letter.key)).because(error)
            })?;
            call.arg(letter.key.as_bytes())
                .arg(&[FORMAT][..])
                .arg(&letter.attempts.to_be_bytes()[..])
                .arg(&letter.first_ms.to_be_bytes()[..])
                .arg(text);
        }
        match self.link.run::<Option<u64>>(&call).await? {
            None => Ok(()),
            Some(count) => Err(self.full(pipeline, count)),
        }
    }
}

fn read(key: &[u8], stored: &[u8]) -> Result<DeadLetter, Fault> {
    let key = Key::from_bytes(key);
    let unknown = || {
        Fault::unavailable(format!("the dead letter of {key} cannot be read by this release"))
            .advise("upgrade this service")
    };
    let Some(([FORMAT], rest)) = stored.split_first_chunk() else { return Err(unknown()) };
    let Some((attempts, rest)) = rest.split_first_chunk() else { return Err(unknown()) };
    let Some((first_ms, text)) = rest.split_first_chunk() else { return Err(unknown()) };
    let letter: DeadLetter = serde_json::from_slice(text).map_err(|error| unknown().because(error))?;
    let (attempts, first_ms) = (u32::from_be_bytes(*attempts), u64::from_be_bytes(*first_ms));
    Ok(DeadLetter { key, attempts, first_ms, ..letter })
}

#[async_trait]
impl DeadLetters for Letters {
    async fn put(&self, pipeline: &PipelineId, letters: &[DeadLetter]) -> Result<(), Fault> {
        if letters.len() > LETTERS_MAX {
            self.check_room(pipeline, letters).await?;
        }
        for portion in letters.chunks(LETTERS_MAX) {
            self.put_portion(pipeline, portion).await?;
        }
        Ok(())
    }

    async fn get(&self, pipeline: &PipelineId, key: &Key) -> Result<Option<DeadLetter>, Fault> {
        let get = cmd("HGET").arg(self.names.of(pipeline, "dead")).arg(key.as_bytes()).clone();
        let stored: Option<Vec<u8>> = self.link.query(&get).await?;
        stored.map(|stored| read(key.as_bytes(), &stored)).transpose()
    }

    async fn list(&self, pipeline: &PipelineId, after: Option<&Key>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let from = after.map_or(b"-".to_vec(), |after| [b"(", after.as_bytes()].concat());
        let found = self.index.list(&self.link, &self.keys(pipeline), from, b"+", limit).await?;
        found.iter().map(|(key, stored)| read(key, stored)).collect()
    }

    async fn count(&self, pipeline: &PipelineId) -> Result<u64, Fault> {
        self.link.query(cmd("HLEN").arg(self.names.of(pipeline, "dead"))).await
    }

    async fn remove(&self, pipeline: &PipelineId, keys: &[Key]) -> Result<(), Fault> {
        let fields: Vec<&[u8]> = keys.iter().map(Key::as_bytes).collect();
        self.index.remove(&self.link, &self.keys(pipeline), &fields).await
    }
}
