//! Where the queue, the hash store and the state store are: one file, or a broker and a Redis.

use std::path::PathBuf;

use super::collection::Names;
use super::fields::{Fields, Section, section};
use super::model::{Amqp, Backplane, Redis};
use super::node::Content;
use super::scalar::{FilePath, Number, Text};
use super::store::{Url, UrlFile};

impl Section for Backplane {
    const NAME: &'static str = "backplane";
    const ABOUT: &'static str =
        "where the queue, the hash store and the state store are: `embedded`, or `amqp` and `redis`";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "all in one SQLite file, for one process";
        let embedded = fields.defaulted("embedded", about, section::<Embedded>(), "");
        let amqp = fields.optional("amqp", "the queue in RabbitMQ, for many processes", section::<Amqp>());
        let redis = fields.optional("redis", "hash store, state store and dead letters in Redis", section::<Redis>());
        let whole = fields.check(|reading, node| {
            let has = |name: &str| node.get(name).is_some_and(|value| !value.is_null());
            let found = match (has("embedded"), has("amqp"), has("redis")) {
                (_, false, false) | (false, true, true) => return Some(()),
                (true, ..) => "`embedded` beside a broker or a Redis",
                (false, true, false) => "`amqp` without `redis`",
                (false, false, true) => "`redis` without `amqp`",
            };
            reading.refuse_at(&node.spot, found, "either `embedded`, or both `amqp` and `redis`")
        });
        let (embedded, amqp, redis) = (embedded?, amqp?, redis?);
        whole?;
        match (amqp, redis) {
            (Some(amqp), Some(redis)) => Some(Self::Distributed { amqp, redis }),
            _ => Some(Self::Embedded { path: embedded.0 }),
        }
    }
}

struct Embedded(PathBuf);

impl Section for Embedded {
    const NAME: &'static str = "embedded";
    const ABOUT: &'static str = "a backplane in one SQLite file";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let about = "the file, relative to the folder of this file";
        Some(Self(fields.defaulted("path", about, FilePath, "./state.fides")?))
    }
}

impl Section for Amqp {
    const NAME: &'static str = "amqp";
    const ABOUT: &'static str = "a RabbitMQ, 3.10 or newer";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let schemes = &["amqp://", "amqps://"];
        let url = fields.optional("url", "amqps://user:${PASSWORD}@host:5671/vhost", Url(schemes));
        let file = fields.optional("url_file", "a file that holds the url", UrlFile(schemes));
        let one = fields.exactly_one(&["url", "url_file"]);
        let ca = fields.optional("ca_file", "certificate authorities beside those of the system, as PEM", FilePath);
        let about = "the queue of commands; deployments that share a virtual host need one each";
        let admin = fields.defaulted("admin_queue", about, Text("the name of a queue"), "fides.admin");
        one?;
        Some(Self { url: url?.or(file?)?, ca_file: ca?, admin_queue: admin? })
    }
}

/// What of Redis's settings L11 needs; `config` stands for not being allowed to look.
const ACCEPTABLE: [&str; 5] = ["maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "config"];

impl Section for Redis {
    const NAME: &'static str = "redis";
    const ABOUT: &'static str =
        "a Redis, 7 or newer, that keeps what it confirmed: appendonly yes, appendfsync always, noeviction";

    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let schemes = &["redis://", "rediss://"];
        let url = fields.optional("url", "rediss://user:${PASSWORD}@host:6379/0", Url(schemes));
        let file = fields.optional("url_file", "a file that holds the url", UrlFile(schemes));
        let one = fields.exactly_one(&["url", "url_file"]);
        let ca = fields.optional("ca_file", "certificate authorities beside those of the system, as PEM", FilePath);
        let about = "dead letters of one pipeline; a full store pauses the pipeline";
        let letters = fields.defaulted("dead_letters_max", about, Number(1..=10_000_000), "100000");
        let about =
            "settings of Redis that may lose marks and are accepted as they are: what is lost is imported again";
        let accept = fields.optional("accept", about, Names("a setting of Redis"));
        let known = fields.check(|reading, node| {
            let Some(Content::List(items)) = node.get("accept").map(|list| &list.content) else { return Some(()) };
            let names = accept.iter().flatten().flatten();
            match items.iter().zip(names).find(|(_, name)| !ACCEPTABLE.contains(&name.as_str())) {
                Some((item, name)) => {
                    reading.refuse_word(item, name, format!("one of {}", ACCEPTABLE.join(", ")), ACCEPTABLE)
                }
                None => Some(()),
            }
        });
        one?;
        Some(Self {
            url: url?.or(file?)?,
            ca_file: ca?,
            dead_letters_max: letters?,
            accept: accept.filter(|_| known.is_some())?.unwrap_or_default(),
        })
    }
}
