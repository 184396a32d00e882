//! `events`: what tells of changes between imports. The host's own log, or hints that somebody sends.

use hyper::header::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::collection::Names;
use super::fields::{Fields, Section, section};
use super::form::{Definitions, Form, Reading};
use super::model::{EventQueue, Events, Hinted, Intake, Sender, Webhook};
use super::node::{Content, Node};
use super::scalar::{FilePath, Listen, Number, Text, Word};
use super::secrets;
use super::store::{Url, UrlFile};

const WORDS: Word<Events> = Word(&[("log", Events::Log)]);
const EXPECTED: &str = "log, `webhook: { … }` or `amqp: { … }`";

/// `log`, or a map with `webhook` or `amqp`.
pub(super) struct EventsChoice;

impl Form for EventsChoice {
    type Value = Events;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Events> {
        match &node.content {
            Content::Map(entries) if !entries.is_empty() => Some(section::<Hints>().read(reading, node)?.0),
            Content::Map(_) | Content::List(_) => reading.refuse(node, EXPECTED),
            Content::Plain(text) | Content::Quoted(text) if text == "webhook" || text == "amqp" => {
                let found = format!("{} without its settings", node.shown());
                reading.refuse_at(&node.spot, found, format!("`{text}: {{ … }}`"))
            }
            Content::Plain(_) | Content::Quoted(_) => WORDS.read(reading, node),
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        json!({ "anyOf": [WORDS.schema(definitions), section::<Hints>().schema(definitions)] })
    }
}

struct Hints(Events);

impl Section for Hints {
    const NAME: &'static str = "events";
    const ABOUT: &'static str = "who tells which records changed: CloudEvents 1.0 over HTTP or AMQP";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "events are posted to /events/<pipeline> of the listener under `intake`";
        let webhook = fields.optional("webhook", about, section::<Webhook>());
        let amqp = fields.optional("amqp", "events are published to an exchange", section::<EventQueue>());
        fields.exactly_one(&["webhook", "amqp"])?;
        let webhook = webhook?.map(Events::Webhook);
        Some(Self(webhook.or(amqp?.map(Events::Amqp))?))
    }
}

impl Section for Webhook {
    const NAME: &'static str = "webhook";
    const ABOUT: &'static str = "who may post events, and what of an event concerns the pipeline";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "the key with which senders sign bodies: HMAC-SHA256, in hexadecimal digits";
        let secret = fields.optional("secret", about, Secret("a secret"));
        let secret_file = fields.optional("secret_file", "a file that holds the key", SecretFile);
        let bearer = fields.optional("bearer", "the token of `Authorization: Bearer …`", Secret("a token"));
        let bearer_file = fields.optional("bearer_file", "a file that holds the token", SecretFile);
        let one = fields.exactly_one(&["secret", "secret_file", "bearer", "bearer_file"]);
        let about = "the header that carries the signature";
        let header = fields.defaulted("signature_header", about, Header, "X-Signature-256");
        let about = "senders that are allowed when they ask first (OPTIONS), by the names that they give; else none";
        let origins = fields.optional("origins", about, Names("the name of a sender"));
        let hinted = hinted(fields);
        one?;
        let (secret, bearer) = (secret?.or(secret_file?), bearer?.or(bearer_file?));
        let signed = secret.map(|secret| Some(Sender::Signature { secret, header: header.clone()? }));
        let sender = match signed {
            Some(signed) => signed?,
            None => Sender::Bearer(bearer?),
        };
        header?;
        Some(Self { sender, origins: origins?.unwrap_or_default(), hinted: hinted? })
    }
}

impl Section for EventQueue {
    const NAME: &'static str = "event_queue";
    const ABOUT: &'static str = "where events are published, and what of an event concerns the pipeline";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let schemes = &["amqp://", "amqps://"];
        let url = fields.optional("url", "amqps://user:${PASSWORD}@host:5671/vhost", Url(schemes));
        let file = fields.optional("url_file", "a file that holds the url", UrlFile(schemes));
        let one = fields.exactly_one(&["url", "url_file"]);
        let ca = fields.optional("ca_file", "certificate authorities beside those of the system, as PEM", FilePath);
        let about = "the exchange that events are published to; it belongs to whoever publishes, and must be there";
        let exchange = fields.required("exchange", about, Text("the name of an exchange"));
        let about = "the queue that is bound to it, durable, of this pipeline alone; else fides.events.<pipeline>";
        let queue = fields.optional("queue", about, Text("the name of a queue"));
        let about = "what the queue is bound with; else `#`: everything that the exchange carries";
        let keys = fields.optional("routing_keys", about, Names("a routing key"));
        let hinted = hinted(fields);
        one?;
        Some(Self {
            url: url?.or(file?)?,
            ca_file: ca?,
            exchange: exchange?,
            queue: queue?,
            routing_keys: keys?.unwrap_or_else(|| vec!["#".to_owned()]),
            hinted: hinted?,
        })
    }
}

/// What both kinds of intake say of events.
fn hinted(fields: &mut Fields<'_, '_>) -> Option<Hinted> {
    let about = "the types of event that concern the pipeline, where * stands for any text; else all of them";
    let types = fields.optional("types", about, Names("a type of event"));
    let about =
        "where an event names the record: `subject`, `data.` and the way to a field, or a list of one per key column";
    let key = fields.defaulted("key", about, KeyPlaces, "subject");
    Some(Hinted { types: types?.unwrap_or_default(), key: key? })
}

/// One place in an event, or several.
struct KeyPlaces;

impl Form for KeyPlaces {
    type Value = Vec<fides_cloudevents::KeySource>;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<Self::Value> {
        match &node.content {
            Content::List(items) if !items.is_empty() => {
                let places: Vec<_> = items.iter().map(|item| place(reading, item)).collect();
                places.into_iter().collect()
            }
            Content::List(_) | Content::Map(_) => reading.refuse(node, PLACE),
            Content::Plain(_) | Content::Quoted(_) => Some(vec![place(reading, node)?]),
        }
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        let place = json!({ "type": "string", "pattern": "^(subject|data(\\.[^.]+)+)$" });
        json!({ "anyOf": [place, { "type": "array", "items": place, "minItems": 1 }] })
    }
}

const PLACE: &str = "`subject`, or `data.` and the way to a field, as data.order.id";

fn place(reading: &mut Reading<'_>, node: &Node) -> Option<fides_cloudevents::KeySource> {
    let text = reading.text(node, PLACE)?;
    match fides_cloudevents::KeySource::parse(&text) {
        Some(place) => Some(place),
        None => reading.refuse_word(node, &text, PLACE, ["subject"]),
    }
}

impl Section for Intake {
    const NAME: &'static str = "intake";
    const ABOUT: &'static str = "where events are received over HTTP, if a pipeline has a webhook";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "where events are posted to, without TLS: put a proxy before it that has a certificate; port 0 takes a free one";
        let listen = fields.defaulted("listen", about, Listen, "127.0.0.1:8081");
        let about = "bytes of one request's body; a larger one is refused";
        let body_bytes_max = fields.defaulted("body_bytes_max", about, Number(1024..=134_217_728), "1048576");
        Some(Self { listen: listen?, body_bytes_max: body_bytes_max? })
    }
}

/// A text that no error shows.
pub(super) struct Secret(pub &'static str);

impl Form for Secret {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        if node.scalar().is_none() {
            return reading.refuse(node, self.0);
        }
        let secret = SecretString::from(reading.text(node, self.0)?);
        filled(reading, node, secret)
    }

    fn schema(&self, _: &mut Definitions) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The path of a file that holds a secret.
pub(super) struct SecretFile;

impl Form for SecretFile {
    type Value = SecretString;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<SecretString> {
        let path = FilePath.read(reading, node)?;
        match secrets::from_file(&path) {
            Ok(secret) => filled(reading, node, secret),
            Err(error) => {
                let found = format!("{}, which cannot be read: {error}", node.shown());
                reading.refuse_at(&node.spot, found, "a file that holds the secret")
            }
        }
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        FilePath.schema(definitions)
    }
}

/// An empty secret would let everybody in.
fn filled(reading: &mut Reading<'_>, node: &Node, secret: SecretString) -> Option<SecretString> {
    if secret.expose_secret().trim().is_empty() {
        return reading.refuse_at(&node.spot, "an empty secret", "a secret that is not empty");
    }
    Some(secret)
}

/// The name of a header.
struct Header;

impl Form for Header {
    type Value = HeaderName;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<HeaderName> {
        let expected = "the name of an HTTP header";
        let text = reading.text(node, expected)?;
        HeaderName::from_bytes(text.as_bytes()).ok().or_else(|| reading.refuse(node, expected))
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        Text("").schema(definitions)
    }
}
