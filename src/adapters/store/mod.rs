//! Everything that lasts. sqlx lives in this folder and nowhere else; methods speak domain types.
//!
//! One SQL text serves SQLite and PostgreSQL; `dialect.rs` and, for the end of a task, `endings.rs` hold the few statements
//! that differ.

mod admission;
mod backup;
mod budget;
mod connectors;
mod conversations;
mod deliveries;
mod dialect;
mod endings;
mod grants;
mod history;
mod installations;
mod keys;
mod ledger;
mod lists;
mod log_entries;
mod missed;
mod notices;
mod open;
mod outbox;
mod packing;
mod people;
mod policies;
mod push_permits;
mod retention;
mod rows;
mod runs;
mod sessions;
mod snapshots;
mod spending;
mod stops;
mod tasks;
mod turns;

use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::{PgPool, SqlitePool};

use crate::domain::ids::Millis;

pub use admission::{Admission, Admit, Limits};
pub use budget::{Purpose, Verdict};
pub use conversations::Conversation;
pub use deliveries::{Decision, KeptDelivery, LedgerRow, PendingDelivery, Stored};
pub use dialect::CLAIMS;
pub use grants::{Granted, NewGrant};
pub use lists::LISTS;
pub use log_entries::Append;
pub use notices::Listener;
pub use open::{Access, Location};
pub use outbox::DueEffect;
pub use people::Resealed;
pub use retention::Old;
pub use runs::Standing;
pub use snapshots::Snapshot;
pub use stops::{Asked, Stopped};
pub use tasks::{Claimed, LEFT_TO_NEWER, Lease, TaskPage};

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    /// PostgreSQL past a transaction pooler.
    direct_url: Option<crate::domain::secret::Secret>,
    /// Held as long as the store lives: a second service on the same SQLite file is refused.
    _file_lock: Option<Arc<std::fs::File>>,
    unreadable: Arc<tasks::Unreadable>,
    round: Arc<tokio::sync::Mutex<turns::Round>>,
}

/// How many connections are open, and how many of them wait for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub open: u32,
    pub idle: u32,
}

#[derive(Debug, Clone)]
enum Db {
    /// One connection writes, several read: SQLite has one writer anyway, and queueing for it in
    /// the process is fairer than its busy handler.
    Lite {
        read: SqlitePool,
        write: SqlitePool,
    },
    Pg(PgPool),
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be used now: {0}")]
    Unavailable(sqlx::Error),
    /// Trying again does not help.
    #[error("the database does not take what it was given: {0}")]
    Unstorable(sqlx::Error),
    /// Whether it took effect is unknown.
    #[error("the database did not answer in time")]
    Silent,
    /// A row that this program cannot have written.
    #[error("{table}.{column} of {id} holds something unreadable")]
    Corrupt { table: &'static str, column: &'static str, id: String },
    /// Another worker holds the task now; what this one has learned is thrown away.
    #[error("the lease on the task was lost")]
    LeaseLost,
    /// A bug: `domain::task` knows no such move.
    #[error(transparent)]
    Illegal(#[from] crate::domain::task::IllegalMove),
    #[error("{0}")]
    Open(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(cause) if is_refusal(cause) => Self::Unstorable(error),
            _ => Self::Unavailable(error),
        }
    }
}

/// Of a value. What must be unique is not among them: who loses a race finds what is there at the next try.
fn is_refusal(error: &dyn DatabaseError) -> bool {
    // PostgreSQL's class “data exception”: https://www.postgresql.org/docs/current/errcodes-appendix.html
    let is_data_exception = error.code().is_some_and(|code| code.len() == 5 && code.starts_with("22"));
    let kinds = [ErrorKind::ForeignKeyViolation, ErrorKind::NotNullViolation, ErrorKind::CheckViolation];
    is_data_exception || kinds.contains(&error.kind())
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// Runs an expression on a connection that may read.
macro_rules! read {
    ($store:expr, |$pool:ident| $body:expr) => {
        match &$store.db {
            $crate::adapters::store::Db::Lite { read: $pool, .. } => $body,
            $crate::adapters::store::Db::Pg($pool) => $body,
        }
    };
}

/// Runs one writing statement.
macro_rules! write {
    ($store:expr, |$pool:ident| $body:expr) => {
        match &$store.db {
            $crate::adapters::store::Db::Lite { write: $pool, .. } => $body,
            $crate::adapters::store::Db::Pg($pool) => $body,
        }
    };
}

/// Runs a block in one transaction, committed when the block ends; an error or an early return
/// rolls it back. On SQLite it takes the write lock at once, so that it cannot fail half-way.
macro_rules! in_tx {
    ($store:expr, |$conn:ident| $body:expr) => {
        match &$store.db {
            $crate::adapters::store::Db::Lite { write, .. } => {
                let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
                let result = {
                    let $conn = &mut *tx;
                    $body
                };
                tx.commit().await?;
                result
            }
            $crate::adapters::store::Db::Pg(pool) => {
                let mut tx = $crate::adapters::store::begin(pool).await?;
                let result = {
                    let $conn = &mut *tx;
                    $body
                };
                tx.commit().await?;
                result
            }
        }
    };
}

pub(crate) use {in_tx, read, write};

/// A process that freezes inside a transaction must not hold up the others (fault F46), nor one that waits for it.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '20s'; SET LOCAL lock_timeout = '10s'";

/// Begins a transaction in a task of its own. sqlx 0.9 does not notice when the future of a BEGIN is
/// dropped after it was sent: the connection would go back to the pool inside the transaction, and
/// whoever takes it next would write what is never committed.
async fn begin(pool: &PgPool) -> sqlx::Result<sqlx::Transaction<'static, sqlx::Postgres>> {
    let pool = pool.clone();
    match tokio::spawn(async move { pool.begin_with(BEGIN).await }).await {
        Ok(begun) => begun,
        Err(_) => Err(sqlx::Error::WorkerCrashed),
    }
}

impl Store {
    /// `sqlite` or `postgres`, for people.
    pub fn engine(&self) -> &'static str {
        match &self.db {
            Db::Lite { .. } => "sqlite",
            Db::Pg(_) => "postgres",
        }
    }

    /// Connections of this process to the database.
    pub fn connections(&self) -> Connections {
        let of = |open: u32, idle: usize| Connections { open, idle: u32::try_from(idle).unwrap_or(u32::MAX) };
        match &self.db {
            Db::Lite { read, write } => of(read.size() + write.size(), read.num_idle() + write.num_idle()),
            Db::Pg(pool) => of(pool.size(), pool.num_idle()),
        }
    }

    /// The time by the clock that all processes share; `None`: there is no other process.
    pub async fn shared_time(&self) -> Result<Option<Millis>> {
        let Db::Pg(pool) = &self.db else { return Ok(None) };
        let at: i64 =
            sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetch_one(pool).await?;
        Ok(Some(Millis(at)))
    }

    /// One cheap question, to see whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        read!(self, |pool| sqlx::query("SELECT 1").execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    /// One small row, to see whether anything can be stored.
    pub async fn try_to_write(&self, now: Millis) -> Result<()> {
        write!(self, |pool| {
            sqlx::query(
                "INSERT INTO done_through (name, at) VALUES ('written', $1) \
                 ON CONFLICT (name) DO UPDATE SET at = excluded.at",
            )
            .bind(now.0)
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        Ok(())
    }

    /// Waits for what is under way and closes.
    pub async fn close(&self) {
        match &self.db {
            Db::Lite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Db::Pg(pool) => pool.close().await,
        }
    }
}
