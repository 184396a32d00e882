use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fides_core::port::Mapper;
use fides_core::{Key, Lane, PipelineId};
use fides_engine::import::{Mode, assist, demanded, import};
use fides_engine::publishing::{Worker, consume_lanes};
use fides_engine::{Progress, establish, follow, log_place};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::planted::{self, Planted};
use super::weather::Weather;
use super::wiring::{namespace, pipeline};
use crate::fake::{Backup, Disk, FakeHost, FakeMapper, FakeTarget, Faults, Order, Rates};

/// A row that always exists: an empty host is a refusal of its own.
pub(super) const ANCHOR: i64 = 1_000;
/// Transactions of the writer.
const COMMITS: usize = 40;
/// The target stops answering in the middle of the story, and answers again at most this long after its end.
const STALL_MS: u64 = 1_500;
/// The lanes must be empty this long after the weather has calmed down.
const PATIENCE: Duration = Duration::from_hours(1);
/// Where a document has its value.
const VALUE: usize = 1;
/// A failover loses transactions of that many positions.
const FAILOVER_LOSES: u64 = 40;
/// A call that was given up may still be on its way for so long.
const LATE: Duration = Duration::from_secs(5);
/// How often conditions of the world are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(7);

/// What a simulation does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Who orders the host's states; where that is its log, it is followed too.
    pub order: Order,
    /// Whether one more import runs after the last change. Without a log it must; with one the log alone must do, and an
    /// import could hide a change that was reverted.
    pub last_import: bool,
    /// A bug to be found.
    pub planted: Option<Planted>,
}

/// What a simulation came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crashes of processes.
    pub crashes: u64,
    /// Writes that reached the target.
    pub writes: usize,
    /// Of those, before the writer's last change.
    pub writes_meanwhile: usize,
    /// Records that imports did not send.
    pub unchanged: u64,
    /// Of those, passed by a summary.
    pub summarised: u64,
    /// Of the unchanged ones, those that an edited mapping left as they were.
    pub relabelled: u64,
    /// Why it did not converge: what differs, or what was waited for in vain.
    pub failure: Option<String>,
}

pub(super) struct World {
    pub(super) host: FakeHost,
    pub(super) target: FakeTarget,
    pub(super) disk: Disk,
    pub(super) plan: Plan,
    weather: Weather,
    rng: Cell<u64>,
    stormy: Cell<bool>,
    /// Whether the target does not answer: changes wait in the lanes meanwhile.
    pub(super) stalled: Arc<AtomicBool>,
    /// What the target held in the first part of the story.
    backup: RefCell<Option<Backup>>,
    /// When the writer stopped, on the state store's clock.
    quiet_ms: Cell<Option<u64>>,
    /// An import that began after that has finished.
    imported: Cell<bool>,
    /// The story has begun: with a log, once what was there before it was followed is imported.
    begun: Cell<bool>,
    /// No import is owed, as far as the importing process knows.
    content: Cell<bool>,
    /// Position of the host's log up to which everything is published.
    pub(super) followed_to: Cell<u64>,
    /// Of the importing process.
    progress: RefCell<Arc<Progress>>,
    crashes: Cell<u64>,
    writes_meanwhile: Cell<usize>,
    unchanged: Cell<u64>,
    summarised: Cell<u64>,
    relabelled: Cell<u64>,
    /// What processes map with that begin now.
    pub(super) mapper: RefCell<FakeMapper>,
    /// Revisions that the processes map with.
    running: Cell<[u64; 2]>,
    /// An import under the present mapping has ended.
    through: Cell<bool>,
}

/// Runs one simulation to its end.
pub fn simulate(plan: Plan) -> Report {
    // The engine's jitter draws from the thread's generator.
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(tokio::task::LocalSet::new().run_until(run(plan))),
        Err(error) => Report { failure: Some(format!("no runtime: {error}")), ..Report::default() },
    }
}

async fn run(plan: Plan) -> Report {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let world = Rc::new(World {
        host: FakeHost::new(plan.order),
        target: FakeTarget::new(),
        disk: Disk::with(if plan.seed.is_multiple_of(2) { 6 } else { 60 }, 4, 8),
        plan,
        weather: Weather::draw(|below| rng.u64(0..below)),
        rng: Cell::new(rng.u64(..)),
        stormy: Cell::new(plan.order == Order::Fides),
        stalled: Arc::default(),
        backup: RefCell::default(),
        quiet_ms: Cell::new(None),
        imported: Cell::new(false),
        begun: Cell::new(plan.order == Order::Fides),
        content: Cell::new(false),
        followed_to: Cell::new(0),
        progress: RefCell::default(),
        crashes: Cell::new(0),
        writes_meanwhile: Cell::new(0),
        unchanged: Cell::new(0),
        summarised: Cell::new(0),
        relabelled: Cell::new(0),
        mapper: RefCell::new(FakeMapper::new(1)),
        running: Cell::default(),
        through: Cell::new(false),
    });
    world.host.commit(&[(ANCHOR, Some(1))]);
    match plan.planted {
        Some(Planted::LateWriteNotFenced) => world.target.stop_fencing(),
        Some(Planted::ValuesChangeHands) => world.target.keep_unique(VALUE),
        _ => {}
    }
    let stop = CancellationToken::new();
    let processes: Vec<_> =
        (0..2u64).map(|index| tokio::task::spawn_local(live(world.clone(), index, stop.clone()))).collect();
    let failure = world.story().await;
    stop.cancel();
    for process in processes {
        process.abort();
    }
    Report {
        crashes: world.crashes.get(),
        writes: world.target.history().len(),
        writes_meanwhile: world.writes_meanwhile.get(),
        unchanged: world.unchanged.get(),
        summarised: world.summarised.get(),
        relabelled: world.relabelled.get(),
        failure,
    }
}

impl World {
    pub(super) fn draw(&self, below: u64) -> u64 {
        let mut rng = fastrand::Rng::with_seed(self.rng.get());
        self.rng.set(rng.u64(..));
        rng.u64(0..below.max(1))
    }

    /// The writer's story: change the host, stop, wait for one more import, calm the weather, wait until all is settled.
    async fn story(&self) -> Option<String> {
        if self.until(|| self.begun.get()).await.is_err() {
            return Some("no first import came to its end".to_owned());
        }
        self.stormy.set(true);
        for at in 0..COMMITS {
            sleep(Duration::from_millis(self.draw(self.weather.commit_wait_ms_max))).await;
            self.commit();
            if self.draw(self.weather.displaces_every) == 0 || self.plan.planted == Some(Planted::LateWriteNotFenced) {
                // As a broker does that lost a connection: the owner goes on and does not know (L6).
                self.disk.displace(&Lane { pipeline: PipelineId::new("sim"), index: self.draw(2) as u16 });
            }
            let edits = at > 0 && at % (COMMITS / 4) == 0 && self.plan.planted == Some(Planted::MappingEdited);
            if edits && self.edit().await.is_err() {
                return Some("no import under an edited mapping came to its end".to_owned());
            }
            if at == COMMITS / 4 {
                self.backup.replace(Some(self.target.back_up()));
                // A lane that was claimed since tells the backup from what it replaces.
                self.displace_all();
            }
            if at == COMMITS / 2 {
                self.lose().await;
                // Not where changes are to flow until the end, so that a record comes back to what its old mark says.
                // Nor where marks are to be rebuilt beside a log that goes on, or imports are to end.
                let flows = match self.plan.planted {
                    Some(Planted::LostEverything) => self.plan.order.has_log(),
                    planted => {
                        matches!(
                            planted,
                            Some(Planted::MarksGoBackward | Planted::RebuiltTooNew | Planted::MappingEdited)
                        )
                    }
                };
                self.stalled.store(!flows, Ordering::Relaxed);
            }
        }
        if self.plan.planted == Some(Planted::MappingEdited) {
            // What the mapping before still sends is what the next import mends.
            if self.until(|| self.running.get() == [self.mapper.borrow().revision(); 2]).await.is_err() {
                return Some("a process never began with the edited mapping".to_owned());
            }
            sleep(LATE).await;
        }
        self.writes_meanwhile.set(self.target.history().len());
        let state = self.disk.open().state;
        self.quiet_ms.set(state.now_ms().await.ok());
        sleep(Duration::from_millis(self.draw(STALL_MS))).await;
        self.stalled.store(false, Ordering::Relaxed);
        self.imported.set(self.imported.get() || !self.plan.last_import);
        if self.until(|| self.imported.get()).await.is_err() {
            // Weather that crashes every import before its end is no fault of the engine.
            self.stormy.set(false);
        }
        if self.until(|| self.imported.get()).await.is_err() {
            let (phase, paused) = (self.progress.borrow().phase(), self.progress.borrow().paused());
            return Some(format!("no import that began after the last change came to its end: {phase}, {paused:?}"));
        }
        self.stormy.set(false);
        if let Some(failure) = self.settle().await {
            return Some(failure);
        }
        if self.plan.planted == Some(Planted::ValuesChangeHands) {
            // Who waited in vain for a record whose lane had trouble is a dead letter until the next import.
            // Its snapshot is later than what the letters are about, as hosts see to.
            self.host.commit(&[(ANCHOR, Some(1))]);
            self.quiet_ms.set(state.now_ms().await.ok());
            self.imported.set(false);
            if self.until(|| self.imported.get()).await.is_err() {
                return Some("no import in calm weather came to its end".to_owned());
            }
            if let Some(failure) = self.settle().await {
                return Some(failure);
            }
        }
        self.compare()
    }

    /// Waits until nothing is under way any more; what there is against it.
    async fn settle(&self) -> Option<String> {
        let settled = || self.content.get() && self.disk.queued() == 0 && self.followed();
        if self.until(settled).await.is_err() {
            return Some(format!("{} messages were never settled", self.disk.queued()));
        }
        sleep(LATE).await;
        None
    }

    /// Edits the mapping when an import under it has ended; the writer goes on meanwhile.
    async fn edit(&self) -> Result<(), tokio::time::error::Elapsed> {
        let through = async {
            while !self.through.replace(false) {
                sleep(Duration::from_millis(self.draw(self.weather.commit_wait_ms_max))).await;
                self.commit();
            }
        };
        timeout(PATIENCE, through).await?;
        self.mapper.replace_with(|mapper| planted::edited(mapper));
        Ok(())
    }

    fn displace_all(&self) {
        for index in 0..2 {
            self.disk.displace(&Lane { pipeline: PipelineId::new("sim"), index });
        }
    }

    /// Waits for a condition of the world, for so long on the paused clock that nothing can still be coming.
    async fn until(&self, condition: impl Fn() -> bool) -> Result<(), tokio::time::error::Elapsed> {
        timeout(PATIENCE, async {
            while !condition() {
                sleep(LOOK).await;
            }
        })
        .await
    }

    /// Loses what the plan says that the stores lose (L11).
    async fn lose(&self) {
        match self.plan.planted {
            Some(Planted::LostLastUnnoticed) => {
                self.disk.lose_last(8, false);
            }
            Some(Planted::LostLastNoticed) => {
                self.disk.lose_last(8, true);
            }
            Some(Planted::LostEverything | Planted::RebuiltTooNew) => {
                // An epoch is a second long at least.
                sleep(Duration::from_secs(1)).await;
                self.disk.lose_everything();
            }
            Some(Planted::TargetRestored) => {
                if let Some(backup) = self.backup.take() {
                    self.target.restore(&backup);
                    // Nobody's connection survives that.
                    self.displace_all();
                }
            }
            Some(Planted::LogForgotten) => self.host.drop_readers(),
            Some(Planted::Failover) => {
                sleep(Duration::from_secs(1)).await;
                self.host.restore(self.host.position() - FAILOVER_LOSES, "fake-2");
            }
            _ => {}
        }
    }

    fn compare(&self) -> Option<String> {
        let mapper = self.mapper.borrow();
        let expected: BTreeMap<Key, Bytes> = self
            .host
            .rows()
            .into_iter()
            .filter_map(|(id, v)| mapper.document(id, v).map(|document| (FakeHost::key(id), Bytes::from(document))))
            .collect();
        let found = self.target.documents(&namespace());
        let differs = |key: &&Key| expected.get(*key) != found.get(*key);
        let keys: BTreeSet<&Key> = expected.keys().chain(found.keys()).filter(differs).collect();
        let named: Vec<String> = keys.into_iter().map(ToString::to_string).collect();
        (!named.is_empty()).then(|| format!("the target differs from the host in keys {}", named.join(", ")))
    }

    fn followed(&self) -> bool {
        self.plan.order == Order::Fides || self.followed_to.get() >= self.host.position()
    }

    fn rates(&self) -> Rates {
        if self.stormy.get() { self.weather.rates(self.plan.planted) } else { Rates::default() }
    }
}

/// One process: started again whenever it crashes.
async fn live(world: Rc<World>, index: u64, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let faults = Faults::new(world.draw(u64::MAX), world.rates());
        let holder = format!("process-{index}-{}", world.draw(u64::MAX));
        let mut running = world.running.get();
        running[usize::from(index != 0)] = world.mapper.borrow().revision();
        world.running.set(running);
        let weather = async {
            // A change of weather reaches processes that live.
            loop {
                faults.set_rates(world.rates());
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = work(&world, &faults, &holder, index == 0, &stop) => {}
            () = faults.crashed() => world.crashes.set(world.crashes.get() + 1),
            () = weather => {}
            () = edited(&world) => {}
        }
        sleep(Duration::from_millis(world.draw(300))).await;
    }
}

/// Waits until a process maps with what is not the mapping any more, and somebody starts it again.
async fn edited(world: &World) {
    let revision = world.mapper.borrow().revision();
    while world.mapper.borrow().revision() == revision {
        sleep(LOOK).await;
    }
    sleep(Duration::from_millis(world.draw(2 * world.weather.commit_wait_ms_max))).await;
}

async fn work(world: &World, faults: &Faults, holder: &str, imports: bool, stop: &CancellationToken) {
    let pipeline = pipeline(world, faults);
    let progress = Arc::new(Progress::default());
    let worker = Worker { holder: holder.into(), progress: progress.clone() };
    if imports {
        world.progress.replace(progress.clone());
    }
    let prepared = pipeline.target.prepare(&pipeline.sink, pipeline.shape(), true).await;
    if prepared.is_err() || establish(&pipeline).await.is_err() {
        return;
    }
    let importer = async {
        if !imports {
            std::future::pending::<()>().await;
        }
        loop {
            if !world.begun.get() && demanded(&pipeline).await.is_ok_and(|owed| !owed) {
                world.begun.set(true);
            }
            // An import that nobody needs could hide what the log alone has to do.
            let owed =
                match world.plan.planted {
                    Some(
                        Planted::LogForgotten | Planted::Failover | Planted::LostEverything | Planted::RebuiltTooNew,
                    ) if world.plan.order.has_log() => demanded(&pipeline).await,
                    _ => Ok(false),
                };
            world.content.set(world.imported.get() && owed.as_ref().is_ok_and(|owed| !owed));
            if world.imported.get() && !owed.unwrap_or(false) {
                sleep(LOOK).await;
                continue;
            }
            if let Ok(report) = import(&pipeline, Mode::Delta, &worker).await {
                world.through.set(pipeline.mapper.revision() == world.mapper.borrow().revision());
                let started_ms: u64 = report.run.split('-').nth(1).and_then(|ms| ms.parse().ok()).unwrap_or(0);
                // A run that began before the last change may have passed it by.
                world.imported.set(world.quiet_ms.get().is_some_and(|quiet_ms| started_ms > quiet_ms));
            }
            world.unchanged.set(world.unchanged.get().max(Progress::get(&progress.unchanged)));
            world.relabelled.set(world.relabelled.get().max(Progress::get(&progress.relabelled)));
            world.summarised.set(world.summarised.get().max(Progress::get(&progress.summarised)));
            sleep(Duration::from_millis(world.draw(200))).await;
        }
    };
    let assistant = async {
        if imports {
            std::future::pending::<()>().await;
        }
        loop {
            // What goes wrong here is the leader's to repeat.
            let _ = assist(&pipeline, &worker).await;
            sleep(Duration::from_millis(world.draw(200))).await;
        }
    };
    let follower = async {
        if world.plan.order.has_log() {
            // Ends with the process only: nothing here is refused for good.
            let _ended = follow(&pipeline, &worker, stop).await;
        }
        std::future::pending::<()>().await;
    };
    let observer = async {
        loop {
            if let Ok(place) = log_place(&pipeline).await {
                world.followed_to.set(place.unwrap_or(0));
            }
            sleep(10 * LOOK).await;
        }
    };
    tokio::select! {
        biased;
        () = consume_lanes(&pipeline, &worker, stop) => {}
        () = importer => {}
        () = assistant => {}
        () = follower => {}
        () = observer => {}
    }
}
