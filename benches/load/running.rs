//! Many tasks at once, each with an agent in a sandbox of Vercel's double: what one process of the
//! service needs for their streams, and how many lines it keeps.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hireling::adapters::store::{Access, Location, NewGrant, Store, TaskPage};
use hireling::adapters::system::SystemClock;
use hireling::demo::standin::Standin;
use hireling::domain::agent::Provider;
use hireling::domain::ids::{Millis, RunId, TaskId};
use hireling::domain::run::{SandboxId, Step};
use hireling::ports::clock::Clock as _;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::double::{self, Double};
use super::receiver::stat;
use super::{percentile, seed};

const TASKS: usize = 1_000;
/// How long the streams are watched, once all of them flow.
const WATCHED: Duration = Duration::from_secs(20);

/// What the agents of a measurement print: pieces of so many lines, so many pieces a second.
#[derive(Clone, Copy)]
pub struct Load {
    pub tasks: usize,
    pub pieces: usize,
    pub lines: usize,
    pub per_second: usize,
}

/// Where the tasks belong.
pub const REPO: &str = "acme/shop";

pub struct Running {
    double: Double,
    pub service: Child,
    /// Where the service listens, and what its tasks show the model gateway.
    pub address: String,
    pub grants: Vec<String>,
    store: Store,
    idle_rss: u64,
    started: Instant,
    dir: tempfile::TempDir,
    _github: Standin,
}

pub async fn measure() {
    println!("\n## Running tasks in one process, streams of lines of 100 bytes, SQLite");
    println!("| tasks x lines/s | lines/s kept | CPU of a core | RSS MB | idle RSS MB | lag p50 ms | p99 ms |");
    println!("|---|---|---|---|---|---|---|");
    for per_second in [1, 10] {
        let load = Load { tasks: TASKS, pieces: 100_000, lines: 1, per_second };
        let running = start(load, "http://127.0.0.1:1").await;
        running.watch(load).await;
        running.end().await;
    }
    println!("\n## One stream of 1,000,000 lines, SQLite");
    println!("| lines/s kept | RSS MB at 100,000 lines | at 1,000,000 | idle RSS MB |\n|---|---|---|---|");
    let load = Load { tasks: 1, pieces: 10_000, lines: 100, per_second: 0 };
    let mut running = start(load, "http://127.0.0.1:1").await;
    let (mut early_rss, mut kept) = (0, 0);
    while kept < 1_000_000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(running.service.try_wait().unwrap().is_none(), "the service ended");
        kept = running.lines().await;
        if early_rss == 0 && kept >= 100_000 {
            early_rss = stat(&running.service).1;
        }
    }
    println!(
        "| {:.0} | {early_rss} | {} | {} |",
        kept as f64 / running.started.elapsed().as_secs_f64(),
        stat(&running.service).1,
        running.idle_rss
    );
    running.end().await;
}

/// Tasks whose agents say little, in a service that calls models at `vendor`.
pub async fn quiet(tasks: usize, vendor: &str) -> Running {
    start(Load { tasks, pieces: 100_000, lines: 1, per_second: 1 }, vendor).await
}

/// Tasks whose agents work already: the service takes them up at that step.
pub async fn start(load: Load, vendor: &str) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bench.db");
    let github = Standin::start(&dir.path().join("github"), Arc::new(SystemClock)).await.unwrap();
    github.add_repository(REPO, &[("a", "b")]).await.unwrap();
    let double = Double::start().await;
    let agents = agents_file(dir.path());
    Store::open(&Location::Sqlite(path.clone()), Access::Migration).await.unwrap().close().await;
    seed::tasks(&format!("sqlite://{}", path.display()), "queued", load.tasks as u64).await;
    if load.tasks == 1 {
        // One that is looked at, by whoever may read its repository.
        seed::own(&format!("sqlite://{}", path.display()), github.repository_id(REPO).await).await;
    }
    let store = Store::open(&Location::Sqlite(path.clone()), Access::Visitor).await.unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let spawn = || {
        serve(&github, dir.path(), "bench.db")
            .env("LISTEN_ADDR", &address)
            .env("ANTHROPIC_BASE_URL", vendor)
            .env("ANTHROPIC_API_KEY", "sk-ant-of-the-bench")
            .env("SANDBOX_VERCEL_TOKEN", double::TOKEN)
            .env("SANDBOX_VERCEL_TEAM_ID", double::TEAM)
            .env("SANDBOX_VERCEL_PROJECT_ID", double::PROJECT)
            .env("VERCEL_API_URL", &double.url)
            .env("AGENTS_FILE", &agents)
            .env("MAX_CONCURRENT_TASKS", "1000")
            .spawn()
            .unwrap()
    };
    // Idle: nothing can be claimed yet, for these tasks are all held here.
    let (mut leases, mut grants) = (Vec::new(), Vec::new());
    while let Some(claimed) = store.claim("bench", Duration::from_secs(600), Millis(1)).await.unwrap() {
        let mut run = store.begin_run(&claimed.lease, RunId(SystemClock.new_id()), 1, Millis(1)).await.unwrap();
        let (session, command) = begin(&double, &run.id.0, load).await;
        run.step = Step::Agent;
        run.facts.sandbox = Some(SandboxId { name: run.id.0.clone(), session });
        run.facts.command = Some(command);
        store.record(&claimed.lease, &run, &[], Millis(1)).await.unwrap();
        let grant = format!("hlg_{}", hex::encode(SystemClock.new_secret()));
        let hash = hireling::adapters::vault::hash(&grant);
        let new = NewGrant { hash: &hash, run: &run.id, provider: Provider::Anthropic, key: None, max: None };
        store.store_grant(&claimed.lease, &new, Millis(1)).await.unwrap();
        grants.push(grant);
        leases.push(claimed.lease);
    }
    for lease in &leases {
        store.hand_back(lease, Duration::ZERO).await.unwrap();
    }
    let idle_rss = idle_rss(&github, dir.path()).await;
    let service = spawn();
    Running { double, service, address, grants, store, idle_rss, started: Instant::now(), dir, _github: github }
}

/// The program as a process of its own, with what every measurement sets.
pub fn serve(github: &Standin, dir: &std::path::Path, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hireling"));
    command
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", format!("sqlite://{}", dir.join(database).display()))
        .env("GITHUB_APP_ID", github.app_id.to_string())
        .env("GITHUB_APP_PRIVATE_KEY", github.private_key.expose())
        .env("GITHUB_WEBHOOK_SECRET", github.webhook_secret.expose())
        .env("GITHUB_URL", &github.url)
        .env("GITHUB_API_URL", github.api_url())
        .env("METRICS_ADDR", "off")
        .env("RUST_LOG", "error")
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn agents_file(dir: &std::path::Path) -> std::path::PathBuf {
    let agents = dir.join("agents.toml");
    std::fs::write(&agents, "[agents.ours]\ncommand = [\"made-up\"]\n").unwrap();
    agents
}

/// Memory of a service with nothing to do.
async fn idle_rss(github: &Standin, dir: &std::path::Path) -> u64 {
    let mut command = serve(github, dir, "idle.db");
    let child = command.env("LISTEN_ADDR", "127.0.0.1:0").env("SANDBOX_PROVIDER", "local").spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stat(&child).1
}

/// A sandbox with an agent in it, as the service itself would have made them.
async fn begin(double: &Double, name: &str, load: Load) -> (String, String) {
    let client = reqwest::Client::new();
    let post = async |path: String, body: Value| -> Value {
        let url = format!("{}/{path}?teamId={}", double.url, double::TEAM);
        let answer = client.post(url).bearer_auth(double::TOKEN).json(&body).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    };
    let made = post(
        "v3/sandboxes".into(),
        json!({ "projectId": double::PROJECT, "name": name, "persistent": false, "timeout": 18_000_000,
                "tags": { "hireling": "1", "task": name } }),
    );
    let session = made.await["session"]["id"].as_str().unwrap().to_owned();
    let numbers = [load.pieces, load.lines, load.per_second].map(|number| number.to_string());
    let head = ["../.hireling/run", "agent", "18000000", "/dev/null", "-", "made-up"].map(ToOwned::to_owned);
    let args: Vec<String> = head.into_iter().chain(numbers).collect();
    let path = format!("v2/sandboxes/sessions/{session}/cmd");
    let started = post(path, json!({ "command": "/bin/sh", "args": args, "cwd": "/vercel/sandbox" })).await;
    (session, started["command"]["id"].as_str().unwrap().to_owned())
}

impl Running {
    pub async fn tasks(&self) -> Vec<TaskId> {
        let page = TaskPage { limit: TASKS as i64, ..TaskPage::default() };
        self.store.tasks(page).await.unwrap().into_iter().map(|(_, task)| task.id).collect()
    }

    /// Lines that are stored.
    pub async fn lines(&self) -> i64 {
        let path = self.dir.path().join("bench.db");
        let mut connection =
            <sqlx::SqliteConnection as sqlx::Connection>::connect(path.to_str().unwrap()).await.unwrap();
        sqlx::query_scalar("SELECT sum(next_log_seq - 1) FROM tasks").fetch_one(&mut connection).await.unwrap()
    }

    async fn watch(&self, load: Load) {
        let tasks = self.tasks().await;
        let all_flow = async {
            for task in &tasks {
                while self.store.log_after(task, 0, 1).await.unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(120), all_flow).await.expect("every stream is read");
        // What had been written before the service came is caught up.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (begin, before, (cpu_before, _)) = (Instant::now(), self.lines().await, stat(&self.service));
        let since = SystemClock.now();
        tokio::time::sleep(WATCHED).await;
        let (took, after, (cpu_after, rss)) = (begin.elapsed(), self.lines().await, stat(&self.service));
        let mut lags = Vec::new();
        for task in tasks.iter().take(50) {
            for entry in self.store.log_after(task, 0, 100_000).await.unwrap().iter().filter(|entry| entry.at > since) {
                let written = entry.text.split(' ').next().and_then(|text| text.parse().ok());
                lags.extend(written.map(|written| entry.at.since(Millis(written))));
            }
        }
        lags.sort_unstable();
        println!(
            "| {} x {} | {:.0} | {:.0} % | {rss} | {} | {:.0} | {:.0} |",
            load.tasks,
            load.per_second,
            (after - before) as f64 / took.as_secs_f64(),
            (cpu_after - cpu_before).as_secs_f64() / took.as_secs_f64() * 100.0,
            self.idle_rss,
            percentile(&lags, 0.5).as_secs_f64() * 1000.0,
            percentile(&lags, 0.99).as_secs_f64() * 1000.0,
        );
    }

    pub async fn end(mut self) {
        self.service.start_kill().unwrap();
        self.service.wait().await.unwrap();
        self.store.close().await;
        drop(self.double);
    }
}
