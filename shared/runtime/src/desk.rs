//! The desk that commands come to, as importers keep it: one is active at a time, the others stand by.

use std::convert::Infallible;
use std::time::Duration;

use fides_core::command::{Answer, Command, Status};
use fides_core::port::{AdminQueue, Desk};
use fides_core::{Fault, FaultKind};
use fides_engine::admin;

use crate::app::App;

/// How long a desk that met a fault stays closed.
const PAUSE: Duration = Duration::from_secs(2);

/// Answers commands for as long as it is polled. What a fault leaves unanswered returns to the queue, and is taken up again
/// after a pause: a command is done once, however often it comes. Dropped, it leaves nothing half answered.
pub(crate) async fn keep_desk(app: &App) -> Infallible {
    let Some(queue) = &app.admin else { return std::future::pending().await };
    loop {
        let fault = answer_all(app, &**queue).await;
        tracing::error!(%fault, "commands are not answered at present; they wait");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Answers one command after the other, up to a fault.
async fn answer_all(app: &App, queue: &dyn AdminQueue) -> Fault {
    let mut desk = match queue.serve().await {
        Ok(desk) => desk,
        Err(fault) => return fault,
    };
    loop {
        if let Err(fault) = answer_next(app, &mut *desk).await {
            return fault;
        }
    }
}

async fn answer_next(app: &App, desk: &mut dyn Desk) -> Result<(), Fault> {
    let request = desk.next().await?;
    let answer = match admin::receive(&app.pipelines, &request.body).await {
        Ok(answer) => answer,
        // It would come again for ever, before all others.
        Err(fault) if fault.kind == FaultKind::Permanent => Answer::refused(id_of(&request.body), fault.to_string()),
        Err(fault) => return Err(fault),
    };
    desk.answer(request.tag, &answer.to_bytes()).await?;
    if let Some(metrics) = &app.metrics {
        let command = Command::parse(&request.body).map_or("unreadable", |command| command.action.name());
        metrics.commanded(command, status_of(&answer));
    }
    Ok(())
}

fn status_of(answer: &Answer) -> &'static str {
    match answer.status {
        Status::Accepted => "accepted",
        Status::Done => "done",
        Status::Refused => "refused",
    }
}

/// The id of a command that can be read, which one that meets a fault always can.
fn id_of(body: &[u8]) -> String {
    fides_core::command::Command::parse(body).map_or_else(|answer| answer.id, |command| command.id)
}
