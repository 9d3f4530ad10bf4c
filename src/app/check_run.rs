//! Check runs of tasks and of the policy file: made once, then brought to what is so.

use super::App;
use super::gate::Gate;
use super::intake::place;
use super::status_comment::CommentError;
use crate::adapters::store::Purpose;
use crate::domain::check::Check;
use crate::domain::ids::TaskId;
use crate::domain::task::{Task, Thread};

impl App {
    /// Shows a task on the head that it was asked for, as it stands now.
    pub(super) async fn show_check(&self, task: &TaskId, gate: &Gate) -> Result<(), CommentError> {
        let Some(mut task) = self.store.task(task).await? else { return Ok(()) };
        loop {
            let is_over = task.state.is_finished();
            self.take_write(&task.thread, if is_over { Purpose::Result } else { Purpose::Courtesy }).await?;
            let reason = self.redactor.redact(&task.reason);
            let check = Check::of_task(&task, &reason, &self.task_url(&task.id));
            let id = self.check_of(&task, &check, gate).await?;
            gate.check()?;
            // It may have been made before, as things stood then.
            self.github.update_check(&place(&task.thread), id, &check).await?;
            match self.store.task(&task.id).await? {
                // Its end must not be written over by what was before.
                Some(now) if now.state != task.state => task = now,
                _ => return Ok(()),
            }
        }
    }

    async fn check_of(&self, task: &Task, check: &Check, gate: &Gate) -> Result<i64, CommentError> {
        if let Some(id) = self.store.check_run(&task.id).await? {
            return Ok(id);
        }
        let place = place(&task.thread);
        let commit = match &task.options.head {
            Some(head) => head.clone(),
            None => self.github.pull(&place, task.thread.issue.0).await?.head_sha,
        };
        gate.check()?;
        let id = self.github.ensure_check(&place, &commit, check).await?;
        if self.store.store_check_run(&task.id, id).await? {
            return Ok(id);
        }
        // Somebody else made one in the same moment: of two, one is enough.
        let other = self.store.check_run(&task.id).await?.unwrap_or(id);
        if other != id {
            gate.check()?;
            let check = Check { conclusion: Some("neutral"), ..check.clone() };
            self.github.update_check(&place, id, &check).await?;
        }
        Ok(other)
    }

    /// Shows on a pull request whether the policy that it brings can be read.
    pub(super) async fn show_policy(
        &self,
        thread: &Thread,
        (commit, fault): (&str, Option<&str>),
        gate: &Gate,
    ) -> Result<(), CommentError> {
        let fault = fault.map(|fault| self.redactor.redact(fault));
        self.take_write(thread, Purpose::Courtesy).await?;
        let check = Check::of_policy(commit, fault.as_deref());
        gate.check()?;
        Ok(self.github.ensure_check(&place(thread), commit, &check).await.map(|_| ())?)
    }
}
