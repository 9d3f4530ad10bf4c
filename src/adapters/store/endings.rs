//! How a task ends: outcome and the effects that tell it, at once.

use sqlx::{PgPool, SqlitePool};

use super::outbox::{outbox_columns, promise_in};
use super::rows::to_json;
use super::{Db, Lease, Result, Store, StoreError, read};
use crate::domain::effect::Effect;
use crate::domain::ids::Millis;
use crate::domain::run::Ending;
use crate::domain::task::{TaskEvent, TaskState};

macro_rules! end {
    () => {
        "UPDATE tasks SET state = $4, reason = $5, finished_at = $6, lease_owner = NULL, lease_until = NULL \
         WHERE id = $1 AND lease_owner = $2 AND fence = $3 AND state = 'running'"
    };
}

/// `$1` to `$6`, on either engine.
macro_rules! bind_end {
    ($query:expr, $end:ident) => {
        $query
            .bind(&$end.lease.task.0)
            .bind(&$end.lease.owner)
            .bind($end.lease.fence)
            .bind($end.state.name())
            .bind($end.reason)
            .bind($end.now.0)
    };
}

/// `$7` and on: a column of the effects each.
const END_AND_PROMISE: &str = concat!(
    "WITH ended AS (",
    end!(),
    " RETURNING id), promised AS (INSERT INTO outbox (",
    outbox_columns!(),
    ") SELECT e.id, e.installation_id, e.repository_id, e.issue_number, e.is_final, e.effect, $6, $6 FROM ended, ",
    "unnest($7, $8, $9, $10, $11, $12) WITH ORDINALITY ",
    "AS e(id, installation_id, repository_id, issue_number, is_final, effect, place) ",
    "ORDER BY e.place ON CONFLICT (id) DO NOTHING) ",
    "SELECT count(*) FROM ended"
);

/// What ends, and how.
struct End<'a> {
    lease: &'a Lease,
    state: TaskState,
    reason: &'a str,
    effects: &'a [Effect],
    now: Millis,
}

impl Store {
    /// Ends a task, and promises the effects that tell it: both or neither. Asked again because the answer got lost, it is
    /// done.
    pub async fn settle(&self, lease: &Lease, ending: &Ending, effects: &[Effect], now: Millis) -> Result<()> {
        let state = TaskState::Running.on(TaskEvent::Ended(ending.outcome))?;
        let end = End { lease, state, reason: &ending.reason, effects, now };
        let is_ended = match &self.db {
            Db::Lite { write, .. } => end.on_sqlite(write).await?,
            Db::Pg(pool) => end.on_postgres(pool).await?,
        };
        if is_ended || self.has_ended(&end).await? { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// By this lease: whoever claims a task has a number of its own.
    async fn has_ended(&self, end: &End<'_>) -> Result<bool> {
        let found: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT seq FROM tasks WHERE id = $1 AND fence = $2 AND state = $3")
                .bind(&end.lease.task.0)
                .bind(end.lease.fence)
                .bind(end.state.name())
                .fetch_optional(pool)
                .await
        })?;
        Ok(found.is_some())
    }
}

impl End<'_> {
    async fn on_sqlite(&self, write: &SqlitePool) -> Result<bool> {
        let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
        let changed = bind_end!(sqlx::query(end!()), self).execute(&mut *tx).await?.rows_affected();
        if changed != 1 {
            return Ok(false);
        }
        let conn = &mut *tx;
        promise_in!(conn, self.effects, self.now);
        tx.commit().await?;
        Ok(true)
    }

    /// In one statement: the way to the database is gone once instead of four times or more.
    async fn on_postgres(&self, pool: &PgPool) -> Result<bool> {
        let column = |of: fn(&Effect) -> i64| self.effects.iter().map(of).collect::<Vec<i64>>();
        let changed: i64 = bind_end!(sqlx::query_scalar(END_AND_PROMISE), self)
            .bind(self.effects.iter().map(Effect::key).collect::<Vec<String>>())
            .bind(column(|effect| effect.thread().installation.0))
            .bind(column(|effect| effect.thread().repository.0))
            .bind(column(|effect| effect.thread().issue.0))
            .bind(self.effects.iter().map(Effect::is_final).collect::<Vec<bool>>())
            .bind(self.effects.iter().map(to_json).collect::<Vec<String>>())
            .fetch_one(pool)
            .await?;
        Ok(changed == 1)
    }
}
