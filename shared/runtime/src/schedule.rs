//! When imports start. The instants are computed here, in the pipeline's time zone, and the scheduler is given one job
//! for each: a repeating job would keep the offset of the day on which it was made.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Utc;
use croner::Cron;
use fides_core::{Fault, PipelineId};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::app::App;
use crate::config::Schedule;

/// Schedules of all pipelines.
pub(crate) struct Schedules {
    scheduler: JobScheduler,
    schedules: HashMap<PipelineId, Schedule>,
}

impl Schedules {
    pub(crate) async fn start(app: &App) -> Result<Self, Fault> {
        let fault = |error| Fault::permanent("the scheduler cannot be started").because(error);
        let scheduler = JobScheduler::new().await.map_err(fault)?;
        scheduler.start().await.map_err(fault)?;
        Ok(Self { scheduler, schedules: app.schedules.clone() })
    }

    /// Waits until a pipeline's next import is due; for ever when it has no schedule.
    pub(crate) async fn due(&self, pipeline: &PipelineId) {
        let due = Arc::new(Notify::new());
        if let Some(schedule) = self.schedules.get(pipeline)
            && let Err(fault) = self.arm(schedule, due.clone()).await
        {
            tracing::error!(%pipeline, %fault, "no further import is scheduled");
        }
        due.notified().await;
    }

    async fn arm(&self, schedule: &Schedule, due: Arc<Notify>) -> Result<(), Fault> {
        let fault = |error: String| Fault::permanent(format!("schedule {:?}: {error}", schedule.cron));
        let cron = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Required)
            .build()
            .parse(&schedule.cron)
            .map_err(|error| fault(error.to_string()))?;
        let wait = until_next(&cron, schedule).map_err(fault)?;
        let job = Job::new_one_shot(wait, move |_, _| due.notify_one()).map_err(|error| fault(error.to_string()))?;
        self.scheduler.add(job).await.map_err(|error| fault(error.to_string()))?;
        Ok(())
    }

    pub(crate) async fn shutdown(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the scheduler did not stop cleanly");
        }
    }
}

fn until_next(cron: &Cron, schedule: &Schedule) -> Result<std::time::Duration, String> {
    let now = Utc::now().with_timezone(&schedule.timezone);
    let next = cron.find_next_occurrence(&now, false).map_err(|error| error.to_string())?;
    (next - now).to_std().map_err(|error| error.to_string())
}
