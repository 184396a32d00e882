//! The status page as people meet it: in a browser, beside a real sync.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "the shop has more than a browser needs")]

mod browser;
#[path = "../cli/served.rs"]
mod served;
#[path = "../cli/shop.rs"]
mod shop;
mod shown;
#[path = "../cli/staying.rs"]
mod staying;
mod used;
