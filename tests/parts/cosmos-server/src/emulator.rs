//! Microsoft's in-memory emulator, spoken to in the types of HTTP.

use std::time::Duration;

use azure_core::http::headers::{HeaderName, HeaderValue as Value};
use azure_core::http::{Method, Request, Url};
use azure_data_cosmos_driver::in_memory_emulator::{InMemoryEmulatorHttpClient, VirtualAccountConfig, VirtualRegion};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, HeaderName as Name, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::reply::{Reply, error};

/// An account of one region.
pub struct Emulator {
    client: InMemoryEmulatorHttpClient,
    origin: Url,
}

impl Emulator {
    /// An empty account whose only region is at `origin`, which is what clients are told to go to.
    pub fn new(origin: Url) -> azure_data_cosmos_driver::Result<Self> {
        let region = VirtualRegion::new("East US", origin.clone());
        let client = InMemoryEmulatorHttpClient::try_new(VirtualAccountConfig::new(vec![region])?)?;
        Ok(Self { client, origin })
    }

    /// Executes a request; one that the emulator cannot answer gets an error 500.
    pub async fn execute(&self, head: &Parts, body: Bytes) -> Reply {
        match self.try_execute(head, body).await {
            Ok(reply) => reply,
            Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason),
        }
    }

    /// Splits a range of partition keys in its middle, and returns the numbers of the two that take its place.
    pub async fn split(
        &self,
        database: &str,
        container: &str,
        range: u32,
    ) -> azure_data_cosmos_driver::Result<Vec<u32>> {
        let store = self.client.store();
        let middle = store.midpoint_split_epk(database, container, range)?;
        store.split_partition_and_wait(database, container, range, middle, Duration::ZERO).await
    }

    async fn try_execute(&self, head: &Parts, body: Bytes) -> Result<Reply, String> {
        let method: Method = head.method.as_str().parse().map_err(|error| format!("{}: {error}", head.method))?;
        // Whatever the client calls this host, the emulator knows its region by one name.
        let mut url = self.origin.clone();
        url.set_path(head.uri.path());
        url.set_query(head.uri.query());
        let mut request = Request::new(url, method);
        for (name, value) in &head.headers {
            if let Ok(value) = value.to_str() {
                request.insert_header(HeaderName::from(name.as_str().to_owned()), Value::from(value.to_owned()));
            }
        }
        request.set_body(body);

        let answer = self.client.execute_request(&request).await.map_err(|error| error.to_string())?;
        let answer = answer.try_into_raw_response().await.map_err(|error| error.to_string())?;
        let mut reply = Response::new(Full::new(Bytes::copy_from_slice(answer.body().as_ref())));
        *reply.status_mut() = StatusCode::from_u16(answer.status().into()).map_err(|error| error.to_string())?;
        for (name, value) in answer.headers().iter() {
            let name = Name::from_bytes(name.as_str().as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(value.as_str()).map_err(|error| error.to_string())?;
            if name != CONTENT_LENGTH {
                reply.headers_mut().append(name, value);
            }
        }
        Ok(reply)
    }
}

/// What the emulator says that an answer cost.
pub fn request_charge(reply: &Reply) -> f64 {
    let charge = reply.headers().get("x-ms-request-charge").and_then(|value| value.to_str().ok()?.parse().ok());
    charge.unwrap_or(0.0)
}
