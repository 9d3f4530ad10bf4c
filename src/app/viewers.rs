//! Who may look at a task: whoever may read its repository. Without sign-in that is everybody for
//! a public repository and nobody for any other. Asked of GitHub, remembered for a minute.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;

use super::App;
use crate::domain::ids::{Millis, RepositoryId, TaskId};
use crate::domain::task::Task;

const REMEMBERED: Duration = Duration::from_secs(60);
/// Repositories remembered at once.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Visibility {
    known: Mutex<HashMap<RepositoryId, (bool, Millis)>>,
}

impl App {
    /// The task, if a visitor who has not signed in may see it. A task that is not there and one
    /// that may not be seen look the same.
    pub async fn visible_task(&self, id: &TaskId) -> Option<Task> {
        let task = match self.store.task(id).await {
            Ok(task) => task?,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a task cannot be shown");
                return None;
            }
        };
        self.is_public(&task).await.then_some(task)
    }

    async fn is_public(&self, task: &Task) -> bool {
        let now = self.clock.now();
        let repository = task.thread.repository;
        if let Some((public, at)) = self.viewers.known.lock().await.get(&repository)
            && now.since(*at) < REMEMBERED
        {
            return *public;
        }
        let public = match self.github.repository(&super::intake::place(&task.thread)).await {
            Ok(repository) => repository.is_public,
            Err(error) => {
                tracing::info!(error = %self.redactor.redact(&error.to_string()), "visibility could not be asked");
                return false;
            }
        };
        let mut known = self.viewers.known.lock().await;
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(repository, (public, now));
        public
    }
}
