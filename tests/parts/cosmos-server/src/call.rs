//! What a request asks for: of which database and container, and which operation.

use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// One document by its id.
    Read,
    /// A document that must not exist.
    Create,
    /// A document, whether it exists or not.
    Upsert,
    /// A document that must exist.
    Replace,
    /// A part of a document.
    Patch,
    /// A document's end.
    Delete,
    /// Several operations of one partition key, all or none.
    Batch,
    /// A page of a query.
    Query,
    /// A page of all documents, or of the change feed.
    Feed,
    /// How a query is to be spread over partitions: no documents.
    Plan,
    /// The account, databases, containers, ranges of partition keys, offers.
    Metadata,
}

impl Operation {
    /// Whether the operation is one on documents, which costs request units.
    pub fn is_on_documents(self) -> bool {
        !matches!(self, Self::Plan | Self::Metadata)
    }
}

/// A request's place and operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The database, unless the request is about the account.
    pub database: Option<String>,
    /// The container, unless the request is about a database.
    pub container: Option<String>,
    /// What it does.
    pub operation: Operation,
}

impl Call {
    /// Reads a request's line and headers.
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let segments = segments(path);
        let after = |index: usize, keyword: &str| {
            (segments.get(index)? == keyword).then(|| segments.get(index + 1).cloned()).flatten()
        };
        let documents = segments.get(4).is_some_and(|segment| segment == "docs");
        let operation = match segments.len() {
            5 if documents => of_all_documents(method, headers),
            6 if documents => of_one_document(method),
            _ => Operation::Metadata,
        };
        Self { database: after(0, "dbs"), container: after(2, "colls"), operation }
    }
}

/// The parts of a path, decoded.
pub fn segments(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect()
}

fn of_all_documents(method: &Method, headers: &HeaderMap) -> Operation {
    let says = |name: &str| headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if method == Method::GET {
        Operation::Feed
    } else if says("x-ms-cosmos-is-query-plan-request") {
        Operation::Plan
    } else if says("x-ms-documentdb-isquery") || says("x-ms-documentdb-query") {
        Operation::Query
    } else if says("x-ms-cosmos-is-batch-request") {
        Operation::Batch
    } else if says("x-ms-documentdb-is-upsert") {
        Operation::Upsert
    } else {
        Operation::Create
    }
}

fn of_one_document(method: &Method) -> Operation {
    match *method {
        Method::PUT => Operation::Replace,
        Method::PATCH => Operation::Patch,
        Method::DELETE => Operation::Delete,
        _ => Operation::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn call(method: Method, path: &str, header: Option<&'static str>) -> Call {
        let mut headers = HeaderMap::new();
        if let Some(name) = header {
            headers.insert(name, HeaderValue::from_static("True"));
        }
        Call::of(&method, path, &headers)
    }

    #[test]
    fn every_operation_is_told_from_the_others() {
        let all = "/dbs/d/colls/c/docs";
        let one = "/dbs/d/colls/c/docs/1";
        for (method, path, header, expected) in [
            (Method::GET, one, None, Operation::Read),
            (Method::POST, all, None, Operation::Create),
            (Method::POST, all, Some("x-ms-documentdb-is-upsert"), Operation::Upsert),
            (Method::PUT, one, None, Operation::Replace),
            (Method::PATCH, one, None, Operation::Patch),
            (Method::DELETE, one, None, Operation::Delete),
            (Method::POST, all, Some("x-ms-cosmos-is-batch-request"), Operation::Batch),
            (Method::POST, all, Some("x-ms-documentdb-isquery"), Operation::Query),
            (Method::GET, all, None, Operation::Feed),
            (Method::POST, all, Some("x-ms-cosmos-is-query-plan-request"), Operation::Plan),
            (Method::GET, "/dbs/d/colls/c/pkranges", None, Operation::Metadata),
            (Method::POST, "/dbs/d/colls", None, Operation::Metadata),
            (Method::GET, "/", None, Operation::Metadata),
        ] {
            assert_eq!(call(method, path, header).operation, expected, "{path} {header:?}");
        }
    }

    #[test]
    fn names_are_decoded_and_found_by_their_place() {
        let call = call(Method::GET, "/dbs/colls/colls/b%20c/docs/1", None);
        assert_eq!((call.database.as_deref(), call.container.as_deref()), (Some("colls"), Some("b c")));
    }
}
