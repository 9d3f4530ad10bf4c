//! GitHub's grants of our App on accounts.

use super::{Result, Store, read, write};
use crate::domain::delivery::InstallationState;
use crate::domain::ids::{InstallationId, Millis};

impl Store {
    /// Records what GitHub says holds.
    pub async fn note_installation(
        &self,
        id: InstallationId,
        app_id: i64,
        account: &str,
        state: InstallationState,
        now: Millis,
    ) -> Result<()> {
        let (suspended, deleted) = match state {
            InstallationState::Present => (None, None),
            InstallationState::Suspended => (Some(now.0), None),
            InstallationState::Deleted => (None, Some(now.0)),
        };
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, suspended_at, deleted_at, updated_at, app_id) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (id) DO UPDATE SET account = excluded.account, suspended_at = excluded.suspended_at, \
                 deleted_at = excluded.deleted_at, updated_at = excluded.updated_at, app_id = excluded.app_id",
            )
            .bind(id.0)
            .bind(account)
            .bind(suspended)
            .bind(deleted)
            .bind(now.0)
            .bind(app_id)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Notes an installation that a delivery came from, if nothing is known of it yet.
    pub async fn see_installation(&self, id: InstallationId, app_id: i64, account: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, updated_at, app_id) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (id) DO UPDATE SET account = excluded.account, app_id = excluded.app_id \
                 WHERE installations.account = '' OR installations.app_id IS NULL",
            )
            .bind(id.0)
            .bind(account)
            .bind(now.0)
            .bind(app_id)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// Accounts that have or had this App, with their names and what is noted of them; also those of which an earlier
    /// version did not note whose they are.
    pub async fn installations_of(&self, app_id: i64) -> Result<Vec<(InstallationId, String, InstallationState)>> {
        let rows: Vec<(i64, String, bool, bool)> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT id, account, suspended_at IS NOT NULL, deleted_at IS NOT NULL FROM installations \
                 WHERE app_id = $1 OR app_id IS NULL ORDER BY id",
            )
            .bind(app_id)
            .fetch_all(pool)
            .await
        })?;
        let noted = |(id, account, suspended, deleted)| (InstallationId(id), account, state_of(suspended, deleted));
        Ok(rows.into_iter().map(noted).collect())
    }

    /// What is noted of an account, and since when; `None`: nothing.
    pub async fn installation_state(&self, id: InstallationId) -> Result<Option<(InstallationState, Millis)>> {
        let row: Option<(bool, bool, i64)> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT suspended_at IS NOT NULL, deleted_at IS NOT NULL, updated_at FROM installations WHERE id = $1",
            )
            .bind(id.0)
            .fetch_optional(pool)
            .await
        })?;
        Ok(row.map(|(suspended, deleted, at)| (state_of(suspended, deleted), Millis(at))))
    }

    /// GitHub told us to leave this installation alone until then.
    pub async fn block_installation(&self, id: InstallationId, until: Millis, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO installations (id, account, blocked_until, updated_at) VALUES ($1, '', $2, $3) \
                 ON CONFLICT (id) DO UPDATE SET blocked_until = excluded.blocked_until \
                 WHERE installations.blocked_until < excluded.blocked_until",
            )
            .bind(id.0)
            .bind(until.0)
            .bind(now.0)
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

fn state_of(suspended: bool, deleted: bool) -> InstallationState {
    match (suspended, deleted) {
        (_, true) => InstallationState::Deleted,
        (true, false) => InstallationState::Suspended,
        (false, false) => InstallationState::Present,
    }
}
