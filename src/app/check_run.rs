//! Check runs of tasks and of the policy file: made once, then brought to what is so.

use super::App;
use super::intake::place;
use super::status_comment::CommentError;
use crate::adapters::store::Purpose;
use crate::domain::check::Check;
use crate::domain::ids::TaskId;
use crate::domain::task::Thread;

impl App {
    /// Shows a task on the head that it is for, as it stands now.
    pub(super) async fn show_check(&self, task: &TaskId) -> Result<(), CommentError> {
        let Some(task) = self.store.task(task).await? else { return Ok(()) };
        let place = place(&task.thread);
        let reason = self.redactor.redact(&task.reason);
        let check = Check::of_task(&task, &reason, &self.task_url(&task.id));
        self.take_write(&task.thread, Purpose::Courtesy).await?;
        if let Some(id) = self.store.check_run(&task.id).await? {
            return Ok(self.github.update_check(&place, id, &check).await?);
        }
        let inputs = self.store.inputs(&task.id).await?;
        let commit = match inputs.filter(|inputs| inputs.pull.is_some()) {
            Some(inputs) => inputs.base_sha,
            None => self.github.pull(&place, task.thread.issue.0).await?.head_sha,
        };
        let id = self.github.ensure_check(&place, &commit, &check).await?;
        self.store.store_check_run(&task.id, id).await?;
        // It may have been made before, as things stood then.
        Ok(self.github.update_check(&place, id, &check).await?)
    }

    /// Shows on a pull request whether the policy that it brings can be read.
    pub(super) async fn show_policy(
        &self,
        thread: &Thread,
        commit: &str,
        fault: Option<&str>,
    ) -> Result<(), CommentError> {
        let fault = fault.map(|fault| self.redactor.redact(fault));
        self.take_write(thread, Purpose::Courtesy).await?;
        let check = Check::of_policy(commit, fault.as_deref());
        Ok(self.github.ensure_check(&place(thread), commit, &check).await.map(|_| ())?)
    }
}
