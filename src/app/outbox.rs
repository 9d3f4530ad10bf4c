//! Delivers what was promised: reactions, replies, final status comments. Each can be delivered
//! twice without showing twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::App;
use super::intake::place;
use super::run_task::retry_wait;
use super::status_comment::CommentError;
use crate::adapters::github::GitHubError;
use crate::adapters::store::{DueEffect, Purpose};
use crate::domain::ask::Reviewer;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::ids::{Millis, RunId, TaskId};
use crate::domain::markdown::capped;
use crate::domain::reply::reply_marker;
use crate::domain::run::{Run, RunFacts, Step};

/// While one process delivers an effect, others leave it alone for this long.
const CLAIM: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Trouble that lasts longer ends an effect: nobody waits for a reaction of the day before.
const COURTESY_LIMIT: Duration = Duration::from_secs(6 * 3600);
const RESULT_LIMIT: Duration = Duration::from_secs(3 * 24 * 3600);
/// A thing not found may only not be replicated yet (fault F25).
const TRIES_IF_MISSING: i64 = 3;
/// … for this long after the promise at least, however many tries that were.
const SETTLING: Duration = Duration::from_secs(15);
const TRIES_IF_UNAUTHORIZED: i64 = 4;

/// Delivers effects as they come, until told to stop. One that is slow holds up no other thread.
pub(super) async fn deliver_all(app: Arc<App>, stop: CancellationToken) {
    let mut under_way = JoinSet::new();
    while !stop.is_cancelled() {
        let now = app.clock.now();
        match app.store.claim_effects(now, now.after(CLAIM)).await {
            Ok(due) => {
                for effect in due {
                    let app = Arc::clone(&app);
                    under_way.spawn(async move { app.deliver(&effect).await });
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "promised effects cannot be read"),
        }
        let soon = app.store.next_effect_at().await.ok().flatten().map_or(LOOK_EVERY, |at| at.since(app.clock.now()));
        tokio::select! {
            () = app.signals.outbox.notified() => {}
            // The next effect of the same thread may go now.
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep(soon.clamp(Duration::from_millis(10), LOOK_EVERY)) => {}
            () = stop.cancelled() => {}
        }
    }
    // What is under way is repeated by the next process, which looks first.
    under_way.shutdown().await;
}

impl App {
    #[tracing::instrument(name = "effect", skip_all, fields(effect = %due.effect.key(), repo = %due.effect.thread().name))]
    async fn deliver(&self, due: &DueEffect) {
        let now = self.clock.now();
        let stored = match self.try_deliver(due).await {
            Ok(()) => self.store.effect_done(due.seq, now).await,
            Err(CommentError::Store(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an effect has to wait for the database");
                return;
            }
            Err(CommentError::BudgetSpent { until }) => self.store.postpone_effect(due.seq, until).await,
            Err(CommentError::GitHub(error)) => self.put_off_or_give_up(due, &error, now).await,
        };
        if let Err(error) = stored {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a delivered effect was not marked; it is repeated"
            );
        }
    }

    async fn put_off_or_give_up(
        &self,
        due: &DueEffect,
        error: &GitHubError,
        now: Millis,
    ) -> Result<(), crate::adapters::store::StoreError> {
        if let GitHubError::Limited { until } = error {
            let installation = due.effect.thread().installation;
            self.store.block_installation(installation, *until).await?;
            return self.store.postpone_effect(due.seq, *until).await;
        }
        let limit = if due.effect.is_final() { RESULT_LIMIT } else { COURTESY_LIMIT };
        let hopeful = match error {
            GitHubError::Missing => due.attempts < TRIES_IF_MISSING || now.since(due.promised_at) < SETTLING,
            GitHubError::Unauthorized => due.attempts < TRIES_IF_UNAUTHORIZED,
            other => other.is_passing() && now.since(due.promised_at) < limit,
        };
        let text = self.redactor.redact(&error.to_string());
        if hopeful {
            let wait = retry_wait(u32::try_from(due.attempts).unwrap_or(8), &*self.clock);
            tracing::info!(error = %text, "an effect has to wait");
            return self.store.postpone_effect(due.seq, now.after(wait)).await;
        }
        tracing::warn!(error = %text, "an effect was given up");
        self.store.effect_failed(due.seq, now, &text).await
    }

    async fn try_deliver(&self, due: &DueEffect) -> Result<(), CommentError> {
        let thread = due.effect.thread();
        let blocked_until = self.store.blocked_until(thread.installation).await?;
        if blocked_until > self.clock.now() {
            return Err(GitHubError::Limited { until: blocked_until }.into());
        }
        let (place, github) = (place(thread), &self.github);
        match &due.effect {
            Effect::React { .. } if self.store.is_reaction_overtaken(&due.effect).await? => Ok(()),
            Effect::React { subject, reaction, .. } => {
                self.take(due).await?;
                Ok(github.react(&place, thread.issue, *subject, *reaction).await?)
            }
            Effect::SwapReaction { subject, reaction, .. } => {
                self.take(due).await?;
                github.react(&place, thread.issue, *subject, *reaction).await?;
                let bot = self.bot_login().await?;
                Ok(github.unreact(&place, thread.issue, *subject, Reaction::Eyes, &bot).await?)
            }
            Effect::Reply { key, markdown, .. } => {
                let marker = reply_marker(key);
                if due.attempts > 1 {
                    let since = Millis(due.promised_at.0 - 60_000);
                    let bot = self.bot_login().await?;
                    if github.find_comment(&place, thread.issue, &marker, since, &bot).await?.is_some() {
                        return Ok(());
                    }
                }
                self.take(due).await?;
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
                self.take(due).await?;
                let body = format!("{marker}\n{}", self.redactor.redact(markdown));
                Ok(github.reply_in_talk(&place, thread.issue, *first, &body).await?)
            }
            Effect::Check { task, .. } => self.show_check(task).await,
            Effect::PolicyVerdict { commit, fault, .. } => self.show_policy(thread, commit, fault.as_deref()).await,
            Effect::EndReviewRequest { reviewer, .. } => self.end_review_request(due, reviewer).await,
            Effect::FinalStatus { task, .. } => self.final_status(task).await,
        }
    }

    async fn final_status(&self, task: &TaskId) -> Result<(), CommentError> {
        let Some(task) = self.store.task(task).await? else { return Ok(()) };
        let run = self.store.latest_run(&task.id).await?.unwrap_or_else(|| Run {
            id: RunId(String::new()),
            task: task.id.clone(),
            attempt: 0,
            step: Step::Settle,
            facts: RunFacts::default(),
            log_at: Default::default(),
            started_at: task.created_at,
        });
        self.write_status_comment(&task, &run, Purpose::Result).await
    }

    async fn end_review_request(&self, due: &DueEffect, reviewer: &Reviewer) -> Result<(), CommentError> {
        self.take(due).await?;
        let thread = due.effect.thread();
        match self.github.end_review_request(&place(thread), thread.issue, reviewer).await {
            // Taken back by somebody, or never there.
            Err(GitHubError::Missing | GitHubError::Refused { status: 422, .. }) => Ok(()),
            answer => Ok(answer?),
        }
    }

    async fn take(&self, due: &DueEffect) -> Result<(), CommentError> {
        let purpose = if due.effect.is_final() { Purpose::Result } else { Purpose::Courtesy };
        self.take_write(due.effect.thread(), purpose).await
    }
}
