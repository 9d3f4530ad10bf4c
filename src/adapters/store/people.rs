//! People and what they sign in with. Two people become one in one transaction.

use super::rows::{json, row, to_json};
use super::{Result, Store, StoreError, in_tx, read, write};
use crate::domain::ids::{Millis, UserId};
use crate::domain::person::{Account, Person, SeenInstallation, SignInWith};
use crate::domain::preferences::Preferences;

row!(UserRow { id: i64, login: String, preferences: String, installations: String });
row!(AccountRow { provider: String, subject: String, login: String, email: Option<String> });

impl UserRow {
    fn person(self) -> Result<Person> {
        let id = self.id.to_string();
        Ok(Person {
            id: UserId(self.id),
            login: self.login,
            preferences: json(&self.preferences, "users", "preferences", &id)?,
            installations: json(&self.installations, "users", "installations", &id)?,
        })
    }
}

impl AccountRow {
    fn account(self) -> Result<Account> {
        let with = SignInWith::parse(&self.provider).ok_or_else(|| StoreError::Corrupt {
            table: "accounts",
            column: "provider",
            id: self.subject.clone(),
        })?;
        Ok(Account { with, subject: self.subject, login: self.login, email: self.email })
    }
}

/// A sealed value that changes its owner: id, what was sealed for the one, the same for the other.
#[derive(Debug, Clone)]
pub struct Resealed {
    pub id: String,
    pub old: String,
    pub new: String,
}

impl Store {
    pub async fn person(&self, id: UserId) -> Result<Option<Person>> {
        let row: Option<UserRow> = read!(self, |pool| {
            sqlx::query_as("SELECT id, login, preferences, installations FROM users WHERE id = $1")
                .bind(id.0)
                .fetch_optional(pool)
                .await
        })?;
        row.map(UserRow::person).transpose()
    }

    /// Who signs in with this account.
    pub async fn owner_of(&self, with: SignInWith, subject: &str) -> Result<Option<UserId>> {
        let id: Option<i64> = read!(self, |pool| {
            sqlx::query_scalar("SELECT user_id FROM accounts WHERE provider = $1 AND subject = $2")
                .bind(with.name())
                .bind(subject)
                .fetch_optional(pool)
                .await
        })?;
        Ok(id.map(UserId))
    }

    pub async fn accounts_of(&self, user: UserId) -> Result<Vec<Account>> {
        let rows: Vec<AccountRow> = read!(self, |pool| {
            sqlx::query_as("SELECT provider, subject, login, email FROM accounts WHERE user_id = $1 ORDER BY provider")
                .bind(user.0)
                .fetch_all(pool)
                .await
        })?;
        rows.into_iter().map(AccountRow::account).collect()
    }

    /// Notes that an account belongs to a person, who is made if there is none of this id. What the
    /// provider says of it now replaces what it said before. False: it belongs to somebody else, or the
    /// person has another account there.
    pub async fn store_account(&self, user: UserId, account: &Account, now: Millis) -> Result<bool> {
        Ok(in_tx!(self, |conn| {
            // A person on GitHub is made and named by GitHub alone.
            if account.with == SignInWith::GitHub || user.0 < 0 {
                sqlx::query(
                    "INSERT INTO users (id, login, created_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (id) DO UPDATE SET login = excluded.login",
                )
                .bind(user.0)
                .bind(&account.login)
                .bind(now.0)
                .execute(&mut *conn)
                .await?;
            }
            let is_there: i64 = sqlx::query_scalar("SELECT count(*) FROM users WHERE id = $1")
                .bind(user.0)
                .fetch_one(&mut *conn)
                .await?;
            let taken: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM accounts WHERE provider = $1 \
                 AND ((subject = $2 AND user_id <> $3) OR (user_id = $3 AND subject <> $2))",
            )
            .bind(account.with.name())
            .bind(&account.subject)
            .bind(user.0)
            .fetch_one(&mut *conn)
            .await?;
            if is_there == 0 || taken > 0 {
                return Ok(false);
            }
            let stored = sqlx::query(
                "INSERT INTO accounts (provider, subject, user_id, login, email, linked_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (provider, subject) DO UPDATE SET login = excluded.login, email = excluded.email \
                 WHERE accounts.user_id = excluded.user_id",
            )
            .bind(account.with.name())
            .bind(&account.subject)
            .bind(user.0)
            .bind(&account.login)
            .bind(&account.email)
            .bind(now.0)
            .execute(&mut *conn)
            .await?
            .rows_affected();
            if stored != 1 {
                return Ok(false);
            }
            true
        }))
    }

    /// Takes the Vercel account from a person who is on GitHub.
    pub async fn unlink_vercel(&self, user: UserId) -> Result<bool> {
        let changed = write!(self, |pool| {
            sqlx::query("DELETE FROM accounts WHERE provider = 'vercel' AND user_id = $1 AND user_id > 0")
                .bind(user.0)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(changed == 1)
    }

    pub async fn store_installations(&self, user: UserId, seen: &[SeenInstallation]) -> Result<()> {
        self.update_user(user, "UPDATE users SET installations = $2 WHERE id = $1", to_json(&seen)).await
    }

    pub async fn store_preferences(&self, user: UserId, preferences: &Preferences) -> Result<()> {
        self.update_user(user, "UPDATE users SET preferences = $2 WHERE id = $1", to_json(preferences)).await
    }

    async fn update_user(&self, user: UserId, sql: &'static str, json: String) -> Result<()> {
        write!(self, |pool| sqlx::query(sql).bind(user.0).bind(json).execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    /// Takes one person into another: accounts, keys and connectors move, where the other has none of
    /// its own; sessions of the first end. False: a sealed value changed meanwhile, and nothing moved.
    pub async fn merge_people(
        &self,
        (from, into): (UserId, UserId),
        keys: &[Resealed],
        connectors: &[Resealed],
    ) -> Result<bool> {
        Ok(in_tx!(self, |conn| {
            let moves = [
                (
                    keys,
                    "UPDATE keys SET owner_id = $1, sealed = $2 WHERE id = $3 AND sealed = $4 AND owner_kind = 'person' \
                     AND owner_id = $5 AND NOT EXISTS (SELECT 1 FROM keys o WHERE o.owner_kind = 'person' \
                     AND o.owner_id = $1 AND o.provider = keys.provider)",
                ),
                (
                    connectors,
                    "UPDATE connectors SET owner_id = $1, sealed = $2 WHERE id = $3 AND sealed = $4 \
                     AND owner_kind = 'person' AND owner_id = $5 AND NOT EXISTS (SELECT 1 FROM connectors o \
                     WHERE o.owner_kind = 'person' AND o.owner_id = $1 AND o.name = connectors.name)",
                ),
            ];
            for (values, update) in moves {
                for one in values {
                    let query = sqlx::query(update).bind(into.0).bind(&one.new).bind(&one.id);
                    query.bind(&one.old).bind(from.0).execute(&mut *conn).await?;
                }
            }
            // What came meanwhile, or was sealed anew, must not be deleted with the person.
            for sql in [
                "SELECT count(*) FROM keys k WHERE k.owner_kind = 'person' AND k.owner_id = $1 AND NOT EXISTS \
                 (SELECT 1 FROM keys o WHERE o.owner_kind = 'person' AND o.owner_id = $2 AND o.provider = k.provider)",
                "SELECT count(*) FROM connectors c WHERE c.owner_kind = 'person' AND c.owner_id = $1 AND NOT EXISTS \
                 (SELECT 1 FROM connectors o WHERE o.owner_kind = 'person' AND o.owner_id = $2 AND o.name = c.name)",
            ] {
                let left: i64 = sqlx::query_scalar(sql).bind(from.0).bind(into.0).fetch_one(&mut *conn).await?;
                if left > 0 {
                    return Ok(false);
                }
            }
            for sql in [
                "UPDATE accounts SET user_id = $2 WHERE user_id = $1 AND provider NOT IN \
                 (SELECT o.provider FROM accounts o WHERE o.user_id = $2)",
                "UPDATE audit_log SET user_id = $2 WHERE user_id = $1",
                "UPDATE users SET preferences = (SELECT o.preferences FROM users o WHERE o.id = $1) \
                 WHERE id = $2 AND preferences = '{}'",
            ] {
                sqlx::query(sql).bind(from.0).bind(into.0).execute(&mut *conn).await?;
            }
            for sql in DELETE_PERSON {
                sqlx::query(sql).bind(from.0).execute(&mut *conn).await?;
            }
            true
        }))
    }

    /// Everything that is kept of a person but the tasks, which belong to their repositories.
    pub async fn delete_person(&self, user: UserId) -> Result<()> {
        in_tx!(self, |conn| {
            for sql in DELETE_PERSON {
                sqlx::query(sql).bind(user.0).execute(&mut *conn).await?;
            }
            // What was done, and keys of accounts, stay, without who it was.
            for sql in [
                "UPDATE audit_log SET user_id = NULL WHERE user_id = $1",
                "UPDATE keys SET saved_by = 0 WHERE saved_by = $1",
                "UPDATE connectors SET saved_by = 0 WHERE saved_by = $1",
            ] {
                sqlx::query(sql).bind(user.0).execute(&mut *conn).await?;
            }
        });
        Ok(())
    }
}

/// Accounts and sessions go with their user.
const DELETE_PERSON: [&str; 3] = [
    "DELETE FROM keys WHERE owner_kind = 'person' AND owner_id = $1",
    "DELETE FROM connectors WHERE owner_kind = 'person' AND owner_id = $1",
    "DELETE FROM users WHERE id = $1",
];
