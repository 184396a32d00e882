//! A commented configuration, from a look at a host.

use std::fmt::Write;
use std::path::PathBuf;

use fides_core::{Fault, Namespace, Table};
use secrecy::SecretString;

use crate::config::Store;
use crate::registry;

/// Looks at a host, given as a PostgreSQL url or the path of a SQLite file, and writes a configuration that copies every
/// table with a primary key, with its relations as comments to switch on.
pub async fn init(host: &str) -> Result<String, Fault> {
    let is_postgres = host.starts_with("postgres://") || host.starts_with("postgresql://");
    let store = if is_postgres {
        Store::Postgres { url: SecretString::from(host), connections: 2 }
    } else {
        Store::Sqlite { path: PathBuf::from(host) }
    };
    let connected = registry::host(&store, false).await?;
    let mut yaml = String::new();
    line(&mut yaml, "# Written by `fides init`. Check it with `fides check --connect`, preview with `fides plan`.");
    line(
        &mut yaml,
        "backplane:\n  embedded: { path: ./state.fides }   # queue, hash store and state in one file\nhosts:",
    );
    if is_postgres {
        line(&mut yaml, "  # The url with its password comes from the environment, so that it is in no file.");
        line(&mut yaml, "  host: { kind: postgres, url: \"${HOST_URL}\" }");
    } else {
        line(&mut yaml, &format!("  host: {{ kind: sqlite, path: {} }}", quoted(host)));
    }
    line(
        &mut yaml,
        "targets:\n  target: { kind: sqlite, path: ./target.sqlite }   # or kind: postgres with a url\npipelines:",
    );
    let mut pipelines = 0;
    for namespace in connected.namespaces().await? {
        if let Some(table) = connected.describe(&namespace).await? {
            pipelines += usize::from(pipeline(&mut yaml, &namespace, &table));
        }
    }
    if pipelines == 0 {
        return Err(Fault::permanent("the host has no table with a primary key that these rights can read")
            .advise("grant SELECT, or write the configuration by hand with an explicit key"));
    }
    Ok(yaml)
}

fn line(yaml: &mut String, text: &str) {
    yaml.push_str(text);
    yaml.push('\n');
}

/// A YAML scalar in double quotes; JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Pipeline ids are `[a-z][a-z0-9_-]*`.
fn id_of(namespace: &Namespace) -> String {
    let name = namespace.0.last().map_or("", String::as_str).to_lowercase();
    let id: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if id.starts_with(|c: char| c.is_ascii_lowercase()) { id } else { format!("t_{id}") }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Writes one pipeline; a table without a primary key is mentioned only. Returns whether it is a pipeline.
fn pipeline(yaml: &mut String, namespace: &Namespace, table: &Table) -> bool {
    let name = list(&namespace.0);
    if table.primary_key.is_empty() {
        line(
            yaml,
            &format!("  # {namespace} has no primary key: add it by hand with a `key` that is unique and not null."),
        );
        return false;
    }
    line(yaml, &format!("  {}:   # about {} records", quoted(&id_of(namespace)), table.records_estimate));
    for warning in &table.warnings {
        line(yaml, &format!("    # note: {warning}"));
    }
    line(yaml, "    host: host");
    line(yaml, &format!("    from: [{name}]"));
    line(yaml, &format!("    key: [{}]", list(&table.primary_key)));
    for (own, other, theirs) in &table.references {
        let on: Vec<String> =
            theirs.iter().zip(own).map(|(theirs, own)| format!("{}: {}", quoted(theirs), quoted(own))).collect();
        let include = id_of(other);
        line(
            yaml,
            &format!(
                "    # include: {{ {include}: {{ from: [{}], on: {{ {} }}, as: one }} }}   # nest the related record",
                list(&other.0),
                on.join(", ")
            ),
        );
    }
    line(yaml, "    target: target");
    line(yaml, &format!("    into: {}", quoted(&id_of(namespace))));
    line(yaml, "    create: true");
    line(yaml, "    columns: '*'   # or a mapping of target fields:");
    line(yaml, "    # mapping:");
    for column in &table.columns {
        let mut text = format!("    #   {0}: {0}", quoted(&column.name));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "   # {} as {}{}",
            column.native,
            column.kind,
            if column.nullable { ", may be NULL" } else { "" }
        );
        line(yaml, &text);
    }
    true
}
