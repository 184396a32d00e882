//! Consumes lanes and writes targets. One of the services of the distributed mode; any number of them share the work.

use std::process::ExitCode;

use fides_runtime::Role;
use fides_runtime::service::{self, Service};

fn main() -> ExitCode {
    service::run(Service {
        name: "publishing-consumer",
        about: "Consumes lanes and writes targets.",
        roles: &[Role::PublishingConsumer],
    })
}
