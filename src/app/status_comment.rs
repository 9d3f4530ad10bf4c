//! The one status comment of a task: found before it is made, edited in place.

use super::App;
use super::gate::Gate;
use crate::adapters::github::GitHubError;
use crate::adapters::store::{Asked, Purpose, StoreError, Verdict};
use crate::domain::comment::{StatusComment, task_marker};
use crate::domain::ids::{CommentId, Millis};
use crate::domain::prompt::Inputs;
use crate::domain::run::Run;
use crate::domain::task::{Task, Thread};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommentError {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own budget of writes is spent until then.
    #[error("the budget of writes is spent")]
    BudgetSpent { until: Millis },
}

impl App {
    fn status_markdown(&self, task: &Task, run: &Run, inputs: Option<&Inputs>) -> String {
        let since = task.started_at.unwrap_or(task.created_at);
        let until = task.finished_at.unwrap_or_else(|| self.clock.now());
        let markdown = StatusComment {
            task,
            facts: &run.facts,
            step: run.step,
            elapsed: until.since(since),
            log_url: &self.task_url(&task.id),
            hidden_removed: inputs.map_or(0, |inputs| inputs.hidden_removed),
        }
        .markdown();
        self.redactor.redact(&markdown)
    }

    /// Makes sure the comment is there. `may_exist`: an answer of GitHub may have been lost before. `gate`: of who makes it.
    pub(crate) async fn ensure_status_comment(
        &self,
        (task, run): (&Task, &Run),
        may_exist: bool,
        gate: &Gate,
    ) -> Result<CommentId, CommentError> {
        if let Some(id) = self.store.comment(&task.id).await? {
            return Ok(id);
        }
        let place = super::intake::place(&task.thread);
        let issue = task.thread.issue;
        let found = match may_exist {
            true => {
                let since = Millis(task.triggered_at.0 - 60_000);
                self.github.find_comment(&place, issue, &task_marker(task), since, &self.bot_login().await?).await?
            }
            false => None,
        };
        let id = match found {
            Some(id) => id,
            None => {
                let inputs = self.store.inputs(&task.id).await?;
                let markdown = self.status_markdown(task, run, inputs.as_ref());
                self.take_write(&task.thread, Purpose::Result).await?;
                gate.check()?;
                self.github.create_comment(&place, issue, &markdown).await?
            }
        };
        self.store.store_comment(&task.id, Some(id)).await?;
        Ok(id)
    }

    /// Takes a write out of the installation's budget.
    pub(crate) async fn take_write(&self, thread: &Thread, purpose: Purpose) -> Result<(), CommentError> {
        match self.store.take_write(thread.installation, purpose, self.clock.now()).await? {
            Verdict::Allowed => Ok(()),
            Verdict::WaitUntil(until) => {
                metrics::counter!("hireling_writes_postponed_total").increment(1);
                Err(CommentError::BudgetSpent { until })
            }
        }
    }

    /// Writes the comment anew. One that somebody deleted is made once more (fault F25).
    pub(crate) async fn write_status_comment(&self, task: &Task, run: &Run, gate: &Gate) -> Result<(), CommentError> {
        let id = self.ensure_status_comment((task, run), true, gate).await?;
        let inputs = self.store.inputs(&task.id).await?;
        let markdown = self.status_markdown(task, run, inputs.as_ref());
        self.take_write(&task.thread, Purpose::Result).await?;
        gate.check()?;
        let place = super::intake::place(&task.thread);
        match self.github.edit_comment(&place, id, &markdown).await {
            Err(GitHubError::Missing) => {
                self.store.store_comment(&task.id, None).await?;
                let again = self.ensure_status_comment((task, run), true, gate).await?;
                // Found, not made: it was only out of sight, and still has to be written.
                if again == id { Err(GitHubError::Missing.into()) } else { Ok(()) }
            }
            answer => Ok(answer?),
        }
    }

    /// Who asked for a task can stop it by a 👎 on its status comment.
    pub(crate) async fn mind_thumb(&self, task: &Task) {
        let Ok(Some(id)) = self.store.comment(&task.id).await else { return };
        let (place, by) = (super::intake::place(&task.thread), task.requester.login.as_str());
        match self.github.is_thumbed_down(&place, task.thread.issue, id, by).await {
            Ok(true) => {
                let now = self.clock.now();
                if let Err(error) = self.stop_task(task, &Asked { by, written_at: now, now }, &[]).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a cancel was not stored");
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::info!(error = %self.redactor.redact(&error.to_string()), "reactions cannot be read");
            }
        }
    }

    /// An edit of the checklist: a courtesy that is left out when writes are scarce or GitHub fails.
    pub(crate) async fn show_progress(&self, (task, run): (&Task, &Run), inputs: Option<&Inputs>, gate: &Gate) {
        let Ok(Some(id)) = self.store.comment(&task.id).await else { return };
        let now = self.clock.now();
        let blocked = self.store.blocked_until(task.thread.installation).await.unwrap_or(now);
        if blocked > now || self.take_write(&task.thread, Purpose::Progress).await.is_err() {
            return;
        }
        let markdown = self.status_markdown(task, run, inputs);
        // What is over must not be written over by what was before, and a stop waits for what is begun.
        let Ok(_inside) = gate.enter().await else { return };
        let edited = self.github.edit_comment(&super::intake::place(&task.thread), id, &markdown).await;
        if let Err(error) = edited {
            tracing::info!(error = %self.redactor.redact(&error.to_string()), "a progress edit was left out");
            if let GitHubError::Limited { until } = error {
                let _ = self.store.block_installation(task.thread.installation, until, now).await;
            }
        }
    }
}
