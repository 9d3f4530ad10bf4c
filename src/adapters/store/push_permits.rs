//! Who lets the service push to forks in their name.

use super::{Result, Store, read, write};
use crate::domain::ids::{Millis, UserId};

impl Store {
    /// The sealed tokens of a person who lets us.
    pub async fn push_permit(&self, user: UserId) -> Result<Option<String>> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar("SELECT sealed FROM push_permits WHERE user_id = $1")
                .bind(user.0)
                .fetch_optional(pool)
                .await
        })?)
    }

    pub async fn store_push_permit(&self, user: UserId, sealed: &str, now: Millis) -> Result<()> {
        Ok(write!(self, |pool| {
            sqlx::query(
                "INSERT INTO push_permits (user_id, sealed, given_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, given_at = excluded.given_at",
            )
            .bind(user.0)
            .bind(sealed)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?)
    }

    /// Puts new tokens in the place of those that were read. False: somebody else did before.
    pub async fn renew_push_permit(&self, user: UserId, old: &str, new: &str) -> Result<bool> {
        let rows = write!(self, |pool| {
            sqlx::query("UPDATE push_permits SET sealed = $3 WHERE user_id = $1 AND sealed = $2")
                .bind(user.0)
                .bind(old)
                .bind(new)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(rows == 1)
    }

    /// Ends a permit. With `sealed`, only that one.
    pub async fn end_push_permit(&self, user: UserId, sealed: Option<&str>) -> Result<()> {
        Ok(write!(self, |pool| {
            sqlx::query("DELETE FROM push_permits WHERE user_id = $1 AND (CAST($2 AS TEXT) IS NULL OR sealed = $2)")
                .bind(user.0)
                .bind(sealed)
                .execute(pool)
                .await
                .map(|_| ())
        })?)
    }

    /// People with permits, by pages.
    pub async fn push_permits_after(&self, after: UserId, limit: i64) -> Result<Vec<UserId>> {
        let users: Vec<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT user_id FROM push_permits WHERE user_id > $1 ORDER BY user_id LIMIT $2")
                .bind(after.0)
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        Ok(users.into_iter().map(UserId).collect())
    }
}
