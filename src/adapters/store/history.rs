//! Lists that people page through: tasks by what they are, lines of a log around a place, what was
//! spent. A page costs the same whatever the table holds: it goes on from a key, and a search looks
//! through so many rows at a time.

use super::log_entries::{ChunkRow, MAX_READ_BYTES, unpack};
use super::rows::{TaskRow, readable, row};
use super::{Result, Store, lists, read};
use crate::domain::ids::{DeliveryId, Millis, TaskId, UserId};
use crate::domain::listing::{Page, TaskFilter, Usage};
use crate::domain::log_entry::LogEntry;
use crate::domain::money::Usd;
use crate::domain::task::Task;

/// Tasks that a search of the requests looks through for one page.
const SEARCHED_TASKS: i64 = 20_000;
/// Lines that a search of a log looks through for one page.
const SEARCHED_LINES: i64 = 200_000;

row!(UsageRow { tasks: i64, tokens_in: i64, tokens_out: i64, micro_usd: i64, unpriced: i64 });

/// `%` and `_` of the words stand for themselves.
fn pattern(words: &str) -> String {
    let escaped = words.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

impl Store {
    /// Newest tasks before a key.
    pub async fn find_tasks(&self, filter: &TaskFilter, before: Option<i64>, limit: i64) -> Result<Page<(i64, Task)>> {
        let newest: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT seq FROM tasks ORDER BY seq DESC LIMIT 1").fetch_optional(pool).await
        })?;
        let before = before.unwrap_or(i64::MAX).min(newest.unwrap_or(0).saturating_add(1));
        // Where there is an index for all of it, the whole table is looked at; else it goes by pieces.
        let floor = if filter.needs_search() { (before - SEARCHED_TASKS).max(0) } else { 0 };
        let rows: Vec<TaskRow> = read!(self, |pool| {
            sqlx::query_as(lists::find_tasks(filter))
                .bind(before)
                .bind(floor)
                .bind(limit)
                .bind(filter.repository.as_deref())
                .bind(filter.requester.as_deref())
                .bind(filter.agent.as_deref())
                .bind(filter.state)
                .bind(filter.words.as_deref().map(pattern))
                .fetch_all(pool)
                .await
        })?;
        let last = rows.last().map(|row| row.seq);
        let is_full = i64::try_from(rows.len()).unwrap_or(0) >= limit;
        let next = if is_full { last } else { Some(floor + 1).filter(|_| floor > 0) };
        Ok(Page { items: readable(rows), next })
    }

    /// The task that a delivery made first.
    pub async fn task_of_delivery(&self, id: &DeliveryId) -> Result<Option<TaskId>> {
        let found: Option<String> = read!(self, |pool| {
            sqlx::query_scalar("SELECT id FROM tasks WHERE delivery_guid = $1 ORDER BY seq LIMIT 1")
                .bind(&id.0)
                .fetch_optional(pool)
                .await
        })?;
        Ok(found.map(TaskId))
    }

    /// Lines that the log of a task has.
    pub async fn log_length(&self, task: &TaskId) -> Result<i64> {
        let next: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT next_log_seq FROM tasks WHERE id = $1").bind(&task.0).fetch_optional(pool).await
        })?;
        Ok(next.unwrap_or(1) - 1)
    }

    /// The last lines before a place, in their order.
    pub async fn log_before(&self, task: &TaskId, before: i64, limit: usize) -> Result<Vec<LogEntry>> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let (mut place, mut bytes) = (before, 0);
        while entries.len() < limit {
            let rows: Vec<ChunkRow> = read!(self, |pool| {
                sqlx::query_as(lists::LOG_CHUNKS_BEFORE).bind(&task.0).bind(place).fetch_all(pool).await
            })?;
            let Some(last) = rows.last() else { break };
            place = last.seq;
            for row in &rows {
                let mut chunk = unpack(row, task)?;
                chunk.retain(|entry| entry.seq < before);
                bytes += chunk.iter().map(|entry| entry.text.len()).sum::<usize>();
                chunk.append(&mut entries);
                entries = chunk;
                if entries.len() >= limit || bytes >= MAX_READ_BYTES {
                    return Ok(entries.split_off(entries.len().saturating_sub(limit)));
                }
            }
        }
        Ok(entries.split_off(entries.len().saturating_sub(limit)))
    }

    /// Lines after a place that hold the words, and where to search on.
    pub async fn search_log(&self, task: &TaskId, words: &str, after: i64, limit: usize) -> Result<Page<LogEntry>> {
        let words = words.to_lowercase();
        let (mut found, mut place) = (Vec::new(), after);
        while place.saturating_sub(after) < SEARCHED_LINES {
            let lines = self.log_after(task, place, 4_000).await?;
            let Some(last) = lines.last() else { return Ok(Page { items: found, next: None }) };
            place = last.seq;
            for line in lines.into_iter().filter(|line| line.text.to_lowercase().contains(&words)) {
                if found.len() == limit {
                    let next = found.last().map(|line: &LogEntry| line.seq);
                    return Ok(Page { items: found, next });
                }
                found.push(line);
            }
        }
        Ok(Page { items: found, next: Some(place) })
    }

    /// What the tasks that a person asked for since then came to.
    pub async fn usage_of(&self, person: UserId, since: Millis) -> Result<Usage> {
        let row: UsageRow = read!(self, |pool| {
            sqlx::query_as(
                "SELECT count(DISTINCT t.id) AS tasks, CAST(coalesce(sum(s.tokens_in), 0) AS BIGINT) AS tokens_in, \
                 CAST(coalesce(sum(s.tokens_out), 0) AS BIGINT) AS tokens_out, \
                 CAST(coalesce(sum(s.micro_usd), 0) AS BIGINT) AS micro_usd, \
                 CAST(coalesce(sum(s.unpriced), 0) AS BIGINT) AS unpriced \
                 FROM tasks t LEFT JOIN spending s ON s.task_id = t.id \
                 WHERE t.requester_id = $1 AND t.created_at >= $2",
            )
            .bind(person.0)
            .bind(since.0)
            .fetch_one(pool)
            .await
        })?;
        Ok(Usage {
            tasks: row.tasks,
            tokens_in: row.tokens_in,
            tokens_out: row.tokens_out,
            sum: Usd(row.micro_usd),
            unpriced: row.unpriced,
        })
    }

    /// The newest tasks that a person asked for.
    pub async fn task_ids_of(&self, person: UserId, limit: i64) -> Result<Vec<String>> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar("SELECT id FROM tasks WHERE requester_id = $1 ORDER BY created_at DESC LIMIT $2")
                .bind(person.0)
                .bind(limit)
                .fetch_all(pool)
                .await
        })?)
    }

    /// Commands that a person has given on a UTC day.
    pub async fn commands_on(&self, person: UserId, day: i64) -> Result<i64> {
        let commands: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT commands FROM daily_commands WHERE user_id = $1 AND day = $2")
                .bind(person.0)
                .bind(day)
                .fetch_optional(pool)
                .await
        })?;
        Ok(commands.unwrap_or(0))
    }
}
