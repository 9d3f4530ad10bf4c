//! The few statements on which SQLite and PostgreSQL differ.

use super::Db;
use super::rows::task_columns;

/// Statements of one engine.
pub(super) struct Dialect {
    pub turns: &'static str,
    pub claim_queued: &'static str,
    pub claim_expired: &'static str,
    pub claim_pending: &'static str,
    pub claim_due: &'static str,
    pub claim_missed: &'static str,
    pub renew: &'static str,
    pub hand_back: &'static str,
    /// Tasks queued or running in a repository, by the index that holds no others.
    pub count_open: &'static str,
    /// Held to the end of the transaction: what is counted under it cannot change meanwhile.
    pub lock_repository: &'static str,
}

impl Db {
    pub(super) fn dialect(&self) -> &'static Dialect {
        match self {
            Self::Lite { .. } => &SQLITE,
            Self::Pg(_) => &POSTGRES,
        }
    }
}

/// Installations with a task whose thread is free, and how many run of each: first who runs least, then who has waited
/// longest. Two bounds instead of `=`, and both columns of the order, leave PostgreSQL one index to read, `tasks_queue`: what is
/// over is not walked through, however old its statistics are. SQLite is told (`$by`).
/// `$1` now for people.
macro_rules! turns {
    ($by:literal) => {
        concat!(
            "WITH RECURSIVE waiting(installation_id) AS (",
            " SELECT min(installation_id) FROM tasks ", $by, " WHERE state = 'queued'",
            " UNION ALL SELECT (SELECT min(n.installation_id) FROM tasks n ", $by,
            "  WHERE n.state = 'queued' AND n.installation_id > w.installation_id)",
            " FROM waiting w WHERE w.installation_id IS NOT NULL),",
            " busy AS (SELECT installation_id, count(*) AS tasks FROM tasks WHERE state = 'running' GROUP BY installation_id)",
            " SELECT w.installation_id, coalesce(r.tasks, 0) AS running",
            " FROM waiting w LEFT JOIN busy r ON r.installation_id = w.installation_id",
            " WHERE w.installation_id IS NOT NULL",
            "  AND NOT EXISTS (SELECT 1 FROM installations b WHERE b.id = w.installation_id AND b.blocked_until > $1)",
            "  AND (SELECT e.installation_id FROM tasks e ", $by, " WHERE e.state = 'queued'",
            "   AND e.installation_id >= w.installation_id AND e.installation_id <= w.installation_id",
            "   AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.repository_id = e.repository_id",
            "    AND o.issue_number = e.issue_number AND o.state IN ('queued', 'running') AND o.seq < e.seq)",
            "   ORDER BY e.installation_id, e.seq LIMIT 1) = w.installation_id",
            " ORDER BY running,",
            "  coalesce((SELECT s.started_at FROM tasks s WHERE s.installation_id = w.installation_id AND s.started_at IS NOT NULL ORDER BY s.started_at DESC LIMIT 1), 0),",
            "  w.installation_id LIMIT 64"
        )
    };
}

/// The oldest task of an installation whose thread is free. Its bounds and its order: see `turns`.
/// `$1` owner, `$2` lease in milliseconds, `$3` now for people, `$4` installation, `$5` the new state.
macro_rules! claim_queued {
    ($now:literal, $by:literal, $lock:literal) => {
        concat!(
            "UPDATE tasks SET state = $5, lease_owner = $1, lease_until = ",
            $now,
            " + $2,",
            " fence = fence + 1, started_at = coalesce(started_at, $3)",
            " WHERE seq = (SELECT t.seq FROM tasks t ",
            $by,
            " WHERE t.state = 'queued'",
            "  AND t.installation_id >= $4 AND t.installation_id <= $4",
            "  AND NOT EXISTS (SELECT 1 FROM installations b WHERE b.id = $4 AND b.blocked_until > $3)",
            "  AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.repository_id = t.repository_id",
            "   AND o.issue_number = t.issue_number AND o.state IN ('queued', 'running') AND o.seq < t.seq)",
            "  ORDER BY t.installation_id, t.seq LIMIT 1 ",
            $lock,
            ")",
            " RETURNING ",
            task_columns!()
        )
    };
}

/// A running task whose lease is over. Without an owner it was handed back; with another one, that worker died; this one
/// itself lost it while the database was away.
/// `$1` owner, `$2` lease in milliseconds, `$3` the new state.
macro_rules! claim_expired {
    ($now:literal, $lock:literal) => {
        concat!(
            "UPDATE tasks SET state = $3, lease_until = ",
            $now,
            " + $2, fence = fence + 1,",
            " deaths = deaths + CASE WHEN lease_owner IS NULL OR lease_owner = $1 THEN 0 ELSE 1 END, lease_owner = $1",
            " WHERE seq = (SELECT seq FROM tasks WHERE state = 'running' AND lease_until <= ",
            $now,
            " ORDER BY lease_until LIMIT 1 ",
            $lock,
            ") RETURNING ",
            task_columns!()
        )
    };
}

macro_rules! renew {
    ($now:literal) => {
        concat!(
            "UPDATE tasks SET lease_until = ",
            $now,
            " + $4 WHERE id = $1 AND lease_owner = $2 AND fence = $3",
            " AND state = 'running' RETURNING cancelled_by"
        )
    };
}

/// `$4`: milliseconds from now until another worker may take it.
macro_rules! hand_back {
    ($now:literal) => {
        concat!(
            "UPDATE tasks SET lease_owner = NULL, lease_until = ",
            $now,
            " + $4 WHERE id = $1 AND lease_owner = $2 AND fence = $3 AND state = 'running'"
        )
    };
}

/// Deliveries that wait for a decision, but for those behind an earlier one of their thread that is claimed or put off. A
/// push waits for further ones by wish, and holds up nobody. They are looked for once: a lock passes over what its own statement
/// has changed, so PostgreSQL would find further ones each time it looks. One that another process is just taking is not found,
/// and holds up those behind it all the same.
macro_rules! claim_pending {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (SELECT d.seq, d.repository_id, d.issue_number FROM deliveries d",
            " WHERE d.decide_at IS NOT NULL AND d.decide_at <= $1",
            " AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.repository_id = d.repository_id",
            "  AND e.issue_number = d.issue_number AND e.decide_at IS NOT NULL AND e.seq < d.seq",
            "  AND (e.decide_at > $1 OR e.decide_at > d.decide_at) AND e.action <> 'synchronize')",
            " ORDER BY d.decide_at, d.seq LIMIT 64 ",
            $lock,
            ") UPDATE deliveries SET decide_at = $2, attempts = attempts + 1 WHERE seq IN (SELECT f.seq FROM due f",
            " WHERE NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.repository_id = f.repository_id",
            "  AND e.issue_number = f.issue_number AND e.decide_at IS NOT NULL AND e.seq < f.seq",
            "  AND e.action <> 'synchronize' AND e.seq NOT IN (SELECT seq FROM due)))",
            " RETURNING seq, guid, meaning, event, received_at, attempts, installation_id, repository_id, issue_number, body"
        )
    };
}

/// Effects of one thread go out one after the other, in the order they were promised; a result waits
/// for earlier results only, not for courtesies. They are looked for once, as deliveries are.
macro_rules! claim_due {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (SELECT x.seq FROM outbox x WHERE x.due_at IS NOT NULL AND x.due_at <= $1",
            " AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.repository_id = x.repository_id",
            "  AND e.issue_number = x.issue_number AND e.due_at IS NOT NULL AND e.seq < x.seq",
            "  AND (e.is_final OR NOT x.is_final))",
            " ORDER BY x.due_at, x.seq LIMIT 32 ",
            $lock,
            ") UPDATE outbox SET due_at = $2, attempts = attempts + 1 WHERE seq IN (SELECT seq FROM due)",
            " RETURNING seq, attempts, times_missing, created_at, effect"
        )
    };
}

/// The missed delivery that is due longest, unless it came meanwhile. It is waited for a minute, then four times as
/// long each time, about an hour at most; if it was sent before `$2`, it is asked for no more.
macro_rules! claim_missed {
    ($lock:literal) => {
        concat!(
            "UPDATE missed_deliveries SET asks = asks + 1,",
            " ask_at = CASE WHEN sent_at >= $2",
            " THEN $1 + (60000 << CAST(CASE WHEN asks < 3 THEN 2 * asks ELSE 6 END AS INTEGER)) END WHERE guid = (",
            "SELECT m.guid FROM missed_deliveries m WHERE m.ask_at IS NOT NULL AND m.ask_at <= $1",
            " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.guid = m.guid)",
            " ORDER BY m.ask_at, m.sent_at, m.attempt LIMIT 1 ",
            $lock,
            ") RETURNING guid, attempt"
        )
    };
}

/// Whose turn it is, and taking the next task of one: on SQLite and on PostgreSQL. A test asks both engines for their plans.
pub const CLAIMS: [[&str; 2]; 2] = [
    [
        turns!("INDEXED BY tasks_queue"),
        claim_queued!("CAST(unixepoch('subsec') * 1000 AS INTEGER)", "INDEXED BY tasks_queue", ""),
    ],
    [turns!(""), claim_queued!("(extract(epoch from clock_timestamp()) * 1000)::bigint", "", "FOR UPDATE SKIP LOCKED")],
];

static SQLITE: Dialect = Dialect {
    turns: CLAIMS[0][0],
    claim_queued: CLAIMS[0][1],
    claim_expired: claim_expired!("CAST(unixepoch('subsec') * 1000 AS INTEGER)", ""),
    claim_pending: claim_pending!(""),
    claim_due: claim_due!(""),
    claim_missed: claim_missed!(""),
    renew: renew!("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
    hand_back: hand_back!("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
    // Without statistics SQLite would read every task the repository ever had.
    count_open: "SELECT count(*) FROM tasks INDEXED BY tasks_open_thread \
        WHERE repository_id = $1 AND state IN ('queued', 'running')",
    lock_repository: "SELECT $1",
};

static POSTGRES: Dialect = Dialect {
    turns: CLAIMS[1][0],
    claim_queued: CLAIMS[1][1],
    claim_expired: claim_expired!("(extract(epoch from clock_timestamp()) * 1000)::bigint", "FOR UPDATE SKIP LOCKED"),
    claim_pending: claim_pending!("FOR UPDATE SKIP LOCKED"),
    claim_due: claim_due!("FOR UPDATE SKIP LOCKED"),
    claim_missed: claim_missed!("FOR UPDATE SKIP LOCKED"),
    renew: renew!("(extract(epoch from clock_timestamp()) * 1000)::bigint"),
    hand_back: hand_back!("(extract(epoch from clock_timestamp()) * 1000)::bigint"),
    count_open: "SELECT count(*) FROM tasks WHERE repository_id = $1 AND state IN ('queued', 'running')",
    lock_repository: "SELECT pg_advisory_xact_lock($1)",
};
