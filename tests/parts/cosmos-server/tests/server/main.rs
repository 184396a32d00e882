//! The server over plain HTTP, as any client meets it.

mod authorization;
mod client;
mod documents;
mod faults;
mod throttle;
