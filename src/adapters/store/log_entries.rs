//! The log of a task: chunks of lines, one row each, appended only by who holds the lease.

use serde::{Deserialize, Serialize};

use super::rows::{row, to_json};
use super::{Lease, Result, Store, StoreError, in_tx, lists, packing, read};
use crate::domain::ids::{Millis, RunId, TaskId};
use crate::domain::log_entry::{Kind, Line, LogEntry};
use crate::domain::run::{LogPosition, Run};

/// Chunks are made of at most this many lines, so unpacked ones stay small.
const MAX_CHUNK_BYTES: u64 = 64 * 1024 * 1024;

/// Lines can be long: what is read at once ends here, after the chunk that is begun.
pub(super) const MAX_READ_BYTES: usize = 1024 * 1024;
/// Packing costs more than it saves on less than this.
const WORTH_PACKING: usize = 1024;

row!(ChunkRow { seq: i64, at: i64, body: Vec<u8> });

#[derive(Serialize, Deserialize)]
struct PackedLine(Kind, String);

/// A deflate stream of one stored block (RFC 1951, 3.2.4), of at most 65,535 bytes.
fn as_it_is(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut stream = vec![1];
    stream.extend_from_slice(&length.to_le_bytes());
    stream.extend_from_slice(&(!length).to_le_bytes());
    stream.extend_from_slice(&bytes[..usize::from(length)]);
    stream
}

fn pack(lines: &[Line]) -> Vec<u8> {
    let packed: Vec<PackedLine> = lines.iter().map(|line| PackedLine(line.kind, line.text.clone())).collect();
    let json = to_json(&packed);
    if json.len() <= WORTH_PACKING {
        return as_it_is(json.as_bytes());
    }
    packing::pack(json.as_bytes())
}

pub(super) fn unpack(row: &ChunkRow, task: &TaskId) -> Result<Vec<LogEntry>> {
    let corrupt = || StoreError::Corrupt { table: "log_entries", column: "body", id: format!("{task}:{}", row.seq) };
    let json = packing::unpack(&row.body, MAX_CHUNK_BYTES).map_err(|_| corrupt())?;
    let lines: Vec<PackedLine> = serde_json::from_slice(&json).map_err(|_| corrupt())?;
    Ok(lines
        .into_iter()
        .zip(row.seq..)
        .map(|(PackedLine(kind, text), seq)| LogEntry { seq, at: Millis(row.at), kind, text })
        .collect())
}

/// Appends in a transaction. Gives the number of the first line; `None`: the lease is lost. An append
/// whose acknowledgement was lost is met again at a position that has moved on, and is not repeated.
macro_rules! lines_in {
    ($conn:ident, $one:expr) => {{
        let one: &Append = $one;
        // First, for it holds the lease till the end: a position must not move without its lines, and whoever waits here
        // for the same append sees below that it is done.
        let next: Option<i64> = sqlx::query_scalar(
            "UPDATE tasks SET next_log_seq = next_log_seq + $4 \
             WHERE id = $1 AND lease_owner = $2 AND fence = $3 AND state = 'running' RETURNING next_log_seq",
        )
        .bind(&one.lease.task.0)
        .bind(&one.lease.owner)
        .bind(one.lease.fence)
        .bind(one.count)
        .fetch_optional(&mut *$conn)
        .await?;
        let is_new = next.is_some()
            && sqlx::query(
                "UPDATE runs SET stdout_at = $2, stderr_at = $3 WHERE id = $1 AND stdout_at = $4 AND stderr_at = $5",
            )
            .bind(&one.run.0)
            .bind(one.read_to.stdout)
            .bind(one.read_to.stderr)
            .bind(one.read_from.stdout)
            .bind(one.read_from.stderr)
            .execute(&mut *$conn)
            .await?
            .rows_affected()
                == 1;
        let first = next.map(|next| next - one.count);
        match first {
            Some(first) if is_new && one.count > 0 => {
                sqlx::query(
                    "INSERT INTO log_entries (task_id, seq, lines, run_id, at, body) VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(&one.lease.task.0)
                .bind(first)
                .bind(one.count)
                .bind(&one.run.0)
                .bind(one.at.0)
                .bind(&one.body)
                .execute(&mut *$conn)
                .await?;
                Some(first)
            }
            Some(first) if !is_new => {
                sqlx::query("UPDATE tasks SET next_log_seq = $2 WHERE id = $1")
                    .bind(&one.lease.task.0)
                    .bind(first)
                    .execute(&mut *$conn)
                    .await?;
                Some(first - one.count)
            }
            first => first,
        }
    }};
}

/// Lines of one run on their way into its log.
#[derive(Debug, Clone)]
pub struct Append {
    lease: Lease,
    run: RunId,
    read_from: LogPosition,
    read_to: LogPosition,
    at: Millis,
    count: i64,
    body: Vec<u8>,
}

impl Append {
    /// `read_from` and `read_to`: how far the agent's output is in the log without and with these lines.
    pub fn new(
        (lease, run): (&Lease, &RunId),
        (read_from, read_to): (LogPosition, LogPosition),
        lines: &[Line],
        at: Millis,
    ) -> Self {
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        Self { lease: lease.clone(), run: run.clone(), read_from, read_to, at, count, body: pack(lines) }
    }

    pub fn lines(&self) -> i64 {
        self.count
    }
}

impl Store {
    /// Stores where a run stands (step, facts, how far its output was read) together with the lines
    /// that belong to it, in one transaction: after a crash there is neither a hole nor a double.
    pub async fn record(&self, lease: &Lease, run: &Run, lines: &[Line], at: Millis) -> Result<Vec<LogEntry>> {
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let body = pack(lines);
        let first: i64 = in_tx!(self, |conn| {
            let next: Option<i64> = sqlx::query_scalar(
                "UPDATE tasks SET next_log_seq = next_log_seq + $4 \
                 WHERE id = $1 AND lease_owner = $2 AND fence = $3 AND state = 'running' RETURNING next_log_seq",
            )
            .bind(&lease.task.0)
            .bind(&lease.owner)
            .bind(lease.fence)
            .bind(count)
            .fetch_optional(&mut *conn)
            .await?;
            let Some(next) = next else { return Err(StoreError::LeaseLost) };
            if count > 0 {
                sqlx::query(
                    "INSERT INTO log_entries (task_id, seq, lines, run_id, at, body) VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(&lease.task.0)
                .bind(next - count)
                .bind(count)
                .bind(&run.id.0)
                .bind(at.0)
                .bind(&body)
                .execute(&mut *conn)
                .await?;
            }
            sqlx::query(
                "UPDATE runs SET step = $2, facts = $3, stdout_at = $4, stderr_at = $5, kept_until = $6 WHERE id = $1",
            )
            .bind(&run.id.0)
            .bind(run.step.name())
            .bind(to_json(&run.facts))
            .bind(run.log_at.stdout)
            .bind(run.log_at.stderr)
            .bind(run.facts.kept.as_ref().map(|kept| kept.until.0))
            .execute(&mut *conn)
            .await?;
            next - count
        });
        Ok(lines
            .iter()
            .zip(first..)
            .map(|(line, seq)| LogEntry { seq, at, kind: line.kind, text: line.text.clone() })
            .collect())
    }

    /// Appends to the logs of several runs in one transaction, each with how far its output was read.
    /// Gives the number of each first line, in order; `None`: that run's lease is lost.
    pub async fn append(&self, batch: &[Append]) -> Result<Vec<Option<i64>>> {
        Ok(in_tx!(self, |conn| {
            let mut firsts = Vec::with_capacity(batch.len());
            for one in batch {
                firsts.push(lines_in!(conn, one));
            }
            firsts
        }))
    }

    /// Exactly so many entries after `after`, if there are as many.
    pub async fn some_log_after(&self, task: &TaskId, after: i64, limit: usize) -> Result<Vec<LogEntry>> {
        let mut entries = self.log_after(task, after, limit).await?;
        entries.truncate(limit);
        Ok(entries)
    }

    /// Entries after `after`, whole chunks at a time: at least one chunk, at most about `limit` lines and a megabyte.
    pub async fn log_after(&self, task: &TaskId, after: i64, limit: usize) -> Result<Vec<LogEntry>> {
        // The chunk that holds line `after` may hold later ones, too.
        let start: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT seq FROM log_entries WHERE task_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1")
                .bind(&task.0)
                .bind(after + 1)
                .fetch_optional(pool)
                .await
        })?;
        let mut entries = Vec::new();
        let (mut counted, mut bytes) = (0, 0);
        let mut from = start.unwrap_or(0);
        while entries.len() < limit {
            let rows: Vec<ChunkRow> = read!(self, |pool| {
                sqlx::query_as(lists::LOG_CHUNKS).bind(&task.0).bind(from).fetch_all(pool).await
            })?;
            for row in &rows {
                entries.extend(unpack(row, task)?.into_iter().filter(|entry| entry.seq > after));
                from = row.seq + 1;
                bytes += entries.iter().skip(counted).map(|entry: &LogEntry| entry.text.len()).sum::<usize>();
                counted = entries.len();
                if counted >= limit || bytes >= MAX_READ_BYTES {
                    return Ok(entries);
                }
            }
            if rows.len() < 16 {
                break;
            }
        }
        Ok(entries)
    }
}
