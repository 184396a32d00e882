//! Where telemetry goes, beside the process's own endpoint and log.

use super::collection::{NameRule, Named, complete};
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{Otlp, Telemetry};
use super::node::Node;
use super::scalar::{FilePath, Text};
use super::store::Url;
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
        let headers = headers?.map_or(Some(Vec::new()), complete);
        Some(Self { endpoint: endpoint?, headers: headers?, ca_file: ca? })
    }
}

/// A text that no error shows.
struct Secret;

impl Form for Secret {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        Some(SecretString::from(reading.text(node, "the value of a header")?))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text("the value of a header").schema(definitions)
    }
}
