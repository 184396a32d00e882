//! What a request is answered: a status, and JSON that says why.

use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fides_cloudevents::Malformed;
use fides_core::{Fault, FaultKind};
use fides_http::{Unread, json as answered};
use serde_json::{Value, json};

/// How long a sender is asked to wait while its events cannot be taken.
const RETRY: Duration = Duration::from_secs(5);

/// What a request was found to be.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Published and confirmed; how many events, and how many concern no pipeline.
    Taken { accepted: usize, ignored: usize },
    /// It makes no sense.
    Malformed(Malformed),
    /// Whoever sent it may not.
    Unauthorized(String),
    /// It may not send, whoever it is.
    Forbidden(String),
    /// There is no such pipeline, or it takes no events over HTTP.
    Unknown(String),
    /// Its body is none.
    Unread(Unread),
    /// Not now.
    Later(StatusCode, Duration, String),
}

impl From<Malformed> for Answer {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Unread> for Answer {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Permanent => Self::Malformed(Malformed::new(fault.to_string())),
            FaultKind::Throttled { after } => Self::Later(StatusCode::TOO_MANY_REQUESTS, after, fault.what),
            FaultKind::Transient | FaultKind::Unavailable | FaultKind::Deferred => Self::unavailable(fault.to_string()),
        }
    }
}

impl Answer {
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::Later(StatusCode::SERVICE_UNAVAILABLE, RETRY, why.into())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let error = |status, why: String| told(status, &json!({ "error": why }));
        match self {
            Self::Taken { accepted, ignored } => {
                told(StatusCode::OK, &json!({ "accepted": accepted, "ignored": ignored }))
            }
            Self::Malformed(malformed) => error(StatusCode::BAD_REQUEST, malformed.to_string()),
            Self::Unauthorized(why) => {
                let mut answer = error(StatusCode::UNAUTHORIZED, why);
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                answer
            }
            Self::Forbidden(why) => error(StatusCode::FORBIDDEN, why),
            Self::Unknown(why) => error(StatusCode::NOT_FOUND, why),
            Self::Unread(unread) => error(unread.status(), unread.to_string()),
            Self::Later(status, after, why) => {
                let mut answer = error(status, why);
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
                answer
            }
        }
    }
}

fn told(status: StatusCode, body: &Value) -> Response {
    answered(status, format!("{body}\n"))
}

/// For a path or a method that means nothing here.
pub(crate) fn nothing_here(status: StatusCode) -> Response {
    told(status, &json!({ "error": "there is POST /events/<pipeline>" }))
}
