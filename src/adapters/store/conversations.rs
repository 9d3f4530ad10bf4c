//! What was said in the tasks of a thread, and the agents' own records of it.

use super::rows::{TaskRow, row, task_columns};
use super::{Lease, Result, Store, in_tx, read, write};
use crate::domain::ids::{CommentId, Millis, RunId, TaskId};
use crate::domain::prompt::Said;
use crate::domain::task::Task;

row!(SaidRow { author: String, name: String, body: String });
row!(ConversationRow { session: String, sealed: Vec<u8> });

/// An agent's own record of a conversation, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub session: String,
    pub sealed: Vec<u8>,
}

impl Store {
    /// Finished tasks of the same agent on the thread of this one, before it, newest first. Those of the
    /// same comment stand beside it, not before.
    pub async fn earlier_tasks(&self, task: &Task, limit: i64) -> Result<Vec<Task>> {
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks WHERE repository_id = $1 AND issue_number = $2 AND agent = $3 \
                 AND state NOT IN ('queued', 'running') AND delivery_guid <> $4 \
                 AND seq < (SELECT n.seq FROM tasks n WHERE n.id = $5) ORDER BY seq DESC LIMIT $6"
            ))
            .bind(task.thread.repository.0)
            .bind(task.thread.issue.0)
            .bind(&task.agent)
            .bind(&task.delivery.0)
            .bind(&task.id.0)
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(TaskRow::task).collect()
    }

    /// Tasks of the same command for other agents.
    pub async fn tasks_beside(&self, task: &Task) -> Result<Vec<Task>> {
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks WHERE repository_id = $1 AND issue_number = $2 AND delivery_guid = $3 \
                 AND agent <> $4 AND request = $5 ORDER BY seq"
            ))
            .bind(task.thread.repository.0)
            .bind(task.thread.issue.0)
            .bind(&task.delivery.0)
            .bind(&task.agent)
            .bind(&task.request)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(TaskRow::task).collect()
    }

    /// Both sides of a task, the person's first.
    pub async fn messages(&self, task: &TaskId) -> Result<Vec<Said>> {
        let rows: Vec<SaidRow> = read!(self, |pool| {
            sqlx::query_as("SELECT author, name, body FROM task_messages WHERE task_id = $1 ORDER BY author DESC")
                .bind(&task.0)
                .fetch_all(pool)
                .await
        })?;
        let said = |row: SaidRow| Said { is_agent: row.author == "agent", name: row.name, text: row.body };
        Ok(rows.into_iter().map(said).collect())
    }

    /// Notes one side of a task, with the comment it stands in. Said again, it replaces itself.
    pub async fn store_message(
        &self,
        task: &TaskId,
        said: &Said,
        comment: Option<CommentId>,
        now: Millis,
    ) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO task_messages (task_id, author, name, comment_id, body, at) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (task_id, author) DO UPDATE SET comment_id = excluded.comment_id, body = excluded.body",
            )
            .bind(&task.0)
            .bind(if said.is_agent { "agent" } else { "person" })
            .bind(&said.name)
            .bind(comment.map(|id| id.0))
            // PostgreSQL takes no NUL in a text.
            .bind(said.text.replace('\0', ""))
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    pub async fn store_conversation(&self, task: &TaskId, kept: &Conversation, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO conversations (task_id, session, sealed, kept_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (task_id) DO UPDATE SET session = excluded.session, sealed = excluded.sealed",
            )
            .bind(&task.0)
            .bind(&kept.session)
            .bind(&kept.sealed)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    pub async fn conversation(&self, task: &TaskId) -> Result<Option<Conversation>> {
        let row: Option<ConversationRow> = read!(self, |pool| {
            sqlx::query_as("SELECT session, sealed FROM conversations WHERE task_id = $1")
                .bind(&task.0)
                .fetch_optional(pool)
                .await
        })?;
        Ok(row.map(|row| Conversation { session: row.session, sealed: row.sealed }))
    }

    /// Puts another seal in place of this one. False: it was kept anew or deleted since.
    pub async fn reseal_conversation(&self, task: &TaskId, old: &[u8], new: &[u8]) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("UPDATE conversations SET sealed = $3 WHERE task_id = $1 AND sealed = $2")
                .bind(&task.0)
                .bind(old)
                .bind(new)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    /// The conversations after this task's id, for sealing them anew.
    pub async fn conversations_after(&self, task: &str, limit: i64) -> Result<Vec<TaskId>> {
        let ids: Vec<String> = read!(self, |pool| {
            sqlx::query_scalar("SELECT task_id FROM conversations WHERE task_id > $1 ORDER BY task_id LIMIT $2")
                .bind(task)
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        Ok(ids.into_iter().map(TaskId).collect())
    }

    /// Takes a kept sandbox over from the run that made it, before its time is over. False: it is gone,
    /// or somebody else was quicker. Asked again, the answer is the same.
    pub async fn take_over(
        &self,
        lease: &Lease,
        run: &RunId,
        from: &RunId,
        sandbox: &str,
        now: Millis,
    ) -> Result<bool> {
        let had: Option<Option<String>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT sandbox FROM runs WHERE id = $1").bind(&run.0).fetch_optional(pool).await
        })?;
        if had.flatten().as_deref() == Some(sandbox) {
            return Ok(true);
        }
        Ok(in_tx!(self, |conn| {
            let freed = sqlx::query("UPDATE runs SET kept_until = NULL WHERE id = $1 AND kept_until > $2")
                .bind(&from.0)
                .bind(now.0)
                .execute(&mut *conn)
                .await?
                .rows_affected();
            let taken = sqlx::query(
                "UPDATE runs SET sandbox = $2 WHERE id = $1 AND EXISTS (SELECT 1 FROM tasks t WHERE t.id = runs.task_id \
                 AND t.lease_owner = $3 AND t.fence = $4 AND t.state = 'running')",
            )
            .bind(&run.0)
            .bind(sandbox)
            .bind(&lease.owner)
            .bind(lease.fence)
            .execute(&mut *conn)
            .await?
            .rows_affected();
            if freed != 1 || taken != 1 {
                return Ok(false);
            }
            true
        }))
    }
}
