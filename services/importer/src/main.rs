//! Reads hosts by schedule and publishes what changed. One of the services of the distributed mode; any number of them share the work.

use std::process::ExitCode;

use fides_runtime::Role;
use fides_runtime::service::{self, Service};

fn main() -> ExitCode {
    service::run(Service {
        name: "importer",
        about: "Reads hosts by schedule and publishes what changed.",
        roles: &[Role::Importer],
    })
}
