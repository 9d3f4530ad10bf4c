//! Outward effects that were promised and are not delivered yet.

use std::time::Duration;

use super::rows::{json, row};
use super::{Result, Store, in_tx, lists, read, write};
use crate::domain::effect::{Effect, Reaction};
use crate::domain::ids::{InstallationId, IssueNumber, Millis, RepositoryId};

/// An effect whose time has come.
#[derive(Debug)]
pub struct DueEffect {
    pub seq: i64,
    pub attempts: i64,
    /// How often in a row GitHub did not find what it is about.
    pub times_missing: i64,
    pub promised_at: Millis,
    pub effect: Effect,
}

row!(DueRow { seq: i64, attempts: i64, times_missing: i64, created_at: i64, effect: String });

macro_rules! outbox_columns {
    () => {
        "id, installation_id, repository_id, issue_number, is_final, effect, created_at, due_at"
    };
}
pub(super) use outbox_columns;

/// Promises effects in the open transaction. One promised before stays as it is.
macro_rules! promise_in {
    ($conn:ident, $effects:expr, $now:expr) => {
        for effect in $effects {
            let (effect, now): (&Effect, Millis) = (effect, $now);
            sqlx::query(concat!(
                "INSERT INTO outbox (",
                $crate::adapters::store::outbox::outbox_columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (id) DO NOTHING"
            ))
            .bind(effect.key())
            .bind(effect.thread().installation.0)
            .bind(effect.thread().repository.0)
            .bind(effect.thread().issue.0)
            .bind(effect.is_final())
            .bind($crate::adapters::store::rows::to_json(effect))
            .bind(now.0)
            .execute(&mut *$conn)
            .await?;
        }
    };
}
pub(super) use promise_in;

impl Store {
    /// Promises effects. One promised before stays as it is.
    pub async fn promise(&self, effects: &[Effect], now: Millis) -> Result<()> {
        in_tx!(self, |conn| {
            promise_in!(conn, effects, now);
        });
        Ok(())
    }

    /// Gives claimed effects back, but for those that were delivered or put off meanwhile. `claimed`: row, and until when.
    pub async fn give_back_effects(&self, claimed: &[(i64, Millis)], due_at: Millis) -> Result<()> {
        self.give_back("UPDATE outbox SET due_at = $3 WHERE seq = $1 AND due_at = $2", claimed, due_at).await
    }

    /// `sql`: what gives back the row $1 that is claimed until $2, and makes it due at $3.
    pub(super) async fn give_back(&self, sql: &'static str, claimed: &[(i64, Millis)], due_at: Millis) -> Result<()> {
        in_tx!(self, |conn| {
            for (seq, until) in claimed {
                sqlx::query(sql).bind(seq).bind(until.0).bind(due_at.0).execute(&mut *conn).await?;
            }
        });
        Ok(())
    }

    /// What was put off for an account is due now, but for what somebody may have claimed for `claim`.
    pub async fn hasten_effects(&self, id: InstallationId, now: Millis, claim: Duration) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE outbox SET due_at = $2 WHERE installation_id = $1 AND due_at > $3")
                .bind(id.0)
                .bind(now.0)
                .bind(now.after(claim).0)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Takes effects that are due. Until `again_at` nobody else takes them.
    pub async fn claim_effects(&self, now: Millis, again_at: Millis) -> Result<Vec<DueEffect>> {
        // Most of the time there is none, and then nothing is written.
        if self.next_effect_after(None).await?.is_none_or(|at| at > now) {
            return Ok(Vec::new());
        }
        let sql = self.db.dialect().claim_due;
        let mut rows: Vec<DueRow> =
            write!(self, |pool| sqlx::query_as(sql).bind(now.0).bind(again_at.0).fetch_all(pool).await)?;
        rows.sort_by_key(|row| row.seq);
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            match json(&row.effect, "outbox", "effect", &row.seq.to_string()) {
                Ok(effect) => {
                    let promised_at = Millis(row.created_at);
                    let (attempts, times_missing) = (row.attempts, row.times_missing);
                    due.push(DueEffect { seq: row.seq, attempts, times_missing, promised_at, effect });
                }
                // One row that nobody can read must not hold up the others.
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an effect cannot be read");
                    self.effect_failed(row.seq, now, &error.to_string()).await?;
                }
            }
        }
        Ok(due)
    }

    /// Whether a result was promised for the same text: 👀 comes too late then.
    pub async fn is_reaction_overtaken(&self, effect: &Effect) -> Result<bool> {
        let Effect::React { thread, subject, delivery, .. } = effect else { return Ok(false) };
        let result = |reaction| {
            let (thread, delivery) = (thread.clone(), delivery.clone());
            Effect::SwapReaction { thread, subject: *subject, reaction, delivery }.key()
        };
        // By whole keys: in which order texts stand is up to the database's locale.
        let [eyes, rocket, thumbs_up, confused] = Reaction::ALL.map(result);
        let found: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT seq FROM outbox WHERE id IN ($1, $2, $3, $4) LIMIT 1")
                .bind(eyes)
                .bind(rocket)
                .bind(thumbs_up)
                .bind(confused)
                .fetch_optional(pool)
                .await
        })?;
        Ok(found.is_some())
    }

    /// When the next effect is due, of those that are due after a moment; `None`: none is waiting.
    pub async fn next_effect_after(&self, after: Option<Millis>) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(lists::NEXT_EFFECT).bind(after.map_or(-1, |at| at.0)).fetch_one(pool).await
        })?;
        Ok(at.map(Millis))
    }

    /// Whether a delivery waits for its decision or an effect for its delivery.
    pub async fn has_open_promises(&self) -> Result<bool> {
        Ok(self.next_effect_after(None).await?.is_some() || self.next_pending_after(None).await?.is_some())
    }

    pub async fn effect_done(&self, seq: i64, now: Millis) -> Result<()> {
        self.end_effect(seq, now, "").await
    }

    /// Gives an effect up; `why` is for the operator.
    pub async fn effect_failed(&self, seq: i64, now: Millis, why: &str) -> Result<()> {
        self.end_effect(seq, now, why).await
    }

    async fn end_effect(&self, seq: i64, now: Millis, error: &str) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "UPDATE outbox SET due_at = NULL, done_at = $2, error = $3 WHERE seq = $1 AND due_at IS NOT NULL",
            )
            .bind(seq)
            .bind(now.0)
            .bind(error)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Puts an effect off.
    pub async fn postpone_effect(&self, seq: i64, until: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE outbox SET due_at = $2, times_missing = 0 WHERE seq = $1 AND due_at IS NOT NULL")
                .bind(seq)
                .bind(until.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Puts an effect off that GitHub does not find.
    pub async fn effect_missing(&self, seq: i64, until: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "UPDATE outbox SET due_at = $2, times_missing = times_missing + 1 WHERE seq = $1 AND due_at IS NOT NULL",
            )
            .bind(seq)
            .bind(until.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Replies on a thread since `since`: the circuit breaker against bots that answer each other.
    pub async fn replies_since(&self, repository: RepositoryId, issue: IssueNumber, since: Millis) -> Result<i64> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT count(*) FROM outbox WHERE repository_id = $1 AND issue_number = $2 AND created_at > $3 \
                 AND id LIKE 'reply:%'",
            )
            .bind(repository.0)
            .bind(issue.0)
            .bind(since.0)
            .fetch_one(pool)
            .await
        })?)
    }
}
