//! Tasks: claimed with a dated lease and a fencing number, moved only by who holds them.
//! Every UPDATE names the state and the lease it expects and checks that it met one row.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::rows::{TaskRow, json, task_columns, to_json};
use super::{Result, Store, StoreError, lists, read, write};
use crate::domain::failure::Failure;
use crate::domain::ids::{CommentId, InstallationId, IssueNumber, Millis, RepositoryId, TaskId};
use crate::domain::prompt::Inputs;
use crate::domain::run::Step;
use crate::domain::task::{Task, TaskEvent, TaskState};

/// A worker's dated right to a task. Only a claim makes one; every write of a run needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub(super) task: TaskId,
    pub(super) owner: String,
    pub(super) fence: i64,
}

impl Lease {
    pub fn task(&self) -> &TaskId {
        &self.task
    }
}

/// A task and the right to work on it.
#[derive(Debug)]
pub struct Claimed {
    pub task: Task,
    pub lease: Lease,
}

/// Which tasks a list shows; newest first, in pages by key.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskPage {
    pub repository: Option<RepositoryId>,
    pub before: Option<i64>,
    pub limit: i64,
}

/// Since when this process meets tasks that it cannot read.
pub(super) type Unreadable = Mutex<HashMap<TaskId, Millis>>;

/// What cannot be read is left so long to a process of a newer version, which may have written it, and after twice that is
/// given up.
pub const LEFT_TO_NEWER: Duration = Duration::from_secs(600);

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Store {
    /// Takes the next task: first one whose worker died or stopped, else from the queue.
    pub async fn claim(&self, owner: &str, lease: Duration, now: Millis) -> Result<Option<Claimed>> {
        if let Some(claimed) = self.claim_expired(owner, lease, now).await? {
            return Ok(Some(claimed));
        }
        self.claim_queued(owner, lease, now).await
    }

    /// Whether a claim could find anything; reads only.
    pub async fn has_open_tasks(&self) -> Result<bool> {
        let found: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT seq FROM tasks WHERE state = 'queued' UNION ALL SELECT seq FROM tasks WHERE state = 'running' LIMIT 1",
            )
            .fetch_optional(pool)
            .await
        })?;
        Ok(found.is_some())
    }

    /// Takes over a running task whose lease is over.
    pub async fn claim_expired(&self, owner: &str, lease: Duration, now: Millis) -> Result<Option<Claimed>> {
        let expired: Option<i64> = read!(self, |pool| {
            // Most of the time there is none, and then nothing is written.
            sqlx::query_scalar("SELECT seq FROM tasks WHERE state = 'running' ORDER BY lease_until LIMIT 1")
                .fetch_optional(pool)
                .await
        })?;
        if expired.is_none() {
            return Ok(None);
        }
        let (sql, taken_over) = (self.db.dialect().claim_expired, TaskState::Running.on(TaskEvent::TakenOver)?);
        let row: Option<TaskRow> = write!(self, |pool| {
            sqlx::query_as(sql).bind(owner).bind(millis(lease)).bind(taken_over.name()).fetch_optional(pool).await
        })?;
        match row {
            Some(row) => self.read_claimed(row, owner, lease, now).await,
            None => Ok(None),
        }
    }

    /// `None`: it cannot be read here, and was left to others or given up.
    pub(super) async fn read_claimed(
        &self,
        row: TaskRow,
        owner: &str,
        time: Duration,
        now: Millis,
    ) -> Result<Option<Claimed>> {
        let lease = Lease { task: TaskId(row.id.clone()), owner: owner.to_owned(), fence: row.fence };
        match row.task() {
            Ok(task) => Ok(Some(Claimed { task, lease })),
            // Of a newer version, most likely: a process that knows it takes it after this lease. Nobody has died.
            Err(error) => {
                tracing::error!(task.id = %lease.task, error = &error as &dyn std::error::Error, "a task cannot be read");
                if self.is_unreadable_for_good(&lease.task, now) {
                    self.settle(&lease, &Failure::Internal.ending(), &[], now).await?;
                } else {
                    self.hand_back(&lease, time).await?;
                }
                Ok(None)
            }
        }
    }

    /// Whether a task that cannot be read now was not readable for so long that nobody is to be expected who can.
    pub fn is_unreadable_for_good(&self, id: &TaskId, now: Millis) -> bool {
        let mut all = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *all.entry(id.clone()).or_insert(now);
        now.since(since) > 2 * LEFT_TO_NEWER
    }

    /// Keeps a lease. Gives the login of who asked to stop the task, if anyone did.
    pub async fn renew(&self, lease: &Lease, time: Duration) -> Result<Option<String>> {
        let sql = self.db.dialect().renew;
        let row: Option<Option<String>> = write!(self, |pool| {
            sqlx::query_scalar(sql)
                .bind(&lease.task.0)
                .bind(&lease.owner)
                .bind(lease.fence)
                .bind(millis(time))
                .fetch_optional(pool)
                .await
        })?;
        row.ok_or(StoreError::LeaseLost)
    }

    /// Gives a lease back, so that another worker goes on after `settling` (graceful stop).
    pub async fn hand_back(&self, lease: &Lease, settling: Duration) -> Result<()> {
        let sql = self.db.dialect().hand_back;
        let changed = write!(self, |pool| {
            sqlx::query(sql)
                .bind(&lease.task.0)
                .bind(&lease.owner)
                .bind(lease.fence)
                .bind(millis(settling))
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        if changed == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// On SQLite the file lock proves that no other worker lives: all leases and claims are over. What a worker that died may
    /// have been making at GitHub is left alone for `settling`, as is what a stop gave back; what was put off for longer than a
    /// `claim` is nobody's, and stays so.
    pub async fn expire_all_leases(&self, now: Millis, settling: Duration, claim: Duration) -> Result<()> {
        if self.engine() != "sqlite" {
            return Ok(());
        }
        let settled = now.after(settling).0;
        // Without an owner it was handed back, and later than that by a clock that was set back since.
        let leases = "UPDATE tasks SET lease_until = CASE WHEN lease_owner IS NOT NULL AND (comment_id IS NULL \
            OR EXISTS (SELECT 1 FROM runs r WHERE r.task_id = tasks.id AND r.step IN ($2, $3))) THEN $1 ELSE 0 END \
            WHERE state = 'running' AND (lease_owner IS NOT NULL OR lease_until > $1)";
        let [publish, review] = [Step::Publish, Step::Review].map(Step::name);
        write!(self, |pool| {
            sqlx::query(leases).bind(settled).bind(publish).bind(review).execute(pool).await.map(|_| ())
        })?;
        let until = now.after(claim).0;
        let effects = "UPDATE outbox SET due_at = $1 WHERE due_at > $1 AND due_at <= $2";
        write!(self, |pool| sqlx::query(effects).bind(settled).bind(until).execute(pool).await.map(|_| ()))?;
        let deliveries = "UPDATE deliveries SET decide_at = $1 WHERE decide_at > $1 AND decide_at <= $2";
        write!(self, |pool| sqlx::query(deliveries).bind(now.0).bind(until).execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    /// Tasks of a thread that are not over, oldest first.
    pub async fn open_tasks(&self, repository: RepositoryId, issue: IssueNumber) -> Result<Vec<Task>> {
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(lists::OPEN_TASKS_OF_THREAD).bind(repository.0).bind(issue.0).fetch_all(pool).await
        })?;
        rows.into_iter().map(TaskRow::task).collect()
    }

    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>> {
        let row: Option<TaskRow> = read!(self, |pool| {
            sqlx::query_as(concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = $1"))
                .bind(&id.0)
                .fetch_optional(pool)
                .await
        })?;
        row.map(TaskRow::task).transpose()
    }

    /// The newest tasks of a thread.
    pub async fn tasks_of_thread(&self, repository: RepositoryId, issue: IssueNumber, limit: i64) -> Result<Vec<Task>> {
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(lists::TASKS_OF_THREAD).bind(repository.0).bind(issue.0).bind(limit).fetch_all(pool).await
        })?;
        rows.into_iter().map(TaskRow::task).collect()
    }

    /// A page of tasks with the key to go on from.
    pub async fn tasks(&self, page: TaskPage) -> Result<Vec<(i64, Task)>> {
        let before = page.before.unwrap_or(i64::MAX);
        let rows: Vec<TaskRow> = read!(self, |pool| {
            match page.repository {
                Some(repository) => {
                    sqlx::query_as(lists::TASKS_OF_REPOSITORY)
                        .bind(repository.0)
                        .bind(before)
                        .bind(page.limit)
                        .fetch_all(pool)
                        .await
                }
                None => sqlx::query_as(lists::TASKS).bind(before).bind(page.limit).fetch_all(pool).await,
            }
        })?;
        rows.into_iter().map(|row| Ok((row.seq, row.task()?))).collect()
    }

    /// Freezes the inputs of a task, over those that a retry took from another one.
    pub async fn store_inputs(&self, lease: &Lease, inputs: &Inputs) -> Result<()> {
        let stored = write!(self, |pool| {
            sqlx::query("UPDATE tasks SET inputs = $4 WHERE id = $1 AND lease_owner = $2 AND fence = $3")
                .bind(&lease.task.0)
                .bind(&lease.owner)
                .bind(lease.fence)
                .bind(to_json(inputs))
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        if stored == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    pub async fn inputs(&self, id: &TaskId) -> Result<Option<Inputs>> {
        let text: Option<Option<String>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT inputs FROM tasks WHERE id = $1").bind(&id.0).fetch_optional(pool).await
        })?;
        text.flatten().map(|text| json(&text, "tasks", "inputs", &id.0)).transpose()
    }

    /// Remembers the status comment. `None`: the one there was is gone.
    pub async fn store_comment(&self, task: &TaskId, comment: Option<CommentId>) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE tasks SET comment_id = $2 WHERE id = $1")
                .bind(&task.0)
                .bind(comment.map(|id| id.0))
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    pub async fn comment(&self, task: &TaskId) -> Result<Option<CommentId>> {
        let id: Option<Option<i64>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT comment_id FROM tasks WHERE id = $1").bind(&task.0).fetch_optional(pool).await
        })?;
        Ok(id.flatten().map(CommentId))
    }

    /// Running tasks, here or on another worker; also of one installation.
    pub async fn running(&self, installation: Option<InstallationId>) -> Result<i64> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT count(*) FROM tasks WHERE state = 'running' AND ($1 IS NULL OR installation_id = $1)",
            )
            .bind(installation.map(|id| id.0))
            .fetch_one(pool)
            .await
        })?)
    }

    /// Since when the task that has waited longest is queued, of those that could run: not behind another of their thread,
    /// and not of an account that GitHub asked to leave alone.
    pub async fn oldest_queued(&self, now: Millis) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT t.created_at FROM tasks t WHERE t.state = 'queued' AND NOT EXISTS \
                 (SELECT 1 FROM tasks o WHERE o.repository_id = t.repository_id AND o.issue_number = t.issue_number \
                 AND o.state IN ('queued', 'running') AND o.seq < t.seq) AND NOT EXISTS \
                 (SELECT 1 FROM installations b WHERE b.id = t.installation_id AND b.blocked_until > $1) \
                 ORDER BY t.seq LIMIT 1",
            )
            .bind(now.0)
            .fetch_optional(pool)
            .await
        })?;
        Ok(at.map(Millis))
    }

    pub async fn queued(&self) -> Result<i64> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar("SELECT count(*) FROM tasks WHERE state = 'queued'").fetch_one(pool).await
        })?)
    }
}
