//! Follows the logs and events of hosts. One of the services of the distributed mode; any number of them share the work.

use std::process::ExitCode;

use fides_runtime::Role;
use fides_runtime::service::{self, Service};

fn main() -> ExitCode {
    service::run(Service {
        name: "event-handler",
        about: "Follows the logs and events of hosts.",
        roles: &[Role::EventHandler],
    })
}
