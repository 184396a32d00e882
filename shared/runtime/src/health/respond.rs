//! What is answered to a request.

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Health;
use super::serve::Bounds;
use crate::metrics::{Metrics, TEXT_FORMAT};

/// What is told, and within which bounds.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub health: Health,
    pub metrics: Metrics,
    pub bounds: Bounds,
}

impl Told {
    /// Answers a request by its method and path; its body is not read.
    pub fn respond(&self, method: &Method, path: &str) -> Response<Body> {
        let answer = match path {
            "/healthz" => self.alive(),
            "/readyz" => self.ready(),
            "/metrics" => self.measured(),
            _ => json(StatusCode::NOT_FOUND, &json!({ "error": "there are /healthz, /readyz and /metrics" })),
        };
        if [Method::GET, Method::HEAD].contains(method) || answer.status() == StatusCode::NOT_FOUND {
            return answer;
        }
        let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "this is only read: GET or HEAD" }));
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    }

    fn alive(&self) -> Response<Body> {
        let silence = self.health.pulse().age();
        if silence <= self.bounds.silence_max {
            return json(StatusCode::OK, &json!({ "alive": true }));
        }
        let reason = format!("the runtime has not turned for {} s", silence.as_secs());
        json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "alive": false, "for": reason }))
    }

    fn ready(&self) -> Response<Body> {
        let waiting = self.health.waiting();
        if waiting.is_empty() {
            return json(StatusCode::OK, &json!({ "ready": true }));
        }
        json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "waiting": waiting }))
    }

    fn measured(&self) -> Response<Body> {
        match self.metrics.text() {
            Ok(text) => answer(StatusCode::OK, TEXT_FORMAT, text),
            Err(fault) => {
                tracing::error!(%fault, "metrics cannot be told");
                json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": fault.to_string() }))
            }
        }
    }
}

fn json(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json", format!("{body}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
