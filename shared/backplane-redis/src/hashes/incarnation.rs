//! Which incarnation of the store a client works with (L11).

use std::sync::{Mutex, PoisonError};

use fides_core::{Fault, PipelineId};
use redis::{Script, cmd};

use crate::link::Link;
use crate::names::Names;

/// The name that the client last returned or gave. It does not follow the store by itself: what the client was told of
/// one incarnation must not be answered from another.
pub(super) struct Remembered {
    name: Mutex<Option<String>>,
    disown: Script,
    create: Script,
}

impl Remembered {
    pub(super) fn new() -> Self {
        let disown = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 0";
        let create = "redis.call('SET', KEYS[1], ARGV[1], 'NX') return redis.call('GET', KEYS[1])";
        Self { name: Mutex::default(), disown: Script::new(disown), create: Script::new(create) }
    }

    /// The name that a call carries; empty for a store without one.
    pub(super) async fn name(&self, link: &Link, names: &Names) -> Result<String, Fault> {
        let known = self.lock().clone();
        match known {
            Some(name) => Ok(name),
            None => Ok(self.read(link, names).await?.unwrap_or_default()),
        }
    }

    /// Reads the store's name and works with it from now on.
    pub(super) async fn read(&self, link: &Link, names: &Names) -> Result<Option<String>, Fault> {
        let found: Option<String> = link.query(cmd("GET").arg(names.incarnation())).await?;
        if found.is_some() {
            self.lock().clone_from(&found);
        }
        Ok(found)
    }

    /// Names the store if it has no name.
    pub(super) async fn create(&self, link: &Link, names: &Names, name: &str) -> Result<(), Fault> {
        let kept: String = link.run(self.create.key(names.incarnation()).arg(name)).await?;
        if kept == name {
            *self.lock() = Some(kept);
        }
        Ok(())
    }

    /// A pipeline's copy is missing or another than `name`: it becomes `name` if the store still has it, otherwise this
    /// is another store, and an Unavailable fault.
    pub(super) async fn adopt(
        &self,
        link: &Link,
        names: &Names,
        pipeline: &PipelineId,
        name: &str,
    ) -> Result<(), Fault> {
        // Step by step, because in a cluster the two keys are in different places.
        let copy = names.of(pipeline, "incarnation");
        let mut adopted = Self::is_named(link, names, name).await?;
        if adopted {
            let () = link.query(cmd("SET").arg(&copy).arg(name)).await?;
            // Lost in between: a copy must not vouch for what the new incarnation holds.
            adopted = Self::is_named(link, names, name).await?;
            if !adopted {
                let () = link.run(self.disown.key(&copy).arg(name)).await?;
            }
        }
        // A client that was never told a name takes up the one that was given meanwhile.
        if adopted || self.lock().is_none() { Ok(()) } else { Err(lost()) }
    }

    async fn is_named(link: &Link, names: &Names, name: &str) -> Result<bool, Fault> {
        let found: Option<String> = link.query(cmd("GET").arg(names.incarnation())).await?;
        Ok(found.unwrap_or_default() == name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn lost() -> Fault {
    Fault::unavailable("the hash store is a new incarnation: its data was lost")
        .advise("nothing to do: the next import compares everything; to keep marks, Redis needs appendonly yes and appendfsync always")
}
