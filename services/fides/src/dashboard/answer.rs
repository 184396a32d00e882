//! What a request is answered with: JSON, or why there is none.

use axum::body::Body;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use fides_core::{Fault, FaultKind};
use fides_http::Unread;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// Why a request is not done.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub why: String,
}

impl Refusal {
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// It makes no sense.
    pub fn malformed(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// Not now.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::unavailable(failure.text())
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        Self::new(unread.status(), unread.to_string())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Permanent => Self::malformed(fault.to_string()),
            _ => Self::unavailable(fault.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let mut answer = fides_http::json(self.status, json!({ "error": self.why }).to_string());
        let header: Option<(HeaderName, &str)> = match self.status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "5")),
            _ => None,
        };
        if let Some((name, value)) = header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// A value as JSON.
pub fn encoded(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => written(body),
        Err(error) => {
            let why = format!("the answer is not JSON: {error}");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

/// JSON that is written already.
pub fn written(body: impl Into<Body>) -> Response<Body> {
    fides_http::json(StatusCode::OK, body)
}
