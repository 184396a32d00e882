//! The handshake by which a sender asks whether it may send at all, so that nobody is made to flood somebody who never
//! agreed to it: `OPTIONS`, as the webhook specification of `CloudEvents` says. It is no proof of who asks: that is the
//! credential's, with every request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ALLOW, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::answer::Answer;
use crate::receive::Intake;

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// Answers at once: whoever offers a callback for a later answer needs it no more.
pub(crate) async fn validate(
    State(intake): State<Arc<Intake>>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
) -> Response {
    match allowed(&intake, &pipeline, &headers) {
        Ok(origin) => agreed(origin),
        Err(answer) => {
            tracing::info!(pipeline, ?answer, "a sender of events was not allowed");
            answer.into_response()
        }
    }
}

/// The name of whoever asks, if it may send.
fn allowed<'a>(intake: &Intake, pipeline: &str, headers: &'a HeaderMap) -> Result<&'a HeaderValue, Answer> {
    let route = intake.route(pipeline)?;
    let mut asked = headers.get_all(REQUEST_ORIGIN).iter();
    let (Some(origin), None) = (asked.next(), asked.next()) else {
        let expected = "expected header WebHook-Request-Origin once, with the name of the sender";
        return Err(Answer::Forbidden(expected.to_owned()));
    };
    let is_named = |name: &String| origin.as_bytes().eq_ignore_ascii_case(name.as_bytes());
    if route.origins.iter().any(is_named) {
        return Ok(origin);
    }
    Err(Answer::Forbidden(format!("{origin:?} is not among the origins of pipeline {pipeline:?}")))
}

/// No rate is promised or asked for: who sends too fast is told when to come again (429).
fn agreed(origin: &HeaderValue) -> Response {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    headers.insert(ALLOWED_ORIGIN, origin.clone());
    headers.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
    answer
}
