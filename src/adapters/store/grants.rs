//! Grants: what a run shows the model gateway instead of a key. Only their hashes are kept.

use super::rows::{json, row, to_json};
use super::{Lease, Result, Store, StoreError, read, write};
use crate::domain::agent::Provider;
use crate::domain::gateway::errors::Reached;
use crate::domain::ids::{InstallationId, Millis, RepositoryId, RunId, TaskId, UserId};
use crate::domain::key::KeyId;
use crate::domain::money::Usd;

/// A grant before it is stored.
#[derive(Debug)]
pub struct NewGrant<'a> {
    /// Hex of the SHA-256 of what the agent shows.
    pub hash: &'a str,
    pub run: &'a RunId,
    pub provider: Provider,
    /// `None`: the operator's key.
    pub key: Option<&'a KeyId>,
    pub max: Option<Usd>,
}

/// A grant that is in force, with what was spent so far.
#[derive(Debug, Clone)]
pub struct Granted {
    pub task: TaskId,
    pub requester: UserId,
    pub repository: RepositoryId,
    pub installation: InstallationId,
    pub provider: Provider,
    pub key: Option<KeyId>,
    pub max: Option<Usd>,
    /// A limit has stopped it before.
    pub is_stopped: bool,
    /// By the task.
    pub spent: Usd,
    /// This month: by the person, in the repository, on this instance.
    pub spent_this_month: [Usd; 3],
}

row!(GrantRow {
    task_id: String,
    requester_id: i64,
    repository_id: i64,
    installation_id: i64,
    provider: String,
    key_id: Option<String>,
    max_micro_usd: Option<i64>,
    stopped_by: Option<String>,
    spent: i64,
    by_person: i64,
    by_repository: i64,
    by_instance: i64,
});

macro_rules! monthly {
    ($scope:literal, $id:literal) => {
        concat!(
            "coalesce((SELECT m.micro_usd FROM monthly_spending m WHERE m.scope = '",
            $scope,
            "' AND m.id = ",
            $id,
            " AND m.month = $2), 0)"
        )
    };
}

const IN_FORCE: &str = concat!(
    "SELECT g.task_id, t.requester_id, t.repository_id, t.installation_id, g.provider, g.key_id, g.max_micro_usd, g.stopped_by, ",
    "CAST(coalesce((SELECT sum(s.micro_usd) FROM spending s WHERE s.task_id = g.task_id), 0) AS BIGINT) AS spent, ",
    monthly!("person", "t.requester_id"),
    " AS by_person, ",
    monthly!("repository", "t.repository_id"),
    " AS by_repository, ",
    monthly!("instance", "0"),
    " AS by_instance FROM grants g JOIN tasks t ON t.id = g.task_id ",
    "WHERE g.hash = $1 AND g.ended_at IS NULL AND t.state = 'running'"
);

impl Store {
    /// Stores a grant of a run, by who holds its task.
    pub async fn store_grant(&self, lease: &Lease, grant: &NewGrant<'_>, now: Millis) -> Result<()> {
        let stored = write!(self, |pool| {
            sqlx::query(
                "INSERT INTO grants (hash, task_id, run_id, provider, key_id, max_micro_usd, granted_at) \
                 SELECT $1, id, $2, $3, $4, $5, $6 FROM tasks \
                 WHERE id = $7 AND lease_owner = $8 AND fence = $9 AND state = 'running'",
            )
            .bind(grant.hash)
            .bind(&grant.run.0)
            .bind(grant.provider.name())
            .bind(grant.key.map(|key| key.0.as_str()))
            .bind(grant.max.map(|max| max.0))
            .bind(now.0)
            .bind(&lease.task.0)
            .bind(&lease.owner)
            .bind(lease.fence)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        if stored == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// The grant of this hash, if its task runs and its agent has not ended. `month`: see `Millis::month`.
    pub async fn grant(&self, hash: &str, month: i64) -> Result<Option<Granted>> {
        let row: Option<GrantRow> =
            read!(self, |pool| sqlx::query_as(IN_FORCE).bind(hash).bind(month).fetch_optional(pool).await)?;
        let Some(row) = row else { return Ok(None) };
        let provider = Provider::parse(&row.provider).ok_or_else(|| StoreError::Corrupt {
            table: "grants",
            column: "provider",
            id: row.task_id.clone(),
        })?;
        Ok(Some(Granted {
            task: TaskId(row.task_id),
            requester: UserId(row.requester_id),
            repository: RepositoryId(row.repository_id),
            installation: InstallationId(row.installation_id),
            provider,
            key: row.key_id.map(KeyId),
            max: row.max_micro_usd.map(Usd),
            is_stopped: row.stopped_by.is_some(),
            spent: Usd(row.spent),
            spent_this_month: [Usd(row.by_person), Usd(row.by_repository), Usd(row.by_instance)],
        }))
    }

    /// Notes which limit stopped a grant, so that the end of its run can tell.
    pub async fn stop_grant(&self, hash: &str, reached: &Reached) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE grants SET stopped_by = $2 WHERE hash = $1 AND stopped_by IS NULL")
                .bind(hash)
                .bind(to_json(reached))
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Ends the grants of a run. Gives the limit that stopped one of them.
    pub async fn end_grants(&self, run: &RunId, task: &TaskId, now: Millis) -> Result<Option<Reached>> {
        let stopped: Vec<Option<String>> = write!(self, |pool| {
            sqlx::query_scalar(
                "UPDATE grants SET ended_at = coalesce(ended_at, $3) WHERE task_id = $1 AND run_id = $2 \
                 RETURNING stopped_by",
            )
            .bind(&task.0)
            .bind(&run.0)
            .bind(now.0)
            .fetch_all(pool)
            .await
        })?;
        let stopped = stopped.into_iter().flatten().next();
        stopped.map(|text| json(&text, "grants", "stopped_by", &task.0)).transpose()
    }
}
