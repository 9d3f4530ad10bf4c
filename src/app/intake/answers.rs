//! The verbs that are answered at once.

use super::{Case, Hindrance};
use crate::adapters::store::Asked;
use crate::app::App;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::reply::{self, AgentLine};
use crate::domain::task::{Outcome, Task};

/// Tasks and deliveries shown by `status` and `why`.
const SHOWN: i64 = 10;

/// Tells that a task was stopped before it began.
pub(in crate::app) fn cancelled_in_queue(task: &Task, by: &str) -> Vec<Effect> {
    vec![
        Effect::Reply {
            thread: task.thread.clone(),
            key: format!("cancelled:{}", task.id),
            markdown: reply::cancelled_in_queue(&task.agent, by),
        },
        Effect::SwapReaction {
            thread: task.thread.clone(),
            subject: task.subject,
            reaction: Reaction::of(Outcome::Cancelled),
        },
    ]
}

/// What `cancel` met.
pub(super) struct Cancelled {
    pub tasks: usize,
    /// Sandboxes of finished tasks.
    pub kept: u64,
}

impl App {
    pub(super) async fn agents_answer(&self, case: &Case<'_>) -> Result<String, Hindrance> {
        let payer = case.payer();
        let mut lines = Vec::new();
        for agent in &self.settings.agents {
            let model = self.settings.default_model(agent, None);
            let keys = self.choose_keys(agent, model.as_deref(), payer).await?;
            lines.push(AgentLine {
                name: agent.name.clone(),
                is_default: agent.name == self.default_agent_of(case),
                key: match keys {
                    _ if agent.access.is_empty() => "needs none".to_owned(),
                    Ok(keys) => keys.first().map(|key| key.whose(&case.sender.login)).unwrap_or_default(),
                    Err(_) => "missing".to_owned(),
                },
                model: self.settings.default_model(agent, Some(0)),
            });
        }
        Ok(reply::agents(&lines))
    }

    pub(super) async fn status_answer(&self, case: &Case<'_>) -> Result<String, Hindrance> {
        let tasks = self.store.tasks_of_thread(case.thread.repository, case.thread.issue, SHOWN).await?;
        let with_links: Vec<(Task, String)> = tasks
            .into_iter()
            .map(|task| {
                let url = self.task_url(&task.id);
                (task, url)
            })
            .collect();
        Ok(reply::status(&with_links))
    }

    pub(super) async fn why_answer(&self, case: &Case<'_>) -> Result<String, Hindrance> {
        let mut ledger = self.store.ledger(case.thread.repository, case.thread.issue, SHOWN + 1).await?;
        // The question itself is still being decided.
        ledger.retain(|line| line.code.is_some());
        ledger.truncate(10);
        Ok(reply::why(&ledger))
    }

    /// Stops what is queued or running on the thread, and the sandboxes that were kept.
    pub(super) async fn cancel(&self, case: &Case<'_>) -> Result<Cancelled, Hindrance> {
        let by = &case.sender.login;
        let effects = |task: &Task| cancelled_in_queue(task, by);
        let thread = case.thread;
        let asked = Asked { by, written_at: case.writing.written_at, now: case.now };
        let stopped = self.store.cancel_thread(thread.repository, thread.issue, &asked, effects).await?;
        let kept = self.store.release_kept(thread.repository, thread.issue, case.now).await?;
        let _ = self.signals.cancels.send(());
        self.signals.outbox.notify_one();
        self.signals.sweep.notify_one();
        Ok(Cancelled { tasks: stopped.len(), kept })
    }
}
