//! Rules that make calls fail: which, how often, and how.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::call::{Call, Operation};

/// Where a call's connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Drop {
    /// Before the call takes place.
    Before,
    /// After it took place: its outcome is there, and nobody is told.
    After,
}

/// Which calls fail, and how. Without `status` and `drop` they are late, and well.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Of which database.
    pub database: String,
    /// Of which container; without it, of all.
    pub container: Option<String>,
    /// Which operations; without it, all on documents.
    pub operations: Option<Vec<Operation>>,
    /// The status to answer with, 400 to 599; the call does not take place.
    pub status: Option<u16>,
    /// Beside `status`: `x-ms-substatus`.
    pub substatus: Option<u32>,
    /// Beside `status`: `x-ms-retry-after-ms`.
    pub retry_after_ms: Option<u64>,
    /// Beside `status`: the call takes place all the same.
    #[serde(default)]
    pub executed: bool,
    /// How long the call waits before it takes place (and it does, even if its client is gone by then).
    pub delay_ms: Option<u64>,
    /// Cuts the connection without an answer.
    pub drop: Option<Drop>,
    /// Fires at every n-th call that matches: 1 is each, 2 is the second, fourth, …
    #[serde(default = "one")]
    pub every: u64,
    /// Fires so many times and no more.
    pub times: Option<u64>,
    /// Lets so many matching calls pass first.
    #[serde(default)]
    pub after: u64,
}

fn one() -> u64 {
    1
}

impl Rule {
    /// The error says what is wrong with the rule.
    pub fn check(&self) -> Result<(), String> {
        let wrong = if self.status.is_some_and(|status| !(400..600).contains(&status)) {
            "status must be from 400 to 599"
        } else if self.status.is_some() && self.drop.is_some() {
            "status and drop exclude each other"
        } else if self.status.is_none() && self.drop.is_none() && self.delay_ms.is_none() {
            "one of status, drop and delay_ms is missing"
        } else if self.status.is_none() && (self.substatus.is_some() || self.retry_after_ms.is_some() || self.executed)
        {
            "substatus, retry_after_ms and executed belong to a status"
        } else if self.every == 0 {
            "every must be 1 or more"
        } else {
            return Ok(());
        };
        Err(wrong.to_owned())
    }

    fn matches(&self, call: &Call) -> bool {
        call.database.as_ref() == Some(&self.database)
            && self.container.as_ref().is_none_or(|container| call.container.as_ref() == Some(container))
            && match &self.operations {
                Some(operations) => operations.contains(&call.operation),
                None => call.operation.is_on_documents(),
            }
    }
}

/// A rule, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// Its number, in the order in which rules were added.
    pub id: u64,
    /// Calls that it would apply to.
    pub matched: u64,
    /// Those of them that it made fail.
    pub fired: u64,
    /// The rule.
    pub rule: Rule,
}

impl Counted {
    /// Counts a call, and says whether it is one's turn to fail.
    fn is_due(&mut self) -> bool {
        self.matched += 1;
        self.matched > self.rule.after
            && (self.matched - self.rule.after).is_multiple_of(self.rule.every)
            && self.rule.times.is_none_or(|times| self.fired < times)
    }
}

/// All rules of the server.
#[derive(Default)]
pub struct Faults(Mutex<(u64, Vec<Counted>)>);

impl Faults {
    /// Adds rules behind those that are there, and returns their numbers.
    pub fn add(&self, rules: Vec<Rule>) -> Vec<u64> {
        let mut guard = self.lock();
        let (last, counted) = &mut *guard;
        let first = *last + 1;
        for rule in rules {
            *last += 1;
            counted.push(Counted { id: *last, matched: 0, fired: 0, rule });
        }
        (first..=*last).collect()
    }

    /// Removes the rules of a database.
    pub fn remove(&self, database: &str) {
        self.lock().1.retain(|counted| counted.rule.database != database);
    }

    /// The rules of a database.
    pub fn of(&self, database: &str) -> Vec<Counted> {
        self.lock().1.iter().filter(|counted| counted.rule.database == database).cloned().collect()
    }

    /// The rule that a call falls to: the first that is due. The others count it as matched.
    pub fn fire(&self, call: &Call) -> Option<Rule> {
        let mut fired = None;
        for counted in self.lock().1.iter_mut().filter(|counted| counted.rule.matches(call)) {
            if counted.is_due() && fired.is_none() {
                counted.fired += 1;
                fired = Some(counted.rule.clone());
            }
        }
        fired
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Vec<Counted>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        let rule: Rule = serde_json::from_str(json).unwrap();
        rule.check().unwrap();
        rule
    }

    fn call(database: &str, container: &str, operation: Operation) -> Call {
        Call { database: Some(database.to_owned()), container: Some(container.to_owned()), operation }
    }

    /// Which of nine upserts a rule makes fail.
    fn failing(json: &str) -> Vec<usize> {
        let faults = Faults::default();
        faults.add(vec![rule(json)]);
        (1..=9).filter(|_| faults.fire(&call("d", "c", Operation::Upsert)).is_some()).collect()
    }

    #[test]
    fn every_after_and_times_choose_the_calls_that_fail() {
        assert_eq!(failing(r#"{"database":"d","status":429}"#), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(failing(r#"{"database":"d","status":429,"every":2}"#), [2, 4, 6, 8]);
        assert_eq!(failing(r#"{"database":"d","status":429,"every":2,"times":2}"#), [2, 4]);
        assert_eq!(failing(r#"{"database":"d","status":429,"after":4,"every":2}"#), [6, 8]);
        assert_eq!(failing(r#"{"database":"d","drop":"after","after":7}"#), [8, 9]);
    }

    #[test]
    fn a_rule_is_for_one_database_and_for_documents_unless_it_says_more() {
        let faults = Faults::default();
        faults.add(vec![
            rule(r#"{"database":"d","container":"c","status":503,"operations":["delete","metadata"]}"#),
            rule(r#"{"database":"e","drop":"before"}"#),
        ]);
        for (call, fails) in [
            (call("d", "c", Operation::Delete), true),
            (call("d", "c", Operation::Metadata), true),
            (call("d", "c", Operation::Upsert), false),
            (call("d", "other", Operation::Delete), false),
            (call("e", "c", Operation::Query), true),
            (call("e", "c", Operation::Plan), false),
            (call("f", "c", Operation::Query), false),
        ] {
            assert_eq!(faults.fire(&call).is_some(), fails, "{call:?}");
        }
        faults.remove("e");
        assert!(faults.fire(&call("e", "c", Operation::Query)).is_none());
    }

    #[test]
    fn the_first_rule_that_is_due_fires_and_the_others_count() {
        let faults = Faults::default();
        let ids = faults
            .add(vec![rule(r#"{"database":"d","status":429,"times":1}"#), rule(r#"{"database":"d","status":503}"#)]);
        assert_eq!(ids, [1, 2]);
        let upsert = call("d", "c", Operation::Upsert);
        let statuses: Vec<_> = (0..2).filter_map(|_| faults.fire(&upsert)?.status).collect();
        assert_eq!(statuses, [429, 503]);
        let counts: Vec<_> = faults.of("d").iter().map(|counted| (counted.matched, counted.fired)).collect();
        assert_eq!(counts, [(2, 1), (2, 1)]);
    }

    #[test]
    fn a_rule_that_says_nothing_or_too_much_is_refused() {
        for json in [
            r#"{"database":"d"}"#,
            r#"{"database":"d","status":200}"#,
            r#"{"database":"d","status":429,"drop":"before"}"#,
            r#"{"database":"d","delay_ms":5,"substatus":1}"#,
            r#"{"database":"d","status":429,"every":0}"#,
        ] {
            let rule: Rule = serde_json::from_str(json).unwrap();
            assert!(rule.check().is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Rule>(r#"{"database":"d","statsu":429}"#).is_err());
    }
}
