//! The end of a task: who has to know, and the ways to it from outside its run.

use super::App;
use super::signals::Topic;
use crate::adapters::store::{Asked, Stopped, StoreError};
use crate::domain::effect::Effect;
use crate::domain::failure::cancelled;
use crate::domain::run::{Ending, Run};
use crate::domain::task::Task;
use crate::domain::trace::otlp;

impl App {
    /// Asks a task to stop: queued, it ends here with its effects; running, its worker stops it. False: it is over.
    pub(super) async fn stop_task(
        &self,
        task: &Task,
        asked: &Asked<'_>,
        effects: &[Effect],
    ) -> Result<bool, StoreError> {
        let stopped = self.store.cancel_one(task, asked, effects).await?;
        if stopped == Some(Stopped::InQueue) {
            self.tell_end(task, None, &cancelled(asked.by));
        }
        self.signals.announce(Topic::Cancels);
        Ok(stopped.is_some())
    }

    /// A task is over, and that is stored: everybody who has to know is told.
    pub(super) fn tell_end(&self, task: &Task, run: Option<&Run>, ending: &Ending) {
        self.signals.announce(Topic::Outbox);
        self.signals.announce(Topic::Tasks);
        metrics::counter!("hireling_tasks_ended_total", "outcome" => ending.outcome.name(), "agent" => task.agent.clone())
            .increment(1);
        tracing::info!(task.id = %task.id, outcome = ending.outcome.name(), reason = %ending.reason, "ended");
        let Some(traces) = self.traces.clone() else { return };
        let trace = otlp(task, run, ending, self.clock.now());
        let (redactor, id) = (self.redactor.clone(), task.id.clone());
        self.unawaited.spawn(async move {
            if let Err(error) = traces.send(&trace).await {
                tracing::warn!(task.id = %id, error = %redactor.redact(&error), "a trace was not sent");
            }
        });
    }
}
