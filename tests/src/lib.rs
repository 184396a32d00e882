//! Tests of the whole: real services as processes, real stores.
