//! Deliveries that GitHub could not bring: found in its list, asked for again, and come or given up.

use super::rows::row;
use super::{Result, Store, in_tx, lists, read, write};
use crate::domain::ids::{DeliveryId, Millis};
use crate::domain::listing::MissedLine;
use crate::domain::missed::{Attempt, KEPT};

/// The name of what is read of GitHub's list, in `done_through`.
const READ: &str = "deliveries read";
/// Noted together, so that nobody waits long for the database.
const PIECE: usize = 500;

row!(DueRow { guid: String, attempt: i64 });
row!(MissedRow {
    guid: String,
    event: String,
    status: i64,
    sent_at: i64,
    asks: i64,
    ask_at: Option<i64>,
    arrived_at: Option<i64>,
});

impl Store {
    /// GitHub's list was read to its attempts of this time. `None`: never.
    pub async fn deliveries_read_through(&self) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT at FROM done_through WHERE name = $1").bind(READ).fetch_optional(pool).await
        })?;
        Ok(at.map(Millis))
    }

    /// Notes what was found missing, but for what is in the ledger, and then up to when GitHub's list was read. Gives how
    /// many are new.
    pub async fn note_missed(&self, missed: &[Attempt], through: Millis, now: Millis) -> Result<u64> {
        let mut new = 0;
        for piece in missed.chunks(PIECE) {
            new += in_tx!(self, |conn| {
                let mut new = 0;
                for attempt in piece {
                    new += sqlx::query(
                        "INSERT INTO missed_deliveries (guid, attempt, event, status, sent_at, found_at, ask_at) \
                         SELECT $1, $2, $3, $4, $5, $6, $6 WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE guid = $1) \
                         ON CONFLICT DO NOTHING",
                    )
                    .bind(&attempt.delivery.0)
                    .bind(attempt.number)
                    .bind(&attempt.event)
                    .bind(i64::from(attempt.status))
                    .bind(attempt.sent_at.0)
                    .bind(now.0)
                    .execute(&mut *conn)
                    .await?
                    .rows_affected();
                }
                new
            });
        }
        write!(self, |pool| {
            // One of the future was stored while a clock was wrong (fault F42).
            sqlx::query(
                "INSERT INTO done_through (name, at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at = excluded.at \
                 WHERE done_through.at < excluded.at OR done_through.at > $3",
            )
            .bind(READ)
            .bind(through.0)
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(new)
    }

    /// When the next missed delivery is to be asked for; `None`: none is missed.
    pub async fn next_missed_at(&self) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| { sqlx::query_scalar(lists::NEXT_MISSED).fetch_one(pool).await })?;
        Ok(at.map(Millis))
    }

    /// Takes the missed delivery that is due longest: each once, whoever asks. Gives GitHub's number of an attempt.
    pub async fn claim_missed(&self, now: Millis) -> Result<Option<(DeliveryId, i64)>> {
        let sql = self.db.dialect().claim_missed;
        let row: Option<DueRow> =
            write!(self, |pool| sqlx::query_as(sql).bind(now.0).bind(now.before(KEPT).0).fetch_optional(pool).await)?;
        Ok(row.map(|row| (DeliveryId(row.guid), row.attempt)))
    }

    /// Takes an asking back: GitHub told us to wait.
    pub async fn put_back_missed(&self, id: &DeliveryId, until: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE missed_deliveries SET asks = asks - 1, ask_at = $2 WHERE guid = $1 AND asks > 0")
                .bind(&id.0)
                .bind(until.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(())
    }

    /// Notes which of the missed have come. Gives how many.
    pub async fn note_arrived(&self) -> Result<u64> {
        let is_open: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT m.asks FROM missed_deliveries m JOIN deliveries d ON d.guid = m.guid \
                 WHERE m.arrived_at IS NULL LIMIT 1",
            )
            .fetch_optional(pool)
            .await
        })?;
        if is_open.is_none() {
            return Ok(0);
        }
        Ok(write!(self, |pool| {
            sqlx::query(
                "UPDATE missed_deliveries SET ask_at = NULL, arrived_at = \
                 (SELECT d.received_at FROM deliveries d WHERE d.guid = missed_deliveries.guid) \
                 WHERE arrived_at IS NULL AND guid IN (SELECT d.guid FROM deliveries d WHERE d.guid = missed_deliveries.guid)",
            )
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })?)
    }

    /// The missed deliveries that were sent last, newest first.
    pub async fn missed_deliveries(&self, limit: i64) -> Result<Vec<MissedLine>> {
        let rows: Vec<MissedRow> =
            read!(self, |pool| { sqlx::query_as(lists::MISSED).bind(limit).fetch_all(pool).await })?;
        let line = |row: MissedRow| MissedLine {
            id: DeliveryId(row.guid),
            event: row.event,
            status: row.status,
            sent_at: Millis(row.sent_at),
            asks: row.asks,
            ask_at: row.ask_at.map(Millis),
            arrived_at: row.arrived_at.map(Millis),
        };
        Ok(rows.into_iter().map(line).collect())
    }
}
