//! Requests of tests to the server itself.

use std::time::Instant;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::budget::Budget;
use crate::faults::Rule;
use crate::reply::{Reply, error, json};
use crate::server::Server;

/// Whether a path is one of these.
pub fn is_admin(path: &str) -> bool {
    path.starts_with("/__")
}

/// Does what an admin request says.
pub async fn answer(server: &Server, head: &Parts, body: &Bytes) -> Reply {
    let done = match (&head.method, head.uri.path()) {
        (&Method::POST, "/__faults") => add_faults(server, body),
        (&Method::GET, "/__faults") => {
            database(head).map(|database| json(StatusCode::OK, &server.faults.of(&database)))
        }
        (&Method::DELETE, "/__faults") => database(head).map(|database| {
            server.faults.remove(&database);
            json(StatusCode::OK, &json!({}))
        }),
        (&Method::POST, "/__throttle") => set_budget(server, body),
        (&Method::DELETE, "/__throttle") => database(head).map(|database| {
            server.budgets.remove(&database);
            json(StatusCode::OK, &json!({}))
        }),
        (&Method::POST, "/__split") => split(server, body).await,
        (&Method::GET, "/__stats") => {
            database(head).map(|database| json(StatusCode::OK, &server.statistics.of(&database)))
        }
        (method, path) => return error(StatusCode::NOT_FOUND, &format!("there is no {method} {path}")),
    };
    done.unwrap_or_else(|reason| error(StatusCode::BAD_REQUEST, &reason))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<serde_json::Value>),
    One(serde_json::Value),
}

fn add_faults(server: &Server, body: &Bytes) -> Result<Reply, String> {
    let rules = match parse(body)? {
        OneOrMany::Many(rules) => rules,
        OneOrMany::One(rule) => vec![rule],
    };
    let rules: Vec<Rule> =
        rules.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    rules.iter().try_for_each(Rule::check)?;
    Ok(json(StatusCode::OK, &json!({ "ids": server.faults.add(rules) })))
}

fn set_budget(server: &Server, body: &Bytes) -> Result<Reply, String> {
    let budget: Budget = parse(body)?;
    budget.check()?;
    server.budgets.set(budget, Instant::now());
    Ok(json(StatusCode::OK, &json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    database: String,
    container: String,
    range: u32,
}

async fn split(server: &Server, body: &Bytes) -> Result<Reply, String> {
    let Split { database, container, range } = parse(body)?;
    let ranges = server.emulator.split(&database, &container, range).await.map_err(|error| error.to_string())?;
    Ok(json(StatusCode::OK, &json!({ "ranges": ranges })))
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// The parameter `database`.
fn database(head: &Parts) -> Result<String, String> {
    let value = head.uri.query().and_then(|query| query.split('&').find_map(|field| field.strip_prefix("database=")));
    let value = value.ok_or("the parameter database is missing")?;
    Ok(percent_decode_str(value).decode_utf8_lossy().into_owned())
}
