//! The statements behind every list, with the index that each has to use: a page costs the same
//! whatever the table holds. A test asks both engines for their plans.

/// Newest tasks before a key.
pub(super) const TASKS: &str = "SELECT * FROM tasks WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
pub(super) const TASKS_OF_REPOSITORY: &str =
    "SELECT * FROM tasks WHERE repository_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";
pub(super) const TASKS_OF_THREAD: &str =
    "SELECT * FROM tasks WHERE repository_id = $1 AND issue_number = $2 ORDER BY seq DESC LIMIT $3";
pub(super) const OPEN_TASKS_OF_THREAD: &str = "SELECT * FROM tasks WHERE repository_id = $1 AND issue_number = $2 \
     AND state IN ('queued', 'running') ORDER BY seq";
pub(super) const LEDGER_OF_THREAD: &str = "SELECT received_at, sender, decision, facts FROM deliveries \
     WHERE repository_id = $1 AND issue_number = $2 AND meaning IS NOT NULL ORDER BY seq DESC LIMIT $3";
pub(super) const LOG_CHUNKS: &str =
    "SELECT seq, at, body FROM log_entries WHERE task_id = $1 AND seq >= $2 ORDER BY seq LIMIT 16";
pub(super) const NEXT_EFFECT: &str = "SELECT min(due_at) FROM outbox WHERE due_at IS NOT NULL";
pub(super) const NEXT_PENDING: &str = "SELECT min(decide_at) FROM deliveries WHERE decide_at IS NOT NULL";

/// What the list is, its statement, and a word that the plan has to hold: on PostgreSQL the name of
/// an index, on SQLite that or the key of the table itself.
pub const LISTS: [(&str, &str, [&str; 2]); 8] = [
    ("tasks", TASKS, ["tasks_pkey", "INTEGER PRIMARY KEY"]),
    ("tasks of a repository", TASKS_OF_REPOSITORY, ["tasks_repository", "tasks_repository"]),
    ("tasks of a thread", TASKS_OF_THREAD, ["tasks_thread", "tasks_thread"]),
    ("open tasks of a thread", OPEN_TASKS_OF_THREAD, ["tasks_open_thread", "tasks_thread"]),
    ("ledger of a thread", LEDGER_OF_THREAD, ["deliveries_thread", "deliveries_thread"]),
    ("log", LOG_CHUNKS, ["log_entries_pkey", "sqlite_autoindex_log_entries_1"]),
    ("effects", NEXT_EFFECT, ["outbox_due", "outbox_due"]),
    ("deliveries", NEXT_PENDING, ["deliveries_pending", "deliveries_pending"]),
];
