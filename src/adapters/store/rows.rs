//! From rows to values. What cannot be read is an error that names table, column and row.

use serde::de::DeserializeOwned;

use super::{Result, StoreError};
use crate::domain::ids::{DeliveryId, InstallationId, IssueNumber, Millis, RepoName, RepositoryId, TaskId, UserId};
use crate::domain::task::{Requester, Task, TaskState, Thread};

/// A struct of columns, readable from both engines.
macro_rules! row {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        pub(super) struct $name { $(pub $field: $type),* }
        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>),*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),* })
            }
        }
    };
}
pub(super) use row;

/// Named one by one: PostgreSQL refuses a prepared `SELECT *` once a newer version has added a column.
macro_rules! task_columns {
    () => {
        "seq, id, delivery_guid, installation_id, repository_id, repository, issue_number, is_pull, subject, \
         triggered_at, requester_id, requester, agent, options, request, state, reason, fence, deaths, cancelled_by, \
         created_at, started_at, finished_at"
    };
}
pub(super) use task_columns;

row!(TaskRow {
    seq: i64,
    id: String,
    delivery_guid: String,
    installation_id: i64,
    repository_id: i64,
    repository: String,
    issue_number: i64,
    is_pull: bool,
    subject: String,
    triggered_at: i64,
    requester_id: i64,
    requester: String,
    agent: String,
    options: String,
    request: String,
    state: String,
    reason: String,
    fence: i64,
    deaths: i64,
    cancelled_by: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
});

pub(super) fn json<T: DeserializeOwned>(text: &str, table: &'static str, column: &'static str, id: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { table, column, id: id.to_owned() })
}

/// Our own values always have a JSON form.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("a value without JSON form: {error}"))
}

impl TaskRow {
    pub(super) fn task(self) -> Result<Task> {
        let corrupt = |column: &'static str| StoreError::Corrupt { table: "tasks", column, id: self.id.clone() };
        let name = RepoName::parse(&self.repository).ok_or_else(|| corrupt("repository"))?;
        let state = TaskState::parse(&self.state).ok_or_else(|| corrupt("state"))?;
        Ok(Task {
            subject: json(&self.subject, "tasks", "subject", &self.id)?,
            options: json(&self.options, "tasks", "options", &self.id)?,
            id: TaskId(self.id),
            delivery: DeliveryId(self.delivery_guid),
            thread: Thread {
                installation: InstallationId(self.installation_id),
                repository: RepositoryId(self.repository_id),
                name,
                issue: IssueNumber(self.issue_number),
                is_pull: self.is_pull,
            },
            triggered_at: Millis(self.triggered_at),
            requester: Requester { id: UserId(self.requester_id), login: self.requester },
            agent: self.agent,
            request: self.request,
            state,
            reason: self.reason,
            created_at: Millis(self.created_at),
            started_at: self.started_at.map(Millis),
            finished_at: self.finished_at.map(Millis),
            cancelled_by: self.cancelled_by,
            deaths: self.deaths,
        })
    }
}

/// Those tasks that this version can read, with their place. What a newer one wrote is left to it, and to be looked at there.
pub(super) fn readable(rows: Vec<TaskRow>) -> Vec<(i64, Task)> {
    let read = |row: TaskRow| match (row.seq, row.task()) {
        (seq, Ok(task)) => Some((seq, task)),
        (_, Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a task that cannot be read is passed over");
            None
        }
    };
    rows.into_iter().filter_map(read).collect()
}
