//! The status page: a few static files and a small JSON API, beside whatever does the work.
//!
//! It reads what `fides status` reads and asks as `fides reimport` does, so it shows nothing and can do nothing that the command
//! line could not. Who may look and ask is in [`access`]; everything is bounded (L10): connections, headers, bodies, how
//! often the state store is asked, and how long an answer is waited for.

mod access;
mod answer;
mod letters;
mod listen;
mod orders;
mod page;
mod routes;
mod source;

pub use access::Access;
pub use listen::{BOUNDS, PURPOSE};
pub use orders::Orders;
pub use routes::{Site, router};
pub use source::Source;
