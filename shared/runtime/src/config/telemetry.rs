//! Where telemetry goes, beside the process's own endpoint and log.

use super::collection::{NameRule, Named, complete};
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Otlp, Telemetry};
use super::node::{Node, shown_text};
use super::scalar::{FilePath, Text};
use super::store::Url;
use hyper::header::{HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;

impl Section for Telemetry {
    const NAME: &'static str = "telemetry";
    const ABOUT: &'static str = "where traces, metrics and logs go";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "a collector of OpenTelemetry; where it is absent, the variables OTEL_EXPORTER_OTLP_… say whether there is one";
        Some(Self { otlp: fields.optional("otlp", about, section::<Otlp>())? })
    }
}

impl Section for Otlp {
    const NAME: &'static str = "otlp";
    const ABOUT: &'static str = "a collector of OpenTelemetry that is reached by OTLP over HTTP";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "its address, to which /v1/traces, /v1/metrics and /v1/logs are added: https://collector:4318";
        let endpoint = fields.required("endpoint", about, Url(&["http://", "https://"]));
        let headers = Named { names: NameRule::Field, of: Secret, expected: "a map of headers by name" };
        let headers = fields.optional("headers", "headers of every request: authorization: Bearer ${TOKEN}", headers);
        let about = "certificate authorities beside those of the system, as PEM";
        let ca = fields.optional("ca_file", about, FilePath);
        let named = fields.check(|reading, node| {
            let entries = node.get("headers").and_then(Node::entries).unwrap_or_default();
            let odd = entries.iter().find(|entry| HeaderName::from_bytes(entry.name.as_bytes()).is_err());
            match odd {
                Some(entry) => reading.refuse_at(&entry.spot, shown_text(&entry.name), "the name of an HTTP header"),
                None => Some(()),
            }
        });
        let headers = headers?.map_or(Some(Vec::new()), complete).filter(|_| named.is_some());
        Some(Self { endpoint: endpoint?, headers: headers?, ca_file: ca? })
    }
}

const EXPECTED: &str = "the value of an HTTP header";

/// A text that no error shows.
struct Secret;

impl Form for Secret {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        let text = reading.text(node, EXPECTED)?;
        if HeaderValue::from_str(&text).is_err() {
            return reading.refuse_at(&node.spot, "another text (not shown)", EXPECTED);
        }
        Some(SecretString::from(text))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text(EXPECTED).schema(definitions)
    }
}
