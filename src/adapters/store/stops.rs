//! Stopping tasks, and the last word that stopped what was asked for on a thread before it (fault F41).

use super::outbox::promise_in;
use super::{Result, Store, in_tx, write};
use crate::domain::effect::Effect;
use crate::domain::ids::Millis;
use crate::domain::task::{Outcome, Task, TaskEvent, TaskState, Thread};

/// Who asked for something, when by GitHub's clock, and when by ours.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub by: &'a str,
    pub written_at: Millis,
    pub now: Millis,
}

/// What asking a task to stop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was queued, and is over now.
    InQueue,
    /// It runs, and its worker will see it.
    AtWork,
}

/// Ends a task that waits in the queue. Gives whether it did.
macro_rules! end_queued_in {
    ($conn:ident, $id:expr, $by:expr, $now:expr) => {{
        let cancelled = TaskState::Queued.on(TaskEvent::Ended(Outcome::Cancelled))?;
        sqlx::query(
            "UPDATE tasks SET state = $2, cancelled_by = $3, finished_at = $4 WHERE id = $1 AND state = 'queued'",
        )
        .bind(&$id.0)
        .bind(cancelled.name())
        .bind($by)
        .bind($now.0)
        .execute(&mut *$conn)
        .await?
        .rows_affected()
            == 1
    }};
}
pub(super) use end_queued_in;

/// Who stopped what was asked for on a thread by `at`; `None`: nobody has since.
macro_rules! stopped_after_in {
    ($conn:ident, $thread:expr, $at:expr) => {{
        let stopped_by: Option<String> = sqlx::query_scalar(
            "SELECT stopped_by FROM thread_stops WHERE repository_id = $1 AND issue_number = $2 AND written_at > $3",
        )
        .bind($thread.repository.0)
        .bind($thread.issue.0)
        .bind($at.0)
        .fetch_optional(&mut *$conn)
        .await?;
        stopped_by
    }};
}
pub(super) use stopped_after_in;

impl Store {
    /// `at`: when the word was written, by GitHub's clock. A task that is let in on that thread meanwhile sees it, or is seen by
    /// who looks for open ones afterwards.
    pub async fn note_stop(&self, thread: &Thread, by: &str, at: Millis) -> Result<()> {
        let lock = self.db.dialect().lock_repository;
        in_tx!(self, |conn| {
            sqlx::query(lock).bind(thread.repository.0).execute(&mut *conn).await?;
            sqlx::query(
                "INSERT INTO thread_stops (repository_id, issue_number, stopped_by, written_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (repository_id, issue_number) DO UPDATE SET stopped_by = excluded.stopped_by, \
                 written_at = excluded.written_at WHERE thread_stops.written_at < excluded.written_at",
            )
            .bind(thread.repository.0)
            .bind(thread.issue.0)
            .bind(by)
            .bind(at.0)
            .execute(&mut *conn)
            .await?;
        });
        Ok(())
    }

    /// Asks one task to stop. `None`: it is over.
    pub async fn cancel_one(&self, task: &Task, asked: &Asked<'_>, effects: &[Effect]) -> Result<Option<Stopped>> {
        let (by, now) = (asked.by, asked.now);
        let ended = in_tx!(self, |conn| {
            let ended = end_queued_in!(conn, &task.id, by, now);
            if ended {
                promise_in!(conn, effects, now);
            }
            ended
        });
        if ended {
            return Ok(Some(Stopped::InQueue));
        }
        let asked = write!(self, |pool| {
            sqlx::query(
                "UPDATE tasks SET cancelled_by = coalesce(cancelled_by, $2) WHERE id = $1 AND state = 'running'",
            )
            .bind(&task.id.0)
            .bind(by)
            .execute(pool)
            .await
            .map(|done| done.rows_affected() == 1)
        })?;
        Ok(asked.then_some(Stopped::AtWork))
    }
}
