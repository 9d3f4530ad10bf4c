//! The last word that stopped what was asked for on a thread before it (fault F41).

use super::{Result, Store, read, write};
use crate::domain::ids::Millis;
use crate::domain::task::Thread;

impl Store {
    /// `at`: when the word was written, by GitHub's clock.
    pub async fn note_stop(&self, thread: &Thread, by: &str, at: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO thread_stops (repository_id, issue_number, stopped_by, written_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (repository_id, issue_number) DO UPDATE SET stopped_by = excluded.stopped_by, \
                 written_at = excluded.written_at WHERE thread_stops.written_at < excluded.written_at",
            )
            .bind(thread.repository.0)
            .bind(thread.issue.0)
            .bind(by)
            .bind(at.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// Who stopped what was asked for on a thread by `at`; `None`: nobody has since.
    pub async fn stopped_after(&self, thread: &Thread, at: Millis) -> Result<Option<String>> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT stopped_by FROM thread_stops WHERE repository_id = $1 AND issue_number = $2 AND written_at > $3",
            )
            .bind(thread.repository.0)
            .bind(thread.issue.0)
            .bind(at.0)
            .fetch_optional(pool)
            .await
        })?)
    }
}
