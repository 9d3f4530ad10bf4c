//! The write budget (design D9): GitHub allows an App 80 content-creating calls a minute and 500 an
//! hour per installation. Every write asks here first; progress leaves a reserve for results.

use super::{Result, Store, in_tx, read};
use crate::domain::ids::{InstallationId, Millis};

const PER_MINUTE: i64 = 80;
const PER_HOUR: i64 = 500;

/// What a write is for: the dearer, the more of the budget it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An edit of a checklist; dropped when writes are scarce.
    Progress,
    /// A reaction or a reply.
    Courtesy,
    /// A commit, a pull request, the last word of a status comment.
    Result,
    /// Asking GitHub to send a delivery again: 5 of 900 points that an App has a minute.
    Redelivery,
}

impl Purpose {
    /// Ceilings per minute and hour.
    fn ceilings(self) -> (i64, i64) {
        match self {
            Self::Progress => (PER_MINUTE / 2, PER_HOUR / 2),
            Self::Courtesy => (PER_MINUTE * 3 / 4, PER_HOUR * 3 / 4),
            Self::Result => (PER_MINUTE, PER_HOUR),
            Self::Redelivery => (150, 2_000),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    WaitUntil(Millis),
}

impl Store {
    /// Writes of the last hour by the account that wrote most; GitHub allows each 500.
    pub async fn most_writes_of_the_hour(&self, now: Millis) -> Result<i64> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT CAST(coalesce(max(writes), 0) AS BIGINT) FROM (SELECT sum(writes) AS writes FROM write_budget \
                 WHERE minute > $1 AND installation_id > 0 GROUP BY installation_id) h",
            )
            .bind(now.0.div_euclid(60_000) - 60)
            .fetch_one(pool)
            .await
        })?)
    }

    /// Takes one write out of the budget, or tells when to ask again.
    pub async fn take_write(&self, installation: InstallationId, purpose: Purpose, now: Millis) -> Result<Verdict> {
        let minute = now.0.div_euclid(60_000);
        let (per_minute, per_hour) = purpose.ceilings();
        let lock = self.db.dialect().lock_repository;
        Ok(in_tx!(self, |conn| {
            // The lock's number is apart from those of repositories.
            sqlx::query(lock).bind(-installation.0).execute(&mut *conn).await?;
            // The last whole minute counts with this one: a window that slides never sees more.
            let recent: i64 = sqlx::query_scalar(
                "SELECT CAST(coalesce(sum(writes), 0) AS BIGINT) FROM write_budget WHERE installation_id = $1 AND minute >= $2",
            )
            .bind(installation.0)
            .bind(minute - 1)
            .fetch_one(&mut *conn)
            .await?;
            let (hour, oldest): (i64, i64) = sqlx::query_as(
                "SELECT CAST(coalesce(sum(writes), 0) AS BIGINT), coalesce(min(minute), $2) FROM write_budget \
                 WHERE installation_id = $1 AND minute >= $2",
            )
            .bind(installation.0)
            .bind(minute - 60)
            .fetch_one(&mut *conn)
            .await?;
            if hour >= per_hour {
                // Before that nothing is free.
                Verdict::WaitUntil(Millis((oldest + 61) * 60_000))
            } else if recent >= per_minute {
                Verdict::WaitUntil(Millis((minute + 1) * 60_000))
            } else {
                sqlx::query(
                    "INSERT INTO write_budget (installation_id, minute, writes) VALUES ($1, $2, 1) \
                     ON CONFLICT (installation_id, minute) DO UPDATE SET writes = write_budget.writes + 1",
                )
                .bind(installation.0)
                .bind(minute)
                .execute(&mut *conn)
                .await?;
                sqlx::query("DELETE FROM write_budget WHERE installation_id = $1 AND minute < $2")
                    .bind(installation.0)
                    .bind(minute - 120)
                    .execute(&mut *conn)
                    .await?;
                Verdict::Allowed
            }
        }))
    }
}
