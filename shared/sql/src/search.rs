//! The search for rows that a target refuses: a transaction that one of its rows has ended is tried again by halves, so that
//! only that row fails.

use std::ops::Range;
use std::time::Duration;

use fides_core::port::Outcome;
use fides_core::{Fault, Namespace};
use tokio::time::Instant;

/// What became of a transaction.
#[derive(Debug)]
pub enum Written {
    /// Durable; these changes were older than what the target holds, by their positions.
    Done(Vec<usize>),
    /// Rolled back, for certain, because of one of its rows.
    Data(Fault),
    /// Rolled back, for certain, for a reason that no row is to blame for.
    Refused(Fault),
    /// Rolled back: the table is not what it was taken for.
    Changed(Fault),
    /// Nobody knows.
    Unknown(Fault),
}

/// A write of rows in transactions: which come next, and what became of each row.
#[derive(Debug)]
pub struct Search {
    table: Namespace,
    /// When no more rows are searched for.
    end: Instant,
    /// The position of each row's change.
    rows: Vec<usize>,
    /// Ranges of rows that are still to be written; the next one is the last.
    open: Vec<Range<usize>>,
    /// One per change.
    outcomes: Vec<Option<Outcome>>,
    /// Why nothing further is tried.
    stop: Option<Fault>,
    is_changed: bool,
}

impl Search {
    /// Begins a write to `table` of `rows`, which are positions of their changes, in transactions of at most `rows_max`. A
    /// change without a row has its outcome already. `time_max` bounds the search.
    pub fn new(
        table: &Namespace,
        rows: Vec<usize>,
        outcomes: Vec<Option<Outcome>>,
        rows_max: usize,
        time_max: Duration,
    ) -> Self {
        let starts = (0..rows.len()).step_by(rows_max);
        let open = starts.map(|start| start..(start + rows_max).min(rows.len())).rev().collect();
        let (table, end) = (table.clone(), Instant::now() + time_max);
        Self { table, end, rows, open, outcomes, stop: None, is_changed: false }
    }

    /// The rows of the next transaction; `None` when nothing is left to be written, or to be tried.
    pub fn next_rows(&mut self) -> Option<Range<usize>> {
        if let Some(fault) = self.stop.clone() {
            while let Some(range) = self.open.pop() {
                self.settle(range, &Outcome::Failed(fault.clone()));
            }
        }
        self.open.pop()
    }

    /// Takes what became of the transaction of `range`.
    pub fn written(&mut self, range: Range<usize>, written: Written) {
        match written {
            Written::Done(stale) => {
                self.settle(range, &Outcome::Applied);
                for at in stale {
                    self.outcomes[at] = Some(Outcome::Stale);
                }
            }
            Written::Data(fault) if range.len() == 1 => self.settle(range, &Outcome::Failed(fault)),
            Written::Data(_) => {
                let middle = range.start + range.len() / 2;
                self.open.extend([middle..range.end, range.start..middle]);
                if Instant::now() >= self.end {
                    self.stop = Some(Fault::transient(format!(
                        "writing table {}: the time for one write ended while refused records were searched for",
                        self.table
                    )));
                }
            }
            // Nothing further is tried on a target that is not well: the guard decides when.
            Written::Refused(fault) => self.give_up(range, &Outcome::Failed(fault.clone()), fault),
            Written::Changed(fault) => {
                self.is_changed = true;
                self.give_up(range, &Outcome::Failed(fault.clone()), fault);
            }
            Written::Unknown(fault) => self.give_up(range, &Outcome::Unknown(fault.clone()), fault),
        }
    }

    /// One outcome per change, and whether the table is no longer what it was taken for.
    pub fn end(self) -> (Vec<Outcome>, bool) {
        let missed = || Outcome::Unknown(Fault::transient("a change was left without an outcome"));
        (self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missed)).collect(), self.is_changed)
    }

    fn give_up(&mut self, range: Range<usize>, outcome: &Outcome, fault: Fault) {
        self.settle(range, outcome);
        self.stop = Some(fault);
    }

    fn settle(&mut self, range: Range<usize>, outcome: &Outcome) {
        for row in &self.rows[range] {
            self.outcomes[*row] = Some(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes ten changes, of which the last has no row, in transactions of at most four: what became of each, in letters,
    /// and of how many rows the transactions were.
    fn written(time_max: Duration, target: impl Fn(&Range<usize>) -> Written) -> (String, Vec<usize>, bool) {
        let mut outcomes = vec![None; 10];
        outcomes[9] = Some(Outcome::Failed(Fault::permanent("no row can hold it")));
        // In the order of their keys, say.
        let rows = vec![8, 7, 6, 5, 4, 3, 2, 1, 0];
        let mut search = Search::new(&Namespace(vec!["t".into()]), rows, outcomes, 4, time_max);
        let mut sizes = Vec::new();
        while let Some(range) = search.next_rows() {
            sizes.push(range.len());
            let found = target(&range);
            search.written(range, found);
        }
        let (outcomes, is_changed) = search.end();
        let letter = |outcome: &Outcome| match outcome {
            Outcome::Applied => 'a',
            Outcome::Stale => 's',
            Outcome::Unknown(_) => 'u',
            Outcome::Failed(_) => 'f',
        };
        (outcomes.iter().map(letter).collect(), sizes, is_changed)
    }

    const LONG: Duration = Duration::from_mins(1);

    fn fault() -> Fault {
        Fault::transient("a test")
    }

    #[test]
    fn only_the_refused_row_fails() {
        let target = |range: &Range<usize>| {
            if range.contains(&5) {
                return Written::Data(fault());
            }
            Written::Done(if range.contains(&0) { vec![7] } else { Vec::new() })
        };
        assert_eq!(written(LONG, target), ("aaafaaasaf".to_owned(), vec![4, 4, 2, 1, 1, 2, 1], false));
        // The time has ended when the first row is met.
        assert_eq!(written(Duration::ZERO, target), ("fffffaasaf".to_owned(), vec![4, 4], false));
    }

    #[test]
    fn nothing_further_is_tried_on_a_target_that_is_not_well() {
        for (what, outcome, changed) in [
            (Written::Refused as fn(Fault) -> Written, 'f', false),
            (Written::Changed, 'f', true),
            (Written::Unknown, 'u', false),
        ] {
            let target =
                |range: &Range<usize>| if range.contains(&4) { what(fault()) } else { Written::Done(Vec::new()) };
            let told = format!("f{}aaaaf", outcome.to_string().repeat(4));
            assert_eq!(written(LONG, target), (told, vec![4, 4], changed));
        }
    }
}
