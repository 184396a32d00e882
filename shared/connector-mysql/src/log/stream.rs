//! The connection that the server sends its log over.

use std::time::Duration;

use fides_core::port::Lineage;
use fides_core::{Fault, FaultKind};
use fides_sql::{Connect, same_lineage};
use futures::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{
    BinlogStream, BinlogStreamRequest, ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts,
};
use sqlx::mysql::MySqlSslMode;

use super::FIRST;
use super::event::kind;
use super::spot::Spot;
use crate::authority::{SETTINGS, Settings};
use crate::connect::Server;
use crate::fault::{of_code, of_io_error};

/// How long the server may take to begin the stream.
const START_MS_MAX: u64 = 30_000;
/// The server says so often that it is there.
const HEARTBEAT_MS: u64 = 5_000;
/// After so long without a word the connection is taken for lost.
const SILENT_MS_MAX: u64 = 60_000;
/// How long the server waits for a reader whose queue is full.
const BLOCKED_S_MAX: u32 = 600;
/// The largest event, as between servers.
const EVENT_BYTES_MAX: usize = 1 << 30;
/// The server cannot send the log from there, or not any more.
const NOT_THERE: u16 = 1236;

/// What stands at the front of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: u8,
    /// When it was written, in seconds since 1970.
    pub(super) second: u32,
    /// All its bytes.
    pub(super) size: u32,
    /// Where it ends in its file; 0 for one that is in none.
    pub(super) end: u32,
    pub(super) flags: u16,
}

/// A stream that has begun.
pub(super) struct Events(BinlogStream);

/// How a stream began.
pub(super) enum Began {
    /// In a file with this mark.
    Here(Events, u8),
    /// The server has nothing at that place, and says why.
    Nowhere(String),
}

impl Events {
    /// Begins behind an offset of a file, on the server that positions belong to.
    pub(super) async fn begin(
        server: &Server,
        expected: &Lineage,
        reader: u32,
        file: &str,
        offset: u32,
    ) -> Result<Began, Fault> {
        let what = format!("opening the log of MySQL {} at {file}:{offset}", server.place());
        let starting = async {
            let mut connection = connect(server).await.map_err(|error| fault(&what, &error))?;
            let settings: Vec<(String, String)> =
                connection.query(SETTINGS).await.map_err(|error| fault(&what, &error))?;
            same_lineage(expected, &Settings::new(settings).lineage())?;
            let request =
                BinlogStreamRequest::new(reader).with_filename(file.as_bytes()).with_pos(u64::from(offset.max(FIRST)));
            let stream = connection.get_binlog_stream(request).await.map_err(|error| fault(&what, &error))?;
            first(Self(stream), &what).await
        };
        tokio::time::timeout(Duration::from_millis(START_MS_MAX), starting)
            .await
            .unwrap_or_else(|_| Err(Fault::transient(format!("{what}: no answer after {START_MS_MAX} ms"))))
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<(Head, Vec<u8>), Fault> {
        const WHAT: &str = "reading the log";
        match tokio::time::timeout(Duration::from_millis(SILENT_MS_MAX), self.0.next()).await {
            Err(_) => Err(Fault::transient(format!("{WHAT}: the server said nothing for {SILENT_MS_MAX} ms"))),
            Ok(next) => received(WHAT, next),
        }
    }
}

fn received(
    what: &str,
    next: Option<Result<mysql_async::binlog::events::Event, Error>>,
) -> Result<(Head, Vec<u8>), Fault> {
    let event = match next {
        Some(Ok(event)) => event,
        Some(Err(error)) => return Err(fault(what, &error)),
        None => return Err(Fault::transient(format!("{what}: the server ended the connection"))),
    };
    let header = event.header();
    let head = Head {
        kind: header.event_type_raw(),
        second: header.timestamp(),
        size: header.event_size(),
        end: header.log_pos(),
        flags: header.flags_raw(),
    };
    Ok((head, event.data().to_vec()))
}

/// Reads up to the description of the file, which comes first wherever a stream begins.
async fn first(mut events: Events, what: &str) -> Result<Began, Fault> {
    loop {
        let next = events.0.next().await;
        if let Some(Err(Error::Server(error))) = &next
            && error.code == NOT_THERE
            && !is_other_reader(&error.message)
        {
            return Ok(Began::Nowhere(error.message.clone()));
        }
        let (head, _) = received(what, next)?;
        if head.kind == kind::DESCRIPTION {
            return Ok(Began::Here(events, Spot::mark_of(head.second)));
        }
    }
}

/// Another reader of the same name has begun: this one is ended.
fn is_other_reader(message: &str) -> bool {
    message.contains("same server_id") || message.contains("same server_uuid")
}

/// A session of its own, set up as a replica's.
async fn connect(server: &Server) -> Result<Conn, Error> {
    let options = options(server)?;
    if !matches!(server.tls(), MySqlSslMode::Preferred) {
        return Conn::new(options).await;
    }
    let with_tls = OptsBuilder::from_opts(options.clone()).ssl_opts(unverified());
    match Conn::new(with_tls).await {
        Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) => Conn::new(options).await,
        connected => connected,
    }
}

fn unverified() -> SslOpts {
    SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)
}

fn options(server: &Server) -> Result<Opts, Error> {
    let url = server.url();
    let mut plain = url.clone();
    plain.set_query(None);
    let plain = plain.as_str().replacen("mariadb://", "mysql://", 1);
    let setup = [
        "SET NAMES utf8mb4".to_owned(),
        format!("SET SESSION net_write_timeout = {BLOCKED_S_MAX}"),
        format!("SET @master_heartbeat_period = {0}, @source_heartbeat_period = {0}", HEARTBEAT_MS * 1_000_000),
        // MariaDB sends its own identifiers of transactions only to those who know them.
        "SET @mariadb_slave_capability = 4".to_owned(),
    ];
    let options = OptsBuilder::from_opts(Opts::from_url(&plain)?)
        .prefer_socket(Some(false))
        .tcp_keepalive(Some(Duration::from_millis(HEARTBEAT_MS)))
        .max_allowed_packet(Some(EVENT_BYTES_MAX))
        .stmt_cache_size(Some(0))
        .init(setup.to_vec());
    Ok(match server.tls() {
        MySqlSslMode::Disabled | MySqlSslMode::Preferred => options,
        MySqlSslMode::Required => options.ssl_opts(identified(url, unverified())),
        MySqlSslMode::VerifyCa => {
            options.ssl_opts(identified(url, rooted(url).with_danger_skip_domain_validation(true)))
        }
        MySqlSslMode::VerifyIdentity => options.ssl_opts(identified(url, rooted(url))),
    }
    .into())
}

fn rooted(url: &url::Url) -> SslOpts {
    let file = parameter(url, ["ssl-ca", "sslca"]).map(std::path::PathBuf::from);
    match file {
        Some(file) => SslOpts::default().with_root_certs(vec![file.into()]).with_disable_built_in_roots(true),
        None => SslOpts::default(),
    }
}

fn identified(url: &url::Url, options: SslOpts) -> SslOpts {
    let file = |names| parameter(url, names).map(std::path::PathBuf::from);
    match file(["ssl-cert", "sslcert"]).zip(file(["ssl-key", "sslkey"])) {
        Some((certificate, key)) => {
            options.with_client_identity(Some(ClientIdentity::new(certificate.into(), key.into())))
        }
        None => options,
    }
}

fn parameter(url: &url::Url, names: [&str; 2]) -> Option<String> {
    url.query_pairs().find(|(name, _)| names.contains(&name.as_ref())).map(|(_, value)| value.into_owned())
}

/// The fault of an error of the stream.
fn fault(what: &str, error: &Error) -> Fault {
    match error {
        // Whether the place is gone, opening it anew tells.
        Error::Server(error) if error.code == NOT_THERE => Fault::transient(format!("{what}: {}", error.message)),
        Error::Server(error) => of_code(what, error.code, &error.state, &error.message),
        Error::Io(IoError::Io(error)) => of_io_error(what, error),
        Error::Io(IoError::Tls(error)) => Fault::unavailable(format!("{what}: TLS: {error}"))
            .advise("check ssl-mode and ssl-ca of the URL against the server's certificate"),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => Fault::unavailable(format!("{what}: {error}"))
            .advise("the server has no TLS: set it up, or lower ssl-mode of the URL"),
        // Its text may hold the URL.
        Error::Url(_) => Fault::permanent(format!("{what}: the URL makes no sense to the reader of the log")),
        other => Fault::new(FaultKind::Transient, format!("{what}: {other}")),
    }
}
