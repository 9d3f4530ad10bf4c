//! GitHub's grants of our App on accounts.

use super::{Result, Store, read, write};
use crate::domain::delivery::InstallationChange;
use crate::domain::ids::{InstallationId, Millis};

impl Store {
    /// Records what an installation event or a delivery says.
    pub async fn note_installation(
        &self,
        id: InstallationId,
        account: &str,
        change: InstallationChange,
        now: Millis,
    ) -> Result<()> {
        let (suspended, deleted) = match change {
            InstallationChange::Present => (None, None),
            InstallationChange::Suspended => (Some(now.0), None),
            InstallationChange::Deleted => (None, Some(now.0)),
        };
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, suspended_at, deleted_at, updated_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (id) DO UPDATE SET account = excluded.account, suspended_at = excluded.suspended_at, \
                 deleted_at = excluded.deleted_at, updated_at = excluded.updated_at",
            )
            .bind(id.0)
            .bind(account)
            .bind(suspended)
            .bind(deleted)
            .bind(now.0)
            .execute(pool)
            .await
                .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Notes an installation that a delivery came from, if nothing is known of it yet.
    pub async fn see_installation(&self, id: InstallationId, account: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, updated_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (id) DO UPDATE SET account = excluded.account WHERE installations.account = ''",
            )
            .bind(id.0)
            .bind(account)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    pub async fn is_installation_stopped(&self, id: InstallationId) -> Result<bool> {
        let stopped: Option<bool> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT suspended_at IS NOT NULL OR deleted_at IS NOT NULL FROM installations WHERE id = $1",
            )
            .bind(id.0)
            .fetch_optional(pool)
            .await
        })?;
        Ok(stopped.unwrap_or(false))
    }

    /// GitHub told us to leave this installation alone until then.
    pub async fn block_installation(&self, id: InstallationId, until: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, blocked_until, updated_at) VALUES ($1, '', $2, $2) \
                 ON CONFLICT (id) DO UPDATE SET blocked_until = excluded.blocked_until \
                 WHERE installations.blocked_until < excluded.blocked_until",
            )
            .bind(id.0)
            .bind(until.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    pub async fn blocked_until(&self, id: InstallationId) -> Result<Millis> {
        let until: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT blocked_until FROM installations WHERE id = $1")
                .bind(id.0)
                .fetch_optional(pool)
                .await
        })?;
        Ok(Millis(until.unwrap_or(0)))
    }
}
