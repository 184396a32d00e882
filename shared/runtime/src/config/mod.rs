//! The configuration: one YAML file, read and checked as a whole before anything connects.
//!
//! Text becomes a tree of nodes that know their places (`yaml`); variables named `FIDES__…` are put over it
//! (`environment`); then forms (`form`, `fields`) read the tree into the `model`, and `validate` compares its parts.
//! Every mistake is collected with its place, so that one run shows them all. The forms also describe themselves as
//! JSON Schema.
//!
//! ```yaml
#![doc = include_str!("example.yaml")]
//! ```

mod backplane;
mod body;
mod collection;
mod cosmos;
mod dashboard;
mod delete;
mod environment;
mod errors;
mod events;
mod fields;
mod file;
mod form;
mod limits;
mod mapping;
mod model;
mod node;
mod pipeline;
mod places;
mod relation;
mod scalar;
mod schema;
mod secrets;
mod store;
mod telemetry;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

use std::path::Path;

pub use environment::Environment;
pub use errors::{ConfigError, ConfigErrors, EXIT_CODE, Place, Spot};
pub use model::{
    Amqp, Arity, Backplane, Columns, Config, Cosmos, CosmosContainer, Dashboard, Delete, EventQueue, Events, Fields,
    Foreign, Hinted, Intake, Kind, LagAction, Limits, Literal, Log, LogFormat, Namespace, Otlp, Pipeline, Redis,
    Relation, Schedule, Sender, Service, Source, Store, Telemetry, Webhook,
};
pub use places::Places;
pub use schema::json_schema;

use form::{Form, Reading};

/// Reads and checks the configuration in a file, with the environment of this process.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let spot = Spot { place: Place::File(path.to_owned()), path: String::new() };
        let found = format!("a file that cannot be read ({error})");
        ConfigError { spot, found, expected: "a configuration in YAML".into(), nearest: None }
    })?;
    parse(&text, path, &Environment::of_process())
}

/// Reads and checks a configuration. `origin` names the file in errors, and its folder is where relative paths begin.
/// Of the file system it reads only the files that hold secrets, and where paths lead; it connects to nothing.
pub fn parse(text: &str, origin: &Path, environment: &Environment) -> Result<Config, ConfigErrors> {
    let place = |at: Option<(usize, usize)>| match at {
        Some((line, column)) => Place::Line { file: origin.to_owned(), line, column },
        None => Place::File(origin.to_owned()),
    };
    let mut errors = Vec::new();
    let Some(mut root) = yaml::parse(text, "", &place, &mut errors) else { return Err(ConfigErrors::new(errors)) };
    environment.override_tree(&mut root, &mut errors);

    let folder = origin.parent().unwrap_or(Path::new(""));
    let mut reading = Reading { folder, environment, errors };
    let config = fields::section::<Config>().read(&mut reading, &root);
    match config {
        Some(config) if reading.errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(reading.errors)),
    }
}
