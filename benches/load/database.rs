//! Claims, log lines and list reads, straight on the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hireling::adapters::store::{Access, Location, Store, TaskPage};
use hireling::adapters::system::SystemClock;
use hireling::domain::ids::{IssueNumber, Millis, RepositoryId, RunId};
use hireling::domain::log_entry::{Kind, Line};
use hireling::domain::run::{Ending, Step};
use hireling::domain::secret::Secret;
use hireling::domain::task::Outcome;
use hireling::ports::clock::Clock as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::{CELL, ms, percentile, seed};

const LEASE: Duration = Duration::from_secs(60);

/// Until the connections are open and know their statements.
const WARM_UP: Duration = Duration::from_secs(1);

/// A database to measure on.
pub struct Database {
    url: String,
    dir: Option<tempfile::TempDir>,
}

impl Database {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { url: format!("sqlite://{}", dir.path().join("bench.db").display()), dir: Some(dir) }
    }

    /// On the server that `TEST_DATABASE_URL` names.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
            println!("SKIPPED: PostgreSQL, because TEST_DATABASE_URL is not set");
            return None;
        };
        let name = format!("bench_{:032x}", rand::random::<u128>());
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        Some(Self { url: url.to_string(), dir: None })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &'static str {
        if self.dir.is_some() { "SQLite" } else { "PostgreSQL" }
    }

    async fn store(&self) -> Store {
        let location = match self.url.strip_prefix("sqlite://") {
            Some(path) => Location::Sqlite(path.into()),
            None => Location::Postgres { url: Secret::new(&*self.url), direct_url: Secret::new(&*self.url) },
        };
        Store::open(&location, Access::Migration).await.unwrap()
    }

    pub async fn empty(&self) {
        let sql = "DELETE FROM tasks";
        if self.dir.is_some() {
            sqlx::SqliteConnection::connect(&self.url).await.unwrap().execute(sql).await.unwrap();
        } else {
            sqlx::PgConnection::connect(&self.url).await.unwrap().execute("TRUNCATE tasks CASCADE").await.unwrap();
        }
    }
}

pub async fn claims_and_logs(database: &Database) {
    database.store().await.close().await;
    println!("\n## Claims (claim and settle), {}", database.name());
    println!(
        "| backlog | workers | processes | claims per second | p99 ms | the same two writes bare | ratio |\n\
         |---|---|---|---|---|---|---|"
    );
    for backlog in [10_000, 1_000_000] {
        for (workers, processes) in [(1, 1), (4, 1), (16, 1), (16, 16)] {
            if processes > 1 && database.dir.is_some() {
                continue;
            }
            queue(database, backlog).await;
            let Claims { count, p99, connections } = claim_for_a_while(database, workers, processes).await;
            let bare = match database.dir {
                None => {
                    queue(database, backlog).await;
                    Some(claim_barely(&database.url, workers, connections).await)
                }
                Some(_) => None,
            };
            let [bare, ratio] =
                bare.map_or(["".into(), "".into()], |bare| [format!("{bare:.0}"), format!("{:.2}", count / bare)]);
            println!("| {backlog} | {workers} | {processes} | {count:.0} | {} | {bare} | {ratio} |", ms(p99));
        }
    }
    let store = database.store().await;
    println!("\n## Log lines of 100 bytes, {}", database.name());
    println!("| lines per batch | lines per second |\n|---|---|");
    let claimed = store.claim("bench", LEASE, Millis(1)).await.unwrap().unwrap();
    let id = RunId("bench-run".into());
    let mut run = store.begin_run(&claimed.lease, id, 1, Millis(1)).await.unwrap();
    run.step = Step::Agent;
    for batch in [1, 32, 256] {
        let lines: Vec<Line> =
            (0..batch).map(|n| Line::new(Kind::Info, format!("{n:08} compiling module {:>76}", n * 7919))).collect();
        let (begin, mut stored) = (Instant::now(), 0usize);
        while begin.elapsed() < CELL {
            stored += store.record(&claimed.lease, &run, &lines, Millis(2)).await.unwrap().len();
        }
        println!("| {batch} | {:.0} |", stored as f64 / begin.elapsed().as_secs_f64());
    }
    store.close().await;
}

async fn queue(database: &Database, backlog: u64) {
    database.empty().await;
    seed::tasks(&database.url, "queued", backlog).await;
}

struct Claims {
    /// A second.
    count: f64,
    p99: Duration,
    /// Of all workers.
    connections: u32,
}

async fn claim_for_a_while(database: &Database, workers: usize, processes: usize) -> Claims {
    let mut stores = Vec::new();
    for _ in 0..processes {
        stores.push(database.store().await);
    }
    let begin = Instant::now() + WARM_UP;
    let ending = Arc::new(Ending { outcome: Outcome::NoChanges, reason: String::new(), detail: String::new() });
    let loops = (0..workers).map(|worker| {
        let (store, ending) = (stores[worker % processes].clone(), Arc::clone(&ending));
        tokio::spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < CELL {
                let asked = Instant::now();
                let now = SystemClock.now();
                let Some(claimed) = store.claim_queued(&format!("w{worker}"), LEASE, now).await.unwrap() else { break };
                if asked >= begin {
                    times.push(asked.elapsed());
                }
                store.settle(&claimed.lease, &ending, &[], now).await.unwrap();
            }
            times
        })
    });
    let mut times: Vec<Duration> =
        futures::future::join_all(loops).await.into_iter().flat_map(|times| times.unwrap()).collect();
    let (passed, mut connections) = (begin.elapsed(), 0);
    for store in stores {
        connections += store.connections().open;
        store.close().await;
    }
    times.sort_unstable();
    Claims { count: times.len() as f64 / passed.as_secs_f64(), p99: percentile(&times, 0.99), connections }
}

/// A claim and an end as a queue without turns, leases and order has them: the first that is free, then its end by number.
/// Over as many connections: each is a process of PostgreSQL, and they cost what they cost.
async fn claim_barely(url: &str, workers: usize, connections: u32) -> f64 {
    let pool =
        PgPoolOptions::new().max_connections(connections).min_connections(connections).connect(url).await.unwrap();
    let (begin, done) = (Instant::now() + WARM_UP, Arc::new(AtomicU64::new(0)));
    let loops = (0..workers).map(|_| {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            while begin.elapsed() < CELL {
                let claimed: Option<i64> = sqlx::query_scalar(
                    "UPDATE tasks SET state = 'running', lease_owner = 'w', lease_until = 1 WHERE seq = (SELECT seq FROM tasks \
                     WHERE state = 'queued' ORDER BY installation_id, seq LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING seq",
                )
                .fetch_optional(&pool)
                .await
                .unwrap();
                if claimed.is_none() {
                    break;
                }
                let ended = sqlx::query("UPDATE tasks SET state = 'no_changes', lease_owner = NULL WHERE seq = $1");
                ended.bind(claimed).execute(&pool).await.unwrap();
                if Instant::now() >= begin {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    futures::future::join_all(loops).await;
    let rate = done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    pool.close().await;
    rate
}

pub async fn reads(database: &Database) {
    database.store().await.close().await;
    println!("\n## List reads, 50 tasks of one of 50 repositories, {}", database.name());
    println!("| tasks | list | p50 ms | p99 ms |\n|---|---|---|---|");
    for count in [1_000u64, 1_000_000] {
        database.empty().await;
        seed::tasks(&database.url, "succeeded", count).await;
        let store = database.store().await;
        let newest = TaskPage { repository: None, before: None, limit: 50 };
        let last = store.tasks(newest).await.unwrap()[0].0;
        let middle = last - i64::try_from(count / 2).unwrap();
        let of_repository = TaskPage { repository: Some(RepositoryId(7)), ..newest };
        for (name, page) in [
            ("newest", newest),
            ("deep page", TaskPage { before: Some(middle), ..newest }),
            ("newest of a repository", of_repository),
            ("deep page of a repository", TaskPage { before: Some(middle), ..of_repository }),
        ] {
            let times = time(300, async || drop(store.tasks(page).await.unwrap())).await;
            println!("| {count} | {name} | {} | {} |", ms(percentile(&times, 0.5)), ms(percentile(&times, 0.99)));
        }
        let thread = async || drop(store.tasks_of_thread(RepositoryId(7), IssueNumber(6), 10).await.unwrap());
        let times = time(300, thread).await;
        println!("| {count} | of a thread | {} | {} |", ms(percentile(&times, 0.5)), ms(percentile(&times, 0.99)));
        store.close().await;
    }
}

async fn time(rounds: usize, mut ask: impl AsyncFnMut()) -> Vec<Duration> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        ask().await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times
}
