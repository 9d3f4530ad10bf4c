//! What one process tells the others through PostgreSQL: words, not data. They are told through any
//! connection, and heard on one that is not pooled by transactions.

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::open::postgres_options;
use super::{Db, Result, Store};

const CHANNEL: &str = "hireling";
/// A pooler gives two clients the same connection in turn, nearly always; in one of these it does.
const PROBES: usize = 8;

/// A connection that hears what processes tell.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// The next word; `None`: the connection was lost, and with it words.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self.0.try_recv().await?.map(|notice| notice.payload().to_owned()))
    }
}

impl Store {
    /// Other processes may work on this database.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Pg(_))
    }

    /// Tells processes that listen. On SQLite there is no other.
    pub async fn tell(&self, words: &[String]) -> Result<()> {
        if let Db::Pg(pool) = &self.db {
            sqlx::query("SELECT pg_notify($1, word) FROM unnest($2) AS word")
                .bind(CHANNEL)
                .bind(words)
                .execute(pool)
                .await?;
        }
        Ok(())
    }

    /// Listens. `None`: the direct URL leads through a transaction pooler. There LISTEN would stay on a connection
    /// that others use, and what it brings them is an error to sqlx 0.9.
    pub async fn listen(&self) -> Result<Option<Listener>> {
        let Some(direct) = &self.direct_url else { return Ok(None) };
        let options = postgres_options(direct)?;
        if is_pooled(&options).await? {
            return Ok(None);
        }
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Listener(listener)))
    }
}

/// Whether one connection sees what another one set for itself.
async fn is_pooled(options: &PgConnectOptions) -> sqlx::Result<bool> {
    let (mut one, mut other) = (options.connect().await?, options.connect().await?);
    let mut found = false;
    for _ in 0..PROBES {
        sqlx::query("SELECT set_config('hireling.probe', 'set', false)").execute(&mut one).await?;
        let seen: Option<String> =
            sqlx::query_scalar("SELECT current_setting('hireling.probe', true)").fetch_one(&mut other).await?;
        found |= seen.as_deref() == Some("set");
    }
    one.close().await?;
    other.close().await?;
    Ok(found)
}
