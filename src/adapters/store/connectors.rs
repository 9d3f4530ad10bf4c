//! Connectors: what is shown in the open, their secrets sealed.

use super::rows::{json, row, to_json};
use super::{Result, Store, StoreError, read, write};
use crate::domain::connector::{Connector, Transport};
use crate::domain::ids::{InstallationId, Millis, UserId};
use crate::domain::key::KeyOwner;

macro_rules! connector_columns {
    () => {
        "id, owner_kind, owner_id, name, transport, sealed, is_enabled, saved_at"
    };
}

row!(ConnectorRow {
    id: String,
    owner_kind: String,
    owner_id: i64,
    name: String,
    transport: String,
    sealed: String,
    is_enabled: bool,
    saved_at: i64,
});

impl ConnectorRow {
    fn connector(self) -> Result<Connector> {
        let owner = match self.owner_kind.as_str() {
            "person" => KeyOwner::Person(UserId(self.owner_id)),
            "installation" => KeyOwner::Installation(InstallationId(self.owner_id)),
            _ => return Err(StoreError::Corrupt { table: "connectors", column: "owner_kind", id: self.id }),
        };
        Ok(Connector {
            owner,
            transport: json::<Transport>(&self.transport, "connectors", "transport", &self.id)?,
            id: self.id,
            name: self.name,
            sealed: self.sealed,
            is_enabled: self.is_enabled,
            saved_at: Millis(self.saved_at),
        })
    }
}

impl Store {
    /// Stores a connector in place of the owner's one of this name, whose id it then has to have.
    pub async fn store_connector(&self, connector: &Connector, saved_by: UserId) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO connectors (id, owner_kind, owner_id, name, transport, sealed, is_enabled, saved_by, saved_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET transport = excluded.transport, \
                 sealed = excluded.sealed, is_enabled = excluded.is_enabled, saved_by = excluded.saved_by, \
                 saved_at = excluded.saved_at WHERE connectors.owner_id = excluded.owner_id",
            )
            .bind(&connector.id)
            .bind(connector.owner.kind())
            .bind(connector.owner.id())
            .bind(&connector.name)
            .bind(to_json(&connector.transport))
            .bind(&connector.sealed)
            .bind(connector.is_enabled)
            .bind(saved_by.0)
            .bind(connector.saved_at.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// Those of one owner alone.
    pub async fn connectors_owned_by(&self, owner: KeyOwner) -> Result<Vec<Connector>> {
        let rows: Vec<ConnectorRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                connector_columns!(),
                " FROM connectors WHERE owner_kind = $1 AND owner_id = $2 ORDER BY name"
            ))
            .bind(owner.kind())
            .bind(owner.id())
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(ConnectorRow::connector).collect()
    }

    /// Those of a person and of an installation, switched off or not.
    pub async fn connectors_of(&self, person: UserId, installation: InstallationId) -> Result<Vec<Connector>> {
        let rows: Vec<ConnectorRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                connector_columns!(),
                " FROM connectors WHERE (owner_kind = 'person' AND owner_id = $1) \
                 OR (owner_kind = 'installation' AND owner_id = $2) ORDER BY name"
            ))
            .bind(person.0)
            .bind(installation.0)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(ConnectorRow::connector).collect()
    }

    /// The owner's one of this name.
    pub async fn connector(&self, owner: KeyOwner, name: &str) -> Result<Option<Connector>> {
        let row: Option<ConnectorRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                connector_columns!(),
                " FROM connectors WHERE owner_kind = $1 AND owner_id = $2 AND name = $3"
            ))
            .bind(owner.kind())
            .bind(owner.id())
            .bind(name)
            .fetch_optional(pool)
            .await
        })?;
        row.map(ConnectorRow::connector).transpose()
    }

    /// Whether there was one.
    /// Switches one on or off. False: there is none of this name.
    pub async fn switch_connector(&self, owner: KeyOwner, name: &str, on: bool) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("UPDATE connectors SET is_enabled = $4 WHERE owner_kind = $1 AND owner_id = $2 AND name = $3")
                .bind(owner.kind())
                .bind(owner.id())
                .bind(name)
                .bind(on)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    pub async fn delete_connector(&self, owner: KeyOwner, name: &str) -> Result<bool> {
        Ok(write!(self, |pool| {
            sqlx::query("DELETE FROM connectors WHERE owner_kind = $1 AND owner_id = $2 AND name = $3")
                .bind(owner.kind())
                .bind(owner.id())
                .bind(name)
                .execute(pool)
                .await
                .map(|done| done.rows_affected() > 0)
        })?)
    }

    /// Every connector, in pages by id: for sealing them anew.
    pub async fn connectors_after(&self, id: &str, limit: i64) -> Result<Vec<Connector>> {
        let rows: Vec<ConnectorRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                connector_columns!(),
                " FROM connectors WHERE id > $1 ORDER BY id LIMIT $2"
            ))
            .bind(id)
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(ConnectorRow::connector).collect()
    }

    /// Puts another sealing in place of this one, unless somebody was there first.
    pub async fn reseal_connector(&self, id: &str, old: &str, new: &str) -> Result<bool> {
        Ok(write!(self, |pool| {
            sqlx::query("UPDATE connectors SET sealed = $3 WHERE id = $1 AND sealed = $2")
                .bind(id)
                .bind(old)
                .bind(new)
                .execute(pool)
                .await
                .map(|done| done.rows_affected() == 1)
        })?)
    }
}
