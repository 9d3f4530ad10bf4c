//! The ledger as operators read it, and the installations.

use super::deliveries::unpack;
use super::rows::row;
use super::{Result, Store, lists, read};
use crate::domain::decision::DecisionCode;
use crate::domain::ids::{DeliveryId, InstallationId, Millis};
use crate::domain::listing::{DeliveryFilter, DeliveryLine, InstallationLine, Page};

row!(DeliveryRow {
    seq: i64,
    guid: String,
    event: String,
    action: String,
    repository: String,
    issue_number: Option<i64>,
    sender: String,
    received_at: i64,
    decided_at: Option<i64>,
    decision: Option<String>,
    facts: String,
    attempts: i64,
    has_body: bool,
});
row!(InstallationRow {
    id: i64,
    account: String,
    suspended_at: Option<i64>,
    deleted_at: Option<i64>,
    updated_at: i64,
});

impl DeliveryRow {
    fn line(self) -> DeliveryLine {
        DeliveryLine {
            seq: self.seq,
            id: DeliveryId(self.guid),
            event: self.event,
            action: self.action,
            repository: self.repository,
            issue: self.issue_number,
            sender: self.sender,
            received_at: Millis(self.received_at),
            decided_at: self.decided_at.map(Millis),
            code: self.decision.as_deref().and_then(DecisionCode::parse),
            facts: self.facts,
            attempts: self.attempts,
            has_body: self.has_body,
        }
    }
}

impl Store {
    /// Newest deliveries before a key.
    pub async fn find_deliveries(
        &self,
        filter: &DeliveryFilter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Page<DeliveryLine>> {
        let rows: Vec<DeliveryRow> = read!(self, |pool| {
            sqlx::query_as(lists::find_deliveries(filter))
                .bind(before.unwrap_or(i64::MAX))
                .bind(limit)
                .bind(filter.repository.as_deref())
                .bind(filter.code)
                .bind(filter.issue)
                .bind(filter.object)
                .fetch_all(pool)
                .await
        })?;
        let is_full = i64::try_from(rows.len()).unwrap_or(0) >= limit;
        let next = rows.last().map(|row| row.seq).filter(|_| is_full);
        Ok(Page { items: rows.into_iter().map(DeliveryRow::line).collect(), next })
    }

    /// One delivery with its payload, as far as that is stored.
    pub async fn delivery_line(&self, id: &DeliveryId) -> Result<Option<(DeliveryLine, Option<Vec<u8>>)>> {
        let row: Option<DeliveryRow> =
            read!(self, |pool| { sqlx::query_as(lists::ONE_DELIVERY).bind(&id.0).fetch_optional(pool).await })?;
        let Some(line) = row.map(DeliveryRow::line) else { return Ok(None) };
        let packed: Option<Option<Vec<u8>>> = read!(self, |pool| {
            sqlx::query_scalar("SELECT body FROM deliveries WHERE guid = $1").bind(&id.0).fetch_optional(pool).await
        })?;
        let body = packed.flatten().map(|packed| unpack(Some(&packed), &id.0)).transpose()?;
        Ok(Some((line, body)))
    }

    /// When the last verified delivery came from GitHub: not what the pages asked for.
    pub async fn last_delivery_at(&self) -> Result<Option<Millis>> {
        let at: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar(
                "SELECT received_at FROM deliveries WHERE guid NOT LIKE 'page-%' ORDER BY seq DESC LIMIT 1",
            )
            .fetch_optional(pool)
            .await
        })?;
        Ok(at.map(Millis))
    }

    /// Accounts that have the App, those heard of last first.
    pub async fn installations(&self, limit: i64) -> Result<Vec<InstallationLine>> {
        let rows: Vec<InstallationRow> = read!(self, |pool| {
            sqlx::query_as("SELECT id, account, suspended_at, deleted_at, updated_at FROM installations ORDER BY updated_at DESC LIMIT $1")
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        let line = |row: InstallationRow| InstallationLine {
            id: InstallationId(row.id),
            account: row.account,
            suspended_at: row.suspended_at.map(Millis),
            deleted_at: row.deleted_at.map(Millis),
            updated_at: Millis(row.updated_at),
        };
        Ok(rows.into_iter().map(line).collect())
    }
}
