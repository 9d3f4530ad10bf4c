//! Many rows, made by the databases themselves.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// Columns of a task row, from a running number `n`.
const COLUMNS: &str = "id, delivery_guid, meaning, installation_id, repository_id, repository, issue_number, is_pull, \
    subject, triggered_at, requester_id, requester, agent, options, request, state, created_at, started_at";

fn values(state: &str) -> String {
    format!(
        "'{state}' || n, 'g', '{state}' || n, n % 50 + 1, n % 50 + 1, 'acme/shop', n, FALSE, '{{\"on\":\"issue\"}}', n, 7, 'maria', \
         'ours', '{{}}', 'fix it', '{state}', n, \
         CASE '{state}' WHEN 'queued' THEN NULL ELSE n END"
    )
}

/// Has all tasks belong to a repository that everybody may read.
pub async fn own(url: &str, repository: i64) {
    let sql = AssertSqlSafe(format!("UPDATE tasks SET installation_id = 5001, repository_id = {repository}"));
    if url.starts_with("sqlite://") {
        sqlx::SqliteConnection::connect(url).await.unwrap().execute(sql).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.execute("VACUUM ANALYZE tasks").await.unwrap();
    }
}

/// SQLite has no statistics here, as in the service; PostgreSQL makes them by itself.
pub async fn tasks(url: &str, state: &str, count: u64) {
    let insert = format!("INSERT INTO tasks ({COLUMNS}) SELECT {}", values(state));
    if let Some(path) = url.strip_prefix("sqlite://") {
        let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
        let rows = format!("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {count}) ");
        connection.execute(AssertSqlSafe(format!("{rows}{insert} FROM r"))).await.unwrap();
        return;
    }
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(format!("{insert} FROM generate_series(1, {count}) AS r(n)"))).await.unwrap();
    connection.execute("VACUUM ANALYZE tasks").await.unwrap();
    // Else what was seeded is written out while something else is measured. Not every user may.
    let _ = connection.execute("CHECKPOINT").await;
}
