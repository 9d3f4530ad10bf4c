//! The statements behind every list, with the index that each has to use: a page costs the same
//! whatever the table holds. A test asks both engines for their plans.

use super::rows::task_columns;
use crate::domain::listing::{DeliveryFilter, TaskFilter};

/// Newest tasks before a key.
pub(super) const TASKS: &str =
    concat!("SELECT ", task_columns!(), " FROM tasks WHERE seq < $1 ORDER BY seq DESC LIMIT $2");
pub(super) const TASKS_OF_REPOSITORY: &str =
    concat!("SELECT ", task_columns!(), " FROM tasks WHERE repository_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3");
pub(super) const TASKS_OF_THREAD: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks WHERE repository_id = $1 AND issue_number = $2 ORDER BY seq DESC LIMIT $3"
);
pub(super) const OPEN_TASKS_OF_THREAD: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks WHERE repository_id = $1 AND issue_number = $2 \
     AND state IN ('queued', 'running') ORDER BY seq"
);
pub(super) const LEDGER_OF_THREAD: &str = "SELECT received_at, sender, decision, facts FROM deliveries \
     WHERE repository_id = $1 AND issue_number = $2 AND meaning IS NOT NULL ORDER BY seq DESC LIMIT $3";
pub(super) const LOG_CHUNKS: &str =
    "SELECT seq, at, body FROM log_entries WHERE task_id = $1 AND seq >= $2 ORDER BY seq LIMIT 16";
/// The chunks that begin before a line, newest first.
pub(super) const LOG_CHUNKS_BEFORE: &str =
    "SELECT seq, at, body FROM log_entries WHERE task_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT 16";
pub(super) const NEXT_EFFECT: &str = "SELECT min(due_at) FROM outbox WHERE due_at > $1";
pub(super) const NEXT_PENDING: &str = "SELECT min(decide_at) FROM deliveries WHERE decide_at > $1";

pub(super) const NEXT_MISSED: &str = "SELECT min(ask_at) FROM missed_deliveries WHERE ask_at IS NOT NULL";
pub(super) const MISSED: &str = "SELECT guid, event, status, sent_at, asks, ask_at, arrived_at FROM missed_deliveries \
     ORDER BY sent_at DESC LIMIT $1";

/// Tasks by what is asked for, each through the index that leaves least. `$1` before, `$2` from, `$3` how
/// many, `$4` repository, `$5` requester, `$6` agent, `$7` state, `$8` a pattern.
macro_rules! find_tasks {
    ($by:literal) => {
        concat!(
            "SELECT ", task_columns!(), " FROM tasks WHERE ",
            $by,
            "seq < $1 AND seq > $2 AND ($4 IS NULL OR lower(repository) = lower($4))",
            " AND ($5 IS NULL OR lower(requester) = lower($5)) AND ($6 IS NULL OR agent = $6) AND ($7 IS NULL OR state = $7)",
            " AND ($8 IS NULL OR lower(request) LIKE $8 ESCAPE '\\') ORDER BY seq DESC LIMIT $3"
        )
    };
}
const FIND_TASKS: &str = find_tasks!("");
const FIND_BY_REPOSITORY: &str = find_tasks!("lower(repository) = lower($4) AND ");
const FIND_BY_REQUESTER: &str = find_tasks!("lower(requester) = lower($5) AND ");
const FIND_BY_AGENT: &str = find_tasks!("agent = $6 AND ");
const FIND_BY_STATE: &str = find_tasks!("state = $7 AND ");

pub(super) fn find_tasks(filter: &TaskFilter) -> &'static str {
    match filter {
        TaskFilter { repository: Some(_), .. } => FIND_BY_REPOSITORY,
        TaskFilter { requester: Some(_), .. } => FIND_BY_REQUESTER,
        TaskFilter { state: Some(_), .. } => FIND_BY_STATE,
        TaskFilter { agent: Some(_), .. } => FIND_BY_AGENT,
        _ => FIND_TASKS,
    }
}

/// Deliveries by what is asked for. `$1` before, `$2` how many, `$3` repository, `$4` code, `$5` issue, `$6` comment.
macro_rules! find_deliveries {
    ($by:literal) => {
        concat!(
            "SELECT seq, guid, event, action, repository, issue_number, sender, received_at, decided_at, decision, facts,",
            " attempts, body IS NOT NULL AS has_body FROM deliveries WHERE ",
            $by,
            "seq < $1 AND ($3 IS NULL OR lower(repository) = lower($3)) AND ($4 IS NULL OR decision = $4)",
            " AND ($5 IS NULL OR issue_number = $5) AND ($6 IS NULL OR object_id = $6) ORDER BY seq DESC LIMIT $2"
        )
    };
}
const FIND_DELIVERIES: &str = find_deliveries!("");
const DELIVERIES_BY_REPOSITORY: &str = find_deliveries!("lower(repository) = lower($3) AND ");
const DELIVERIES_OF_THREAD: &str = find_deliveries!("lower(repository) = lower($3) AND issue_number = $5 AND ");
const DELIVERIES_BY_CODE: &str = find_deliveries!("decision = $4 AND ");
pub(super) const ONE_DELIVERY: &str = "SELECT seq, guid, event, action, repository, issue_number, sender, received_at, \
     decided_at, decision, facts, attempts, body IS NOT NULL AS has_body FROM deliveries WHERE guid = $1";

pub(super) fn find_deliveries(filter: &DeliveryFilter) -> &'static str {
    match filter {
        DeliveryFilter { repository: Some(_), issue: Some(_), .. } => DELIVERIES_OF_THREAD,
        DeliveryFilter { repository: Some(_), .. } => DELIVERIES_BY_REPOSITORY,
        DeliveryFilter { code: Some(_), .. } => DELIVERIES_BY_CODE,
        _ => FIND_DELIVERIES,
    }
}

/// What the list is, its statement, and a word that the plan has to hold: on PostgreSQL the name of
/// an index, on SQLite that or the key of the table itself.
pub const LISTS: [(&str, &str, [&str; 2]); 18] = [
    ("tasks", TASKS, ["tasks_pkey", "INTEGER PRIMARY KEY"]),
    ("tasks of a repository", TASKS_OF_REPOSITORY, ["tasks_repository", "tasks_repository"]),
    ("tasks of a thread", TASKS_OF_THREAD, ["tasks_thread", "tasks_thread"]),
    ("open tasks of a thread", OPEN_TASKS_OF_THREAD, ["tasks_open_thread", "tasks_thread"]),
    ("ledger of a thread", LEDGER_OF_THREAD, ["deliveries_thread", "deliveries_thread"]),
    ("log", LOG_CHUNKS, ["log_entries_pkey", "sqlite_autoindex_log_entries_1"]),
    ("log before a line", LOG_CHUNKS_BEFORE, ["log_entries_pkey", "sqlite_autoindex_log_entries_1"]),
    ("tasks of a repository by name", FIND_BY_REPOSITORY, ["tasks_repository_name", "tasks_repository_name"]),
    ("tasks of a person", FIND_BY_REQUESTER, ["tasks_requester", "tasks_requester"]),
    ("tasks of an agent", FIND_BY_AGENT, ["tasks_agent", "tasks_agent"]),
    ("tasks in a state", FIND_BY_STATE, ["tasks_state", "tasks_state"]),
    ("deliveries of a repository", DELIVERIES_BY_REPOSITORY, ["deliveries_repository", "deliveries_repository"]),
    ("deliveries of a thread", DELIVERIES_OF_THREAD, ["deliveries_by_thread", "deliveries_by_thread"]),
    ("deliveries of a kind", DELIVERIES_BY_CODE, ["deliveries_decision", "deliveries_decision"]),
    ("effects", NEXT_EFFECT, ["outbox_due", "outbox_due"]),
    ("deliveries", NEXT_PENDING, ["deliveries_pending", "deliveries_pending"]),
    ("missed deliveries that are due", NEXT_MISSED, ["missed_deliveries_due", "missed_deliveries_due"]),
    ("missed deliveries", MISSED, ["missed_deliveries_sent", "missed_deliveries_sent"]),
];
