//! A commented configuration, from a look at a host.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use fides_core::{Fault, Namespace, Table};
use secrecy::SecretString;

use crate::config::Store;
use crate::registry;

/// Longest id of a pipeline.
const ID_BYTES_MAX: usize = 63;

/// The store that a text on a command line names: a PostgreSQL or MySQL url, or else the path of a SQLite file. Another
/// url is refused with a Permanent fault that does not repeat it, because of the password that it may hold.
pub fn named_host(text: &str) -> Result<Store, Fault> {
    let Some((scheme, _)) = text.split_once("://") else { return Ok(Store::Sqlite { path: PathBuf::from(text) }) };
    if ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Ok(Store::Postgres { url: SecretString::from(text), connections: 2 });
    }
    if ["mysql", "mariadb"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Ok(Store::MySql { url: SecretString::from(text), connections: 2 });
    }
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    let scheme = if is_scheme { scheme } else { "…" };
    Err(Fault::permanent(format!("there is no kind of host for a url that begins with {scheme}://"))
        .advise("name a postgres:// or mysql:// url, or the path of a SQLite file"))
}

/// Looks at a host and writes a configuration that copies every table with a primary key, with its relations as comments
/// to switch on. `folder` is where the configuration will be: its paths begin there.
pub async fn init(host: &Store, folder: &Path) -> Result<String, Fault> {
    let connected = registry::host(host, false).await?;
    let mut tables = Vec::new();
    for namespace in connected.namespaces().await? {
        if let Some(table) = connected.describe(&namespace).await? {
            tracing::debug!(%namespace, columns = table.columns.len(), "described");
            tables.push((namespace, table));
        }
    }
    if tables.iter().all(|(_, table)| table.primary_key.is_empty()) {
        return Err(Fault::permanent("the host has no table with a primary key that these rights can read")
            .advise("grant SELECT, or write the configuration by hand with an explicit key"));
    }
    let mut yaml = Yaml::default();
    yaml.line("# Written by `fides init`. Check it with `fides check --connect`, preview with `fides plan`.");
    yaml.line("backplane:\n  embedded: { path: ./state.fides }   # queue, hash store and state in one file\nhosts:");
    let warnings: BTreeSet<&String> = tables.iter().flat_map(|(_, table)| &table.store_warnings).collect();
    for warning in warnings {
        yaml.line(&format!("  # note: {}", shown(warning)));
    }
    match host {
        Store::Postgres { .. } | Store::MySql { .. } => {
            let kind = if matches!(host, Store::MySql { .. }) { "mysql" } else { "postgres" };
            yaml.line("  # The url with its password comes from the environment, so that it is in no file.");
            yaml.line(&format!("  host: {{ kind: {kind}, url: \"${{HOST_URL}}\" }}"));
        }
        // Named by the configuration only: an account has more to it than a url.
        Store::Cosmos(_) => {}
        Store::Sqlite { path } => {
            let path = seen_from(folder, path);
            yaml.line("  # To follow its changes: `events: log` in its pipelines, and `fides init --events` once.");
            yaml.line(&format!("  host: {{ kind: sqlite, path: {} }}", quoted(&path.to_string_lossy())));
        }
    }
    yaml.line(
        "targets:\n  target: { kind: sqlite, path: ./target.sqlite }   # or kind: postgres, mysql with a url\npipelines:",
    );
    let mut ids = BTreeSet::new();
    for (namespace, table) in &tables {
        yaml.pipeline(namespace, table, &tables, &mut ids);
    }
    Ok(yaml.0)
}

#[derive(Default)]
struct Yaml(String);

impl Yaml {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// Writes one pipeline; a table without a primary key is mentioned only.
    fn pipeline(
        &mut self,
        namespace: &Namespace,
        table: &Table,
        tables: &[(Namespace, Table)],
        ids: &mut BTreeSet<String>,
    ) {
        if table.primary_key.is_empty() {
            let name = shown(&namespace.to_string());
            let advice = "add it by hand with a `key` that is unique and not null.";
            return self.line(&format!("  # {name} has no primary key: {advice}"));
        }
        let id = unique(&[id_of(namespace.0.last()), id_of(&namespace.0)], ids);
        // A store that cannot count says nothing.
        let about = Some(table.records_estimate).filter(|&count| count > 0);
        let about = about.map_or(String::new(), |count| format!("   # about {count} records"));
        self.line(&format!("  {id}:{about}"));
        for warning in &table.warnings {
            self.line(&format!("    # note: {}", shown(warning)));
        }
        self.line("    host: host");
        self.line(&format!("    from: [{}]", list(&namespace.0)));
        self.line(&format!("    key: [{}]", list(&table.primary_key)));
        self.includes(table, tables);
        self.line("    target: target");
        self.line(&format!("    into: {id}"));
        self.line("    create: true");
        self.line("    columns: '*'   # or a mapping of target fields:");
        self.line("    # mapping:");
        for column in &table.columns {
            let mut text = format!("    #   {}: {}", key(&column.name), quoted(&column.name));
            // Writing to a String cannot fail.
            let _ = write!(text, "   # {} as {}", shown(&column.native), column.kind);
            self.line(&(text + if column.nullable { ", may be NULL" } else { "" }));
        }
    }

    /// The records that a table refers to, under names that are no columns.
    fn includes(&mut self, table: &Table, tables: &[(Namespace, Table)]) {
        let mut taken: BTreeSet<String> = table.columns.iter().map(|column| column.name.to_lowercase()).collect();
        let mut is_first = true;
        for (own, other, theirs) in &table.references {
            let Some((namespace, on)) = joined(table, own, other, theirs, tables) else { continue };
            if std::mem::take(&mut is_first) {
                self.line("    # include:   # related records, nested into each document");
            }
            let by = other.0.last().into_iter().chain(own);
            let name = unique(&[id_of(other.0.last()), id_of(by)], &mut taken);
            let pairs = on.iter().map(|(theirs, own)| format!("{}: {}", key(theirs), quoted(own)));
            let (from, on) = (list(&namespace.0), pairs.collect::<Vec<_>>().join(", "));
            self.line(&format!("    #   {name}: {{ from: [{from}], on: {{ {on} }}, as: one }}"));
        }
    }
}

/// The related table as the host lists it, and the columns that join it: theirs, and the table's own. A store may spell
/// names in a foreign key in another way than in the table, or refer to what is not there.
fn joined<'a>(
    table: &'a Table,
    own: &[String],
    other: &Namespace,
    theirs: &[String],
    tables: &'a [(Namespace, Table)],
) -> Option<(&'a Namespace, Vec<(&'a String, &'a String)>)> {
    let is_other = |name: &Namespace| name.0.len() == other.0.len() && name.0.iter().zip(&other.0).all(same);
    let exact = tables.iter().find(|(name, _)| name == other);
    let (namespace, related) = exact.or_else(|| tables.iter().find(|(name, _)| is_other(name)))?;
    let pairs = theirs.iter().zip(own).map(|(theirs, own)| Some((column(related, theirs)?, column(table, own)?)));
    Some((namespace, pairs.collect::<Option<_>>()?))
}

fn column<'a>(table: &'a Table, name: &String) -> Option<&'a String> {
    let exact = table.columns.iter().find(|column| column.name == *name);
    Some(&exact.or_else(|| table.columns.iter().find(|column| same((&column.name, name))))?.name)
}

fn same((one, other): (&String, &String)) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The path of a file as it is written in a configuration in `folder`. Both are looked up, since `..` leaves the folder that
/// a link leads to; where that fails the path begins at the root.
fn seen_from(folder: &Path, file: &Path) -> PathBuf {
    if file.is_absolute() {
        return file.to_owned();
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (Ok(folder), Ok(whole)) = (folder.canonicalize(), file.canonicalize()) else {
        return std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    };
    let (mut from, mut to) = (folder.components().peekable(), whole.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to).collect();
    if path.starts_with("..") { path } else { Path::new(".").join(path) }
}

/// A YAML scalar in double quotes; JSON's escapes are YAML's.
fn key(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The same for a value, where `${` would begin a variable.
fn quoted(text: &str) -> String {
    key(&text.replace("${", "$${"))
}

/// Foreign text in a comment: it must not end the line.
fn shown(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Names as an id, `[a-z][a-z0-9_-]*`, that every store takes for a table, too.
fn id_of<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let name = names.into_iter().map(|name| name.to_lowercase()).collect::<Vec<_>>().join("_");
    let id: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let is_free = id.starts_with(|c: char| c.is_ascii_lowercase()) && !id.starts_with("sqlite_");
    if is_free { id } else { format!("t_{id}") }
}

/// The first of the names that is not taken, cut to the length of an id; else the last with a number.
fn unique<const N: usize>(names: &[String; N], taken: &mut BTreeSet<String>) -> String {
    // All of them are ASCII, so that every byte is a boundary.
    let cut = |name: &str, room: usize| name[..name.len().min(ID_BYTES_MAX - room)].to_owned();
    let numbered = |number: usize| {
        let suffix = format!("_{number}");
        names.last().map(|name| cut(name, suffix.len()) + &suffix)
    };
    let all = names.iter().map(|name| cut(name, 0)).chain((2..).map_while(numbered));
    let mut free = all.filter(|name| !taken.contains(name));
    let name = free.next().unwrap_or_default();
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_unique() {
        let mut taken = BTreeSet::new();
        let mut of =
            |name: &str| unique(&[id_of([&name.to_owned()]), id_of([&"s".to_owned(), &name.to_owned()])], &mut taken);
        assert_eq!([of("a b"), of("a_b"), of("A B"), of("a.b")], ["a_b", "s_a_b", "s_a_b_2", "s_a_b_3"]);
        let long = "ä".repeat(70) + &"x".repeat(70);
        let ids = [of(&long), of(&long), of(&long)];
        assert!(ids.iter().all(|id| id.len() == ID_BYTES_MAX), "{ids:?}");
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        assert_eq!([of("1st"), of("sqlite_x")], ["t_1st", "t_sqlite_x"]);
    }

    #[test]
    fn only_known_urls_name_a_host_and_none_is_repeated() {
        assert!(matches!(named_host("postgres://u:p@h/db"), Ok(Store::Postgres { .. })));
        assert!(matches!(named_host("PostgreSQL://u:p@h/db"), Ok(Store::Postgres { .. })));
        assert!(matches!(named_host("shop.sqlite"), Ok(Store::Sqlite { .. })));
        for (url, scheme) in [("mssql://u:hunter2@h/db", "mssql://"), ("u:hunter2@h://db", "…://")] {
            let said = named_host(url).unwrap_err().to_string();
            assert!(said.contains(scheme) && !said.contains("hunter2"), "{said}");
        }
    }
}
