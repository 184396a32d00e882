//! Configuration, registry, wiring, telemetry, signals; the only crate that knows all.

pub mod config;
