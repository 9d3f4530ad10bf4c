//! The verbs that are answered at once.

use super::{Case, Hindrance};
use crate::adapters::store::Asked;
use crate::app::App;
use crate::domain::command::Options;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::reply::{self, AgentLine, ConfigLine};
use crate::domain::task::{Outcome, Task};
use crate::domain::text::duration;

/// Tasks and deliveries shown by `status` and `why`.
const SHOWN: i64 = 10;

/// Tells that a task was stopped before it began.
pub(in crate::app) fn cancelled_in_queue(task: &Task, by: &str) -> Vec<Effect> {
    let thread = || task.thread.clone();
    let check = Effect::Check { thread: thread(), task: task.id.clone(), is_end: true };
    let mut effects = vec![
        Effect::Reply {
            thread: thread(),
            key: format!("cancelled:{}", task.id),
            markdown: reply::cancelled_in_queue(&task.agent, by),
        },
        Effect::SwapReaction {
            thread: task.thread.clone(),
            subject: task.subject,
            reaction: Reaction::of(Outcome::Cancelled),
        },
    ];
    effects.extend(Some(check).filter(|_| task.thread.is_pull));
    effects
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

    /// What holds for the sender in this repository, and whose word that is.
    pub(super) fn config_answer(&self, case: &Case<'_>) -> String {
        let (policy, own, settings) = (&case.holding.policy, &case.preferences, &self.settings);
        let whose = |by_policy: bool, by_person: bool| match (by_policy, by_person) {
            (true, _) => "policy",
            (false, true) => "you",
            (false, false) => "instance",
        };
        let list = |words: &[String], none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
        let open = Options::default();
        let agent = self.default_agent_of(case);
        let done = case.preferences.complete(policy.complete(open, &agent, true), &agent);
        let most = settings.max_duration;
        let time = done.timeout_s.map_or(most, std::time::Duration::from_secs).min(most);
        let per_day = own.per_day(settings.max_per_day);
        let allowed = policy.agents.clone().unwrap_or_else(|| self.agent_names());
        let aliases: Vec<String> = policy.review.aliases.iter().chain(&settings.review_aliases).cloned().collect();
        let moments: Vec<String> = policy.review.on.iter().map(|moment| format!("{moment:?}").to_lowercase()).collect();
        let line = |name, value: String, whose| ConfigLine { name, value, whose };
        let lines = [
            line("agent", agent, whose(policy.agent.is_some(), own.agent.is_some())),
            line("agents", list(&allowed, "none"), whose(policy.agents.is_some(), false)),
            line(
                "model",
                done.model.unwrap_or_else(|| "the agent's".to_owned()),
                whose(!policy.models.is_empty(), !own.models.is_empty()),
            ),
            line("who may command", format!("{} and above", policy.who().name()), whose(policy.who.is_some(), false)),
            line(
                "time for a task",
                duration(time),
                whose(policy.limits.duration.is_some(), own.max_sandbox_duration.is_some()),
            ),
            line(
                "cost of a task",
                policy.limits.cost.clone().unwrap_or_else(|| "as the instance has it".to_owned()),
                whose(policy.limits.cost.is_some(), false),
            ),
            line(
                "commands a day",
                policy.limits.per_day.map_or(per_day, |most| per_day.min(most.into())).to_string(),
                whose(policy.limits.per_day.is_some(), own.max_messages_per_day.is_some()),
            ),
            line(
                "base",
                done.base.unwrap_or_else(|| "the default branch".to_owned()),
                whose(policy.base.is_some(), false),
            ),
            line(
                "drafts",
                if done.draft == Some(true) { "yes" } else { "no" }.to_owned(),
                whose(policy.draft.is_some(), own.draft),
            ),
            line("review requests to", list(&aliases, "nobody"), whose(!policy.review.aliases.is_empty(), false)),
            line("reviews by themselves", list(&moments, "never"), whose(!policy.review.on.is_empty(), false)),
            line("paths to approve", list(&policy.approval, "none"), whose(!policy.approval.is_empty(), false)),
        ];
        reply::config(&lines, !case.holding.sha.is_empty(), case.holding.fault.as_deref())
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
