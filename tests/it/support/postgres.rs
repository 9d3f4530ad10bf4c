//! A PostgreSQL database per test, on the server that `TEST_DATABASE_URL` names. Without one the
//! tests that need it say so and pass over it.

use std::sync::Once;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

static SAID: Once = Once::new();

/// Makes an empty database and gives its URL.
pub async fn fresh_database() -> Option<String> {
    let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
        SAID.call_once(|| {
            crate::support::skipped("tests on PostgreSQL, because TEST_DATABASE_URL is not set (./tests/run sets it)")
        });
        return None;
    };
    let name = format!("hireling_{:032x}", rand::random::<u128>());
    let mut connection = connect(&server).await;
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    connection.close().await.unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some(url.to_string())
}

/// The same database through the transaction pooler, where stories are told through it.
pub fn pooled(url: &str) -> Option<String> {
    if is_through_pooler() { through_pooler(url) } else { None }
}

/// Stories are told through the transaction pooler.
pub fn is_through_pooler() -> bool {
    std::env::var_os("TEST_THROUGH_POOLER").is_some()
}

/// The same database through the transaction pooler that `TEST_POOLER_URL` names, if it names one.
pub fn through_pooler(url: &str) -> Option<String> {
    let pooler = std::env::var("TEST_POOLER_URL").ok()?;
    let (mut pooled, direct) = (url::Url::parse(&pooler).unwrap(), url::Url::parse(url).ok()?);
    direct.scheme().starts_with("postgres").then(|| {
        pooled.set_path(direct.path());
        pooled.to_string()
    })
}

pub async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.connect().await.unwrap()
}
