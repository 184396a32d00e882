//! The use-cases: import, publish, clean-up, verify, written against the ports.
