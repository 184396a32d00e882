//! What was asked of each database.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::call::{Call, Operation};

/// What was asked of a database since the server began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Requests, those that a fault met among them.
    pub requests: u64,
    /// Requests that were executed, whatever was answered to them.
    pub executed: u64,
    /// What they cost by the emulator's own model.
    pub request_units: f64,
    /// Answers 429, by a rule or by a budget.
    pub throttled: u64,
    /// Requests by what they did.
    pub operations: BTreeMap<Operation, u64>,
}

/// The counts of all databases.
#[derive(Default)]
pub struct Statistics(Mutex<HashMap<String, Counts>>);

impl Statistics {
    /// A request came.
    pub fn came(&self, call: &Call) {
        self.update(call, |counts| {
            counts.requests += 1;
            *counts.operations.entry(call.operation).or_default() += 1;
        });
    }

    /// A request was executed, and cost so much.
    pub fn charged(&self, call: &Call, request_units: f64) {
        self.update(call, |counts| {
            counts.executed += 1;
            counts.request_units += request_units;
        });
    }

    /// A request was told to come again later.
    pub fn throttled(&self, call: &Call) {
        self.update(call, |counts| counts.throttled += 1);
    }

    /// The counts of a database.
    pub fn of(&self, database: &str) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(database).cloned().unwrap_or_default()
    }

    fn update(&self, call: &Call, change: impl FnOnce(&mut Counts)) {
        if let Some(database) = &call.database {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(all.entry(database.clone()).or_default());
        }
    }
}
