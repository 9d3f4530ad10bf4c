//! The ledger: what GitHub sent, and what became of it.

use std::collections::HashSet;

use super::outbox::promise_in;
use super::rows::row;
use super::{Result, Store, StoreError, in_tx, lists, packing, read, write};
use crate::domain::decision::{DecisionCode, LedgerLine};
use crate::domain::effect::Effect;
use crate::domain::ids::{DeliveryId, IssueNumber, Millis, RepositoryId};

/// GitHub sends at most 25 MB; nothing longer is unpacked.
const MAX_BODY_BYTES: u64 = 26 * 1024 * 1024;

/// A small row about a delivery: who, what, where.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    pub id: DeliveryId,
    pub event: String,
    pub action: String,
    pub installation: Option<i64>,
    pub repository_id: Option<i64>,
    pub repository: String,
    pub issue: Option<i64>,
    /// The comment, review or issue it is about.
    pub object: Option<i64>,
    pub sender: String,
    pub received_at: Millis,
    /// Decided at once, for what nobody acts on.
    pub decision: Option<DecisionCode>,
    pub facts: String,
}

/// A delivery that has to be on disk before it is answered.
#[derive(Debug, Clone)]
pub struct KeptDelivery {
    pub row: LedgerRow,
    pub meaning: Option<String>,
    pub packed_body: Vec<u8>,
}

impl KeptDelivery {
    /// The body as it is kept.
    pub fn pack(body: &[u8]) -> Vec<u8> {
        packing::pack(body)
    }
}

/// What storing a delivery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Fresh,
    /// The same delivery id was here before.
    SameId,
    /// The same event was here before under another id.
    SameMeaning,
}

/// A stored delivery whose fate is not decided yet.
#[derive(Debug)]
pub struct PendingDelivery {
    pub seq: i64,
    pub id: DeliveryId,
    pub meaning: Option<String>,
    pub event: String,
    pub received_at: Millis,
    pub attempts: i64,
    /// Installation, repository and issue, as far as it belongs to any: those of one are decided in turn.
    pub thread: (i64, i64, i64),
    pub body: Vec<u8>,
}

impl PendingDelivery {
    /// Its own among all, also of those that were forgotten: SQLite gives numbers of rows again.
    pub fn key(&self) -> String {
        format!("{}-{}", self.seq, self.received_at.0)
    }
}

/// What became of a delivery, and what is to be said about it.
#[derive(Debug)]
pub struct Decision<'a> {
    pub seq: i64,
    pub code: DecisionCode,
    pub facts: String,
    pub at: Millis,
    pub effects: &'a [Effect],
}

row!(PendingRow {
    seq: i64,
    guid: String,
    meaning: Option<String>,
    event: String,
    received_at: i64,
    attempts: i64,
    installation_id: Option<i64>,
    repository_id: Option<i64>,
    issue_number: Option<i64>,
    body: Option<Vec<u8>>,
});

row!(WhyRow { received_at: i64, sender: String, decision: Option<String>, facts: String });

/// Marks a delivery as decided, if it still waits for that.
macro_rules! decide_in {
    ($conn:ident, $decision:expr) => {{
        let decision: &Decision<'_> = $decision;
        sqlx::query(
            "UPDATE deliveries SET decision = $2, facts = $3, decided_at = $4, decide_at = NULL \
             WHERE seq = $1 AND decide_at IS NOT NULL",
        )
        .bind(decision.seq)
        .bind(decision.code.name())
        .bind(&decision.facts)
        .bind(decision.at.0)
        .execute(&mut *$conn)
        .await?
        .rows_affected()
            == 1
    }};
}

pub(super) use decide_in;

pub(super) fn unpack(packed: Option<&[u8]>, guid: &str) -> Result<Vec<u8>> {
    let corrupt = || StoreError::Corrupt { table: "deliveries", column: "body", id: guid.to_owned() };
    packing::unpack(packed.ok_or_else(corrupt)?, MAX_BODY_BYTES).map_err(|_| corrupt())
}

/// Rows for one statement, the last of them again and again up to a power of two: it is stored once, for its id is unique.
/// Each count of rows is a statement of its own, and these few stay prepared. A statement that does not has no name: a
/// transaction pooler would send its text to one connection and its values to another. False: a repetition.
fn filled<T>(rows: &[T]) -> impl Iterator<Item = (&T, bool)> {
    let again = rows.len().next_power_of_two() - rows.len();
    let last = rows.last().into_iter().flat_map(move |last| std::iter::repeat_n(last, again));
    rows.iter().map(|row| (row, true)).chain(last.map(|row| (row, false)))
}

impl Store {
    /// Stores deliveries with one commit. Answers in their order.
    pub async fn keep_deliveries(&self, batch: &[KeptDelivery]) -> Result<Vec<Stored>> {
        let fresh: Vec<String> = write!(self, |pool| {
            let mut query = sqlx::QueryBuilder::new(
                "INSERT INTO deliveries (guid, meaning, event, action, installation_id, repository_id, repository, \
                 issue_number, object_id, sender, received_at, decide_at, body) ",
            );
            query.push_values(filled(batch), |mut values, (kept, is_new)| {
                let row = &kept.row;
                values
                    .push_bind(&row.id.0)
                    .push_bind(&kept.meaning)
                    .push_bind(&row.event)
                    .push_bind(&row.action)
                    .push_bind(row.installation)
                    .push_bind(row.repository_id)
                    .push_bind(&row.repository)
                    .push_bind(row.issue)
                    .push_bind(row.object)
                    .push_bind(&row.sender)
                    .push_bind(row.received_at.0)
                    .push_bind(row.received_at.0)
                    .push_bind(if is_new { kept.packed_body.as_slice() } else { &[] });
            });
            query.push(" ON CONFLICT DO NOTHING RETURNING guid");
            query.build_query_scalar().fetch_all(pool).await
        })?;
        let mut fresh: HashSet<String> = fresh.into_iter().collect();
        let mut answers = Vec::with_capacity(batch.len());
        for kept in batch {
            // The same id may stand twice in one batch: only one of them is fresh.
            answers.push(if fresh.remove(&kept.row.id.0) {
                Stored::Fresh
            } else if self.has_delivery(&kept.row.id).await? {
                Stored::SameId
            } else {
                Stored::SameMeaning
            });
        }
        Ok(answers)
    }

    async fn has_delivery(&self, id: &DeliveryId) -> Result<bool> {
        let found: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT seq FROM deliveries WHERE guid = $1").bind(&id.0).fetch_optional(pool).await
        })?;
        Ok(found.is_some())
    }

    /// Adds small rows about deliveries that come to nothing.
    pub async fn note_deliveries(&self, rows: &[LedgerRow]) -> Result<()> {
        write!(self, |pool| {
            let mut query = sqlx::QueryBuilder::new(
                "INSERT INTO deliveries (guid, event, action, installation_id, repository_id, repository, issue_number, \
                 object_id, sender, received_at, decided_at, decision, facts) ",
            );
            query.push_values(filled(rows), |mut values, (row, _)| {
                values
                    .push_bind(&row.id.0)
                    .push_bind(&row.event)
                    .push_bind(&row.action)
                    .push_bind(row.installation)
                    .push_bind(row.repository_id)
                    .push_bind(&row.repository)
                    .push_bind(row.issue)
                    .push_bind(row.object)
                    .push_bind(&row.sender)
                    .push_bind(row.received_at.0)
                    .push_bind(row.received_at.0)
                    .push_bind(row.decision.map(DecisionCode::name))
                    .push_bind(&row.facts);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(pool).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Takes stored deliveries to decide on. Until `again_at` nobody else takes them.
    pub async fn claim_pending(&self, now: Millis, again_at: Millis) -> Result<Vec<PendingDelivery>> {
        // Most of the time there is none, and then nothing is written.
        if self.next_pending_after(None).await?.is_none_or(|at| at > now) {
            return Ok(Vec::new());
        }
        let sql = self.db.dialect().claim_pending;
        let mut rows: Vec<PendingRow> =
            write!(self, |pool| sqlx::query_as(sql).bind(now.0).bind(again_at.0).fetch_all(pool).await)?;
        rows.sort_by_key(|row| row.seq);
        let mut pending = Vec::with_capacity(rows.len());
        for row in rows {
            match unpack(row.body.as_deref(), &row.guid) {
                Ok(body) => pending.push(PendingDelivery {
                    seq: row.seq,
                    id: DeliveryId(row.guid),
                    meaning: row.meaning,
                    event: row.event,
                    received_at: Millis(row.received_at),
                    attempts: row.attempts,
                    thread: (
                        row.installation_id.unwrap_or(0),
                        row.repository_id.unwrap_or(0),
                        row.issue_number.unwrap_or(0),
                    ),
                    body,
                }),
                // One row that nobody can read must not hold up the others.
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "a delivery cannot be read");
                    let code = DecisionCode::EventNotUsed;
                    self.decide(&Decision { seq: row.seq, code, facts: error.to_string(), at: now, effects: &[] })
                        .await?;
                }
            }
        }
        Ok(pending)
    }

    /// Event and body of a stored delivery.
    pub async fn delivery(&self, id: &DeliveryId) -> Result<Option<(String, Vec<u8>)>> {
        let found: Option<(String, Option<Vec<u8>>)> = read!(self, |pool| {
            sqlx::query_as("SELECT event, body FROM deliveries WHERE guid = $1").bind(&id.0).fetch_optional(pool).await
        })?;
        let Some((event, Some(body))) = found else { return Ok(None) };
        Ok(Some((event, unpack(Some(&body), &id.0)?)))
    }

    /// When the next undecided delivery is due, of those that are due after a moment; `None`: there is none.
    pub async fn next_pending_after(&self, after: Option<Millis>) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(lists::NEXT_PENDING).bind(after.map_or(-1, |at| at.0)).fetch_one(pool).await
        })?;
        Ok(at.map(Millis))
    }

    /// Puts a delivery off: GitHub did not answer what the decision needs.
    pub async fn postpone_delivery(&self, seq: i64, until: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE deliveries SET decide_at = $2 WHERE seq = $1 AND decide_at IS NOT NULL")
                .bind(seq)
                .bind(until.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Gives claimed deliveries back, but for those that were decided or put off meanwhile. `claimed`: row, and until when.
    pub async fn give_back_deliveries(&self, claimed: &[(i64, Millis)], due_at: Millis) -> Result<()> {
        let sql = "UPDATE deliveries SET decide_at = $3, attempts = attempts - 1 WHERE seq = $1 AND decide_at = $2";
        self.give_back(sql, claimed, due_at).await
    }

    /// Records a decision that makes no task. False: it was decided meanwhile.
    pub async fn decide(&self, decision: &Decision<'_>) -> Result<bool> {
        Ok(in_tx!(self, |conn| {
            let decided = decide_in!(conn, decision);
            if decided {
                promise_in!(conn, decision.effects, decision.at);
            }
            decided
        }))
    }

    /// Records decisions that make neither task nor answer, with one commit.
    pub async fn decide_all(&self, decisions: &[Decision<'_>]) -> Result<()> {
        in_tx!(self, |conn| {
            for decision in decisions {
                // One that was decided meanwhile stays as it is.
                let _ = decide_in!(conn, decision);
            }
        });
        Ok(())
    }

    /// Lets a stored delivery be decided again. False: there is no such delivery with a body.
    pub async fn replay(&self, id: &DeliveryId, now: Millis) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query(
                "UPDATE deliveries SET decision = NULL, decided_at = NULL, decide_at = $2, attempts = 0 \
                 WHERE guid = $1 AND body IS NOT NULL",
            )
            .bind(&id.0)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    /// The last deliveries of a thread that may have held a command, newest first.
    pub async fn ledger(&self, repository: RepositoryId, issue: IssueNumber, limit: i64) -> Result<Vec<LedgerLine>> {
        let rows: Vec<WhyRow> = read!(self, |pool| {
            sqlx::query_as(lists::LEDGER_OF_THREAD).bind(repository.0).bind(issue.0).bind(limit).fetch_all(pool).await
        })?;
        Ok(rows
            .into_iter()
            .map(|row| LedgerLine {
                at: Millis(row.received_at),
                sender: row.sender,
                code: row.decision.as_deref().and_then(DecisionCode::parse),
                facts: row.facts,
            })
            .collect())
    }

    /// Decision code of a delivery, once there is one.
    pub async fn decision_of(&self, id: &DeliveryId) -> Result<Option<DecisionCode>> {
        let name: Option<Option<String>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT decision FROM deliveries WHERE guid = $1").bind(&id.0).fetch_optional(pool).await
        })?;
        Ok(name.flatten().as_deref().and_then(DecisionCode::parse))
    }
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn statements_come_in_few_sizes_and_nothing_is_new_twice() {
        for (count, size) in [(1, 1), (2, 2), (3, 4), (5, 8), (64, 64), (65, 128)] {
            let rows: Vec<usize> = (0..count).collect();
            let filled: Vec<(usize, bool)> = filled(&rows).map(|(row, is_new)| (*row, is_new)).collect();
            let expected = (0..size).map(|at| (at.min(count - 1), at < count));
            assert_eq!(filled, expected.collect::<Vec<_>>());
        }
    }
}
