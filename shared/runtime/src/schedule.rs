//! When imports start. The instants are computed here, in the pipeline's time zone, and the scheduler is given one job
//! for each: a repeating job would keep the offset of the day on which it was made.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use croner::Cron;
use fides_core::{Fault, PipelineId};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::app::App;
use crate::config::Schedule;

/// Schedules of all pipelines.
pub(crate) struct Schedules {
    scheduler: JobScheduler,
    schedules: HashMap<(PipelineId, Task), Schedule>,
}

/// What is done by a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    /// Reading the host and sending what changed.
    Import,
    /// Searching the target for what the host no longer has.
    CleanUp,
    /// Comparing both sides.
    Verify,
}

/// An instant that a schedule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(DateTime<Utc>);

impl Instant {
    pub(crate) fn is_past(self) -> bool {
        self.0 <= Utc::now()
    }
}

impl Schedules {
    pub(crate) async fn start(app: &App) -> Result<Self, Fault> {
        let fault = |error| Fault::permanent("the scheduler cannot be started").because(error);
        let scheduler = JobScheduler::new().await.map_err(fault)?;
        scheduler.start().await.map_err(fault)?;
        Ok(Self { scheduler, schedules: app.schedules.clone() })
    }

    /// Whether a pipeline has a schedule for a task.
    pub(crate) fn has(&self, pipeline: &PipelineId, task: Task) -> bool {
        self.schedules.contains_key(&(pipeline.clone(), task))
    }

    /// The first instant of a pipeline's schedule after `last_ms`, in milliseconds since 1970; `None` without a schedule.
    pub(crate) fn after(&self, pipeline: &PipelineId, task: Task, last_ms: u64) -> Result<Option<Instant>, Fault> {
        let Some(schedule) = self.schedules.get(&(pipeline.clone(), task)) else { return Ok(None) };
        let last = i64::try_from(last_ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        next(schedule, last).map(|next| Some(Instant(next)))
    }

    /// The last instant until now of a schedule whose instant `first` was missed, in milliseconds since 1970: every replica
    /// names a missed turn alike, however many instants were missed.
    pub(crate) fn missed_ms(&self, pipeline: &PipelineId, task: Task, first: Instant) -> Result<u64, Fault> {
        let Some(schedule) = self.schedules.get(&(pipeline.clone(), task)) else { return Ok(milliseconds(first.0)) };
        latest(schedule, Utc::now()).map(|latest| milliseconds(latest.max(first.0)))
    }

    /// Waits for an instant, and returns it in milliseconds since 1970, never before; for ever when there is none.
    pub(crate) async fn wait(&self, instant: Option<Instant>) -> Result<u64, Fault> {
        let Some(Instant(instant)) = instant else { return std::future::pending().await };
        let fault = |error| Fault::permanent("nothing can be scheduled").because(error);
        let due = Arc::new(Notify::new());
        let notify = due.clone();
        let wait = (instant - Utc::now()).to_std().unwrap_or_default();
        let job = Job::new_one_shot(wait, move |_, _| notify.notify_one()).map_err(fault)?;
        self.scheduler.add(job).await.map_err(fault)?;
        due.notified().await;
        // The scheduler counts in whole seconds, and is early by a part of one.
        while let Ok(early) = (instant - Utc::now()).to_std() {
            tokio::time::sleep(early.max(Duration::from_millis(1))).await;
        }
        Ok(milliseconds(instant))
    }

    pub(crate) async fn shutdown(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the scheduler did not stop cleanly");
        }
    }
}

fn milliseconds(instant: DateTime<Utc>) -> u64 {
    u64::try_from(instant.timestamp_millis()).unwrap_or_default()
}

/// The first instant of a schedule after `last`.
fn next(schedule: &Schedule, last: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let last = whole_second(last).with_timezone(&schedule.timezone);
    let next = cron(schedule)?.find_next_occurrence(&last, false).map_err(|error| fault(schedule, &error))?;
    Ok(next.with_timezone(&Utc))
}

/// The last instant of a schedule until `now`.
fn latest(schedule: &Schedule, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let now = whole_second(now).with_timezone(&schedule.timezone);
    let latest = cron(schedule)?.find_previous_occurrence(&now, true).map_err(|error| fault(schedule, &error))?;
    Ok(latest.with_timezone(&Utc))
}

/// Instants lie on seconds; what is searched from a part of one would be found with that part.
fn whole_second(instant: DateTime<Utc>) -> DateTime<Utc> {
    instant.trunc_subsecs(0)
}

fn cron(schedule: &Schedule) -> Result<Cron, Fault> {
    let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Required).build();
    parser.parse(&schedule.cron).map_err(|error| fault(schedule, &error))
}

fn fault(schedule: &Schedule, error: &dyn std::error::Error) -> Fault {
    Fault::permanent(format!("schedule {:?}: {error}", schedule.cron))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_instant_keeps_its_hour_over_the_change_of_the_clock() {
        let schedule = Schedule { cron: "0 30 4 * * *".into(), timezone: chrono_tz::Europe::Berlin };
        assert_eq!(next(&schedule, at("2026-10-24T12:00:00Z")).unwrap(), at("2026-10-25T03:30:00Z"));
        assert_eq!(next(&schedule, at("2026-10-23T12:00:00Z")).unwrap(), at("2026-10-24T02:30:00Z"));
    }

    /// Whoever asks between two instants gets the same one, on the second of it too.
    #[test]
    fn the_latest_instant_is_the_same_for_everybody_until_the_next_one() {
        let schedule = Schedule { cron: "0 0 4 * * *".into(), timezone: chrono_tz::Europe::Berlin };
        for now in
            ["2026-01-05T03:00:00Z", "2026-01-05T03:00:00.007Z", "2026-01-05T09:12:13Z", "2026-01-06T02:59:59.999Z"]
        {
            assert_eq!(latest(&schedule, at(now)).unwrap(), at("2026-01-05T03:00:00Z"), "{now}");
        }
        assert_eq!(latest(&schedule, at("2026-01-05T02:59:59Z")).unwrap(), at("2026-01-04T03:00:00Z"));
    }

    #[test]
    fn an_instant_lies_after_the_last_one() {
        let schedule = Schedule { cron: "0 * * * * *".into(), timezone: chrono_tz::UTC };
        for last in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.007Z", "2026-01-01T00:00:59.5Z"] {
            assert_eq!(next(&schedule, at(last)).unwrap(), at("2026-01-01T00:01:00Z"), "{last}");
        }
    }
}
