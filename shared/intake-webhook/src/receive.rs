//! One request: who sends it, what it says, and the answer when that is confirmed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::routing::post;
use fides_cloudevents::{Event, Malformed, Mode, batch, binary, mode, percent_decoded, structured};
use fides_core::Key;
use fides_http::read;
use tokio::time::timeout;

use crate::answer::{Answer, nothing_here};
use crate::handshake::validate;
use crate::{Route, Settings};

/// What every request is answered with.
pub(crate) struct Intake {
    pub(crate) routes: BTreeMap<String, Route>,
    pub(crate) settings: Settings,
}

impl Intake {
    pub(crate) fn route(&self, pipeline: &str) -> Result<&Route, Answer> {
        let unknown = || Answer::Unknown(format!("pipeline {pipeline:?} takes no events here"));
        self.routes.get(pipeline).ok_or_else(unknown)
    }
}

/// All paths.
pub(crate) fn router(intake: Intake) -> Router {
    Router::new()
        .route("/events/{pipeline}", post(receive).options(validate))
        .fallback(async || nothing_here(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || nothing_here(StatusCode::METHOD_NOT_ALLOWED))
        .with_state(Arc::new(intake))
}

/// Who gives up waiting is not answered; its events are taken all the same.
async fn receive(State(intake): State<Arc<Intake>>, Path(pipeline): Path<String>, request: Request) -> Answer {
    let answer = match take(&intake, &pipeline, request).await {
        Ok(answer) | Err(answer) => answer,
    };
    if !matches!(answer, Answer::Taken { .. }) {
        tracing::info!(pipeline, ?answer, "events were not taken");
    }
    answer
}

async fn take(intake: &Intake, pipeline: &str, request: Request) -> Result<Answer, Answer> {
    let (route, settings) = (intake.route(pipeline)?, &intake.settings);
    let (parts, body) = request.into_parts();
    if let Some(why) = route.credential.refuses_headers(&parts.headers) {
        return Err(Answer::Unauthorized(why));
    }
    let body = read(body, settings.body_bytes_max, settings.body_max).await?;
    if let Some(why) = route.credential.refuses_body(&parts.headers, &body) {
        return Err(Answer::Unauthorized(why));
    }
    let events = events(&parts.headers, &body, route.hints.offer_max())?;
    let keys = keys(route, &events)?;
    let (accepted, ignored) = (keys.len(), events.len() - keys.len());
    let Ok(offered) = timeout(settings.confirm_max, route.hints.offer(keys)).await else {
        let waited = settings.confirm_max.as_secs();
        return Err(Answer::unavailable(format!("not confirmed within {waited} s: send it again later")));
    };
    offered?;
    Ok(Answer::Taken { accepted, ignored })
}

fn events(headers: &HeaderMap, body: &[u8], events_max: usize) -> Result<Vec<Event>, Answer> {
    let content_type = text_of(headers, &CONTENT_TYPE)?;
    Ok(match mode(content_type.as_deref())? {
        Mode::Structured => vec![structured(body)?],
        Mode::Batch => batch(body, events_max)?,
        Mode::Binary => vec![binary(attributes(headers)?, content_type.as_deref(), body)?],
    })
}

/// The attributes in headers, each once.
fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Malformed> {
    let mut attributes = Vec::new();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        if let Some(value) = text_of(headers, name)? {
            attributes.push((attribute.to_owned(), percent_decoded(&value)?));
        }
    }
    Ok(attributes)
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::new(format!("found header {name} a second time, expected it once")));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(|text| Some(text.to_owned())).map_err(|_| Malformed::new(format!("header {name} is no text")))
}

/// The records that the events concern. One that names none, or none that could be, refuses them all.
fn keys(route: &Route, events: &[Event]) -> Result<Vec<Key>, Malformed> {
    let mut keys = Vec::with_capacity(events.len());
    for (at, event) in events.iter().enumerate() {
        let key = route.rule.key_of(event).and_then(|key| {
            let key = key.map(|key| route.hints.key(&key)).transpose();
            key.map_err(|fault| Malformed::new(fault.to_string()))
        });
        match key {
            Ok(key) => keys.extend(key),
            Err(malformed) if events.len() > 1 => return Err(malformed.at(format!("event {at}"))),
            Err(malformed) => return Err(malformed),
        }
    }
    Ok(keys)
}
