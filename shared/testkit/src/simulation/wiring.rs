//! How one process of the simulation is wired.

use std::sync::Arc;

use fides_core::port::{Host, Mapper, Sink, Target};
use fides_core::{Namespace, PipelineId, Selection};
use fides_engine::{DeletePolicy, ForeignPolicy, Pipeline};

use super::events::Unsequenced;
use super::limits::limits;
use super::planted::Planted;
use super::stalling::Stalling;
use super::world::World;
use crate::fake::{Around, FakeHost, Faults, Faulty};

pub(super) fn namespace() -> Namespace {
    Namespace(vec!["copy".into()])
}

/// The pipeline of one process, with the weather, and the planted bug if there is one, before its ports.
pub(super) fn pipeline(world: &World, faults: &Faults) -> Pipeline {
    let mapper = Arc::new(world.mapper.borrow().clone());
    let selection = Selection { columns: mapper.reads(), ..FakeHost::selection(mapper.revision(), 4) };
    let id = PipelineId::new("sim");
    let backplane = faults.around(&world.disk.open());
    let mut host: Arc<dyn Host> = Arc::new(Faulty::new(Arc::new(world.host.clone()) as Arc<dyn Host>, faults));
    if world.plan.planted == Some(Planted::SequenceIgnored) {
        host = Arc::new(Unsequenced(host));
    }
    let target: Arc<dyn Target> = Arc::new(Faulty::new(Arc::new(world.target.clone()) as Arc<dyn Target>, faults));
    let target: Arc<dyn Target> = Arc::new(Around { target, how: Stalling(world.stalled.clone()) });
    let (backplane, target) = match world.plan.planted {
        Some(planted) => planted.plant(world, &id, &selection, backplane, target),
        None => (backplane, target),
    };
    let target_selection = mapper.documents(namespace(), 4);
    let sink = Sink { pipeline: id.clone(), namespace: namespace(), version_field: None };
    let (delete, foreign) = (DeletePolicy::Hard, ForeignPolicy::Keep);
    Pipeline {
        id,
        host,
        target,
        mapper,
        selection,
        sink,
        target_selection,
        limits: limits(),
        delete,
        foreign,
        backplane,
    }
}
