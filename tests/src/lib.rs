//! Tests of the whole: real services as processes, real stores.

use std::path::PathBuf;

/// The folder of the programs under test, where they were not built beside the test: a release under tests without one.
const FOLDER: &str = "FIDES_TEST_PROGRAMS";

/// A program under test.
///
/// # Panics
///
/// When it was not built.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os(FOLDER).map_or_else(
        || std::env::current_exe().expect("a test is a file").ancestors().nth(2).expect("of a target").to_owned(),
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: build it with cargo build -p {name}, or say where it is in {FOLDER}",
        path.display()
    );
    path
}

/// Whether the programs are a release: tables can be large then.
pub fn released() -> bool {
    std::env::var_os(FOLDER).is_some() || !cfg!(debug_assertions)
}
