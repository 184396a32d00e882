use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fides_core::Fault;
use fides_core::port::{AdminQueue, Desk, Request};

use super::backplane::Process;
use super::lock;

/// Commands that wait, and answers that were not fetched yet.
#[derive(Default)]
pub(super) struct Commands {
    waiting: BTreeMap<u64, Command>,
    answers: BTreeMap<u64, Bytes>,
    tags: u64,
    desks: u64,
    owner: Option<u64>,
}

struct Command {
    body: Bytes,
    wants_reply: bool,
    handed_out: bool,
}

impl Commands {
    /// Returns what is unanswered, and frees the desk.
    pub fn give_back(&mut self) {
        self.owner = None;
        self.waiting.values_mut().for_each(|command| command.handed_out = false);
    }
}

pub(super) struct FakeAdmin(pub Process);

/// Takes back its wish for an answer when it is dropped.
struct Asked<'a> {
    process: &'a Process,
    tag: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.process.disk.state);
        state.commands.answers.remove(&self.tag);
        if let Some(command) = state.commands.waiting.get_mut(&self.tag) {
            command.wants_reply = false;
        }
    }
}

#[async_trait]
impl AdminQueue for FakeAdmin {
    async fn ask(&self, command: &[u8], timeout_ms: u64) -> Result<Option<Bytes>, Fault> {
        let tag = self.0.with(|state| {
            let commands = &mut state.commands;
            commands.tags += 1;
            let command = Command { body: Bytes::copy_from_slice(command), wants_reply: true, handed_out: false };
            commands.waiting.insert(commands.tags, command);
            Ok(commands.tags)
        })?;
        self.0.disk.lanes_changed.notify_waiters();
        let asked = Asked { process: &self.0, tag };
        let answer = self.0.wait(|state| Ok(state.commands.answers.remove(&asked.tag)));
        tokio::time::timeout(Duration::from_millis(timeout_ms), answer).await.ok().transpose()
    }

    async fn serve(&self) -> Result<Box<dyn Desk>, Fault> {
        let id = self.0.with(|state| {
            state.commands.desks += 1;
            Ok(state.commands.desks)
        })?;
        Ok(Box::new(FakeDesk { process: self.0.clone(), id }))
    }
}

struct FakeDesk {
    process: Process,
    id: u64,
}

#[async_trait]
impl Desk for FakeDesk {
    async fn next(&mut self) -> Result<Request, Fault> {
        let id = self.id;
        self.process
            .wait(|state| {
                let commands = &mut state.commands;
                if *commands.owner.get_or_insert(id) != id {
                    return Ok(None);
                }
                let next = commands.waiting.iter_mut().find(|(_, command)| !command.handed_out);
                Ok(next.map(|(tag, command)| {
                    command.handed_out = true;
                    Request { tag: *tag, body: command.body.clone(), wants_reply: command.wants_reply }
                }))
            })
            .await
    }

    async fn answer(&mut self, tag: u64, body: &[u8]) -> Result<(), Fault> {
        self.process.with(|state| {
            let commands = &mut state.commands;
            if commands.owner != Some(self.id) {
                return Err(Fault::transient("the desk is another's by now"));
            }
            if commands.waiting.remove(&tag).is_some_and(|command| command.wants_reply) {
                commands.answers.insert(tag, Bytes::copy_from_slice(body));
            }
            Ok(())
        })?;
        self.process.disk.lanes_changed.notify_waiters();
        Ok(())
    }
}

impl Drop for FakeDesk {
    fn drop(&mut self) {
        let mut state = lock(&self.process.disk.state);
        if state.commands.owner == Some(self.id) {
            state.commands.give_back();
        }
        drop(state);
        self.process.disk.lanes_changed.notify_waiters();
    }
}
