//! `pipelines`: the way of one namespace, and the checks inside one pipeline.

use std::str::FromStr;

use chrono_tz::{TZ_VARIANTS, Tz};
use croner::parser::{CronParser, Seconds, Year};

use super::body::Body;
use super::collection::{DottedPath, Names, WithNode, complete};
use super::delete::{DeleteChoice, leaves_version_alone};
use super::events::EventsChoice;
use super::fields::{Fields as Keys, Section, section};
use super::form::Reading;
use super::limits::LimitsPatch;
use super::mapping::{Program, mapping};
use super::model::{Fields, Foreign, Limits, Namespace, Pipeline, Schedule};
use super::node::Node;
use super::relation::{ColumnChoice, include};
use super::scalar::{Flag, Text, Word};

/// A pipeline as far as it could be read. The parts that other pipelines and stores are checked against are kept apart,
/// so that a mistake elsewhere in the pipeline does not hide what is wrong with them.
pub(super) struct Draft {
    pub host: Option<(String, Node)>,
    pub from: Option<(Namespace, Node)>,
    pub target: Option<(String, Node)>,
    pub into: Option<(Namespace, Node)>,
    pub limits: Option<(LimitsPatch, Node)>,
    /// The whole, still without its id and with the default limits; `None` after any mistake.
    pub pipeline: Option<Pipeline>,
}

impl Section for Draft {
    const NAME: &'static str = "pipeline";
    const ABOUT: &'static str = "one way from a host's namespace to a target's";

    fn read(keys: &mut Keys<'_, '_>) -> Option<Self> {
        let host = keys.required("host", "the name of a host", WithNode(Text("the name of a host")));
        let about = "the table, collection or container that is read";
        let from = keys.required("from", about, WithNode(DottedPath("a namespace")));
        let key = keys.optional("key", "the columns that identify a record; else the primary key", Names("a column"));
        let include = include(keys);
        let target = keys.required("target", "the name of a target", WithNode(Text("the name of a target")));
        let about = "the table, collection or container that is written";
        let into = keys.required("into", about, WithNode(DottedPath("a namespace")));
        let create = keys.defaulted("create", "whether a missing target namespace is created", Flag, "false");
        let about = "a jq condition; records for which it is false are not in the target";
        let when = keys.optional("when", about, Program("a jq condition"));
        let columns = keys.optional("columns", "host columns kept under their own names, '*' for all", ColumnChoice);
        let mapping = keys.optional("mapping", "target fields, each with where its value comes from", mapping());
        let one = keys.exactly_one(&["columns", "mapping"]);
        let about = "the target column that holds the version, for conditional writes";
        let version_field = keys.optional("version_field", about, Text("a column of the target"));
        let about = "what tells of changes as they happen; imports find them all the same";
        let events = keys.optional("events", about, EventsChoice);
        let schedules = schedules(keys);
        let about = "what happens to a target record whose host record is gone";
        let delete = keys.defaulted("delete", about, DeleteChoice, "hard");
        let about = "what a clean-up does with target records that this pipeline never wrote";
        let words = Word(&[("keep", Foreign::Keep), ("delete", Foreign::Delete)]);
        let foreign = keys.defaulted("foreign", about, words, "keep");
        let about = "limits of this pipeline, over those of the file";
        let limits = keys.optional("limits", about, WithNode(section::<LimitsPatch>()));

        let checked = keys.check(|reading, node| {
            let body = Body { columns: columns.as_ref()?.as_ref(), mapping: mapping.as_ref()?.as_deref() };
            let key = key.as_ref().and_then(|key| key.as_deref());
            let keyed = body.takes_over_key(reading, node, key);
            let pathed = include.as_ref().and_then(|include| body.paths_lead_somewhere(reading, node, include));
            let field = version_field.as_ref().and_then(|field| field.as_deref());
            let versioned = body.leaves_version_alone(reading, node, field);
            let flagged = leaves_version_alone(reading, node, delete.as_ref(), field);
            keyed.and(pathed).and(versioned).and(flagged)
        });
        let pipeline = || {
            checked.and(one)?;
            let schedules = schedules?;
            Some(Pipeline {
                id: String::new(),
                host: host.clone()?.0,
                from: from.clone()?.0,
                key: key?,
                include: include?,
                target: target.clone()?.0,
                into: into.clone()?.0,
                create: create?,
                when: when?,
                fields: match mapping? {
                    Some(mapping) => Fields::Mapped(complete(mapping)?),
                    None => Fields::Same(columns??),
                },
                version_field: version_field?,
                events: events?,
                schedule: schedules.import,
                cleanup: schedules.cleanup,
                verify: schedules.verify,
                delete: delete.clone()?,
                foreign: foreign?,
                limits: Limits::default(),
            })
        };
        let pipeline = pipeline();
        Some(Self { host, from, target, into, limits: limits.flatten(), pipeline })
    }
}

/// When imports, clean-ups and comparisons start.
struct Schedules {
    import: Option<Schedule>,
    cleanup: Option<Schedule>,
    verify: Option<Schedule>,
}

fn schedules(keys: &mut Keys<'_, '_>) -> Option<Schedules> {
    let about = "when imports start: six cron fields, seconds first";
    let import = keys.optional("schedule", about, WithNode(Text("six cron fields")));
    let about = "when the target is searched for what the host no longer has: six cron fields, seconds first";
    let cleanup = keys.optional("cleanup", about, WithNode(Text("six cron fields")));
    let about = "when both sides are compared, and drift is told: six cron fields, seconds first";
    let verify = keys.optional("verify", about, WithNode(Text("six cron fields")));
    let about = "the time zone of the schedules, as Europe/Berlin";
    let timezone = keys.optional("timezone", about, WithNode(Text("a time zone")));
    keys.check(|reading, node| {
        let zone = timezone.and_then(|timezone| match &timezone {
            None => Some(Tz::UTC),
            Some((name, written)) => Tz::from_str(name).ok().or_else(|| {
                let known = TZ_VARIANTS.iter().map(|zone| zone.name());
                reading.refuse_word(written, name, "a time zone of the IANA database", known)
            }),
        });
        let (import, cleanup, verify) = (import?, cleanup?, verify?);
        let unscheduled = import.is_none() && cleanup.is_none() && verify.is_none();
        if let Some(zone) = node.get("timezone").filter(|zone| unscheduled && !zone.is_null()) {
            return reading.refuse_at(
                &zone.spot,
                "a time zone without a schedule",
                "`schedule`, `cleanup` or `verify` beside it",
            );
        }
        let import = import.map_or(Some(None), |written| schedule(reading, written, zone));
        let cleanup = cleanup.map_or(Some(None), |written| schedule(reading, written, zone));
        let verify = verify.map_or(Some(None), |written| schedule(reading, written, zone));
        Some(Schedules { import: import?, cleanup: cleanup?, verify: verify? })
    })
}

#[expect(clippy::option_option, reason = "as the callers read it: refused, or there")]
fn schedule(reading: &mut Reading<'_>, (cron, written): (String, Node), zone: Option<Tz>) -> Option<Option<Schedule>> {
    match sensible(&cron) {
        Ok(()) => Some(Some(Schedule { cron, timezone: zone? })),
        Err(reason) => {
            let found = format!("{} ({reason})", written.shown());
            reading.refuse_at(&written.spot, found, "six cron fields: second minute hour day month weekday")
        }
    }
}

/// Whether the expression has its six fields and means something; the parser alone would add missing fields.
fn sensible(cron: &str) -> Result<(), String> {
    match cron.split_whitespace().count() {
        6 => {
            let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
            parser.parse(cron).map(|_| ()).map_err(|error| error.to_string())
        }
        fields => Err(format!("number of fields: {fields}")),
    }
}
