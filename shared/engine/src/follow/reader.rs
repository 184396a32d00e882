use std::time::Duration;

use fides_core::port::{Expect, Gap, Log, LogPage, What};
use fides_core::{Change, Fault, Op, Origin, Version};
use futures::stream::{FuturesOrdered, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::debt::owe;
use crate::{DeletePolicy, Mapping, Pipeline, Progress, epoch, persisted, publisher};

/// The place is stored this often while there is work: what was published since comes again after a crash.
const STORE_EVERY: Duration = Duration::from_millis(200);

fn key(pipeline: &Pipeline) -> String {
    format!("log/{}", pipeline.id)
}

/// Pages that are published while the next is read. Their changes wait in memory (L10).
const PAGES_IN_FLIGHT_MAX: usize = 2;

/// A place means something only to the host of its epoch.
#[derive(Serialize, Deserialize)]
struct Stored {
    epoch: u32,
    place: u64,
    /// Deletions that it has told, over all epochs.
    #[serde(default)]
    gone: u64,
}

/// How many deletions the log has told so far. What it tells twice is counted twice.
pub(crate) async fn told_gone(pipeline: &Pipeline) -> Result<u64, Fault> {
    let stored = persisted::load::<Stored>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.map_or(0, |(stored, _)| stored.gone))
}

/// How far the log is published for certain; `None` where it never was in this epoch.
pub async fn place(pipeline: &Pipeline) -> Result<Option<u64>, Fault> {
    let epoch = epoch::current(pipeline).await?;
    let stored = persisted::load::<Stored>(&*pipeline.backplane.state, &key(pipeline)).await?;
    Ok(stored.filter(|(stored, _)| stored.epoch == epoch).map(|(stored, _)| stored.place))
}

/// The place of a log.
struct Place<'a> {
    pipeline: &'a Pipeline,
    epoch: u32,
    /// Compared and set: a reader that lost its lease must not take the place back.
    expect: Expect,
    stored: Option<u64>,
    /// Everything up to here is published.
    published: Option<u64>,
    gone: u64,
    due: Instant,
}

impl<'a> Place<'a> {
    async fn load(pipeline: &'a Pipeline, epoch: u32) -> Result<Self, Fault> {
        let found = persisted::load::<Stored>(&*pipeline.backplane.state, &key(pipeline)).await?;
        let expect = found.as_ref().map_or(Expect::Absent, |(_, revision)| Expect::Revision(*revision));
        let gone = found.as_ref().map_or(0, |(stored, _)| stored.gone);
        let stored = found.filter(|(stored, _)| stored.epoch == epoch).map(|(stored, _)| stored.place);
        Ok(Self { pipeline, epoch, expect, stored, published: stored, gone, due: Instant::now() })
    }

    fn is_behind(&self) -> bool {
        self.published != self.stored
    }

    /// Everything up to `place` is published.
    fn reached(&mut self, place: u64) {
        if !self.is_behind() {
            self.due = Instant::now() + STORE_EVERY;
        }
        self.published = Some(place);
    }

    async fn store(&mut self) -> Result<(), Fault> {
        let Some(place) = self.published.filter(|_| self.is_behind()) else { return Ok(()) };
        // The look is later than the pages, and the place moves only behind both. What is published for nothing loses against
        // the import of the new epoch.
        is_current(self.pipeline, self.epoch).await?;
        let key = key(self.pipeline);
        let stored = Stored { epoch: self.epoch, place, gone: self.gone };
        let revision = persisted::store(&*self.pipeline.backplane.state, &key, &stored, self.expect).await?;
        self.expect = Expect::Revision(revision.ok_or_else(|| persisted::lost_race(&key))?);
        self.stored = Some(place);
        Ok(())
    }
}

/// Reads the log behind the stored place, publishes, and stores the place, until `stop`.
pub(super) async fn read(
    pipeline: &Pipeline,
    progress: &Progress,
    stop: &CancellationToken,
    worked: &mut bool,
) -> Result<(), Fault> {
    epoch::establish(pipeline).await?;
    let epoch = epoch::current(pipeline).await?;
    let mut place = Place::load(pipeline, epoch).await?;
    let opened = pipeline.host.log(&pipeline.selection, &pipeline.id, place.stored).await?;
    match opened.gap {
        None => {}
        Some(Gap::Missing(why)) => {
            tracing::warn!(pipeline = %pipeline.id, why, "the log does not tell everything: an import is due");
            // The debt before the place: a crash in between owes once more, and forgets nothing.
            owe(pipeline).await?;
            place.reached(opened.from);
            place.store().await?;
        }
        Some(Gap::Backward(why)) => {
            tracing::warn!(pipeline = %pipeline.id, why, "the host's positions have gone backward: the epoch rises");
            epoch::raise(pipeline, epoch).await?;
            return Err(Fault::transient(format!("{why}: everything is compared anew")));
        }
    }
    let mut log = opened.log;
    // In the order of the log: what is published of a page counts when all before it is.
    let mut publishing = FuturesOrdered::new();
    loop {
        let step = {
            // Kept while pages before it are confirmed: one that is dropped may have been about to fetch records.
            let mut next = std::pin::pin!(log.next());
            loop {
                let is_idle = publishing.is_empty();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break Step::Stop,
                    Some(published) = publishing.next() => {
                        count(pipeline, &mut place, published?).await?;
                        *worked = true;
                    }
                    () = sleep_until(place.due), if is_idle && place.is_behind() => break Step::Save,
                    page = &mut next, if publishing.len() < PAGES_IN_FLIGHT_MAX => break Step::Publish(page?),
                }
            }
        };
        match step {
            // What was published of the pages in flight comes again: their places are not stored.
            Step::Stop => return save(&mut place, &mut *log).await,
            Step::Save => save(&mut place, &mut *log).await?,
            Step::Publish(page) => {
                publishing.push_back(publish(pipeline, progress, epoch, &page));
                if place.is_behind() && place.due <= Instant::now() {
                    save(&mut place, &mut *log).await?;
                }
            }
        }
    }
}

/// What a reader does next.
enum Step {
    Stop,
    Save,
    Publish(LogPage),
}

/// The queue has a page and all before it.
async fn count(pipeline: &Pipeline, place: &mut Place<'_>, published: Published) -> Result<(), Fault> {
    if published.emptied {
        // L8: absences of a whole table are judged together, by an import that begins when the queue has everything that came
        // before: what it got later would be written behind the import, and stay.
        tracing::warn!(pipeline = %pipeline.id, "the host's table was emptied: an import is due");
        owe(pipeline).await?;
    }
    place.gone += published.gone;
    if place.published != Some(published.through) {
        place.reached(published.through);
    }
    Ok(())
}

/// Stores the place, and only then lets the host forget (L3).
async fn save(place: &mut Place<'_>, log: &mut dyn Log) -> Result<(), Fault> {
    place.store().await?;
    match place.stored {
        Some(stored) => log.release(stored).await,
        None => Ok(()),
    }
}

/// A page that the queue has.
struct Published {
    through: u64,
    /// Deletions on it.
    gone: u64,
    /// The table was emptied.
    emptied: bool,
}

/// Publishes a page; the future that comes back waits until the queue has it (L3). Every change is sent, whatever the mark
/// says (L5). Pages that are published at the same time go to each lane in the order in which their futures are first polled;
/// where one does not fit at once the next may overtake the rest of it, which versions make harmless (L4).
fn publish<'a>(
    pipeline: &'a Pipeline,
    progress: &Progress,
    of_epoch: u32,
    page: &LogPage,
) -> impl Future<Output = Result<Published, Fault>> + 'a {
    let mut mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
    let mut changes = Vec::with_capacity(page.changes.len());
    let mut published = Published { through: page.place, gone: 0, emptied: false };
    for logged in &page.changes {
        let version = Version { epoch: of_epoch, position: logged.position, sequence: logged.sequence };
        match &logged.what {
            What::Row { key, at } => changes.push(mapping.logged(page, *at, key.clone(), version)),
            What::Gone(key) => {
                published.gone += 1;
                if pipeline.delete != DeletePolicy::Never {
                    let key = key.clone();
                    changes.push(Change { key, version, fingerprint: None, op: Op::Delete, forced: false });
                }
            }
            What::Emptied => published.emptied = true,
        }
    }
    Progress::add(&progress.followed, changes.len());
    async move {
        if !changes.is_empty() {
            publisher::publish(pipeline, pipeline.shape(), Origin::Event, changes).await?;
        }
        Ok(published)
    }
}

/// Under an epoch that has passed a change would lose against what the import of the new one reads. A rise after this look is
/// followed by an import whose snapshot sees the change.
async fn is_current(pipeline: &Pipeline, epoch: u32) -> Result<(), Fault> {
    if epoch::current(pipeline).await? == epoch {
        return Ok(());
    }
    Err(Fault::transient("the epoch has risen: the log is read again under the new one"))
}
