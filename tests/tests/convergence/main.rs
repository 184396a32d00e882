//! The convergence simulation. Its tests are in a module, so that a run may leave them out by its name.

mod seeds;
