//! The log of a selection: every change in its order, with the bytes of a scan, from where it was left.

#![allow(clippy::unwrap_used)]

mod check;
#[path = "../common/mod.rs"]
mod common;
mod keys;
mod nested;
mod opening;
mod order;
mod refusals;
mod rows;
mod support;
