//! The world of a story: the built program as a process of its own, its database, and a stand-in for
//! GitHub that remembers what was done to it. Waits are for a state, with a bound; when one runs out,
//! the story says what everybody saw.

mod builder;
mod finish;
mod looks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hireling::config::{Config, Source};
use hireling::demo::standin::{Fault, Kind, Standin, When};
use hireling::domain::ids::TaskId;
use tempfile::TempDir;
use tokio::process::Command;

pub use builder::{Builder, EDIT, Engine};

use super::front::Front;
use super::postgres;
use super::process::Process;
use crate::double::Double;

pub const REPO: &str = "acme/shop";
pub const PERSON: &str = "maria";
/// Owns the App.
pub const OPERATOR: &str = "olga";
/// opencode tries a failing vendor for 75 seconds.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(20);

pub struct World {
    pub github: Arc<Standin>,
    pub url: String,
    pub issue: i64,
    pub canary: String,
    dir: TempDir,
    pub database: String,
    settings: Vec<(String, String)>,
    service: Option<Process>,
    /// Further processes, on the same database.
    pub replicas: Vec<Process>,
    /// One address for all of them.
    front: Option<Front>,
    /// The way to PostgreSQL, if it can be cut.
    pub database_way: Option<Front>,
    args: Vec<&'static str>,
    starts: usize,
    double: Option<Double>,
}

impl World {
    pub async fn start(engine: Engine) -> Option<Self> {
        Builder::new(engine).start().await
    }

    /// The stand-in for Vercel.
    pub fn vercel(&self) -> &Double {
        self.double.as_ref().expect("a world on Vercel")
    }

    /// Waits for the link that the program prints where there is no App. Gives its path.
    pub async fn setup_link(&mut self) -> String {
        let link = self
            .until("the link is printed", async |world| {
                let log = world.log();
                let link = log.split_whitespace().find(|word| word.contains("/setup?code="))?.to_owned();
                Some(link)
            })
            .await;
        let (base, path) = link.split_at(link.find("/setup").unwrap());
        base.clone_into(&mut self.url);
        path.to_owned()
    }

    /// Starts the program and waits until it listens.
    pub async fn restart(&mut self) {
        let process = self.spawn(&self.args.clone());
        self.service = Some(process);
        let address = self.until("the service listens", async |world| world.service.as_ref()?.address()).await;
        self.url = format!("http://{address}");
        if let Some(front) = &self.front {
            front.add(address);
            self.url.clone_from(&front.url);
        }
        self.github.set_webhook(&self.url).await;
    }

    /// Starts another process of the service, waits until it listens, and puts it behind the balancer, unless it only
    /// works.
    pub async fn add_replica(&mut self, args: &[&str]) {
        let process = self.spawn(args);
        self.replicas.push(process);
        let address = self.until("the replica listens", async |world| world.replicas.last()?.address()).await;
        if let Some(front) = self.front.as_ref().filter(|_| !args.contains(&"worker")) {
            front.add(address);
        }
    }

    /// Stops every process.
    pub async fn stop_replicas(&mut self) {
        while !self.replicas.is_empty() {
            self.stop_oldest_replica().await;
        }
    }

    /// The first process goes first.
    pub async fn stop_oldest(&mut self) {
        if self.service.is_some() {
            return self.stop().await;
        }
        self.stop_oldest_replica().await;
    }

    async fn stop_oldest_replica(&mut self) {
        let process = self.replicas.remove(0);
        let address = process.address();
        process.stop().await;
        self.out_of_the_front(address);
    }

    fn out_of_the_front(&self, address: Option<std::net::SocketAddr>) {
        if let (Some(front), Some(address)) = (&self.front, address) {
            front.remove(address);
        }
    }

    /// The program with the world's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hireling"));
        // The data directory of a service on PostgreSQL is below its working directory.
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path());
        command
    }

    /// Starts a process without waiting for anything.
    pub fn spawn(&mut self, args: &[&str]) -> Process {
        self.starts += 1;
        let mut command = self.command(&["serve"]);
        command.args(args);
        Process::start(command, self.log_file())
    }

    /// The process is gone at once, as after `kill -9` or a power cut.
    pub async fn crash(&mut self) {
        let process = self.service.take().expect("a running service");
        let address = process.address();
        process.crash().await;
        self.out_of_the_front(address);
        self.expire_claims().await;
    }

    /// On PostgreSQL a crashed worker's lease runs out by the database's clock; a story does not
    /// wait for that. On SQLite the next process knows that it is alone.
    pub async fn expire_claims(&self) {
        if self.database.starts_with("postgres") {
            let mut connection = postgres::connect(&self.database).await;
            for sql in [
                "UPDATE tasks SET lease_until = 0 WHERE state = 'running'",
                "UPDATE outbox SET due_at = 0 WHERE due_at IS NOT NULL",
                "UPDATE deliveries SET decide_at = 0 WHERE decide_at IS NOT NULL",
            ] {
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Of tasks whose workers are gone, while others live: a lease that a living one keeps does not run out.
    pub async fn expire_leases(&self, tasks: &[TaskId]) {
        let mut connection = postgres::connect(&self.database).await;
        for task in tasks {
            let sql = "UPDATE tasks SET lease_until = 0 WHERE id = $1 AND state = 'running'";
            sqlx::query(sql).bind(&task.0).execute(&mut connection).await.unwrap();
        }
    }

    /// Milliseconds until the only lease is over, by PostgreSQL's clock.
    pub async fn lease_left(&self) -> i64 {
        let mut connection = postgres::connect(&self.database).await;
        let sql = "SELECT lease_until - (extract(epoch from clock_timestamp()) * 1000)::bigint FROM tasks WHERE state = 'running'";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// A command during which the service dies at the n-th call of GitHub, and comes back. Gives its comment; `None`: it
    /// was done before that many calls.
    pub async fn dies_at(&mut self, call: usize, when: When, command: &str) -> Option<i64> {
        self.github.set_faults(vec![Fault { call, times: 1, when, kind: Kind::Hold }]);
        let comment = self.comment(PERSON, command).await;
        tokio::select! {
            _ = self.github.held() => {}
            () = self.settled() => return None,
        }
        self.crash().await;
        self.github.set_faults(Vec::new());
        self.restart().await;
        Some(comment)
    }

    /// SIGTERM, as a deploy sends it. The process has to be gone within ten seconds.
    pub async fn stop(&mut self) {
        let process = self.service.take().expect("a running service");
        let address = process.address();
        process.stop().await;
        self.out_of_the_front(address);
    }

    /// A person comments on the issue, and GitHub tells the service. Gives the comment's id.
    pub async fn comment(&self, login: &str, text: &str) -> i64 {
        self.github.say(&self.url, REPO, self.issue, login, text).await
    }

    /// Waits for a value, with a bound.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        self.until_within(PATIENCE, what, look).await
    }

    /// Waits for a value that may take its time.
    pub async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> T {
        let looking = async {
            loop {
                if let Some(found) = look(self).await {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        // A look that hangs is bounded, too.
        match tokio::time::timeout(patience, looking).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain until {what}\n{}", self.account().await),
        }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join(format!("service-{}.log", self.starts))
    }

    /// What the process that was started last has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What all processes have logged.
    pub fn logs(&self) -> String {
        let file = |number| self.dir.path().join(format!("service-{number}.log"));
        (1..=self.starts).map(|number| std::fs::read_to_string(file(number)).unwrap_or_default()).collect()
    }

    /// A fresh issue, so that one world can tell many short stories, in an installation of its own,
    /// so that they do not share a budget of writes.
    pub async fn next_issue(&mut self) -> i64 {
        self.github.install_anew().await;
        self.issue = self.github.open_issue(REPO, PERSON, "Checkout button is misaligned", "Off by a pixel.").await;
        self.issue
    }

    /// Runs the program beside the service. Gives whether it succeeded, and what it said.
    pub async fn run(&self, args: &[&str]) -> (bool, String) {
        let output = self.command(args).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The parts of the service, beside it: for what has no page yet. `settings` go over the world's.
    pub async fn app(&self, settings: &[(&str, &str)]) -> Arc<hireling::app::App> {
        let pairs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let source = Source::from_pairs(pairs.chain(settings.iter().copied()));
        let config = Config::from_source(&source).unwrap();
        hireling::service::visitor(config, env!("CARGO_BIN_EXE_hireling").into()).await.unwrap()
    }

    /// Changes the database behind the service's back.
    pub async fn tamper(&self, sql: &'static str) {
        use sqlx::Connection as _;
        match self.database.strip_prefix("sqlite://") {
            Some(path) => {
                let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            None => _ = sqlx::query(sql).execute(&mut postgres::connect(&self.database).await).await.unwrap(),
        }
    }

    /// The world's database, through a transaction pooler.
    pub fn through_pooler(&self) -> Option<String> {
        postgres::through_pooler(&self.database)
    }

    /// Another value for a setting, for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// More agents, for the next start.
    pub fn add_agents(&self, toml: &str) {
        let path = self.dir.path().join("agents.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n{toml}")).unwrap();
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}
