//! The verbs that are answered at once.

use std::time::Duration;

use super::{Case, Hindrance};
use crate::adapters::store::Asked;
use crate::app::App;
use crate::app::signals::Topic;
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
            delivery: task.delivery.clone(),
        },
    ];
    effects.extend(Some(check).filter(|_| task.thread.is_pull));
    effects
}

fn line(name: &'static str, value: String, whose: &'static str) -> ConfigLine {
    ConfigLine { name, value, whose }
}

fn list(words: &[String], none: &str) -> String {
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

fn by_policy(is_policy: bool) -> &'static str {
    if is_policy { "policy" } else { "instance" }
}

/// Whose word it is that holds: of several the one that came out.
fn whose<T: PartialEq>(holds: &T, policy: Option<&T>, own: Option<&T>) -> &'static str {
    match (policy == Some(holds), own == Some(holds)) {
        (true, _) => "policy",
        (false, true) => "you",
        (false, false) => "instance",
    }
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
        let mut lines = self.config_of_work(case);
        lines.extend(self.config_of_reviews(case));
        reply::config(&lines, !case.holding.sha.is_empty(), case.holding.fault.as_deref())
    }

    fn config_of_work(&self, case: &Case<'_>) -> Vec<ConfigLine> {
        let (policy, own, settings) = (&case.holding.policy, &case.preferences, &self.settings);
        let agent = self.default_agent_of(case);
        let wanted = policy.complete(Options::default(), &agent);
        let done = own.complete(wanted.clone(), &agent);
        let most = settings.max_duration.as_secs();
        let time = done.timeout_s.map_or(most, |asked| asked.min(most));
        let per_day = own.per_day(settings.max_per_day);
        let per_day = policy.limits.per_day.map_or(per_day, |limit| per_day.min(limit.into()));
        let allowed = policy.agents.clone().unwrap_or_else(|| self.agent_names());
        let drafts = done.draft == Some(true);
        let setup: Vec<String> = policy.setup.iter().map(|words| words.join(" ")).collect();
        let own_per_day = own.max_messages_per_day;
        vec![
            line("agent", agent.clone(), whose(&agent, policy.agent.as_ref(), own.agent.as_ref())),
            line("agents", list(&allowed, "none"), by_policy(policy.agents.is_some())),
            line(
                "model",
                done.model.clone().unwrap_or_else(|| "the agent's".to_owned()),
                done.model
                    .as_ref()
                    .map_or("instance", |model| whose(model, policy.models.get(&agent), own.models.get(&agent))),
            ),
            line("who may command", format!("{} and above", policy.who().name()), by_policy(policy.who.is_some())),
            line(
                "time for a task",
                duration(Duration::from_secs(time)),
                whose(&time, wanted.timeout_s.as_ref(), own.max_sandbox_duration.as_ref()),
            ),
            line(
                "cost of a task",
                policy.limits.cost.clone().unwrap_or_else(|| "as the instance has it".to_owned()),
                by_policy(policy.limits.cost.is_some()),
            ),
            line(
                "commands a day",
                per_day.to_string(),
                whose(&per_day, policy.limits.per_day.map(i64::from).as_ref(), own_per_day.as_ref()),
            ),
            line(
                "base",
                policy.base.clone().unwrap_or_else(|| "the default branch".to_owned()),
                by_policy(policy.base.is_some()),
            ),
            line(
                "drafts",
                if drafts { "yes" } else { "no" }.to_owned(),
                whose(&drafts, policy.draft.as_ref(), Some(&own.draft).filter(|draft| **draft)),
            ),
            line("set-up", list(&setup, "none"), by_policy(!setup.is_empty())),
            line("hosts besides", list(&policy.network, "none"), by_policy(!policy.network.is_empty())),
            line("labels", list(&policy.labels, "none"), by_policy(!policy.labels.is_empty())),
            line("paths to approve", list(&policy.approval, "none"), by_policy(!policy.approval.is_empty())),
        ]
    }

    fn config_of_reviews(&self, case: &Case<'_>) -> Vec<ConfigLine> {
        let review = &case.holding.policy.review;
        let aliases: Vec<String> = review.aliases.iter().chain(&self.settings.review_aliases).cloned().collect();
        let moments: Vec<String> = review.on.iter().map(|moment| format!("{moment:?}").to_lowercase()).collect();
        let whose_aliases = match (review.aliases.is_empty(), self.settings.review_aliases.is_empty()) {
            (false, false) => "policy and instance",
            (is_none, _) => by_policy(!is_none),
        };
        let agent = review.agent.clone().unwrap_or_else(|| "that of other commands".to_owned());
        let drafts = if review.drafts { "reviewed" } else { "wait until they are ready" };
        vec![
            line("review requests to", list(&aliases, "nobody"), whose_aliases),
            line("reviews by themselves", list(&moments, "never"), by_policy(!review.on.is_empty())),
            line("after a push, wait", duration(case.holding.policy.debounce()), by_policy(review.debounce.is_some())),
            line("drafts of pull requests", drafts.to_owned(), by_policy(review.drafts)),
            line("agent of these reviews", agent, by_policy(review.agent.is_some())),
        ]
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
        let thread = case.thread;
        let asked = Asked { by, written_at: case.writing.written_at, now: case.now };
        self.store.note_stop(thread, by, asked.written_at).await?;
        let mut stopped = 0;
        for task in self.store.open_tasks(thread.repository, thread.issue).await? {
            // What was asked for later goes on.
            if task.triggered_at <= asked.written_at {
                stopped += usize::from(self.stop_task(&task, &asked, &cancelled_in_queue(&task, by)).await?);
            }
        }
        let kept = self.store.release_kept(thread.repository, thread.issue, case.now).await?;
        self.signals.announce(Topic::Sweep);
        Ok(Cancelled { tasks: stopped, kept })
    }
}
