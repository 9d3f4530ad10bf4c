//! Opening a database by its URL, and bringing its tables up to date.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqlSafeStr, SqliteConnection};

use super::{Db, Result, Store, StoreError};
use crate::domain::secret::Secret;

/// Where the data is. A PostgreSQL URL may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    Sqlite(std::path::PathBuf),
    Postgres {
        url: Secret,
        /// Past a transaction pooler: for migrations and for what processes tell each other.
        direct_url: Secret,
    },
}

/// Who opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The service: at most one at a time on a SQLite file.
    Service,
    /// Brings the tables up to date and leaves.
    Migration,
    /// A short command beside a running service: it changes no table.
    Visitor,
}

/// How long a request waits for a connection before the answer is "unavailable".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The migrations of both engines, in order; their numbers are their places, from 1.
macro_rules! migrations {
    ($engine:literal, [$($name:literal),*]) => {
        [$(($name, include_str!(concat!("../../../migrations/", $engine, "/", $name, ".sql")))),*]
    };
}
const SQLITE: [(&str, &str); 9] = migrations!(
    "sqlite",
    [
        "0001_init",
        "0002_sandboxes",
        "0003_keys_and_spending",
        "0004_follow_ups",
        "0005_connectors",
        "0006_people",
        "0007_policies",
        "0008_push_permits",
        "0009_missed_deliveries"
    ]
);
const POSTGRES: [(&str, &str); 9] = migrations!(
    "postgres",
    [
        "0001_init",
        "0002_sandboxes",
        "0003_keys_and_spending",
        "0004_follow_ups",
        "0005_connectors",
        "0006_people",
        "0007_policies",
        "0008_push_permits",
        "0009_missed_deliveries"
    ]
);

/// Number of the last migration.
const NEWEST: i64 = SQLITE.len() as i64;

fn migrator(list: &[(&'static str, &'static str)]) -> Migrator {
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(list).map(migration).collect())
}

impl Store {
    /// Opens and migrates. The error is one sentence for the operator.
    pub async fn open(location: &Location, access: Access) -> Result<Self> {
        match location {
            Location::Sqlite(path) => Self::open_sqlite(path, access).await,
            Location::Postgres { url, direct_url } => Self::open_postgres(url, direct_url, access).await,
        }
    }

    async fn open_sqlite(path: &Path, access: Access) -> Result<Self> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| StoreError::Open(format!("{what} {}: {error}", path.display()));
        if access == Access::Visitor && !path.exists() {
            return Err(StoreError::Open(format!(
                "there is no database {} yet: `hireling serve` makes it",
                path.display()
            )));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| failed("cannot make the folder of", &error))?;
        }
        let lock = match access {
            Access::Service => Some(Arc::new(lock_file(path)?)),
            Access::Migration | Access::Visitor => None,
        };
        let options = sqlite_options(path, access);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .before_acquire(|connection, _| Box::pin(is_free(connection)))
            .connect_with(options.clone())
            .await
            .map_err(|error| failed("cannot open the database", &error))?;
        match access {
            Access::Visitor => check_version(sqlx::query_scalar(NEWEST_MIGRATION).fetch_one(&write).await)?,
            Access::Service | Access::Migration => migrator(&SQLITE).run(&write).await.map_err(migration_failed)?,
        }
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| failed("cannot read the database", &error))?;
        Ok(Self { _file_lock: lock, ..Self::on(Db::Lite { read, write }) })
    }

    async fn open_postgres(url: &Secret, direct_url: &Secret, access: Access) -> Result<Self> {
        // The text of a connection error can hold the address, never the password.
        let failed = |error: sqlx::Error| StoreError::Open(format!("cannot open the PostgreSQL database: {error}"));
        let direct = postgres_options(direct_url).map_err(failed)?;
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let migrating = pool.connect_with(direct).await.map_err(failed)?;
        let prepared = match access {
            Access::Visitor => check_version(sqlx::query_scalar(NEWEST_MIGRATION).fetch_one(&migrating).await),
            // The migrator's lock is of its connection: where a pooler stands between, it is taken only if it has to be.
            Access::Service | Access::Migration => {
                match check_version(sqlx::query_scalar(NEWEST_MIGRATION).fetch_one(&migrating).await) {
                    Ok(()) => Ok(()),
                    Err(_) => migrator(&POSTGRES).run(&migrating).await.map_err(migration_failed),
                }
            }
        };
        migrating.close().await;
        prepared?;
        let options = postgres_options(url).map_err(failed)?;
        let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(ACQUIRE_TIMEOUT);
        let db = Db::Pg(pool.connect_with(options).await.map_err(failed)?);
        Ok(Self { direct_url: Some(direct_url.clone()), ..Self::on(db) })
    }

    /// Without a lock or a second way.
    fn on(db: Db) -> Self {
        Self { db, direct_url: None, _file_lock: None, unreadable: Arc::default(), round: Arc::default() }
    }
}

fn sqlite_options(path: &Path, access: Access) -> SqliteConnectOptions {
    // Who comes beside the service gets between two of its writes by luck only.
    let patience = match access {
        Access::Service => Duration::from_secs(5),
        Access::Migration | Access::Visitor => Duration::from_secs(60),
    };
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A delivery that was answered is on the disk, not on its way there.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(patience)
        .pragma("journal_size_limit", "67108864")
}

/// SQLite ends a transaction by itself when the disk is full; sqlx 0.9 goes on believing in it and begins no other on
/// that connection. False: it is replaced.
async fn is_free(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // Its rollback may still be on the way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Poolers refuse settings of a connection that they don't know; no float is stored here.
pub(super) fn postgres_options(url: &Secret) -> sqlx::Result<PgConnectOptions> {
    Ok(PgConnectOptions::from_str(url.expose())?.extra_float_digits(None))
}

/// The migrator itself takes no lock on SQLite, and two services on one file would each believe
/// that all leases are theirs (fault F18).
fn lock_file(path: &Path) -> Result<std::fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|error| StoreError::Open(format!("cannot make {}: {error}", name.display())))?;
    file.try_lock().map_err(|_| {
        StoreError::Open(format!(
            "another hireling uses {}; one process serves a SQLite file, use PostgreSQL for several",
            path.display()
        ))
    })?;
    Ok(file)
}

const NEWEST_MIGRATION: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

/// Whether the tables are those that this program knows.
fn check_version(found: sqlx::Result<Option<i64>>) -> Result<()> {
    match found {
        Ok(Some(version)) if version == NEWEST => Ok(()),
        Ok(Some(version)) if version > NEWEST => Err(newer(version)),
        Err(error) if error.as_database_error().is_none() => Err(error.into()),
        Ok(_) | Err(_) => {
            Err(StoreError::Open("the tables are not up to date; `hireling migrate` sees to it".to_owned()))
        }
    }
}

fn newer(version: i64) -> StoreError {
    StoreError::Open(format!(
        "the database is of a newer version (migration {version}) than this program; it was not touched"
    ))
}

fn migration_failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => newer(version),
        other => StoreError::Open(format!("the database could not be brought up to date: {other}")),
    }
}
