//! The disk image that new sandboxes start from.

use super::rows::row;
use super::{Result, Store, read, write};
use crate::domain::ids::Millis;

row!(SnapshotRow { id: String, contents: String, gone_at: Option<i64> });

/// A disk image with the agents in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: String,
    /// Names what is inside: an image with other contents is not used.
    pub contents: String,
    /// The provider does not know it any more.
    pub is_gone: bool,
}

impl Store {
    pub async fn snapshot(&self, provider: &str) -> Result<Option<Snapshot>> {
        let row: Option<SnapshotRow> = read!(self, |pool| {
            sqlx::query_as("SELECT id, contents, gone_at FROM snapshots WHERE provider = $1")
                .bind(provider)
                .fetch_optional(pool)
                .await
        })?;
        Ok(row.map(|row| Snapshot { id: row.id, contents: row.contents, is_gone: row.gone_at.is_some() }))
    }

    /// Remembers a snapshot in place of the one before.
    pub async fn store_snapshot(&self, provider: &str, id: &str, contents: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO snapshots (provider, id, contents, made_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (provider) DO UPDATE SET id = excluded.id, contents = excluded.contents, \
                 made_at = excluded.made_at, gone_at = NULL",
            )
            .bind(provider)
            .bind(id)
            .bind(contents)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// Takes the making of a new snapshot in place of this one upon us, for a while: one of several
    /// processes gets it.
    pub async fn take_renewal(&self, provider: &str, id: &str, now: Millis, until: Millis) -> Result<bool> {
        Ok(write!(self, |pool| {
            sqlx::query(
                "UPDATE snapshots SET gone_at = $4 WHERE provider = $1 AND id = $2 AND coalesce(gone_at, 0) <= $3",
            )
            .bind(provider)
            .bind(id)
            .bind(now.0)
            .bind(until.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected() == 1)
        })?)
    }

    /// Notes that the provider has no such snapshot any more. One that took its place is left alone.
    pub async fn lose_snapshot(&self, provider: &str, id: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE snapshots SET gone_at = $3 WHERE provider = $1 AND id = $2")
                .bind(provider)
                .bind(id)
                .bind(now.0)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }
}
