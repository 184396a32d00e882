//! The command as its users meet it: as a process, with its exit status, its words and its JSON.

#![allow(clippy::unwrap_used)]

mod agreement;
mod asked;
mod dashboard;
mod dead;
mod demo;
mod edit;
mod flow;
mod full;
mod init;
mod mend;
mod outbox;
mod places;
mod postgres;
mod served;
#[allow(dead_code, reason = "the page's tests lock the target")]
mod shop;
mod staying;
mod stopped;
mod together;
mod usage;
mod watch;
