//! Forgetting: what is old, and what an account left that took the App away. In small pieces, so that nobody
//! waits for it.

use super::{Result, Store, in_tx, read, write};
use crate::domain::ids::{InstallationId, Millis};
use crate::domain::task::Task;

use super::rows::{TaskRow, readable, task_columns};

/// Rows that are looked at together.
const PIECE: i64 = 1_000;
/// Tasks that are looked at together: one may have a long log.
const TASKS: i64 = 20;

const SECRETS_OF_INSTALLATION: [&str; 2] = [
    "DELETE FROM keys WHERE owner_kind = 'installation' AND owner_id = $1",
    "DELETE FROM connectors WHERE owner_kind = 'installation' AND owner_id = $1",
];

const OF_REPOSITORY: [&str; 3] = [
    "DELETE FROM policies WHERE repository_id = $1",
    "DELETE FROM monthly_spending WHERE scope = 'repository' AND id = $1",
    "DELETE FROM thread_stops WHERE repository_id = $1",
];

/// What can be forgotten piece by piece, in the order of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Bodies of deliveries.
    Payloads,
    /// Rows of the ledger.
    Deliveries,
    /// Logs, frozen texts and conversations of finished tasks.
    Logs,
}

impl Old {
    /// For people and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payloads => "payloads",
            Self::Deliveries => "deliveries",
            Self::Logs => "logs",
        }
    }

    /// How much is forgotten together.
    fn size(self) -> i64 {
        match self {
            Self::Payloads | Self::Deliveries => PIECE,
            Self::Logs => TASKS,
        }
    }

    /// The last key of the piece after `$1` that is older than `$2`.
    fn piece(self) -> &'static str {
        match self {
            Self::Payloads | Self::Deliveries => {
                "SELECT max(seq) FROM (SELECT seq, received_at FROM deliveries WHERE seq > $1 ORDER BY seq LIMIT $3) p \
                 WHERE received_at < $2"
            }
            Self::Logs => {
                "SELECT max(seq) FROM (SELECT seq, created_at FROM tasks WHERE seq > $1 ORDER BY seq LIMIT $3) p \
                 WHERE created_at < $2"
            }
        }
    }

    /// From `$1` to `$2`, older than `$3`. What is not decided or not over stays.
    fn forget(self) -> &'static [&'static str] {
        match self {
            Self::Payloads => &["UPDATE deliveries SET body = NULL WHERE seq > $1 AND seq <= $2 AND received_at < $3 \
                    AND body IS NOT NULL AND decide_at IS NULL AND NOT EXISTS (SELECT 1 FROM tasks t \
                    WHERE t.delivery_guid = deliveries.guid AND t.state IN ('queued', 'running'))"],
            Self::Deliveries => {
                &["DELETE FROM deliveries WHERE seq > $1 AND seq <= $2 AND received_at < $3 AND decide_at IS NULL"]
            }
            Self::Logs => &[
                "DELETE FROM log_entries WHERE task_id IN \
                 (SELECT id FROM tasks WHERE seq > $1 AND seq <= $2 AND finished_at < $3)",
                "DELETE FROM conversations WHERE task_id IN \
                 (SELECT id FROM tasks WHERE seq > $1 AND seq <= $2 AND finished_at < $3)",
                "DELETE FROM task_messages WHERE task_id IN \
                 (SELECT id FROM tasks WHERE seq > $1 AND seq <= $2 AND finished_at < $3)",
                "UPDATE tasks SET inputs = NULL WHERE seq > $1 AND seq <= $2 AND finished_at < $3 AND inputs IS NOT NULL",
            ],
        }
    }
}

impl Store {
    /// Forgets one piece of what is older than `before`. Gives the key to go on after, and how many rows it was;
    /// `None`: there is nothing older.
    pub async fn forget_old(&self, what: Old, after: i64, before: Millis) -> Result<Option<(i64, u64)>> {
        let last: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(what.piece()).bind(after).bind(before.0).bind(what.size()).fetch_one(pool).await
        })?;
        let Some(last) = last else { return Ok(None) };
        let rows = in_tx!(self, |conn| {
            let mut rows = 0;
            for sql in what.forget() {
                let done = sqlx::query(*sql).bind(after).bind(last).bind(before.0).execute(&mut *conn).await?;
                rows += done.rows_affected();
            }
            rows
        });
        Ok(Some((last, rows)))
    }

    /// Forgets what is over for good: effects that were delivered, missed deliveries, uses of
    /// keys, days and months that passed.
    pub async fn forget_traces(&self, before: Millis) -> Result<()> {
        in_tx!(self, |conn| {
            for (sql, value) in [
                (
                    "DELETE FROM outbox WHERE seq IN \
                     (SELECT o.seq FROM outbox o WHERE o.due_at IS NULL AND o.done_at < $1 ORDER BY o.seq LIMIT 10000)",
                    before.0,
                ),
                ("DELETE FROM missed_deliveries WHERE sent_at < $1", before.0),
                ("DELETE FROM audit_log WHERE action = 'used a key' AND at < $1", before.0),
                // One that holds for nothing that is known any more: elsewhere the last good one has to be known for long.
                (
                    "DELETE FROM policies WHERE looked_at < $1 \
                     AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.repository_id = policies.repository_id) \
                     AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.repository_id = policies.repository_id \
                     AND d.meaning IS NOT NULL)",
                    before.0,
                ),
                ("DELETE FROM thread_stops WHERE written_at < $1", before.0),
                ("DELETE FROM daily_commands WHERE day < $1", before.day()),
                ("DELETE FROM monthly_spending WHERE month < $1", before.month()),
            ] {
                sqlx::query(sql).bind(value).execute(&mut *conn).await?;
            }
        });
        Ok(())
    }

    /// Erases the keys and connectors of an account that took the App away. Gives how many.
    pub async fn erase_secrets_of(&self, id: InstallationId) -> Result<u64> {
        Ok(in_tx!(self, |conn| {
            let mut rows = 0;
            for sql in SECRETS_OF_INSTALLATION {
                rows += sqlx::query(sql).bind(id.0).execute(&mut *conn).await?.rows_affected();
            }
            rows
        }))
    }

    /// Sandboxes that were kept for tasks of an account are nobody's any more.
    pub async fn release_all_kept(&self, id: InstallationId) -> Result<u64> {
        Ok(write!(self, |pool| {
            sqlx::query(
                "UPDATE runs SET kept_until = NULL WHERE kept_until IS NOT NULL \
                 AND task_id IN (SELECT t.id FROM tasks t WHERE t.installation_id = $1)",
            )
            .bind(id.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?)
    }

    /// Tasks of an account that are not over, but for those that a newer version wrote: they are left to it.
    pub async fn open_tasks_of(&self, id: InstallationId) -> Result<Vec<Task>> {
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks WHERE installation_id = $1 AND state = 'queued' \
                 UNION ALL SELECT ",
                task_columns!(),
                " FROM tasks WHERE installation_id = $1 AND state = 'running'"
            ))
            .bind(id.0)
            .fetch_all(pool)
            .await
        })?;
        Ok(readable(rows).into_iter().map(|(_, task)| task).collect())
    }

    /// Accounts that took the App away, or had it suspended, before a moment, and for which nothing runs any more.
    pub async fn gone_since_before(&self, before: Millis) -> Result<Vec<(InstallationId, String)>> {
        let rows: Vec<(i64, String)> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT i.id, i.account FROM installations i WHERE (i.deleted_at < $1 OR i.suspended_at < $1) \
                 AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.installation_id = i.id AND t.state = 'queued') \
                 AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.installation_id = i.id AND t.state = 'running')",
            )
            .bind(before.0)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(|(id, account)| (InstallationId(id), account)).collect())
    }

    /// Repositories that this account alone has had.
    async fn repositories_of(&self, id: InstallationId) -> Result<Vec<i64>> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT repository_id FROM tasks WHERE installation_id = $1 \
                 UNION SELECT repository_id FROM deliveries WHERE installation_id = $1 AND repository_id IS NOT NULL \
                 EXCEPT SELECT repository_id FROM tasks WHERE installation_id <> $1 \
                 EXCEPT SELECT repository_id FROM deliveries WHERE installation_id <> $1",
            )
            .bind(id.0)
            .fetch_all(pool)
            .await
        })?)
    }

    /// Erases everything about an account that is gone: tasks with all that hangs on them, deliveries, policies, effects.
    pub async fn erase_installation(&self, id: InstallationId) -> Result<()> {
        for repository in self.repositories_of(id).await? {
            in_tx!(self, |conn| {
                for sql in OF_REPOSITORY {
                    sqlx::query(sql).bind(repository).execute(&mut *conn).await?;
                }
            });
        }
        // Runs, logs, grants, spending, messages and conversations go with their task.
        let large = [
            (
                "SELECT max(seq) FROM (SELECT seq FROM tasks WHERE seq > $1 ORDER BY seq LIMIT $2) p",
                "DELETE FROM tasks WHERE seq > $1 AND seq <= $2 AND installation_id = $3",
                TASKS,
            ),
            (
                "SELECT max(seq) FROM (SELECT seq FROM deliveries WHERE seq > $1 ORDER BY seq LIMIT $2) p",
                "DELETE FROM deliveries WHERE seq > $1 AND seq <= $2 AND installation_id = $3",
                PIECE,
            ),
            (
                "SELECT max(seq) FROM (SELECT seq FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2) p",
                "DELETE FROM outbox WHERE seq > $1 AND seq <= $2 AND installation_id = $3",
                PIECE,
            ),
        ];
        for (piece, erase, size) in large {
            let mut after = 0;
            loop {
                let last: Option<i64> =
                    read!(self, |pool| { sqlx::query_scalar(piece).bind(after).bind(size).fetch_one(pool).await })?;
                let Some(last) = last else { break };
                write!(self, |pool| {
                    sqlx::query(erase).bind(after).bind(last).bind(id.0).execute(pool).await.map(|_| ())
                })?;
                after = last;
            }
        }
        in_tx!(self, |conn| {
            for sql in SECRETS_OF_INSTALLATION {
                sqlx::query(sql).bind(id.0).execute(&mut *conn).await?;
            }
            for sql in [
                "DELETE FROM audit_log WHERE installation_id = $1",
                "DELETE FROM write_budget WHERE installation_id = $1",
                // Last: until then the next round goes on.
                "DELETE FROM installations WHERE id = $1 AND (deleted_at IS NOT NULL OR suspended_at IS NOT NULL)",
            ] {
                sqlx::query(sql).bind(id.0).execute(&mut *conn).await?;
            }
        });
        Ok(())
    }
}
