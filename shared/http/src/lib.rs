//! HTTP as everything here is served: routes of axum's over connections of hyper's, all of it bounded (L10).
//!
//! It knows nothing of what is served: who listens brings the routes, the bounds, and the words in which people are told
//! that an address cannot be had.

mod answer;
mod bearer;
mod body;
mod bounds;
mod connection;
mod listener;

pub use answer::json;
pub use bearer::refuses_bearer;
pub use body::{Unread, read};
pub use bounds::{Bounds, Connections};
pub use listener::{Listener, Purpose};
