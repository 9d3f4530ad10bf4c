//! Deciding what becomes of a stored delivery. It happens from the table, so a crash loses nothing;
//! the decision, the tasks and the answers are one transaction.

mod answers;
mod asks;
mod plan;
mod queue;
mod sender;
mod work;

use std::time::Duration;

use super::App;
use super::accounts::LookError;
use super::from_page::{RETRY_EVENT, RetryAsked};
use super::keys::Payer;
use super::policy::{Holding, PolicyError};
use crate::adapters::github::{GitHubError, Place, decode};
use crate::adapters::store::{Admission, Admit, Decision, Limits, PendingDelivery, StoreError};
use crate::app::signals::Topic;
use crate::domain::command::{Vocabulary, parse};
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::{Opening, Sorted, Writing, sort};
use crate::domain::effect::{Effect, Reaction};
use crate::domain::failure::cancelled;
use crate::domain::ids::{DeliveryId, InstallationId, Millis, TaskId};
use crate::domain::preferences::Preferences;
use crate::domain::reply;
use crate::domain::task::{NewTask, Requester, Subject, Task, Thread};
pub(super) use answers::cancelled_in_queue;
use plan::Plan;
pub(super) use queue::decide_all;

/// Tasks queued or running in one repository at most.
const MAX_WAITING: i64 = 50;
/// A command that could not be decided for so long is not meant any more.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Retries of retries that are followed to what was said first.
const MAX_RETRIES: usize = 100;

/// Why a decision could not be made now.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A delivery with everything that a decision about its commands needs.
struct Case<'a> {
    pending: &'a PendingDelivery,
    thread: &'a Thread,
    sender: &'a Requester,
    writing: &'a Writing,
    account: &'a str,
    /// Of the sender, once it is known that something is wanted.
    preferences: Preferences,
    /// What the repository wants.
    holding: Holding,
    /// Of the pull request, where the delivery says it.
    head: Option<String>,
    now: Millis,
}

impl Hindrance {
    /// Why a delivery is not decided at all: others of its thread wait behind it.
    fn ends(&self, pending: &PendingDelivery, now: Millis) -> Option<String> {
        let is_settled = sender::is_settled(pending, now);
        match self {
            // Taken off the repository meanwhile, for one.
            Self::GitHub(error) if is_settled && !error.is_passing() => Some(error.message()),
            Self::Store(error @ (StoreError::Corrupt { .. } | StoreError::Unstorable(_))) if is_settled => {
                tracing::error!(error = error as &dyn std::error::Error, "a delivery cannot be decided");
                Some(error.to_string())
            }
            other if now.since(pending.received_at) > LONGEST_WAIT => {
                tracing::error!(error = other as &dyn std::error::Error, "a delivery was not decided for too long");
                Some(other.to_string())
            }
            _ => None,
        }
    }
}

impl From<LookError> for Hindrance {
    fn from(error: LookError) -> Self {
        match error {
            LookError::GitHub(error) => Self::GitHub(error),
            LookError::Store(error) => Self::Store(error),
        }
    }
}

impl From<PolicyError> for Hindrance {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::GitHub(error) => Self::GitHub(error),
            PolicyError::Store(error) => Self::Store(error),
        }
    }
}

impl Case<'_> {
    fn react(&self, reaction: Reaction) -> Effect {
        let (thread, delivery) = (self.thread.clone(), self.pending.id.clone());
        Effect::React { thread, subject: self.writing.subject, reaction, delivery }
    }

    /// Whose keys and connectors a task of this comment may use.
    fn payer(&self) -> Payer<'_> {
        Payer { requester: self.sender.id, installation: self.thread.installation, account: self.account }
    }
}

impl App {
    fn vocabulary(&self, handle: &str) -> Vocabulary {
        let mut agents: Vec<String> = crate::domain::agent::KNOWN_NAMES.map(String::from).to_vec();
        agents.extend(self.settings.agents.iter().map(|agent| agent.name.clone()));
        Vocabulary { handle: handle.to_owned(), agents }
    }

    /// Gives the time until which it has to wait, if it has to.
    #[tracing::instrument(name = "delivery", skip_all, fields(delivery.id = %pending.id))]
    async fn decide_or_postpone(&self, pending: &PendingDelivery) -> Option<Millis> {
        let Err(hindrance) = self.decide(pending).await else { return None };
        let now = self.clock.now();
        if let Some(why) = hindrance.ends(pending, now) {
            let facts = serde_json::json!({ "why": why });
            if self.record(pending, DecisionCode::EventNotUsed, facts, &[]).await.is_ok() {
                return None;
            }
        }
        let wait = Duration::from_secs(1 << pending.attempts.clamp(0, 6)).min(Duration::from_secs(60));
        let until = match &hindrance {
            Hindrance::GitHub(GitHubError::Limited { until }) => *until,
            _ => now.after(wait.mul_f64(0.25 + self.clock.jitter() / 4.0)),
        };
        tracing::warn!(error = &hindrance as &dyn std::error::Error, "the decision on a delivery has to wait");
        self.postpone(pending, until).await;
        Some(until)
    }

    async fn postpone(&self, pending: &PendingDelivery, until: Millis) {
        if let Err(error) = self.store.postpone_delivery(pending.seq, until).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the delivery stays claimed for a minute");
        }
    }

    async fn decide(&self, pending: &PendingDelivery) -> Result<(), Hindrance> {
        if pending.event == RETRY_EVENT {
            return self.decide_retry(pending).await;
        }
        let Some(notice) = decode(&pending.event, &pending.body) else {
            return self
                .record(pending, DecisionCode::EventNotUsed, serde_json::json!({ "why": "unreadable" }), &[])
                .await;
        };
        if let (Some(told), Some(installation)) = (notice.installation_state, notice.installation) {
            // Whatever this event says: it may be late, or a copy of an old one.
            let now = self.github.installation_now(installation).await?;
            if told != now && !sender::is_settled(pending, self.clock.now()) {
                // Not all of GitHub may know yet what it tells of (fault F25).
                return Err(GitHubError::Missing.into());
            }
            self.note_account(installation, &notice.account, now).await?;
            let facts = serde_json::json!({ "installation": now.name() });
            return self.record(pending, DecisionCode::Accepted, facts, &[]).await;
        }
        if let Some(code) = self.refusal_by_account(&notice.account, notice.installation).await? {
            return self.record(pending, code, serde_json::json!({ "account": notice.account }), &[]).await;
        }
        let identity = self.identity().await?;
        if let Sorted::Ignored(code) = sort(&notice, &identity) {
            return self.record(pending, code, serde_json::Value::Null, &[]).await;
        }
        if let Some(ask) = &notice.ask {
            return self.decide_ask(pending, &notice, ask).await;
        }
        let (Some(thread), Some(sender), Some(writing)) = (&notice.thread, &notice.sender, &notice.writing) else {
            return self.record(pending, DecisionCode::NoCommand, serde_json::Value::Null, &[]).await;
        };
        if parse(&writing.text, &self.vocabulary(&identity.handle)).is_empty() {
            return self.record(pending, DecisionCode::NoCommand, serde_json::Value::Null, &[]).await;
        }
        let case = self.case((pending, thread, sender), writing, &notice.account).await?;
        self.decide_commands(&case, &identity.handle).await
    }

    async fn refusal_by_account(
        &self,
        name: &str,
        installation: Option<InstallationId>,
    ) -> Result<Option<DecisionCode>, Hindrance> {
        let account = name.to_ascii_lowercase();
        if self.settings.allowed_accounts.as_ref().is_some_and(|allowed| !allowed.contains(&account)) {
            return Ok(Some(DecisionCode::AccountNotAllowed));
        }
        let Some(installation) = installation else { return Ok(Some(DecisionCode::EventNotUsed)) };
        let has_left = self.has_left(installation, name).await?;
        Ok(has_left.then_some(DecisionCode::InstallationSuspended))
    }

    /// A delivery with what is known of its sender and its repository.
    async fn case<'a>(
        &self,
        (pending, thread, sender): (&'a PendingDelivery, &'a Thread, &'a Requester),
        writing: &'a Writing,
        account: &'a str,
    ) -> Result<Case<'a>, Hindrance> {
        let holding = self.policy_of(&place(thread)).await?;
        let preferences = self.preferences_of(sender).await?;
        Ok(Case { pending, thread, sender, writing, account, preferences, holding, head: None, now: self.clock.now() })
    }

    async fn decide_commands(&self, case: &Case<'_>, handle: &str) -> Result<(), Hindrance> {
        let permission = self.permission_of(case).await?;
        if permission < case.holding.policy.who() {
            return self.turn_away(case, permission, true).await;
        }
        let commands = parse(&case.writing.text, &self.vocabulary(handle));
        let plan = self.plan(case, handle, commands).await?;
        self.carry_out(case, plan).await
    }

    async fn preferences_of(&self, sender: &Requester) -> Result<Preferences, Hindrance> {
        Ok(self.store.person(sender.id).await?.map(|person| person.preferences).unwrap_or_default())
    }

    /// The agent of a command that names none.
    fn default_agent_of(&self, case: &Case<'_>) -> String {
        let is_here = |name: &&String| self.settings.agent(name).is_some();
        let policy = &case.holding.policy;
        let own = case.preferences.agent.as_ref().filter(is_here).filter(|name| policy.allows(name));
        let wanted = policy.agent.as_ref().filter(is_here).or(own);
        let first_allowed = policy.agents.iter().flatten().find(is_here);
        let fallback = Some(&self.settings.default_agent).filter(|name| policy.allows(name)).or(first_allowed);
        wanted.or(fallback).unwrap_or(&self.settings.default_agent).clone()
    }

    fn reply(&self, case: &Case<'_>, what: &str, markdown: String) -> Effect {
        Effect::Reply { thread: case.thread.clone(), key: format!("{}:{what}", case.pending.key()), markdown }
    }

    async fn carry_out(&self, case: &Case<'_>, mut plan: Plan) -> Result<(), Hindrance> {
        self.fix_head(case, &mut plan).await?;
        let facts = plan.facts();
        let code = plan.code();
        let effects = self.without_flood(case.thread, plan.effects(case), case.now).await?;
        if plan.tasks.is_empty() {
            return self.record(case.pending, code, facts, &effects).await;
        }
        let per_day = case.preferences.per_day(self.settings.max_per_day);
        let per_day = case.holding.policy.limits.per_day.map_or(per_day, |most| per_day.min(most.into()));
        let limits = Limits { per_day, waiting: MAX_WAITING };
        let decision =
            Decision { seq: case.pending.seq, code, facts: facts.to_string(), at: case.now, effects: &effects };
        // Deliveries come in any order: what stops a command may have been decided before it. Not so what our page asks for,
        // which has our own time, a comment of a review, which may have been written long before the review was sent, and what
        // nobody asked for: that was looked at anew just now.
        let may_be_late = !plan.is_quiet
            && case.pending.event != RETRY_EVENT
            && !matches!(case.writing.subject, Subject::ReviewComment(_));
        let tells_stop = may_be_late.then_some(cancelled_in_queue as fn(&Task, &str) -> Vec<Effect>);
        let admission = self.store.admit(&Admit { decision, tasks: &plan.tasks, limits, tells_stop }).await?;
        let refused = match admission {
            Admission::Accepted { stopped } => {
                self.welcome(case, &plan.tasks, &stopped).await;
                metrics::counter!("hireling_deliveries_total", "decision" => code.name()).increment(1);
                return Ok(());
            }
            Admission::Duplicate | Admission::Late => return Ok(()),
            Admission::DailyLimit => (DecisionCode::DailyLimit, reply::daily_limit(limits.per_day)),
            Admission::QueueFull { waiting } => (DecisionCode::QueueFull, reply::queue_full(waiting)),
        };
        let effects = match plan.is_quiet {
            true => Vec::new(),
            false => vec![case.react(Reaction::Confused), self.reply(case, "limit", refused.1)],
        };
        let effects = self.without_flood(case.thread, effects, case.now).await?;
        self.record(case.pending, refused.0, facts, &effects).await
    }

    /// Tasks were let in, and that is stored: everybody who has to know is told.
    async fn welcome(&self, case: &Case<'_>, tasks: &[NewTask], stopped: &[(TaskId, String)]) {
        // Its event may have been sent before this instance was there.
        let installation = case.thread.installation;
        let seen = self.store.see_installation(installation, self.github.app_id(), case.account, case.now).await;
        if let Err(error) = seen {
            tracing::warn!(error = &error as &dyn std::error::Error, "an installation was not noted");
        }
        metrics::counter!("hireling_tasks_accepted_total").increment(tasks.len() as u64);
        tracing::info!(repo = %case.thread.name, issue = %case.thread.issue, tasks = tasks.len(), "accepted");
        for task in tasks {
            if let Some((_, by)) = stopped.iter().find(|(id, _)| *id == task.id) {
                self.tell_end(&task.queued(case.now), None, &cancelled(by));
            }
        }
        self.signals.announce(Topic::Tasks);
        self.signals.announce(Topic::Outbox);
    }

    async fn record(
        &self,
        pending: &PendingDelivery,
        code: DecisionCode,
        facts: serde_json::Value,
        effects: &[Effect],
    ) -> Result<(), Hindrance> {
        let facts = if facts.is_null() { String::new() } else { self.redactor.redact(&facts.to_string()) };
        let decision = Decision { seq: pending.seq, code, facts, at: self.clock.now(), effects };
        if self.store.decide(&decision).await? {
            metrics::counter!("hireling_deliveries_total", "decision" => code.name()).increment(1);
            tracing::info!(decision = code.name(), "decided");
        }
        self.signals.announce(Topic::Outbox);
        Ok(())
    }
}

impl App {
    /// What a stored delivery says of the issue it is about; of a wish for a retry, what the first delivery said.
    /// `None`: it says nothing of it, or is kept no more.
    pub(super) async fn opening(&self, id: &DeliveryId) -> Result<Option<Opening>, StoreError> {
        let mut id = id.clone();
        for _ in 0..MAX_RETRIES {
            let Some((event, body)) = self.store.delivery(&id).await? else { return Ok(None) };
            if event != RETRY_EVENT {
                return Ok(decode(&event, &body).and_then(|notice| notice.opening));
            }
            let Ok(asked) = serde_json::from_slice::<RetryAsked>(&body) else { return Ok(None) };
            let Some(task) = self.store.task(&asked.task).await? else { return Ok(None) };
            id = task.delivery;
        }
        Ok(None)
    }
}

pub(super) fn place(thread: &Thread) -> Place<'_> {
    Place { installation: thread.installation, repository: thread.repository, name: &thread.name }
}
