use std::io::Write;

/// Where the suites write down what became of each case, for the table of all connectors that `tests/run` prints.
const FILE: &str = "FIDES_TEST_CONFORMANCE";

/// Writes down that a part passed a case, or cannot be asked for it and why: part, suite, case and reason, with tabs between
/// them. Does nothing where nobody wants to know.
pub fn report(part: &str, suite: &str, case: &str, cannot: Option<&str>) {
    let Some(path) = std::env::var_os(FILE) else { return };
    let line = format!("{part}\t{suite}\t{case}\t{}\n", cannot.unwrap_or_default());
    let file = std::fs::File::options().create(true).append(true).open(&path);
    // One write, so that the lines of tests that run at the same time do not mix.
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
