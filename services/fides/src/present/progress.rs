//! Progress of pipelines on stderr: one bar each on a terminal, otherwise a plain line now and then.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fides_engine::{Pipeline, Progress};
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{note, number};

/// How often bars move.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(5);
/// `{len}` is an estimate: the bar is a hint, the numbers are not.
const KNOWN: &str = "{prefix:.bold} {bar:24.cyan/dim} {human_pos}/{human_len} {rate:.dim} {left:.dim} {wide_msg}";
const UNKNOWN: &str = "{prefix:.bold} {spinner:.cyan} {human_pos} {rate:.dim} {wide_msg}";

/// What is watched.
struct Row {
    pipeline: String,
    progress: Arc<Progress>,
    bar: Option<ProgressBar>,
}

/// Shows the progress of pipelines until it is finished.
pub struct Display {
    bars: Option<MultiProgress>,
    rows: Arc<Mutex<Vec<Row>>>,
    done: CancellationToken,
    task: JoinHandle<()>,
}

impl Display {
    /// Starts a display without pipelines.
    pub fn start() -> Self {
        let bars = console::Term::stderr().is_term().then(MultiProgress::new);
        let rows: Arc<Mutex<Vec<Row>>> = Arc::default();
        let done = CancellationToken::new();
        let period = if bars.is_some() { REDRAW } else { PLAIN };
        let task = tokio::spawn(show(rows.clone(), period, done.clone()));
        Self { bars, rows, done, task }
    }

    /// Asks how much there is: the marks of an earlier run know best, then the host. Who cannot say now
    /// will say so when it is read.
    pub async fn estimate(&self, pipeline: &Pipeline, progress: &Progress) {
        let mut estimate = pipeline.backplane.hashes.size(&pipeline.id).await.map_or(0, |(records, _)| records);
        if estimate == 0
            && let Ok(Some(table)) = pipeline.host.describe(&pipeline.selection.namespace).await
        {
            estimate = table.records_estimate;
        }
        progress.estimate.store(estimate, Ordering::Relaxed);
    }

    /// Shows one more pipeline.
    pub fn watch(&self, pipeline: &str, progress: &Arc<Progress>) {
        let bar = self.bars.as_ref().map(|bars| {
            let known = Progress::get(&progress.estimate) > 0;
            let style = ProgressStyle::with_template(if known { KNOWN } else { UNKNOWN })
                .map(|style| style.with_key("rate", write_rate).with_key("left", write_left));
            let bar = ProgressBar::new(Progress::get(&progress.estimate)).with_prefix(pipeline.to_owned());
            bars.add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
        });
        let row = Row { pipeline: pipeline.to_owned(), progress: progress.clone(), bar };
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    /// Ends the display and clears its bars: the summary follows.
    pub async fn finish(self) {
        self.done.cancel();
        // The display shows what is; a fault of its own must not stand before the result.
        let _ = self.task.await;
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }
}

async fn show(rows: Arc<Mutex<Vec<Row>>>, period: Duration, done: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = done.cancelled() => return,
        }
        for row in rows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            row.show();
        }
    }
}

fn write_rate(state: &ProgressState, out: &mut dyn Write) {
    // Records per second, for people. A bar that cannot be drawn has nobody to tell.
    let _ = write!(out, "{}/s", number(state.per_sec() as u64));
}

fn write_left(state: &ProgressState, out: &mut dyn Write) {
    let _ = write!(out, "{}", left(state.per_sec(), state.eta()));
}

/// How long it will still take. Nothing, while nothing is known about that.
fn left(per_second: f64, eta: Duration) -> String {
    if per_second < 1.0 { String::new() } else { format!("{} left", HumanDuration(eta)) }
}

impl Row {
    fn show(&self) {
        let Some(bar) = &self.bar else { return note(&format!("{}: {}", self.pipeline, self.line())) };
        let read = Progress::get(&self.progress.read);
        // The length is an estimate; what was read is not, once it is all.
        let length = bar.length().unwrap_or_default();
        let read_all = read > 0 && !matches!(self.progress.phase(), "reading" | "");
        if length > 0 && (length < read || read_all) {
            bar.set_length(read);
        }
        bar.set_position(read);
        bar.set_message(self.state());
        bar.tick();
    }

    /// Everything in one line.
    fn line(&self) -> String {
        let mut line = format!("{} read", number(Progress::get(&self.progress.read)));
        let estimate = Progress::get(&self.progress.estimate);
        if estimate > 0 {
            // Writing to a String cannot fail.
            let _ = write!(line, " of about {}", number(estimate));
        }
        format!("{line}, {}", self.state())
    }

    /// The phase, what was sent and written, and why nothing moves.
    fn state(&self) -> String {
        let progress = &self.progress;
        let mut text = progress.phase().to_owned();
        let mut add = |counter, what: &str| {
            let count = Progress::get(counter);
            if count > 0 {
                let _ = write!(text, ", {} {what}", number(count));
            }
        };
        add(&progress.published, "published");
        add(&progress.written, "written");
        add(&progress.dead, "dead");
        if let Some(reason) = progress.paused() {
            let _ = write!(text, "; paused: {reason}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_it_is_and_why_it_waits() {
        let progress = Arc::new(Progress::default());
        progress.enter("reading");
        Progress::add(&progress.read, 12_000);
        Progress::add(&progress.estimate, 50_000);
        Progress::add(&progress.published, 7);
        progress.pause(1, "lane a/1 waits: refused".into());
        let row = Row { pipeline: "a".into(), progress, bar: None };
        assert_eq!(row.line(), "12,000 read of about 50,000, reading, 7 published; paused: lane a/1 waits: refused");
    }

    #[test]
    fn what_is_left_is_told_once_it_is_known() {
        assert_eq!(left(0.0, Duration::ZERO), "");
        assert_eq!(left(2_000.0, Duration::from_secs(90)), "2 minutes left");
    }

    #[test]
    fn the_templates_are_sound() {
        assert!(ProgressStyle::with_template(KNOWN).is_ok() && ProgressStyle::with_template(UNKNOWN).is_ok());
    }
}
