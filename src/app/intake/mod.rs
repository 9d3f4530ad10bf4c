//! Deciding what becomes of a stored delivery. It happens from the table, so a crash loses nothing;
//! the decision, the tasks and the answers are one transaction.

mod answers;
mod asks;
mod plan;
mod sender;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::App;
use super::from_page::RETRY_EVENT;
use super::keys::Payer;
use super::policy::{Holding, PolicyError};
use crate::adapters::github::{GitHubError, Place, decode};
use crate::adapters::store::{Admission, Admit, Decision, Limits, PendingDelivery, StoreError};
use crate::domain::command::{Vocabulary, parse};
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::{Opening, Sorted, Writing, sort};
use crate::domain::effect::{Effect, Reaction};
use crate::domain::ids::{DeliveryId, InstallationId, Millis};
use crate::domain::preferences::Preferences;
use crate::domain::reply;
use crate::domain::task::{Requester, Thread};
pub(super) use answers::cancelled_in_queue;
use plan::Plan;

/// While one process decides on a delivery, others leave it alone for this long.
const CLAIM: Duration = Duration::from_secs(60);
/// The table is looked at this often even when nobody calls: for what was put off, and for `replay`.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Threads whose deliveries are decided at once.
const MAX_UNDER_WAY: usize = 64;
/// Tasks queued or running in one repository at most.
const MAX_WAITING: i64 = 50;

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

/// Decides deliveries as they come, until told to stop. Those of one thread keep their order; one
/// that has to wait for GitHub holds up no other thread.
pub(super) async fn decide_all(app: Arc<App>, stop: CancellationToken) {
    let mut under_way = JoinSet::new();
    while !stop.is_cancelled() {
        let now = app.clock.now();
        let pending = match app.store.claim_pending(now, now.after(CLAIM)).await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "deliveries cannot be read");
                Vec::new()
            }
        };
        let found = !pending.is_empty();
        for deliveries in by_thread(app.without_commands(pending).await) {
            let app = Arc::clone(&app);
            under_way.spawn(async move {
                let mut waits_until = None;
                for delivery in &deliveries {
                    // Behind one that has to wait the others do: a cancel must not overtake what it cancels.
                    match waits_until {
                        None => waits_until = app.decide_or_postpone(delivery).await,
                        Some(until) => app.postpone(delivery, until).await,
                    }
                }
            });
        }
        while under_way.try_join_next().is_some() {}
        if found && under_way.len() < MAX_UNDER_WAY {
            continue;
        }
        let next = app.store.next_pending_at().await.ok().flatten();
        let soon = next.map_or(LOOK_EVERY, |at| at.since(app.clock.now()));
        tokio::select! {
            () = app.signals.deliveries.notified(), if under_way.len() < MAX_UNDER_WAY => {}
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep(soon.clamp(Duration::from_millis(10), LOOK_EVERY)) => {}
            () = stop.cancelled() => {}
        }
    }
    // A decision that is cut off was not made: the next process makes it.
    under_way.shutdown().await;
}

fn by_thread(pending: Vec<PendingDelivery>) -> Vec<Vec<PendingDelivery>> {
    let mut groups: BTreeMap<(i64, i64), Vec<PendingDelivery>> = BTreeMap::new();
    for delivery in pending {
        groups.entry(delivery.thread).or_default().push(delivery);
    }
    groups.into_values().collect()
}

impl App {
    /// Decides those that hold no command after all, with one commit; gives back the others.
    async fn without_commands(&self, pending: Vec<PendingDelivery>) -> Vec<PendingDelivery> {
        let identity = self.identity_so_far();
        // Without our own name a mention of us cannot be told from others.
        if identity.handle.is_empty() {
            return pending;
        }
        let words = self.vocabulary(&identity.handle);
        let is_idle = |delivery: &PendingDelivery| {
            let notice = decode(&delivery.event, &delivery.body);
            let writing = notice.and_then(|notice| notice.writing);
            writing.is_some_and(|writing| parse(&writing.text, &words).is_empty())
        };
        let (idle, others): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_idle);
        let at = self.clock.now();
        let code = DecisionCode::NoCommand;
        let decisions: Vec<Decision<'_>> = idle
            .iter()
            .map(|delivery| Decision { seq: delivery.seq, code, facts: String::new(), at, effects: &[] })
            .collect();
        if decisions.is_empty() {
            return others;
        }
        match self.store.decide_all(&decisions).await {
            Ok(()) => metrics::counter!("hireling_deliveries_total", "decision" => code.name())
                .increment(decisions.len() as u64),
            // They stay claimed for a moment and are then looked at again.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "decisions could not be stored"),
        }
        others
    }

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
        if let Hindrance::GitHub(error) = &hindrance
            && !error.is_passing()
            && sender::is_settled(pending, now)
        {
            // Taken off the repository meanwhile, for one.
            let facts = serde_json::json!({ "why": error.message() });
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
        if let (Some(change), Some(installation)) = (notice.installation_change, notice.installation) {
            self.store.note_installation(installation, &notice.account, change, self.clock.now()).await?;
            let facts = serde_json::json!({ "installation": format!("{change:?}") });
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
        account: &str,
        installation: Option<InstallationId>,
    ) -> Result<Option<DecisionCode>, Hindrance> {
        let account = account.to_ascii_lowercase();
        if self.settings.allowed_accounts.as_ref().is_some_and(|allowed| !allowed.contains(&account)) {
            return Ok(Some(DecisionCode::AccountNotAllowed));
        }
        let Some(installation) = installation else { return Ok(Some(DecisionCode::EventNotUsed)) };
        let stopped = self.store.is_installation_stopped(installation).await?;
        Ok(stopped.then_some(DecisionCode::InstallationSuspended))
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
        Effect::Reply { thread: case.thread.clone(), key: format!("{}:{what}", case.pending.seq), markdown }
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
        let admission = self.store.admit(&Admit { decision, tasks: &plan.tasks, limits }).await?;
        let refused = match admission {
            Admission::Accepted => {
                // Its event may have been sent before this instance was there.
                if let Err(error) = self.store.see_installation(case.thread.installation, case.account, case.now).await
                {
                    tracing::warn!(error = &error as &dyn std::error::Error, "an installation was not noted");
                }
                metrics::counter!("hireling_tasks_accepted_total").increment(plan.tasks.len() as u64);
                tracing::info!(repo = %case.thread.name, issue = %case.thread.issue, tasks = plan.tasks.len(), "accepted");
                self.signals.tasks.notify_one();
                self.signals.outbox.notify_one();
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

    async fn record(
        &self,
        pending: &PendingDelivery,
        code: DecisionCode,
        facts: serde_json::Value,
        effects: &[Effect],
    ) -> Result<(), Hindrance> {
        let facts = if facts.is_null() { String::new() } else { self.redactor.redact(&facts.to_string()) };
        let decision = Decision { seq: pending.seq, code, facts, at: self.clock.now(), effects };
        self.store.decide(&decision).await?;
        metrics::counter!("hireling_deliveries_total", "decision" => code.name()).increment(1);
        tracing::info!(decision = code.name(), "decided");
        self.signals.outbox.notify_one();
        Ok(())
    }
}

impl App {
    /// What a stored delivery says of the issue it is about.
    pub(super) async fn opening(&self, id: &DeliveryId) -> Result<Opening, StoreError> {
        let stored = self.store.delivery(id).await?;
        let notice = stored.and_then(|(event, body)| decode(&event, &body));
        Ok(notice.and_then(|notice| notice.opening).unwrap_or_default())
    }
}

pub(super) fn place(thread: &Thread) -> Place<'_> {
    Place { installation: thread.installation, repository: thread.repository, name: &thread.name }
}
