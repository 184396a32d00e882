//! Prepared transactions: their rows are in the log when they are prepared, and visible when they are committed. The commit
//! names the transaction, and none of its rows.

use std::collections::HashSet;
use std::fmt::Write;

use super::event::Bytes;

/// As many are remembered.
const FOREIGN_MAX: usize = 10_000;

/// The prepared transactions that touched no table of ours. Any other may have: also one from before the log was opened.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    foreign: HashSet<String>,
}

impl Prepared {
    /// Learns of one. `None` when the event makes no sense.
    pub(super) fn learn(&mut self, body: &[u8], is_ours: bool) -> Option<()> {
        let name = name(body)?;
        if is_ours || self.foreign.len() >= FOREIGN_MAX {
            self.foreign.remove(&name);
        } else {
            self.foreign.insert(name);
        }
        Some(())
    }

    /// Whether the commit of this statement may have made rows of ours visible.
    pub(super) fn may_be_ours(&mut self, statement: &str) -> bool {
        let named = statement.split_whitespace().nth(2).unwrap_or_default().to_ascii_lowercase();
        !self.foreign.remove(&named)
    }
}

/// The name of a transaction as the server writes it into statements, in small letters.
fn name(body: &[u8]) -> Option<String> {
    let mut body = Bytes(body);
    body.take(1)?;
    let format = body.number(4)?;
    let (global, branch) = (body.length(4)?, body.length(4)?);
    let mut name = String::new();
    for part in [body.take(global)?, body.take(branch)?] {
        name.push_str("x'");
        for byte in part {
            write!(name, "{byte:02x}").ok()?;
        }
        name.push_str("',");
    }
    write!(name, "{format}").ok()?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_foreign_is_passed_over() {
        let event = |name: &[u8]| [&[0, 1, 0, 0, 0, name.len() as u8, 0, 0, 0, 1, 0, 0, 0], name, b"b"].concat();
        let mut prepared = Prepared::default();
        prepared.learn(&event(b"\xABc"), false).unwrap();
        prepared.learn(&event(b"ours"), true).unwrap();
        assert!(!prepared.may_be_ours("XA COMMIT X'ab63',X'62',1"));
        assert!(prepared.may_be_ours("XA COMMIT X'ab63',X'62',1"), "it was committed already");
        assert!(prepared.may_be_ours("XA COMMIT X'6f757273',X'62',1"));
        assert!(prepared.may_be_ours("XA COMMIT"));
        assert!(prepared.learn(&[0, 1, 0], false).is_none());
    }
}
