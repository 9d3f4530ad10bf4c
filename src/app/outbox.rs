//! Delivers what was promised: reactions, replies, final status comments. Each can be delivered
//! twice without showing twice.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;
use super::accounts::LookError;
use super::claims::Claims;
use super::gate::{Gate, TO_END};
use super::intake::place;
use super::run_task::retry_wait;
use super::status_comment::CommentError;
use crate::adapters::github::GitHubError;
use crate::adapters::store::{DueEffect, LEFT_TO_NEWER, Purpose, StoreError};
use crate::domain::ask::Reviewer;
use crate::domain::delivery::InstallationState;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::ids::{Millis, RunId, TaskId};
use crate::domain::markdown::capped;
use crate::domain::reply::reply_marker;
use crate::domain::run::{Run, RunFacts, Step};
use crate::domain::task::Subject;

/// While one process delivers an effect, others leave it alone for this long.
pub const CLAIM: Duration = Duration::from_secs(90);
/// Effects that are delivered at once: GitHub allows an App a hundred calls at a time.
const MAX_UNDER_WAY: usize = 64;
/// Trouble that lasts longer ends an effect: nobody waits for a reaction of the day before.
const COURTESY_LIMIT: Duration = Duration::from_secs(6 * 3600);
const RESULT_LIMIT: Duration = Duration::from_secs(3 * 24 * 3600);
/// GitHub's parts agree after this, at the latest (fault F25).
pub const SETTLING: Duration = Duration::from_secs(15);
/// How often it is looked meanwhile, and how long in between.
const LOOKS_WHILE_SETTLING: i64 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// It is tried again at once when the account comes back.
const WHILE_SUSPENDED: Duration = Duration::from_secs(1800);

/// Delivers effects as they come, until told to stop. One that is slow holds up no other thread.
pub(super) async fn deliver_all(app: Arc<App>, stop: CancellationToken) {
    let mut claims = Claims::default();
    while !stop.is_cancelled() {
        let now = app.clock.now();
        // What is due and was not found is behind an earlier one of its thread.
        let mut after = Some(now);
        let (until, here) = (now.after(CLAIM), tokio::time::Instant::now() + CLAIM);
        let due = match claims.len() < MAX_UNDER_WAY {
            true => app.in_time(app.store.claim_effects(now, until)).await,
            false => Ok(Vec::new()),
        };
        match due {
            Ok(due) => {
                for effect in due {
                    after = None;
                    let app = Arc::clone(&app);
                    let gate = Gate::until(here);
                    claims.begin(vec![(effect.seq, until)], CLAIM, async move { app.deliver(&effect, &gate).await });
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "promised effects cannot be read"),
        }
        let look_every = app.look_every();
        let next = app.in_time(app.store.next_effect_after(after)).await.ok().flatten();
        let soon = next.map_or(look_every, |at| at.since(app.clock.now()));
        tokio::select! {
            () = app.signals.outbox.notified(), if claims.len() < MAX_UNDER_WAY => {}
            // The next effect of the same thread may go now.
            Some(()) = claims.next_end() => {}
            () = tokio::time::sleep(soon.clamp(Duration::from_millis(10), look_every)) => {}
            () = stop.cancelled() => {}
        }
    }
    // What is under way is repeated by the next process, which looks first.
    let left = claims.break_off(TO_END).await;
    // GitHub may be doing it still, and shows it only then to who looks.
    let due_at = app.clock.now().after(SETTLING);
    if let Err(error) = app.store.give_back_effects(&left, due_at).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "effects stay claimed for a minute or two");
    }
}

impl App {
    #[tracing::instrument(name = "effect", skip_all, fields(effect = %due.effect.key(), repo = %due.effect.thread().name))]
    async fn deliver(&self, due: &DueEffect, gate: &Gate) {
        let done = self.try_deliver(due, gate).await;
        let now = self.clock.now();
        let stored = match done {
            Ok(()) => self.store.effect_done(due.seq, now).await,
            Err(CommentError::Store(error @ (StoreError::Corrupt { .. } | StoreError::Unstorable(_))))
                if now.since(due.promised_at) > 2 * LEFT_TO_NEWER =>
            {
                tracing::error!(error = &error as &dyn std::error::Error, "an effect was given up");
                self.store.effect_failed(due.seq, now, &error.to_string()).await
            }
            Err(CommentError::Store(StoreError::LeaseLost)) => {
                tracing::warn!("an effect was left to another process");
                return;
            }
            Err(CommentError::Store(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an effect has to wait for the database");
                return;
            }
            Err(CommentError::BudgetSpent { until }) => self.store.postpone_effect(due.seq, until).await,
            Err(CommentError::GitHub(error)) => self.put_off_or_give_up(due, error, now).await,
        };
        if let Err(error) = stored {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what became of an effect was not stored; it is repeated"
            );
        }
    }

    async fn put_off_or_give_up(&self, due: &DueEffect, mut error: GitHubError, now: Millis) -> Result<(), StoreError> {
        if matches!(error, GitHubError::Forbidden { .. }) && now.since(due.promised_at) < RESULT_LIMIT {
            match self.is_refused_as_suspended(due.effect.thread(), now).await {
                Ok(true) => return self.put_off_while_suspended(due, now).await,
                // It was, or one part of GitHub does not know it yet.
                Ok(false) if error.is_of_suspension() => {
                    return self.store.postpone_effect(due.seq, now.after(SETTLING)).await;
                }
                Ok(false) => {}
                Err(LookError::Store(error)) => return Err(error),
                Err(LookError::GitHub(trouble)) => error = trouble,
            }
        }
        if let GitHubError::Limited { until } = error {
            self.store.block_installation(due.effect.thread().installation, until, now).await?;
            return self.store.postpone_effect(due.seq, until).await;
        }
        if error == GitHubError::Missing && due.times_missing < LOOKS_WHILE_SETTLING {
            return self.store.effect_missing(due.seq, now.after(BETWEEN_LOOKS)).await;
        }
        let text = self.redactor.redact(&error.to_string());
        let limit = if due.effect.is_final() { RESULT_LIMIT } else { COURTESY_LIMIT };
        if error.is_passing() && now.since(due.promised_at) < limit {
            let wait = match error {
                GitHubError::Unclear(_) => SETTLING,
                _ => retry_wait(u32::try_from(due.attempts).unwrap_or(8), &*self.clock),
            };
            tracing::info!(error = %text, "an effect has to wait");
            return self.store.postpone_effect(due.seq, now.after(wait)).await;
        }
        tracing::warn!(error = %text, "an effect was given up");
        self.store.effect_failed(due.seq, now, &text).await
    }

    /// The account may come back, and then people look at what is told.
    async fn put_off_while_suspended(&self, due: &DueEffect, now: Millis) -> Result<(), StoreError> {
        self.store.postpone_effect(due.seq, now.after(WHILE_SUSPENDED)).await?;
        // One that came back before that has hastened only what was put off by then.
        let noted = self.store.installation_state(due.effect.thread().installation).await?;
        if noted.is_some_and(|(state, _)| state == InstallationState::Present) {
            self.store.postpone_effect(due.seq, now.after(BETWEEN_LOOKS)).await?;
        }
        Ok(())
    }

    async fn try_deliver(&self, due: &DueEffect, gate: &Gate) -> Result<(), CommentError> {
        let thread = due.effect.thread();
        let blocked_until = self.store.blocked_until(thread.installation).await?;
        if blocked_until > self.clock.now() {
            return Err(GitHubError::Limited { until: blocked_until }.into());
        }
        let (place, github) = (place(thread), &self.github);
        match &due.effect {
            Effect::React { subject, reaction, .. } => self.react((due, gate), *subject, *reaction).await,
            Effect::SwapReaction { subject, reaction, .. } => {
                self.take(due, gate).await?;
                github.react(&place, thread.issue, *subject, *reaction).await?;
                let bot = self.bot_login().await?;
                gate.check()?;
                Ok(github.unreact(&place, thread.issue, *subject, Reaction::Eyes, &bot).await?)
            }
            Effect::Reply { key, markdown, .. } => {
                let marker = reply_marker(key);
                if due.attempts > 1 {
                    let since = Millis(github.in_its_time(due.promised_at).0 - 60_000);
                    let bot = self.bot_login().await?;
                    if github.find_comment(&place, thread.issue, &marker, since, &bot).await?.is_some() {
                        return Ok(());
                    }
                }
                self.take(due, gate).await?;
                let body = capped(&format!("{marker}\n{}", self.redactor.redact(markdown)), "the log of this service");
                github.create_comment(&place, thread.issue, &body).await?;
                Ok(())
            }
            Effect::ReplyInTalk { first, key, markdown, .. } => {
                let marker = reply_marker(key);
                let bot = self.bot_login().await?;
                if due.attempts > 1 && github.has_reply(&place, thread.issue, &marker, &bot).await? {
                    return Ok(());
                }
                self.take(due, gate).await?;
                let body = format!("{marker}\n{}", self.redactor.redact(markdown));
                Ok(github.reply_in_talk(&place, thread.issue, *first, &body).await?)
            }
            Effect::Check { task, .. } => self.show_check(task, gate).await,
            Effect::PolicyVerdict { commit, fault, .. } => {
                self.show_policy(thread, (commit, fault.as_deref()), gate).await
            }
            Effect::EndReviewRequest { reviewer, .. } => self.end_review_request(due, gate, reviewer).await,
            Effect::FinalStatus { task, .. } => self.final_status(task, due.promised_at, gate).await,
        }
    }

    /// Not once a result is promised: that takes back what it finds only.
    async fn react(
        &self,
        (due, gate): (&DueEffect, &Gate),
        subject: Subject,
        reaction: Reaction,
    ) -> Result<(), CommentError> {
        let (place, issue) = (place(due.effect.thread()), due.effect.thread().issue);
        let mut may_be_there = due.attempts > 1;
        if !self.store.is_reaction_overtaken(&due.effect).await? {
            self.take(due, gate).await?;
            self.github.react(&place, issue, subject, reaction).await?;
            may_be_there = true;
        }
        if may_be_there && self.store.is_reaction_overtaken(&due.effect).await? {
            let bot = self.bot_login().await?;
            gate.check()?;
            self.github.unreact(&place, issue, subject, reaction, &bot).await?;
        }
        Ok(())
    }

    async fn final_status(&self, task: &TaskId, promised_at: Millis, gate: &Gate) -> Result<(), CommentError> {
        let Some(task) = self.store.task(task).await? else { return Ok(()) };
        let run = match self.store.latest_run(&task.id).await {
            // Better an end without details than none.
            Err(StoreError::Corrupt { .. }) if self.clock.now().since(promised_at) > LEFT_TO_NEWER => None,
            run => run?,
        };
        let run = run.unwrap_or_else(|| Run {
            id: RunId(String::new()),
            task: task.id.clone(),
            attempt: 0,
            step: Step::Settle,
            facts: RunFacts::default(),
            log_at: Default::default(),
            started_at: task.created_at,
        });
        self.write_status_comment(&task, &run, gate).await
    }

    async fn end_review_request(&self, due: &DueEffect, gate: &Gate, reviewer: &Reviewer) -> Result<(), CommentError> {
        self.take(due, gate).await?;
        let thread = due.effect.thread();
        match self.github.end_review_request(&place(thread), thread.issue, reviewer).await {
            // Taken back by somebody, or never there.
            Err(GitHubError::Missing | GitHubError::Refused { status: 422, .. }) => Ok(()),
            answer => Ok(answer?),
        }
    }

    async fn take(&self, due: &DueEffect, gate: &Gate) -> Result<(), CommentError> {
        let purpose = if due.effect.is_final() { Purpose::Result } else { Purpose::Courtesy };
        self.take_write(due.effect.thread(), purpose).await?;
        Ok(gate.check()?)
    }
}
