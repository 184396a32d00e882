//! Hosts and targets. The kind decides which keys a store has: one line in [`KINDS`] and one section per kind.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Cosmos, Namespace, Store};
use super::node::Node;
use super::scalar::{FilePath, Number, Word};
use super::secrets;

/// One kind of store: its name, how it is read, its schema.
type KindOfStore = (&'static str, fn(&mut Reading<'_>, &Node) -> Option<Store>, fn(&mut Definitions) -> Value);

const KINDS: &[KindOfStore] = &[
    (
        "cosmos",
        |reading, node| section::<Cosmos>().read(reading, node).map(Store::Cosmos),
        Definitions::refer::<Cosmos>,
    ),
    ("mysql", |reading, node| Some(section::<MySql>().read(reading, node)?.0), Definitions::refer::<MySql>),
    ("postgres", |reading, node| Some(section::<Postgres>().read(reading, node)?.0), Definitions::refer::<Postgres>),
    ("sqlite", |reading, node| Some(section::<Sqlite>().read(reading, node)?.0), Definitions::refer::<Sqlite>),
];

/// A store of any kind.
pub(super) struct AnyStore;

impl Form for AnyStore {
    type Value = Store;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Store> {
        let names = || KINDS.iter().map(|(name, ..)| *name);
        let expected = format!("a kind of store: {}", names().collect::<Vec<_>>().join(", "));
        if node.entries().is_none() {
            return reading.refuse(node, "a map with the key `kind`");
        }
        let Some(kind) = node.get("kind").filter(|kind| !kind.is_null()) else {
            return reading.refuse_at(&node.spot, "no key `kind`", expected);
        };
        let word = reading.text(kind, &expected)?;
        match KINDS.iter().find(|(name, ..)| *name == word) {
            Some((_, read, _)) => read(reading, node),
            None => reading.refuse_word(kind, &word, expected, names()),
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        json!({ "oneOf": KINDS.iter().map(|(_, _, schema)| schema(definitions)).collect::<Vec<_>>() })
    }
}

struct Postgres(Store);

impl Section for Postgres {
    const NAME: &'static str = "postgres";
    const ABOUT: &'static str = "a PostgreSQL database";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        fields.required("kind", "the kind of store", Word(&[("postgres", ())]));
        let schemes = &["postgres://", "postgresql://"];
        let url =
            fields.optional("url", "postgres://user:${PASSWORD}@host:5432/database?sslmode=verify-full", Url(schemes));
        let file = fields.optional("url_file", "a file that holds the url", UrlFile(schemes));
        let one = fields.exactly_one(&["url", "url_file"]);
        let connections = fields.defaulted("connections", "connections at the same time", Number(1..=256), "4");
        one?;
        Some(Self(Store::Postgres { url: url?.or(file?)?, connections: connections? }))
    }
}

struct MySql(Store);

impl Section for MySql {
    const NAME: &'static str = "mysql";
    const ABOUT: &'static str = "a MySQL or MariaDB database";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        fields.required("kind", "the kind of store", Word(&[("mysql", ())]));
        let schemes = &["mysql://", "mariadb://"];
        let url =
            fields.optional("url", "mysql://user:${PASSWORD}@host:3306/database?ssl-mode=verify_ca", Url(schemes));
        let file = fields.optional("url_file", "a file that holds the url", UrlFile(schemes));
        let one = fields.exactly_one(&["url", "url_file"]);
        let connections = fields.defaulted("connections", "connections at the same time", Number(1..=256), "4");
        one?;
        Some(Self(Store::MySql { url: url?.or(file?)?, connections: connections? }))
    }
}

struct Sqlite(Store);

impl Section for Sqlite {
    const NAME: &'static str = "sqlite";
    const ABOUT: &'static str = "a SQLite database";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        fields.required("kind", "the kind of store", Word(&[("sqlite", ())]));
        let path = fields.required("path", "the database file, relative to the folder of this file", FilePath);
        Some(Self(Store::Sqlite { path: path? }))
    }
}

/// A url of one of the schemes. No error shows any of its text.
pub(super) struct Url(pub(super) &'static [&'static str]);

impl Url {
    fn admit(&self, reading: &mut Reading<'_>, node: &Node, url: SecretString) -> Option<SecretString> {
        if self.0.iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
            return Some(url);
        }
        reading.refuse_at(&node.spot, "another text (not shown)", self.expected())
    }

    fn expected(&self) -> String {
        format!("a url that begins with {}", self.0.join(" or "))
    }
}

impl Form for Url {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        if node.scalar().is_none() {
            return reading.refuse(node, self.expected());
        }
        let url = SecretString::from(reading.text(node, &self.expected())?);
        self.admit(reading, node, url)
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The path of a file that holds a url.
pub(super) struct UrlFile(pub(super) &'static [&'static str]);

impl Form for UrlFile {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        let path = FilePath.read(reading, node)?;
        match secrets::from_file(&path) {
            Ok(url) => Url(self.0).admit(reading, node, url),
            Err(error) => {
                let found = format!("{}, which cannot be read: {error}", node.shown());
                reading.refuse_at(&node.spot, found, "a file that holds the url")
            }
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        FilePath.schema(definitions)
    }
}

/// What tells whether two stores, and two namespaces in them, are the same one. Not a secret: the user, the password
/// and the options of a url are no part of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Database { host: String, port: String, database: String, namespace: Namespace },
    File { path: PathBuf, namespace: Namespace },
}

impl Address {
    /// The address of a namespace. The default schema is spelt out, so that `orders` and `public.orders` are equal.
    pub fn of(store: &Store, namespace: &Namespace) -> Self {
        let in_schema = |schema: &str| match &namespace[..] {
            [table] => vec![schema.to_owned(), table.clone()],
            several => several.to_vec(),
        };
        match store {
            Store::Cosmos(cosmos) => {
                let (host, port, _) = endpoint(&cosmos.endpoint, "443");
                // A namespace may name its database itself.
                Self::Database { host, port, database: String::new(), namespace: in_schema(&cosmos.database) }
            }
            Store::Postgres { url, .. } => {
                let (host, port, database) = endpoint(url.expose_secret(), "5432");
                Self::Database { host, port, database, namespace: in_schema("public") }
            }
            Store::MySql { url, .. } => {
                // A database is what others call a schema: the one of the url only completes a name.
                let (host, port, database) = endpoint(url.expose_secret(), "3306");
                Self::Database { host, port, database: String::new(), namespace: in_schema(&database) }
            }
            Store::Sqlite { path } => Self::File { path: real(path), namespace: in_schema("main") },
        }
    }
}

fn endpoint(url: &str, default_port: &str) -> (String, String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, database) = rest.rsplit_once('/').unwrap_or((rest, ""));
    let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (server, default_port),
    };
    let user = user.split(':').next().unwrap_or_default();
    let database = if database.is_empty() { user } else { database }; // as libpq does
    (host.to_ascii_lowercase(), port.to_owned(), database.to_owned())
}

/// The file a path leads to, even while only its folder exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path,
    }
}
