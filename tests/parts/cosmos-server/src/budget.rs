//! Request units per second: a bucket that fills with time, and is charged after a call with what the call did cost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::call::Call;

/// What a database, or one container of it, may spend.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Whose budget it is.
    pub database: String,
    /// Only this container's; the database's own budget does not count for it then.
    pub container: Option<String>,
    /// Request units that come back every second, and the most that can be saved.
    pub ru_per_second: f64,
}

impl Budget {
    /// The error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.ru_per_second.is_finite() && self.ru_per_second > 0.0 {
            Ok(())
        } else {
            Err(format!("ru_per_second is {}: it must be more than 0", self.ru_per_second))
        }
    }
}

/// What is left of a budget; less than nothing after a call that cost more than there was.
struct Bucket {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let came = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + came).min(self.per_second);
        self.at = now;
    }

    /// How long to wait where nothing is left: until there is one request unit again.
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.left > 0.0 {
            return Ok(());
        }
        let missing = self.per_second.min(1.0) - self.left;
        Err(Duration::from_secs_f64(missing / self.per_second))
    }
}

/// All budgets of the server.
#[derive(Default)]
pub struct Budgets(Mutex<HashMap<(String, Option<String>), Bucket>>);

impl Budgets {
    /// Sets a budget, full, in place of the one that was there.
    pub fn set(&self, budget: Budget, now: Instant) {
        let bucket = Bucket { per_second: budget.ru_per_second, left: budget.ru_per_second, at: now };
        self.lock().insert((budget.database, budget.container), bucket);
    }

    /// Removes the budgets of a database and of its containers.
    pub fn remove(&self, database: &str) {
        self.lock().retain(|(of, _), _| of != database);
    }

    /// Whether a call may be made now; the error is how long it has to wait.
    pub fn admit(&self, call: &Call, now: Instant) -> Result<(), Duration> {
        self.with_bucket(call, |bucket| bucket.admit(now)).unwrap_or(Ok(()))
    }

    /// Takes what a call did cost.
    pub fn charge(&self, call: &Call, request_units: f64, now: Instant) {
        self.with_bucket(call, |bucket| {
            bucket.fill(now);
            bucket.left -= request_units;
        });
    }

    fn with_bucket<T>(&self, call: &Call, run: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        if !call.operation.is_on_documents() {
            return None;
        }
        let mut buckets = self.lock();
        let mut key = (call.database.clone()?, call.container.clone());
        if !buckets.contains_key(&key) {
            key.1 = None;
        }
        buckets.get_mut(&key).map(run)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Option<String>), Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Operation;

    fn call(container: &str, operation: Operation) -> Call {
        Call { database: Some("d".to_owned()), container: Some(container.to_owned()), operation }
    }

    fn budget(container: Option<&str>, ru_per_second: f64) -> Budget {
        Budget { database: "d".to_owned(), container: container.map(str::to_owned), ru_per_second }
    }

    #[test]
    fn a_call_is_charged_after_it_and_the_next_waits_until_that_came_back() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        budgets.set(budget(None, 10.0), now);
        let upsert = call("c", Operation::Upsert);
        assert_eq!(budgets.admit(&upsert, now), Ok(()));
        budgets.charge(&upsert, 14.0, now);
        // Four units too many were spent, and there is to be one again.
        assert_eq!(budgets.admit(&upsert, now), Err(Duration::from_millis(500)));
        assert_eq!(budgets.admit(&upsert, now + Duration::from_millis(300)), Err(Duration::from_millis(200)));
        assert_eq!(budgets.admit(&upsert, now + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn no_more_is_saved_than_one_second_gives() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        budgets.set(budget(None, 10.0), now);
        let (upsert, later) = (call("c", Operation::Upsert), now + Duration::from_secs(60));
        budgets.charge(&upsert, 10.0, later);
        assert!(budgets.admit(&upsert, later).is_err());
    }

    #[test]
    fn a_containers_budget_stands_in_for_the_databases_and_metadata_is_free() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        budgets.set(budget(None, 1.0), now);
        budgets.set(budget(Some("rich"), 100.0), now);
        for container in ["rich", "poor"] {
            budgets.charge(&call(container, Operation::Upsert), 50.0, now);
        }
        assert_eq!(budgets.admit(&call("rich", Operation::Query), now), Ok(()));
        assert!(budgets.admit(&call("poor", Operation::Query), now).is_err());
        assert_eq!(budgets.admit(&call("poor", Operation::Metadata), now), Ok(()));
        budgets.remove("d");
        assert_eq!(budgets.admit(&call("poor", Operation::Query), now), Ok(()));
    }
}
