//! The way to a collector: a connection for each batch, of which there are a few in a minute.
//!
//! By hyper, which answers the probes: the exporter's own client would bring another HTTP stack with another TLS.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fides_core::Fault;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// One request, from the connection to the last byte of the answer.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A collector's answer says little.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Sends batches. The exporters call it on threads of theirs, which have no reactor; the work is done in the runtime.
#[derive(Debug)]
pub(super) struct Client {
    runtime: Handle,
    line: Arc<Line>,
}

/// What a request needs.
#[derive(Debug)]
struct Line {
    tls: Arc<ClientConfig>,
    /// Whether the latest request failed: told once, and again when one succeeds.
    is_down: AtomicBool,
}

impl Client {
    /// A client that trusts the system's authorities and those in `ca_file`. Called within a runtime.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, Fault> {
        let mut roots = RootCertStore::empty();
        // A system without any is no fault: a collector may be reached without TLS.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let unread =
                || Fault::permanent(format!("telemetry.otlp.ca_file {} cannot be read as PEM", path.display()));
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unread().because(error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unread().because(error))?;
                roots.add(certificate).map_err(|error| unread().because(error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::permanent("TLS cannot be set up").because(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let line = Line { tls: Arc::new(tls), is_down: AtomicBool::new(false) };
        Ok(Self { runtime: Handle::current(), line: Arc::new(line) })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let line = Arc::clone(&self.line);
        self.runtime.spawn(async move { line.exchange(request).await }).await?
    }
}

impl Line {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = server(&request).unwrap_or_default();
        let answered = match timeout(REQUEST_MAX, self.request(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {REQUEST_MAX:?}").into()),
        };
        let error = match &answered {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        match (error, self.is_down.load(Ordering::Relaxed)) {
            (Some(error), false) => {
                self.is_down.store(true, Ordering::Relaxed);
                tracing::warn!(collector, error, "telemetry cannot be exported; what does not fit is dropped");
            }
            (None, true) => {
                self.is_down.store(false, Ordering::Relaxed);
                tracing::info!(collector, "telemetry is exported again");
            }
            _ => {}
        }
        answered
    }

    async fn request(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri();
        let host = uri.host().ok_or("the endpoint names no host")?.trim_matches(['[', ']']).to_owned();
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if is_secure {
            let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(ServerName::try_from(host)?, stream).await?;
            send(stream, request).await
        } else {
            send(stream, request).await
        }
    }
}

/// Host and port, without a password that may stand before them.
fn server(request: &Request<Bytes>) -> Option<String> {
    let authority = request.uri().authority()?.as_str();
    Some(authority.rsplit_once('@').map_or(authority, |(_, server)| server).to_owned())
}

async fn send<T>(stream: T, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let host = server(&request).map(|server| HeaderValue::from_str(&server)).transpose()?;
    let (mut head, body) = request.into_parts();
    head.headers.extend(host.map(|host| (HOST, host)));
    // A server is asked for a path; only a proxy is asked for a whole address.
    head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let exchange = async {
        let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.into()),
    }
}
