//! What the use-cases do when something goes wrong in one particular way, on fakes and a paused clock.

#![allow(clippy::unwrap_used)] // a fault is the failure of a test

mod admin;
mod cancel;
mod cleanup;
mod compare;
mod dead;
mod edits;
mod events;
mod evidence;
mod hints;
mod judged_together;
mod lanes;
mod left_out;
mod order;
mod orphans;
mod queue;
mod rebuild;
mod releases;
mod repair;
mod runs;
mod slow;
mod soft;
mod stand;
mod swaps;
mod target;
mod traces;
mod verify;
