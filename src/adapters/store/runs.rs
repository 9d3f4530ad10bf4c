//! Runs: the step they are at and what each step learned. Written only by who holds the lease.

use super::rows::{json, row, to_json};
use super::{Lease, Result, Store, StoreError, in_tx, read, write};
use crate::domain::ids::{IssueNumber, Millis, RepositoryId, RunId, TaskId};
use crate::domain::run::{LogPosition, Run, RunFacts, Step};

row!(RunRow {
    id: String,
    task_id: String,
    attempt: i64,
    step: String,
    facts: String,
    stdout_at: i64,
    stderr_at: i64,
    started_at: i64,
});

impl RunRow {
    fn run(self) -> Result<Run> {
        let step = Step::parse(&self.step).ok_or_else(|| StoreError::Corrupt {
            table: "runs",
            column: "step",
            id: self.id.clone(),
        })?;
        Ok(Run {
            facts: json::<RunFacts>(&self.facts, "runs", "facts", &self.id)?,
            id: RunId(self.id),
            task: TaskId(self.task_id),
            attempt: self.attempt,
            step,
            log_at: LogPosition { stdout: self.stdout_at, stderr: self.stderr_at },
            started_at: Millis(self.started_at),
        })
    }
}

/// Meets one row exactly if the lease still holds; on PostgreSQL it also keeps it until the commit.
macro_rules! hold_lease {
    ($conn:ident, $lease:expr) => {{
        let lease: &Lease = $lease;
        let held = sqlx::query(
            "UPDATE tasks SET fence = fence WHERE id = $1 AND lease_owner = $2 AND fence = $3 AND state = 'running'",
        )
        .bind(&lease.task.0)
        .bind(&lease.owner)
        .bind(lease.fence)
        .execute(&mut *$conn)
        .await?
        .rows_affected();
        if held != 1 {
            return Err(StoreError::LeaseLost);
        }
    }};
}

/// What a sandbox is to the tasks of this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No run of ours has one of this name.
    Unknown,
    /// Its run goes on, or it stays for a while.
    InUse,
    Over,
}

impl Store {
    /// The newest run of a task, if one was begun.
    pub async fn latest_run(&self, task: &TaskId) -> Result<Option<Run>> {
        let row: Option<RunRow> = read!(self, |pool| {
            sqlx::query_as(
                "SELECT id, task_id, attempt, step, facts, stdout_at, stderr_at, started_at FROM runs \
                 WHERE task_id = $1 ORDER BY attempt DESC LIMIT 1",
            )
            .bind(&task.0)
            .fetch_optional(pool)
            .await
        })?;
        row.map(RunRow::run).transpose()
    }

    /// Begins a run at its first step.
    pub async fn begin_run(&self, lease: &Lease, id: RunId, attempt: i64, now: Millis) -> Result<Run> {
        let run = Run {
            id,
            task: lease.task.clone(),
            attempt,
            step: Step::Announce,
            facts: RunFacts::default(),
            log_at: LogPosition::default(),
            started_at: now,
        };
        in_tx!(self, |conn| {
            hold_lease!(conn, lease);
            sqlx::query(
                "INSERT INTO runs (id, task_id, attempt, step, facts, started_at) VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&run.id.0)
            .bind(&run.task.0)
            .bind(run.attempt)
            .bind(run.step.name())
            .bind(to_json(&run.facts))
            .bind(now.0)
            .execute(&mut *conn)
            .await?;
        });
        Ok(run)
    }

    /// Whether the sandbox of this name is still needed. A sandbox bears the id of the run that made it;
    /// later ones may have taken it over.
    pub async fn standing(&self, sandbox: &str, now: Millis) -> Result<Standing> {
        let found: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT CAST(max(CASE WHEN (t.state IN ('queued', 'running') AND r.attempt = \
                    (SELECT max(n.attempt) FROM runs n WHERE n.task_id = t.id)) OR coalesce(r.kept_until, 0) > $2 \
                    THEN 1 ELSE 0 END) AS BIGINT) \
                 FROM runs r JOIN tasks t ON t.id = r.task_id WHERE r.id = $1 OR r.sandbox = $1",
            )
            .bind(sandbox)
            .bind(now.0)
            .fetch_one(pool)
            .await
        })?;
        Ok(match found {
            None => Standing::Unknown,
            Some(0) => Standing::Over,
            Some(_) => Standing::InUse,
        })
    }

    /// Gives up the sandboxes that stay for finished tasks of a thread. Gives how many.
    pub async fn release_kept(&self, repository: RepositoryId, issue: IssueNumber, now: Millis) -> Result<u64> {
        Ok(write!(self, |pool| {
            sqlx::query(
                "UPDATE runs SET kept_until = NULL WHERE kept_until > $3 AND task_id IN \
                 (SELECT id FROM tasks WHERE repository_id = $1 AND issue_number = $2)",
            )
            .bind(repository.0)
            .bind(issue.0)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?)
    }
}
