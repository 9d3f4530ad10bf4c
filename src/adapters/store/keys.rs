//! Keys for models: sealed when they come here, and only ever handed out sealed.

use super::rows::row;
use super::{Result, Store, StoreError, in_tx, read, write};
use crate::domain::agent::Provider;
use crate::domain::ids::{InstallationId, Millis, UserId};
use crate::domain::key::{KeyId, KeyOwner, StoredKey};

macro_rules! key_columns {
    () => {
        "id, owner_kind, owner_id, provider, sealed, fingerprint, saved_at, used_at"
    };
}

row!(KeyRow {
    id: String,
    owner_kind: String,
    owner_id: i64,
    provider: String,
    sealed: String,
    fingerprint: String,
    saved_at: i64,
    used_at: Option<i64>,
});

impl KeyRow {
    fn key(self) -> Result<StoredKey> {
        let corrupt = |column, id: &str| StoreError::Corrupt { table: "keys", column, id: id.to_owned() };
        let owner = match self.owner_kind.as_str() {
            "person" => KeyOwner::Person(UserId(self.owner_id)),
            "installation" => KeyOwner::Installation(InstallationId(self.owner_id)),
            _ => return Err(corrupt("owner_kind", &self.id)),
        };
        Ok(StoredKey {
            provider: Provider::parse(&self.provider).ok_or_else(|| corrupt("provider", &self.id))?,
            id: KeyId(self.id),
            owner,
            sealed: self.sealed,
            fingerprint: self.fingerprint,
            saved_at: Millis(self.saved_at),
            used_at: self.used_at.map(Millis),
        })
    }
}

impl Store {
    /// Stores a key in place of the owner's one for this provider.
    pub async fn store_key(&self, key: &StoredKey, saved_by: UserId) -> Result<()> {
        in_tx!(self, |conn| {
            sqlx::query("DELETE FROM keys WHERE owner_kind = $1 AND owner_id = $2 AND provider = $3")
                .bind(key.owner.kind())
                .bind(key.owner.id())
                .bind(key.provider.name())
                .execute(&mut *conn)
                .await?;
            sqlx::query(
                "INSERT INTO keys (id, owner_kind, owner_id, provider, sealed, fingerprint, saved_by, saved_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(&key.id.0)
            .bind(key.owner.kind())
            .bind(key.owner.id())
            .bind(key.provider.name())
            .bind(&key.sealed)
            .bind(&key.fingerprint)
            .bind(saved_by.0)
            .bind(key.saved_at.0)
            .execute(&mut *conn)
            .await?;
        });
        Ok(())
    }

    /// The keys of a person and of an installation.
    pub async fn keys_of(&self, person: UserId, installation: InstallationId) -> Result<Vec<StoredKey>> {
        let rows: Vec<KeyRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys WHERE (owner_kind = 'person' AND owner_id = $1) \
                 OR (owner_kind = 'installation' AND owner_id = $2)"
            ))
            .bind(person.0)
            .bind(installation.0)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(KeyRow::key).collect()
    }

    /// Those of one owner alone.
    pub async fn keys_owned_by(&self, owner: KeyOwner) -> Result<Vec<StoredKey>> {
        let rows: Vec<KeyRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys WHERE owner_kind = $1 AND owner_id = $2 ORDER BY provider"
            ))
            .bind(owner.kind())
            .bind(owner.id())
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(KeyRow::key).collect()
    }

    pub async fn key(&self, id: &KeyId) -> Result<Option<StoredKey>> {
        let row: Option<KeyRow> = read!(self, |pool| {
            sqlx::query_as(concat!("SELECT ", key_columns!(), " FROM keys WHERE id = $1"))
                .bind(&id.0)
                .fetch_optional(pool)
                .await
        })?;
        row.map(KeyRow::key).transpose()
    }

    /// Whether there was one.
    pub async fn delete_key(&self, owner: KeyOwner, provider: Provider) -> Result<bool> {
        Ok(write!(self, |pool| {
            sqlx::query("DELETE FROM keys WHERE owner_kind = $1 AND owner_id = $2 AND provider = $3")
                .bind(owner.kind())
                .bind(owner.id())
                .bind(provider.name())
                .execute(pool)
                .await
                .map(|done| done.rows_affected() > 0)
        })?)
    }

    pub async fn note_key_use(&self, id: &KeyId, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE keys SET used_at = $2 WHERE id = $1")
                .bind(&id.0)
                .bind(now.0)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Every key, in pages by id: for sealing them anew.
    pub async fn keys_after(&self, id: &str, limit: i64) -> Result<Vec<StoredKey>> {
        let rows: Vec<KeyRow> = read!(self, |pool| {
            sqlx::query_as(concat!("SELECT ", key_columns!(), " FROM keys WHERE id > $1 ORDER BY id LIMIT $2"))
                .bind(id)
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        rows.into_iter().map(KeyRow::key).collect()
    }

    /// Puts another sealing in place of this one, unless somebody was there first.
    pub async fn reseal_key(&self, id: &KeyId, old: &str, new: &str) -> Result<bool> {
        Ok(write!(self, |pool| {
            sqlx::query("UPDATE keys SET sealed = $3 WHERE id = $1 AND sealed = $2")
                .bind(&id.0)
                .bind(old)
                .bind(new)
                .execute(pool)
                .await
                .map(|done| done.rows_affected() == 1)
        })?)
    }
}
