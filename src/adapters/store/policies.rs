//! Policy files as they were last seen, and check runs of tasks.

use super::rows::row;
use super::{Result, Store, read, write};
use crate::domain::ids::{Millis, RepositoryId, TaskId};
use crate::domain::policy::SeenPolicy;

row!(PolicyRow { seen_sha: String, holds: String, fault: String, looked_at: i64 });

impl Store {
    pub async fn policy(&self, repository: RepositoryId) -> Result<Option<SeenPolicy>> {
        let row: Option<PolicyRow> = read!(self, |pool| {
            sqlx::query_as("SELECT seen_sha, holds, fault, looked_at FROM policies WHERE repository_id = $1")
                .bind(repository.0)
                .fetch_optional(pool)
                .await
        })?;
        Ok(row.map(|row| SeenPolicy {
            sha: row.seen_sha,
            holds: row.holds,
            fault: row.fault,
            looked_at: Millis(row.looked_at),
        }))
    }

    pub async fn store_policy(&self, repository: RepositoryId, seen: &SeenPolicy) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO policies (repository_id, seen_sha, holds, fault, looked_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (repository_id) DO UPDATE SET seen_sha = excluded.seen_sha, holds = excluded.holds, \
                 fault = excluded.fault, looked_at = excluded.looked_at",
            )
            .bind(repository.0)
            .bind(&seen.sha)
            .bind(&seen.holds)
            .bind(&seen.fault)
            .bind(seen.looked_at.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// GitHub's number of the check run that shows a task.
    pub async fn check_run(&self, task: &TaskId) -> Result<Option<i64>> {
        let found: Option<Option<i64>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT check_run_id FROM tasks WHERE id = $1").bind(&task.0).fetch_optional(pool).await
        })?;
        Ok(found.flatten())
    }

    /// Remembers it. False: another one is remembered already.
    pub async fn store_check_run(&self, task: &TaskId, id: i64) -> Result<bool> {
        let rows = write!(self, |pool| {
            sqlx::query("UPDATE tasks SET check_run_id = $2 WHERE id = $1 AND check_run_id IS NULL")
                .bind(&task.0)
                .bind(id)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(rows == 1)
    }
}
