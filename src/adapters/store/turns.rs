//! Whose turn it is: installations take the places that workers have free by turns.

use std::collections::VecDeque;
use std::time::Duration;

use super::rows::{TaskRow, row};
use super::tasks::millis;
use super::{Claimed, Result, Store, read, write};
use crate::domain::ids::{InstallationId, Millis};
use crate::domain::task::{TaskEvent, TaskState};

/// Who is next. Asked for all at once, because it costs far more than a claim: whoever runs least has one turn in a round,
/// then the next round begins.
#[derive(Debug, Default)]
pub(super) struct Round {
    begun_at: Millis,
    /// How many tasks run of who runs least.
    least: i64,
    turns: VecDeque<TurnRow>,
}

/// Who comes to the queue is not left out of a round for longer. Milliseconds.
const ROUND_MS: u64 = 1_000;

row!(
    #[derive(Debug)]
    TurnRow { installation_id: i64, running: i64 }
);

impl Round {
    /// `None`: it is over.
    fn next(&mut self, now: Millis) -> Option<InstallationId> {
        let is_fresh = self.begun_at.0.abs_diff(now.0) <= ROUND_MS;
        self.turns.pop_front_if(|turn| is_fresh && turn.running == self.least).map(TurnRow::installation)
    }

    /// Who runs more, for a claim that got nothing from those who run least.
    fn next_of_all(&mut self) -> Option<InstallationId> {
        self.turns.pop_front().map(TurnRow::installation)
    }
}

impl TurnRow {
    fn installation(self) -> InstallationId {
        InstallationId(self.installation_id)
    }
}

impl Store {
    /// Takes the next task of the queue.
    pub async fn claim_queued(&self, owner: &str, lease: Duration, now: Millis) -> Result<Option<Claimed>> {
        let claimed = TaskState::Queued.on(TaskEvent::Claimed)?;
        let mut may_begin = true;
        while let Some(installation) = self.next_turn(&mut may_begin, now).await? {
            let sql = self.db.dialect().claim_queued;
            let row: Option<TaskRow> = write!(self, |pool| {
                sqlx::query_as(sql)
                    .bind(owner)
                    .bind(millis(lease))
                    .bind(now.0)
                    .bind(installation.0)
                    .bind(claimed.name())
                    .fetch_optional(pool)
                    .await
            })?;
            // Others may have taken what it had.
            let Some(row) = row else { continue };
            if let Some(claimed) = self.read_claimed(row, owner, lease, now).await? {
                return Ok(Some(claimed));
            }
        }
        Ok(None)
    }

    /// One claim begins one round at most: of what none of its turns gets, others are just taking most.
    async fn next_turn(&self, may_begin: &mut bool, now: Millis) -> Result<Option<InstallationId>> {
        // Held while the database is asked: workers that find the round over begin one together.
        let mut round = self.round.lock().await;
        if !*may_begin {
            return Ok(round.next_of_all());
        }
        if let Some(turn) = round.next(now) {
            return Ok(Some(turn));
        }
        *may_begin = false;
        let sql = self.db.dialect().turns;
        let rows: Vec<TurnRow> = read!(self, |pool| sqlx::query_as(sql).bind(now.0).fetch_all(pool).await)?;
        let least = rows.first().map_or(0, |row| row.running);
        *round = Round { begun_at: now, least, turns: rows.into() };
        Ok(round.next_of_all())
    }
}
