//! A server of Cosmos DB for tests: Microsoft's in-memory emulator (crate `azure_data_cosmos_driver`) behind HTTP/1.1 on
//! loopback, and beside it what a test needs to break it on purpose.
//!
//! | admin request | what it does |
//! |---|---|
//! | `POST /__faults` | adds the [rule](faults::Rule) of the body, or all of a list |
//! | `GET /__faults?database=D` | the rules of a database, with how often each was matched and fired |
//! | `DELETE /__faults?database=D` | removes them |
//! | `POST /__throttle` | gives a database or container a [budget](budget::Budget) of request units |
//! | `DELETE /__throttle?database=D` | removes the database's budgets |
//! | `POST /__split` | splits a range of partition keys: `{database, container, range}` |
//! | `GET /__stats?database=D` | [what was asked of a database](statistics::Counts) so far |
//!
//! Everything belongs to one database, so that tests which have a database each run side by side. Admin requests need no
//! signature; all others do, unless the server was started without a key.

pub mod admin;
pub mod authorization;
pub mod budget;
pub mod call;
pub mod emulator;
pub mod faults;
pub mod reply;
pub mod server;
pub mod statistics;
