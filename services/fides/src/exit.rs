//! What the exit status says. `--help` prints this table; scripts rely on it.

use std::process::ExitCode;

use fides_core::FaultKind;

/// The exit status of the command, in the terms of `sysexits.h` where those fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Ok = 0,
    /// `verify` found differences (with `--repair`: and could not mend all of them), or the demo's numbers are not the expected ones.
    Different = 1,
    /// Everything was done, and some records are dead letters.
    DeadLetters = 2,
    /// A command was refused, or ended without being carried out.
    Refused = 3,
    /// The command line or the configuration is wrong, or does not fit the stores.
    Usage = 64,
    /// Data that will never work as it is.
    BadData = 65,
    /// A host, a target or the state file cannot be reached.
    Unavailable = 69,
    /// A fault of Fides itself.
    Internal = 70,
    /// It may work when it is tried again.
    Temporary = 75,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

/// For `--help`.
pub const TABLE: &str = "\
Exit status:
    0  done
    1  verify found differences; with --repair: could not mend all of them
    2  done, and some records are dead letters
    3  a command was refused
   64  the command line or the configuration is wrong
   65  data that will never work as it is
   69  a host, a target or the state file cannot be reached
   70  an internal error
   75  a passing fault: try again
  130  stopped by Ctrl-C
  143  stopped by SIGTERM";

impl Exit {
    /// The exit status for a fault that ended a command.
    pub fn of(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Permanent => Exit::BadData,
            FaultKind::Unavailable => Exit::Unavailable,
            FaultKind::Transient | FaultKind::Throttled { .. } | FaultKind::Deferred => Exit::Temporary,
        }
    }

    /// The exit status of a pipeline that could not be started.
    pub fn of_start(code: u8) -> Self {
        if code == Exit::Unavailable as u8 { Exit::Unavailable } else { Exit::Usage }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_whether_to_mend_to_wait_or_to_try_again() {
        assert_eq!(Exit::of(FaultKind::Permanent), Exit::BadData);
        assert_eq!(Exit::of(FaultKind::Unavailable), Exit::Unavailable);
        assert_eq!(Exit::of(FaultKind::Throttled { after: std::time::Duration::ZERO }), Exit::Temporary);
        assert_eq!(Exit::of_start(69), Exit::Unavailable);
        assert_eq!(Exit::of_start(64), Exit::Usage);
    }

    #[test]
    fn help_names_every_status() {
        for exit in [
            Exit::Ok,
            Exit::Different,
            Exit::DeadLetters,
            Exit::Refused,
            Exit::Usage,
            Exit::BadData,
            Exit::Unavailable,
            Exit::Internal,
            Exit::Temporary,
            Exit::Interrupted,
            Exit::Terminated,
        ] {
            let line = format!("{:>5}  ", exit as u8);
            assert!(TABLE.lines().any(|found| found.starts_with(&line)), "{exit:?}");
        }
    }
}
