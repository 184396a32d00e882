//! Deletes by schedule what is proven absent. One of the services of the distributed mode; any number of them share the work.

use std::process::ExitCode;

use fides_runtime::Role;
use fides_runtime::service::{self, Service};

fn main() -> ExitCode {
    service::run(Service {
        name: "cleanup-scheduler",
        about: "Deletes by schedule what is proven absent.",
        roles: &[Role::CleanupScheduler],
    })
}
