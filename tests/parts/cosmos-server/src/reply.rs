//! Answers that the server makes itself, in the shape of the emulator's.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// What goes back to a client.
pub type Reply = Response<Full<Bytes>>;

/// An answer of JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let (status, body) = match serde_json::to_vec(body) {
        Ok(body) => (status, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// An error as the service words it: a code and a message.
pub fn error(status: StatusCode, message: &str) -> Reply {
    let code: String = status.canonical_reason().unwrap_or("Error").split_whitespace().collect();
    let mut reply = json(status, &json!({ "code": code, "message": message }));
    set(&mut reply, "x-ms-request-charge", 0_u64);
    reply
}

/// Sets a header to a number.
pub fn set(reply: &mut Reply, name: &'static str, number: impl Into<u64>) {
    reply.headers_mut().insert(name, HeaderValue::from(number.into()));
}
