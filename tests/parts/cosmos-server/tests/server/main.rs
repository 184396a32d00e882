//! The server over plain HTTP, as any client meets it.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod authorization;
mod client;
mod documents;
mod faults;
mod throttle;
