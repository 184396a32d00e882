//! Fakes, faults, conformance suites and the convergence simulation.

pub mod conformance;
pub mod fake;
pub mod simulation;
