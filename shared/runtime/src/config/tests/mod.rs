//! Tests of the configuration through its public functions.

mod accepted;
mod cosmos;
mod crossing;
mod mistakes;
mod overrides;
mod schema;
mod secrets;
mod torn;

use std::path::Path;

use super::{Config, ConfigErrors, Environment, parse};

const EXAMPLE: &str = include_str!("../example.yaml");

const STORES: &str = "\
hosts:
  shop: { kind: sqlite, path: shop.sqlite }
  old: { kind: postgres, url: 'postgres://reader@db/shop' }
targets:
  search: { kind: sqlite, path: search.sqlite }
  copy: { kind: postgres, url: 'postgres://writer:hunter2@DB:5432/shop' }
";

/// A pipeline without mistakes, as lines below `pipelines`.
const ORDERS: &str = "  orders: { host: shop, from: orders, target: search, into: orders, columns: '*' }\n";

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    parse(text, Path::new("/etc/fides/fides.yaml"), &variables.iter().copied().collect::<Environment>())
}

fn accepted(text: &str) -> Config {
    read(text, &[]).unwrap_or_else(|errors| panic!("refused:\n{errors}\n{text}"))
}

fn refused_with(text: &str, variables: &[(&str, &str)]) -> String {
    match read(text, variables) {
        Ok(config) => panic!("accepted: {config:?}\n{text}"),
        Err(errors) => errors.to_string().replace("/etc/fides/", ""),
    }
}

fn refused(text: &str) -> String {
    refused_with(text, &[])
}

/// What is said about one pipeline, without the paths' common beginning and the lines of the stores.
fn refused_pipeline(keys: &str) -> String {
    refused(&pipeline(keys))
}

/// A file with one pipeline, whose keys begin in line 9, column 5. Those that are not given are filled in at the end.
fn pipeline(keys: &str) -> String {
    let mut text = format!("{STORES}pipelines:\n  p:\n");
    for line in keys.lines() {
        text.extend(["    ", line, "\n"]);
    }
    for (key, line) in
        [("host", "host: shop"), ("from", "from: orders"), ("target", "target: search"), ("into", "into: flat")]
    {
        if !keys.lines().any(|given| given.starts_with(&format!("{key}:"))) {
            text.extend(["    ", line, "\n"]);
        }
    }
    if !keys.lines().any(|given| given.starts_with("columns:") || given.starts_with("mapping:")) {
        text += "    columns: '*'\n";
    }
    text
}
