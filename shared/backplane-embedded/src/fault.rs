use std::path::Path;

use fides_core::Fault;

/// The one mapping of SQLite's errors to fault kinds (L9). Nothing here is ever the fault of a record.
pub(crate) fn fault(path: &Path, error: sqlx::Error) -> Fault {
    let file = path.display();
    let primary = match &error {
        sqlx::Error::Database(database) => {
            database.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff)
        }
        _ => None,
    };
    match primary {
        Some(5 | 6) => Fault::transient(format!("state file {file} is busy")),
        Some(13) => Fault::unavailable(format!("the disk that holds state file {file} is full"))
            .advise("free some space and run it again: nothing is lost"),
        Some(10) => Fault::unavailable(format!("state file {file} cannot be read or written"))
            .advise("look for a full or failing disk, then run it again: nothing is lost"),
        Some(8 | 14 | 23) => Fault::unavailable(format!("state file {file} cannot be opened"))
            .advise("the folder must exist and be writable for this user"),
        Some(26) => Fault::permanent(format!("{file} is not a state file"))
            .advise("name another path in backplane.embedded.path"),
        Some(11) => Fault::permanent(format!("state file {file} is damaged"))
            .advise("restore it from a backup, or remove it: the next sync compares everything again"),
        _ => match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
                Fault::unavailable(format!("state file {file} does not answer"))
            }
            _ => Fault::permanent(format!("state file {file} refused a statement")),
        },
    }
    .because(error)
}
