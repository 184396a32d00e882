//! One process at a time owns a state file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use fides_core::Fault;

/// Takes the lock beside the state file at `path`, or says by whom the file is in use. The kernel frees it when the handle is gone, also after `kill -9`.
/// The holder's process id is written into it, for the message that others get.
pub(crate) fn lock(path: &Path) -> Result<Result<File, Fault>, Fault> {
    let cannot = |error: std::io::Error| {
        let advice = match error.kind() {
            ErrorKind::StorageFull => "free some space and run it again: nothing is lost",
            _ => "the folder must exist and be writable for this user",
        };
        Fault::unavailable(format!("state file {} cannot be opened", path.display())).because(error).advise(advice)
    };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
        Err(TryLockError::WouldBlock) => return Ok(Err(in_use(path, &lock_path))),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(cannot)?;
    Ok(Ok(file))
}

fn in_use(path: &Path, lock_path: &Path) -> Fault {
    let holder = std::fs::read_to_string(lock_path).unwrap_or_default();
    let holder = match holder.trim() {
        "" => String::from("another process"),
        pid => format!("process {pid}"),
    };
    Fault::unavailable(format!("state file {} is in use by {holder}", path.display()))
        .advise("one process at a time may own it: stop the other one, or name another path")
}
