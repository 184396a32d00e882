//! Publishing: consume lanes, write the target, advance the marks, settle (L2, in that order).

mod gather;
mod lane;
mod round;

pub use lane::{consume_lane, consume_lanes};
