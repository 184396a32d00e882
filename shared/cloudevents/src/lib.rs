//! `CloudEvents` 1.0, read in one place for every transport: structured, batched and binary mode, and what of an event
//! concerns a pipeline.
//!
//! Written by hand instead of with `cloudevents-sdk`: that one has no batch over a transport of one's own, no bounds, and
//! refuses without saying what was expected. Pure; arbitrary bytes never panic.

mod event;
mod json;
mod mode;
mod rule;

pub use event::{Data, Event, Malformed};
pub use json::{batch, structured};
pub use mode::{Mode, binary, mode, percent_decoded};
pub use rule::{KeySource, Rule};
