//! Who is signed in, who changed what, and what the instance learned by itself.

use super::rows::row;
use super::{Result, Store, in_tx, read, write};
use crate::domain::ids::{Millis, UserId};
use crate::domain::key::KeyOwner;
use crate::domain::listing::{AuditLine, Deed, Deeds};
use crate::domain::person::{IDLE, LONGEST, Session};

macro_rules! session_columns {
    () => {
        "id, user_id, client, created_at, used_at"
    };
}

row!(SessionRow { id: String, user_id: i64, client: String, created_at: i64, used_at: i64 });
row!(AuditRow { at: i64, action: String, about: String, login: Option<String> });

impl SessionRow {
    fn session(self) -> (UserId, Session) {
        let session = Session {
            id: self.id,
            client: self.client,
            created_at: Millis(self.created_at),
            used_at: Millis(self.used_at),
        };
        (UserId(self.user_id), session)
    }
}

impl Store {
    /// Begins a session, whose id is the hash of what its cookie holds.
    pub async fn begin_session(&self, user: UserId, id: &str, client: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("INSERT INTO sessions (id, user_id, client, created_at, used_at) VALUES ($1, $2, $3, $4, $4)")
                .bind(id)
                .bind(user.0)
                .bind(client)
                .bind(now.0)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    pub async fn session(&self, id: &str) -> Result<Option<(UserId, Session)>> {
        let row: Option<SessionRow> = read!(self, |pool| {
            sqlx::query_as(concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = $1"))
                .bind(id)
                .fetch_optional(pool)
                .await
        })?;
        Ok(row.map(SessionRow::session))
    }

    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>> {
        let rows: Vec<SessionRow> = read!(self, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions WHERE user_id = $1 ORDER BY used_at DESC"
            ))
            .bind(user.0)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(|row| row.session().1).collect())
    }

    pub async fn note_session_use(&self, id: &str, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query("UPDATE sessions SET used_at = $2 WHERE id = $1 AND used_at < $2")
                .bind(id)
                .bind(now.0)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Ends sessions of a person: the one that is named, or all.
    pub async fn end_sessions(&self, user: UserId, id: Option<&str>) -> Result<u64> {
        Ok(write!(self, |pool| {
            sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND ($2 IS NULL OR id = $2)")
                .bind(user.0)
                .bind(id)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?)
    }

    /// Whether this sign-in comes back for the first time.
    pub async fn finish_signin(&self, state: &str, ends_at: Millis) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("INSERT INTO finished_signins (state, ends_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(state)
                .bind(ends_at.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    /// Forgets sessions and sign-ins that are over.
    pub async fn sweep_sessions(&self, now: Millis) -> Result<()> {
        let before = |time: std::time::Duration| now.0 - i64::try_from(time.as_millis()).unwrap_or(0);
        in_tx!(self, |conn| {
            sqlx::query("DELETE FROM sessions WHERE used_at < $1 OR created_at < $2")
                .bind(before(IDLE))
                .bind(before(LONGEST))
                .execute(&mut *conn)
                .await?;
            sqlx::query("DELETE FROM finished_signins WHERE ends_at < $1").bind(now.0).execute(&mut *conn).await?;
        });
        Ok(())
    }

    /// Notes who did what.
    pub async fn audit(&self, deed: &Deed<'_>, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO audit_log (at, user_id, installation_id, action, about) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(now.0)
            .bind(deed.by.map(|user| user.0))
            .bind(deed.account.map(|id| id.0))
            .bind(deed.action)
            .bind(deed.about)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// What a person did, or, for an account, what anybody did; newest first.
    pub async fn audit_of(&self, whose: KeyOwner, deeds: Deeds, limit: i64) -> Result<Vec<AuditLine>> {
        let sql = match whose {
            KeyOwner::Person(_) => {
                "SELECT a.at, a.action, a.about, NULL AS login FROM audit_log a \
                 WHERE a.user_id = $1 AND (a.action = 'used a key') = $2 ORDER BY a.seq DESC LIMIT $3"
            }
            KeyOwner::Installation(_) => {
                "SELECT a.at, a.action, a.about, u.login FROM audit_log a LEFT JOIN users u ON u.id = a.user_id \
                 WHERE a.installation_id = $1 AND (a.action = 'used a key') = $2 ORDER BY a.seq DESC LIMIT $3"
            }
        };
        let rows: Vec<AuditRow> = read!(self, |pool| {
            sqlx::query_as(sql).bind(whose.id()).bind(deeds == Deeds::Uses).bind(limit).fetch_all(pool).await
        })?;
        let line =
            |row: AuditRow| AuditLine { at: Millis(row.at), by: row.login, action: row.action, about: row.about };
        Ok(rows.into_iter().map(line).collect())
    }

    /// A sealed value of the instance.
    pub async fn instance_value(&self, name: &str) -> Result<Option<String>> {
        Ok(read!(self, |pool| {
            sqlx::query_scalar("SELECT sealed FROM instance WHERE name = $1").bind(name).fetch_optional(pool).await
        })?)
    }

    /// Puts a value sealed anew in the place of the one that was read. False: it is another one now.
    pub async fn reseal_instance_value(&self, name: &str, old: &str, new: &str) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("UPDATE instance SET sealed = $3 WHERE name = $1 AND sealed = $2")
                .bind(name)
                .bind(old)
                .bind(new)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    /// Stores a value of the instance that has none yet. False: it has one.
    pub async fn store_instance_value(&self, name: &str, sealed: &str, now: Millis) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("INSERT INTO instance (name, sealed, saved_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(name)
                .bind(sealed)
                .bind(now.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }
}
