//! The configuration as the rest of the program sees it: plain values that have been checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

pub use super::limits::{LagAction, Limits};
use super::places::Places;

/// A configuration without mistakes: every name that is referred to exists, every value is in its range.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the queue, the hash store and the state store are.
    pub backplane: Backplane,
    /// The stores that are followed, by name.
    pub hosts: BTreeMap<String, Store>,
    /// The stores that are kept in step, by name.
    pub targets: BTreeMap<String, Store>,
    /// The pipelines, in the order of the file.
    pub pipelines: Vec<Pipeline>,
    /// The limits of whatever is no pipeline's own.
    pub limits: Limits,
    /// How the process is watched and stopped.
    pub service: Service,
    /// Where events are received over HTTP.
    pub intake: Intake,
    /// Where the status page is served.
    pub dashboard: Dashboard,
    /// How the process logs.
    pub log: Log,
    /// Where telemetry goes.
    pub telemetry: Telemetry,
    /// Where all of this was written.
    pub places: Places,
}

/// Where the queue, the hash store and the state store are.
#[derive(Clone, Debug)]
pub enum Backplane {
    /// In one SQLite file.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// In a broker and a store that many processes share.
    Distributed {
        /// The queue.
        amqp: Amqp,
        /// Hash store, state store and dead letters.
        redis: Redis,
    },
}

/// A RabbitMQ.
#[derive(Clone, Debug)]
pub struct Amqp {
    /// The url, with its password.
    pub url: SecretString,
    /// Certificate authorities beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The queue of commands.
    pub admin_queue: String,
}

/// A Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    /// The url, with its password.
    pub url: SecretString,
    /// Certificate authorities beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Dead letters of one pipeline.
    pub dead_letters_max: u64,
    /// Settings that break L11 and are accepted as they are.
    pub accept: Vec<String>,
}

/// A store that can be a host, a target, or both.
#[derive(Clone, Debug)]
pub enum Store {
    /// An Azure Cosmos DB account.
    Cosmos(Cosmos),
    /// A MySQL or MariaDB database.
    MySql {
        /// The connection url, with its password.
        url: SecretString,
        /// Connections at the same time.
        connections: u32,
    },
    /// A PostgreSQL database.
    Postgres {
        /// The connection url, with its password.
        url: SecretString,
        /// Connections at the same time.
        connections: u32,
    },
    /// A SQLite database.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
}

/// An Azure Cosmos DB account, and a database in it.
#[derive(Clone, Debug)]
pub struct Cosmos {
    /// Its address.
    pub endpoint: String,
    /// Its key.
    pub key: SecretString,
    /// The database.
    pub database: String,
    /// Regions to use, the preferred one first.
    pub regions: Vec<String>,
    /// How containers are made, by name.
    pub containers: BTreeMap<String, CosmosContainer>,
    /// Requests at the same time.
    pub concurrency: u32,
    /// Request units that may be used in a second.
    pub request_units_per_second: Option<u32>,
}

/// How a container of Cosmos DB is made.
#[derive(Clone, Debug, Default)]
pub struct CosmosContainer {
    /// Paths of its partition key; `/id` when empty.
    pub partition_key: Vec<String>,
    /// Sets of paths that are unique within a partition key.
    pub unique: Vec<Vec<String>>,
    /// Its own request units per second.
    pub throughput: Option<u32>,
}

/// The name of a table, collection or container, with the schemas it is in; never empty.
pub type Namespace = Vec<String>;

/// One way from a host's namespace to a target's.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its id, which begins the names of everything it owns.
    pub id: String,
    /// The name of its host.
    pub host: String,
    /// The namespace it reads.
    pub from: Namespace,
    /// The columns that identify a record; the host's primary key when absent.
    pub key: Option<Vec<String>>,
    /// Related tables that are read with each record, in the order of the file.
    pub include: Vec<Relation>,
    /// The name of its target.
    pub target: String,
    /// The namespace it writes.
    pub into: Namespace,
    /// Whether a missing target namespace is created.
    pub create: bool,
    /// A jq condition; records for which it is false are not in the target.
    pub when: Option<String>,
    /// What a target document consists of.
    pub fields: Fields,
    /// The target column that holds the version, for conditional writes.
    pub version_field: Option<String>,
    /// What tells of changes between imports; nothing when absent.
    pub events: Option<Events>,
    /// When imports start; only on demand when absent.
    pub schedule: Option<Schedule>,
    /// When clean-ups start; only on demand when absent.
    pub cleanup: Option<Schedule>,
    /// When both sides are compared; only on demand when absent.
    pub verify: Option<Schedule>,
    /// What happens to a target record whose host record is gone.
    pub delete: Delete,
    /// What a clean-up does with target records that this pipeline never wrote.
    pub foreign: Foreign,
    /// The limits, those of the file with the pipeline's own over them.
    pub limits: Limits,
}

/// A related table, read in the same query as the record it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The field of the record that it becomes.
    pub name: String,
    /// The related table.
    pub from: Namespace,
    /// What joins it: pairs of its own column and the parent's.
    pub on: Vec<(String, String)>,
    /// How many of its rows belong to one parent.
    pub arity: Arity,
    /// Which of its columns are read.
    pub columns: Columns,
    /// The columns that order its rows; only with [`Arity::Many`].
    pub order_by: Vec<String>,
    /// Tables related to it in turn.
    pub include: Vec<Relation>,
}

/// How many rows of a related table belong to one parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// At most one: it becomes an object, or null.
    One,
    /// Any number: they become an array.
    Many,
}

/// A choice of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// All that the table has.
    All,
    /// These, in this order; at least one.
    Only(Vec<String>),
}

/// What a target document consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// The host's columns under their own names.
    Same(Columns),
    /// Target fields, each with where its value comes from, in the order of the file.
    Mapped(Vec<(String, Source)>),
}

/// Where the value of a target field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A column of the host, or what it holds further down.
    Column {
        /// The column, then the way into its object or the included table.
        path: Vec<String>,
        /// The kind it is converted to.
        cast: Option<Kind>,
        /// What stands in for NULL or an absent value.
        default: Option<Literal>,
    },
    /// An object of fields of its own.
    Object(Vec<(String, Source)>),
    /// The same value in every document.
    Const(Literal),
    /// The result of a jq program on the host record.
    Jq {
        /// The program.
        program: String,
        /// The kind of its result.
        kind: Kind,
    },
}

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Bool,
    I64,
    U64,
    Decimal,
    F64,
    String,
    Bytes,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Json,
}

/// A value written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number by the grammar of JSON, with the digits it was written with.
    Number(String),
    /// Text.
    String(String),
    /// A list.
    Array(Vec<Literal>),
    /// A map, in the order of the file.
    Object(Vec<(String, Literal)>),
}

/// When imports start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// A cron expression of six fields, seconds first; it has been parsed once and is valid.
    pub cron: String,
    /// The time zone it is meant in.
    pub timezone: chrono_tz::Tz,
}

/// What tells of a host's changes as they happen.
#[derive(Clone, Debug)]
pub enum Events {
    /// The host's own log.
    Log,
    /// Whoever posts events.
    Webhook(Webhook),
    /// Whoever publishes events to an exchange.
    Amqp(EventQueue),
}

/// What of an event concerns a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hinted {
    /// Patterns of its type, where `*` stands for any text; empty for every type.
    pub types: Vec<String>,
    /// Where it names the record: one place for the whole key, or one per key column.
    pub key: Vec<fides_cloudevents::KeySource>,
}

/// Events that are posted.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Who may post them.
    pub sender: Sender,
    /// Who is told that it may, when it asks before it posts.
    pub origins: Vec<String>,
    /// What of an event concerns the pipeline.
    pub hinted: Hinted,
}

/// How a sender proves who it is.
#[derive(Clone, Debug)]
pub enum Sender {
    /// It signs bodies.
    Signature {
        /// The key.
        secret: SecretString,
        /// The header that carries the signature.
        header: hyper::header::HeaderName,
    },
    /// It knows a token.
    Bearer(SecretString),
}

/// Events that are published to an exchange.
#[derive(Clone, Debug)]
pub struct EventQueue {
    /// The url of the broker, with its password.
    pub url: SecretString,
    /// Certificate authorities beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The exchange.
    pub exchange: String,
    /// The queue that is bound to it; named after the pipeline when absent.
    pub queue: Option<String>,
    /// What it is bound with.
    pub routing_keys: Vec<String>,
    /// What of an event concerns the pipeline.
    pub hinted: Hinted,
}

/// Where events are received over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Where they are posted to; with port 0 a free one is taken.
    pub listen: SocketAddr,
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
}

/// Where the status page is served, and who may see it.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Where it listens; with port 0 a free one is taken.
    pub listen: SocketAddr,
    /// What whoever opens the page has to know; beyond loopback there must be one.
    pub token: Option<SecretString>,
}

/// What happens to a target record whose host record is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// It is deleted.
    Hard,
    /// It stays.
    Never,
    /// It stays, and one of its fields says so.
    Soft {
        /// The target field.
        field: String,
        /// What it holds then.
        value: Literal,
    },
}

/// What a clean-up does with target records that a pipeline never wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// They stay, and are counted.
    Keep,
    /// They are deleted like those whose host record is gone.
    Delete,
}

/// How a process that stays is watched and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where `/healthz`, `/readyz` and `/metrics` are answered; with port 0 a free one is taken.
    pub listen: SocketAddr,
    /// How long what is in hand may take once the process was asked to stop, in seconds.
    pub grace_seconds: u32,
}

/// How the process logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// What a line looks like.
    pub format: LogFormat,
    /// The least severe level that is logged.
    pub level: tracing::Level,
}

/// Where traces, metrics and logs go.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// A collector; where there is none, the environment may name one.
    pub otlp: Option<Otlp>,
}

/// A collector of OpenTelemetry.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Where it is, without the paths of the signals; it may hold a password.
    pub endpoint: SecretString,
    /// Headers of every request.
    pub headers: Vec<(String, SecretString)>,
    /// Certificate authorities beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, ECS elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object per line, in the terms of the Elastic Common Schema.
    Ecs,
}
