//! Cosmos DB as the store that is kept in step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fides_core::port::{Fencing, Obstacle, Outcome, Sink, Snapshot, Target, Write};
use fides_core::{Change, Fault, Lane, Namespace, Selection, Shape, Table, Version};

use crate::account::Account;
use crate::apply::{self, Places};
use crate::condition::Keying;
use crate::container::Container;
use crate::layout::{Layout, VERSION};
use crate::pace::Pace;
use crate::reading::Reading;
use crate::settings::Settings;
use crate::snapshot::CosmosSnapshot;
use crate::{describe, fence, inspect};

/// Documents that tell what fields a container has: few, for this is asked whenever readiness is.
const SAMPLE: usize = 10;

type Routes = HashMap<(Namespace, Option<String>, Shape), Arc<Route>>;

/// Where documents of a shape are written, and how.
struct Route {
    places: Places,
    layout: Layout,
}

pub(crate) struct CosmosTarget {
    account: Arc<Account>,
    pace: Arc<Pace>,
    routes: Mutex<Routes>,
    /// How long one write sends requests.
    send_max: Duration,
}

impl CosmosTarget {
    pub fn new(settings: Settings, write_timeout_ms_max: u64) -> Result<Self, Fault> {
        let pace = Arc::new(Pace::new(settings.request_units_per_second));
        Ok(Self {
            // L6: a request is given up before the write that it belongs to.
            account: Account::new(settings, write_timeout_ms_max / 4)?,
            pace,
            routes: Mutex::default(),
            send_max: Duration::from_millis(write_timeout_ms_max / 2),
        })
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Worked out at the first write, and anew after one that found no container.
    async fn route(&self, sink: &Sink, shape: &Shape) -> Result<Arc<Route>, Fault> {
        let key = (sink.namespace.clone(), sink.version_field.clone(), shape.clone());
        if let Some(route) = self.routes().get(&key) {
            return Ok(route.clone());
        }
        let places = self.places(&sink.namespace).await?;
        let layout = Layout::new(sink, shape, &places.documents.definition);
        let route = Arc::new(Route { places, layout });
        self.routes().insert(key, route.clone());
        Ok(route)
    }

    async fn places(&self, namespace: &Namespace) -> Result<Places, Fault> {
        let own = fence::own(&self.account, namespace)?;
        Ok(Places {
            documents: Container::require(&self.account, &self.pace, namespace).await?,
            own: Container::require(&self.account, &self.pace, &own).await?,
        })
    }

    async fn obstacles(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        let mut obstacles = inspect::of_shape(sink, shape);
        match Container::open(&self.account, &self.pace, &sink.namespace).await? {
            Some(container) => obstacles.extend(inspect::of_container(&container.definition, shape)),
            None if create => {}
            None => obstacles.push(inspect::missing("it")),
        }
        let own = fence::own(&self.account, &sink.namespace)?;
        match Container::open(&self.account, &self.pace, &own).await? {
            Some(container) => obstacles.extend(inspect::of_own(&container.definition, &own)),
            None if create => {}
            None => obstacles.push(inspect::missing(&format!("container {own}, which fences writers off,"))),
        }
        Ok(obstacles)
    }
}

#[async_trait]
impl Target for CosmosTarget {
    fn fencing(&self) -> Fencing {
        Fencing::Conditional
    }

    /// A container has no columns: fields are those of some documents.
    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        let container = Container::open(&self.account, &self.pace, namespace).await?;
        match container {
            Some(container) => describe::describe(container, namespace, SAMPLE).await.map(Some),
            None => Ok(None),
        }
    }

    async fn inspect(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<Vec<Obstacle>, Fault> {
        self.obstacles(sink, shape, create).await
    }

    async fn prepare(&self, sink: &Sink, shape: &Shape, create: bool) -> Result<(), Fault> {
        Obstacle::refuse(&sink.namespace, &self.obstacles(sink, shape, create).await?)?;
        if create {
            let settings = &self.account.settings.containers;
            let name = sink.namespace.0.last().map_or("", String::as_str);
            let own = fence::own(&self.account, &sink.namespace)?;
            for (namespace, like) in [
                (&sink.namespace, settings.get(name).cloned().unwrap_or_default()),
                (&own, fence::settings(&self.account)),
            ] {
                if Container::open(&self.account, &self.pace, namespace).await?.is_none() {
                    Container::make(&self.account, namespace, &like).await?;
                }
            }
            // What was made by the settings may be no better than what was there.
            Obstacle::refuse(&sink.namespace, &self.obstacles(sink, shape, false).await?)?;
        }
        self.routes().retain(|(namespace, ..), _| *namespace != sink.namespace);
        self.route(sink, shape).await.map(drop)
    }

    async fn claim(&self, sink: &Sink, lane: &Lane, token: u64) -> Result<(), Fault> {
        let places = self.places(&sink.namespace).await?;
        fence::claim(&places.own, &places.documents, lane, token).await
    }

    async fn claimed(&self, sink: &Sink, lane: &Lane) -> Result<Option<u64>, Fault> {
        let own = Container::open(&self.account, &self.pace, &fence::own(&self.account, &sink.namespace)?).await?;
        let documents = Container::open(&self.account, &self.pace, &sink.namespace).await?;
        match (own, documents) {
            (Some(own), Some(documents)) => fence::claimed(&own, &documents, lane).await,
            _ => Ok(None),
        }
    }

    async fn apply(&self, write: &Write<'_>, changes: &[Change]) -> Vec<Outcome> {
        if changes.is_empty() {
            return Vec::new();
        }
        let route = match self.route(write.sink, write.shape).await {
            Ok(route) => route,
            Err(fault) => return vec![Outcome::Failed(fault); changes.len()],
        };
        let before = self.pace.spent();
        let concurrency = self.account.settings.concurrency.max(1) as usize;
        let outcomes = apply::apply(&route.places, &route.layout, write, changes, concurrency, self.send_max).await;
        let spent = self.pace.spent();
        tracing::debug!(
            changes = changes.len(),
            requests = spent.requests - before.requests,
            request_units = spent.units - before.units,
            throttled = spent.throttled - before.throttled,
            "applied to Cosmos DB"
        );
        let is_gone = |outcome: &Outcome| matches!(outcome, Outcome::Failed(fault) if fault.kind == fides_core::FaultKind::Unavailable);
        if outcomes.iter().any(is_gone) {
            // The container may have been made anew.
            self.routes().retain(|(namespace, ..), _| *namespace != write.sink.namespace);
        }
        outcomes
    }

    async fn snapshot(&self, sink: &Sink, selection: &Selection) -> Result<Arc<dyn Snapshot>, Fault> {
        let container = Container::open(&self.account, &self.pace, &sink.namespace).await?;
        let container =
            container.ok_or_else(|| Fault::permanent(format!("container {} does not exist", sink.namespace)))?;
        let version = sink.version_field.clone().unwrap_or_else(|| VERSION.to_owned());
        let keying = Keying::Encoded { version };
        let reading = Reading { container: Arc::new(container), selection: selection.clone(), keying };
        Ok(Arc::new(CosmosSnapshot { reading, version: Version::default() }))
    }
}
