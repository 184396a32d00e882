//! The main job at scale, with the real program as a process and a real PostgreSQL: a million rows with a release of
//! it, fewer with a debug build. `FIDES_TEST_POSTGRES_URL` names a server (`tests/parts/postgres` starts one); the program
//! is the `fides` beside this test, or in the folder that `FIDES_TEST_PROGRAMS` names.
#![allow(clippy::unwrap_used)] // allow-unwrap-in-tests does not reach the functions that tests share

mod delta;
mod gone;
mod killed;
mod proxy;
mod stand;
