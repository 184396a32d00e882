//! The API: what is shown, and what can be asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use fides_core::command::{Action, Answer, Extent, KeyText};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::access::Access;
use super::answer::{Refusal, encoded, written};
use super::letters::letters;
use super::orders::Orders;
use super::page;
use super::source::Source;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a request's body may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(10);

/// Everything that requests are answered with.
pub struct Site {
    pub access: Access,
    pub source: Source,
    pub orders: Orders,
}

/// All paths.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/dead", get(dead))
        .route("/api/replay", post(replay))
        .route("/api/reimport", post(reimport))
        .merge(page::files())
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(from_fn_with_state(site.clone(), admit))
        .with_state(site)
}

/// Refuses who may not, and gives every answer its headers.
async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response<Body> {
    let refusal = site.access.refuses(request.method(), request.uri().path(), request.headers());
    let mut answer = match refusal {
        Some(refusal) => {
            tracing::info!(path = request.uri().path(), why = refusal.why, "a request was refused");
            refusal.into_response()
        }
        None => next.run(request).await,
    };
    page::guard(answer.headers_mut());
    answer
}

async fn status(State(site): State<Arc<Site>>) -> Result<Response<Body>, Refusal> {
    Ok(written(site.source.status().await?))
}

#[derive(Deserialize)]
struct Which {
    pipeline: String,
    after: Option<String>,
}

async fn dead(
    State(site): State<Arc<Site>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response<Body>, Refusal> {
    let Ok(Query(Which { pipeline, after })) = which else {
        return Err(Refusal::malformed("expected /api/dead?pipeline=NAME, and perhaps &after=KEY"));
    };
    let app = site.source.app().await?;
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, format!("there is no pipeline {pipeline:?}"));
    let pipeline = app.pipeline(&pipeline).ok_or_else(unknown)?;
    Ok(encoded(&letters(pipeline, after.as_deref()).await?))
}

/// Letters to be replayed: those of `keys`, or with `all` every one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    id: String,
    pipeline: String,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    all: bool,
}

async fn replay(State(site): State<Arc<Site>>, request: Request) -> Result<Response<Body>, Refusal> {
    let Replay { id, pipeline, keys, all } = read(request).await?;
    if all != keys.is_empty() {
        return Err(Refusal::malformed("expected either `keys` of the letters, or `all`: true"));
    }
    let keys = keys.into_iter().map(KeyText).collect();
    Ok(told(site.orders.send(id, Action::Replay { pipeline, keys }).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reimport {
    id: String,
    pipeline: String,
    mode: Extent,
    /// The pipeline's name once more: nobody sends everything by a slip of the finger.
    confirm: String,
}

async fn reimport(State(site): State<Arc<Site>>, request: Request) -> Result<Response<Body>, Refusal> {
    let Reimport { id, pipeline, mode, confirm } = read(request).await?;
    if confirm != pipeline {
        return Err(Refusal::malformed(format!("`confirm`: found {confirm:?}, expected the pipeline's name")));
    }
    let action = Action::Reimport { pipelines: vec![pipeline], mode, keys: Vec::new(), ranges: Vec::new() };
    Ok(told(site.orders.send(id, action).await?))
}

/// The answer to a command. One that nobody has given yet is no error: the command is queued.
fn told(answer: Option<Answer>) -> Response<Body> {
    if let Some(answer) = answer {
        return encoded(&answer);
    }
    let mut answer = encoded(&json!({ "status": "queued", "reason": "nobody has taken it yet: is a sync running?" }));
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let body = fides_http::read(request.into_body(), BODY_BYTES_MAX, BODY_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| Refusal::malformed(format!("the body cannot be read: {error}")))
}
