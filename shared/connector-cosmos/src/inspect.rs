//! What stands in the way of writing documents into a container.

use fides_core::port::{Obstacle, Sink};
use fides_core::{Kind, Namespace, Shape};

use crate::container::Definition;
use crate::layout::RESERVED;

/// Of a shape, whatever the container is like.
pub(crate) fn of_shape(sink: &Sink, shape: &Shape) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let version = sink.version_field.as_deref();
    for (at, field) in shape.fields.iter().enumerate() {
        let name = field.name.as_str();
        if RESERVED.contains(&name) || (version == Some(name)) {
            let what = format!("field {name} has a meaning of its own in Cosmos DB, or to Fides");
            obstacles.push(Obstacle::new(what).advise("give it another name in the mapping"));
        }
        if name == "id" && shape.key != [at] {
            let what = "field id is not the whole key, and a document's id is made of that".to_owned();
            obstacles.push(Obstacle::new(what).advise("give it another name in the mapping"));
        }
    }
    if version == Some("id") {
        obstacles.push(Obstacle::new("the version cannot be in field id").advise("choose another version_field"));
    }
    obstacles
}

/// Of a container that is there.
pub(crate) fn of_container(definition: &Definition, shape: &Shape) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    for path in &definition.paths {
        let field = path.field();
        let known = shape.fields.iter().find(|known| known.name == field);
        match known {
            _ if path.is_top() && field == "id" => {}
            None => {
                let what = format!("the partition key {path} reads field {field}, which the mapping does not write");
                obstacles.push(Obstacle::new(what).advise("map a field of that name"));
            }
            // A path goes on into JSON only.
            Some(known) if !path.is_top() && !matches!(known.kind, Kind::Json | Kind::Any) => {
                let what =
                    format!("the partition key {path} reads into field {field}, which is of kind {}", known.kind);
                obstacles.push(Obstacle::new(what).advise("map an object of that name"));
            }
            Some(_) => {}
        }
    }
    obstacles.extend(of_expiry(definition, "its"));
    obstacles
}

/// Of Fides' own container: an address document or a lane's token that expires is lost, and so are those that are looked
/// for under another partition key (L6, L12).
pub(crate) fn of_own(definition: &Definition, own: &Namespace) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let is_id = matches!(&definition.paths[..], [path] if path.is_top() && path.field() == "id");
    if !is_id {
        let what = format!("the partition key of container {own}, which fences writers off, is not /id");
        obstacles
            .push(Obstacle::new(what).advise("delete that container while nothing is written, and let it be made"));
    }
    obstacles.extend(of_expiry(definition, &format!("container {own}, which fences writers off: its")));
    obstacles
}

/// What expires must be what says so, and nothing else.
fn of_expiry(definition: &Definition, its: &str) -> Option<Obstacle> {
    let (what, advice) = if definition.all_expire {
        ("documents expire by themselves (DefaultTimeToLive has a number of seconds)", "set DefaultTimeToLive to -1")
    } else if !definition.expires {
        (
            "time to live is off, so that tombstones of deleted documents would stay for ever",
            "set DefaultTimeToLive to -1: documents expire only where they say so",
        )
    } else {
        return None;
    };
    Some(Obstacle::new(format!("{its} {what}")).advise(advice))
}

/// Of a container that does not exist and is not to be made.
pub(crate) fn missing(what: &str) -> Obstacle {
    Obstacle::new(format!("{what} does not exist")).advise("create it, or set `create: true`")
}
