//! Letting tasks in: stored together with the decision about their delivery, within the limits.

use super::deliveries::{Decision, decide_in};
use super::outbox::promise_in;
use super::rows::to_json;
use super::stops::{end_queued_in, stopped_after_in};
use super::{Result, Store, in_tx};
use crate::domain::decision::DecisionCode;
use crate::domain::effect::Effect;
use crate::domain::ids::{Millis, TaskId};
use crate::domain::task::{NewTask, Outcome, Task, TaskEvent, TaskState};

/// Ceilings that are counted in the transaction that stores the tasks.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub per_day: i64,
    /// Tasks queued or running in one repository.
    pub waiting: i64,
}

/// Tasks to store together with the decision about their delivery.
#[derive(Debug)]
pub struct Admit<'a> {
    pub decision: Decision<'a>,
    pub tasks: &'a [NewTask],
    pub limits: Limits,
    /// What tells that a task was stopped by a word that was written after it and came before it (fault F41); `None`: no
    /// such word is about these tasks.
    pub tells_stop: Option<fn(&Task, &str) -> Vec<Effect>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// `stopped`: those that somebody had stopped before they came, and who; they are over.
    Accepted {
        stopped: Vec<(TaskId, String)>,
    },
    /// Every task was stored before, under another delivery.
    Duplicate,
    DailyLimit,
    QueueFull {
        waiting: i64,
    },
    /// Another worker decided this delivery meanwhile.
    Late,
}

/// Stores a task unless the same command made one before. Gives the number of rows stored.
macro_rules! insert_task_in {
    ($conn:ident, $task:expr, $now:expr) => {{
        let (task, now): (&NewTask, Millis) = ($task, $now);
        let added = sqlx::query(
            "INSERT INTO tasks (id, delivery_guid, meaning, installation_id, repository_id, repository, issue_number, \
             is_pull, subject, triggered_at, requester_id, requester, agent, options, request, state, created_at, inputs) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'queued', $16, \
             (SELECT o.inputs FROM tasks o WHERE o.id = $17)) \
             ON CONFLICT (meaning) DO NOTHING",
        )
        .bind(&task.id.0)
        .bind(&task.delivery.0)
        .bind(&task.meaning)
        .bind(task.thread.installation.0)
        .bind(task.thread.repository.0)
        .bind(task.thread.name.to_string())
        .bind(task.thread.issue.0)
        .bind(task.thread.is_pull)
        .bind(to_json(&task.subject))
        .bind(task.triggered_at.0)
        .bind(task.requester.id.0)
        .bind(&task.requester.login)
        .bind(&task.agent)
        .bind(to_json(&task.options))
        .bind(&task.request)
        .bind(now.0)
        .bind(task.inputs_of.as_ref().map(|id| id.0.as_str()))
        .execute(&mut *$conn)
        .await?
        .rows_affected();
        i64::try_from(added).unwrap_or(0)
    }};
}

/// Ends tasks that were stopped before they came. Gives which, and who stopped them.
macro_rules! stop_overtaken_in {
    ($conn:ident, $tasks:expr, $tells:expr, $now:expr) => {{
        let (tasks, now): (&[NewTask], Millis) = ($tasks, $now);
        let mut stopped = Vec::new();
        for task in tasks {
            let Some(by) = stopped_after_in!($conn, task.thread, task.triggered_at) else { continue };
            if end_queued_in!($conn, task.id, &by, now) {
                promise_in!($conn, &$tells(&task.queued(now), &by), now);
                stopped.push((task.id.clone(), by));
            }
        }
        stopped
    }};
}

impl Store {
    /// Stores tasks and the decision in one transaction, if the limits allow it.
    pub async fn admit(&self, admit: &Admit<'_>) -> Result<Admission> {
        let Some(first) = admit.tasks.first() else { return Ok(Admission::Duplicate) };
        let (decision, limits) = (&admit.decision, admit.limits);
        let (lock, count_open) = (self.db.dialect().lock_repository, self.db.dialect().count_open);
        let repository = first.thread.repository.0;
        Ok(in_tx!(self, |conn| {
            sqlx::query(lock).bind(repository).execute(&mut *conn).await?;
            let waiting: i64 = sqlx::query_scalar(count_open).bind(repository).fetch_one(&mut *conn).await?;
            let mut added = 0;
            for task in admit.tasks {
                added += insert_task_in!(conn, task, decision.at);
            }
            if added == 0 {
                let decided = decide_in!(
                    conn,
                    &Decision {
                        code: DecisionCode::Duplicate,
                        effects: &[],
                        facts: decision.facts.clone(),
                        ..*decision
                    }
                );
                // An early `return` would roll back, so each way out ends as a value.
                if decided { Admission::Duplicate } else { Admission::Late }
            } else if waiting + added > limits.waiting {
                return Ok(Admission::QueueFull { waiting });
            } else {
                let counted = sqlx::query(
                    "INSERT INTO daily_commands (user_id, day, commands) VALUES ($1, $2, $3) \
                     ON CONFLICT (user_id, day) DO UPDATE SET commands = daily_commands.commands + excluded.commands \
                     WHERE daily_commands.commands + excluded.commands <= $4",
                )
                .bind(first.requester.id.0)
                .bind(decision.at.day())
                .bind(added)
                .bind(limits.per_day)
                .execute(&mut *conn)
                .await?
                .rows_affected();
                if counted == 0 || added > limits.per_day {
                    return Ok(Admission::DailyLimit);
                }
                if !decide_in!(conn, decision) {
                    return Ok(Admission::Late);
                }
                promise_in!(conn, decision.effects, decision.at);
                let stopped = match admit.tells_stop {
                    Some(tells) => stop_overtaken_in!(conn, admit.tasks, tells, decision.at),
                    None => Vec::new(),
                };
                Admission::Accepted { stopped }
            }
        }))
    }
}
