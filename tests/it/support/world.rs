//! The world of a story: the built program as a process of its own, its database, and a stand-in for
//! GitHub that remembers what was done to it. Waits are for a state, with a bound; when one runs out,
//! the story says what everybody saw.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hireling::adapters::store::{Access, Location, Store, TaskPage};
use hireling::adapters::system::SystemClock;
use hireling::config::{Config, Source};
use hireling::demo::standin::{CommentView, Fault, Kind, PullView, Standin, When};
use hireling::domain::ids::TaskId;
use hireling::domain::secret::Secret;
use hireling::domain::task::Task;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::postgres;
use crate::double::{self, Double};

pub const REPO: &str = "acme/shop";
pub const PERSON: &str = "maria";
/// Owns the App.
pub const OPERATOR: &str = "olga";
/// opencode tries a failing vendor for 75 seconds.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// How a world is set up before the service starts.
pub struct Builder {
    /// A secret of the operator. It must be found nowhere outside the settings.
    pub canary: String,
    engine: Engine,
    double: Option<Double>,
    behind_firewall: bool,
    agents: String,
    settings: Vec<(String, String)>,
    files: Vec<(String, String)>,
    has_app: bool,
}

pub struct World {
    pub github: Standin,
    pub url: String,
    pub issue: i64,
    pub canary: String,
    dir: TempDir,
    database: String,
    settings: Vec<(String, String)>,
    service: Option<Child>,
    starts: usize,
    double: Option<Double>,
}

/// An agent that changes one file, as scripts in stories do unless they say otherwise.
pub const EDIT: &str = "echo 'I will fix it'; echo fixed > fixed.txt; echo 'Fixed the button.'";

impl Builder {
    pub fn new(engine: Engine) -> Self {
        let builder = Self {
            canary: format!("sk-ant-canary/{:032x}+ZZ", rand::random::<u128>()),
            engine,
            double: None,
            behind_firewall: false,
            agents: String::new(),
            settings: Vec::new(),
            has_app: true,
            files: vec![("README.md".into(), "# Shop\n".into()), ("old.txt".into(), "old\n".into())],
        };
        builder.agent("ours", EDIT)
    }

    /// A custom agent whose work is a shell script. A second one of a name replaces the first.
    pub fn agent(mut self, name: &str, script: &str) -> Self {
        let head = format!("[agents.{name}]\n");
        if let Some(start) = self.agents.find(&head) {
            let end = self.agents[start + 1..].find("\n[agents.").map_or(self.agents.len(), |at| start + at + 2);
            self.agents.replace_range(start..end, "");
        }
        let script = toml::Value::String(script.to_owned());
        writeln!(self.agents, "{head}command = [\"sh\", \"-c\", {script}]").unwrap();
        self
    }

    /// A custom agent that calls models of these vendors through the gateway.
    pub fn gateway_agent(mut self, name: &str, vendors: &str, script: &str) -> Self {
        self = self.agent(name, script);
        writeln!(self.agents, "gateway = [{vendors}]").unwrap();
        self
    }

    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.into(), text.into()));
        self
    }

    /// The service prints a link to make the App.
    pub fn without_an_app(mut self) -> Self {
        self.has_app = false;
        self
    }

    /// Agents run in sandboxes of a stand-in for Vercel.
    pub async fn on_vercel(mut self) -> Self {
        self.double = Some(Double::start().await);
        self
    }

    /// GitHub has TLS, ended by the firewall of the sandboxes.
    pub fn behind_firewall(mut self) -> Self {
        self.behind_firewall = true;
        self
    }

    /// Starts everything. `None`: this engine is not there, and that was said.
    pub async fn start(self) -> Option<World> {
        let dir = tempfile::tempdir().unwrap();
        let database = match self.engine {
            Engine::Sqlite => format!("sqlite://{}", dir.path().join("data/hireling.db").display()),
            Engine::Postgres => postgres::fresh_database().await?,
        };
        let github = Standin::start(&dir.path().join("github"), Arc::new(SystemClock)).await.unwrap();
        let files: Vec<(&str, &str)> = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        github.add_repository(REPO, &files).await.unwrap();
        github.set_permission(REPO, PERSON, "write").await;
        github.set_owner(OPERATOR).await;
        let issue = github.open_issue(REPO, PERSON, "Checkout button is misaligned", "It is off by a pixel.").await;
        let agents_file = dir.path().join("agents.toml");
        std::fs::write(&agents_file, &self.agents).unwrap();
        let mut settings: Vec<(String, String)> = [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("DATABASE_URL", &database),
            ("GITHUB_APP_ID", &github.app_id.to_string()),
            ("GITHUB_APP_PRIVATE_KEY", github.private_key.expose()),
            ("GITHUB_WEBHOOK_SECRET", github.webhook_secret.expose()),
            ("GITHUB_CLIENT_ID", github.client_id),
            ("GITHUB_CLIENT_SECRET", github.client_secret.expose()),
            ("GITHUB_URL", &github.url),
            ("GITHUB_API_URL", &github.api_url()),
            ("SANDBOX_PROVIDER", "local"),
            ("ENCRYPTION_KEY", &"5e".repeat(32)),
            ("ANTHROPIC_API_KEY", &self.canary),
            ("AGENTS_FILE", &agents_file.display().to_string()),
            ("METRICS_ADDR", "off"),
            ("LOG_FORMAT", "json"),
            ("RUST_LOG", "info"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        if let Some(double) = &self.double {
            for (name, value) in [
                ("SANDBOX_PROVIDER", "vercel"),
                ("SANDBOX_VERCEL_TOKEN", double::TOKEN),
                ("SANDBOX_VERCEL_TEAM_ID", double::TEAM),
                ("SANDBOX_VERCEL_PROJECT_ID", double::PROJECT),
                ("VERCEL_API_URL", &double.url),
            ] {
                settings.push((name.to_owned(), value.to_owned()));
            }
            if self.behind_firewall {
                settings.push(("GITHUB_URL".to_owned(), double.stand_before(&github.url).await));
            }
        }
        settings.extend(self.settings);
        let mut world = World {
            github,
            url: String::new(),
            issue,
            canary: self.canary,
            dir,
            database,
            settings,
            service: None,
            starts: 0,
            double: self.double,
        };
        if self.has_app {
            world.restart().await;
        } else {
            world.spawn();
        }
        Some(world)
    }
}

impl World {
    pub async fn start(engine: Engine) -> Option<Self> {
        Builder::new(engine).start().await
    }

    /// Waits until every sandbox that was made is deleted.
    pub async fn sandboxes_deleted(&self) {
        self.until("every sandbox is deleted", async |world| {
            world.vercel().lives().await.iter().all(|life| life.is_deleted).then_some(())
        })
        .await;
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
        self.spawn();
        let address = self
            .until("the service listens", async |world| {
                let line = world.log().lines().find(|line| line.contains("\"listening\""))?.to_owned();
                let json: serde_json::Value = serde_json::from_str(&line).ok()?;
                json.pointer("/fields/address")?.as_str().map(ToOwned::to_owned)
            })
            .await;
        self.url = format!("http://{address}");
    }

    fn spawn(&mut self) {
        self.starts += 1;
        let log = std::fs::File::create(self.log_file()).unwrap();
        // The data directory of a service on PostgreSQL is below its working directory.
        let child = Command::new(env!("CARGO_BIN_EXE_hireling"))
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.service = Some(child);
    }

    /// The process is gone at once, as after `kill -9` or a power cut.
    pub async fn crash(&mut self) {
        let mut child = self.service.take().expect("a running service");
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        self.expire_claims().await;
    }

    /// On PostgreSQL a crashed worker's lease runs out by the database's clock; a story does not
    /// wait for that. On SQLite the next process knows that it is alone.
    async fn expire_claims(&self) {
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
        let mut child = self.service.take().expect("a running service");
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        let status = ended.expect("the service ends within ten seconds").unwrap();
        assert!(status.success(), "the service ended with {status}:\n{}", self.log());
    }

    /// A person comments on the issue, and GitHub tells the service. Gives the comment's id.
    pub async fn comment(&self, login: &str, text: &str) -> i64 {
        self.github.say(&self.url, REPO, self.issue, login, text).await.unwrap()
    }

    /// Waits for a value, with a bound.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            if tokio::time::Instant::now() > deadline {
                panic!("waited in vain until {what}\n{}", self.account().await);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What everybody saw, for a story that failed.
    pub async fn account(&self) -> String {
        let mut text = String::new();
        for call in self.github.calls().await {
            writeln!(text, "{} {} {}", call.status, call.method, call.path).unwrap();
        }
        for call in self.double.iter().flat_map(Double::calls) {
            writeln!(text, "{} {}", call.route, call.body.chars().take(200).collect::<String>()).unwrap();
        }
        for comment in self.github.thread(REPO, self.issue).await {
            writeln!(text, "{}: {}", comment.author, comment.body).unwrap();
        }
        let log = self.log();
        let start = log.len().saturating_sub(6000);
        writeln!(text, "{}", &log[log.ceil_char_boundary(start)..]).unwrap();
        text
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join(format!("service-{}.log", self.starts))
    }

    /// What the running service has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The bot's reactions on a comment.
    pub async fn reactions(&self, comment: i64) -> Vec<String> {
        let found = self.github.reactions(&format!("comment:{comment}")).await;
        found.into_iter().map(|reaction| reaction.content).collect()
    }

    /// Waits until the command of this comment is over: 👀 is gone, the final reaction is there.
    pub async fn ended(&self, comment: i64) -> String {
        self.until("the command is over", async |world| {
            let reactions = world.reactions(comment).await;
            match reactions.as_slice() {
                [only] if only != "eyes" => Some(only.clone()),
                _ => None,
            }
        })
        .await
    }

    /// Waits until nothing is left to decide, to run or to tell.
    pub async fn settled(&self) {
        let store = self.store().await;
        let mut quiet = 0;
        self.until("everything is settled", async |_| {
            let busy = store.has_open_tasks().await.unwrap() || store.has_open_promises().await.unwrap();
            quiet = if busy { 0 } else { quiet + 1 };
            (quiet >= 3).then_some(())
        })
        .await;
        store.close().await;
    }

    /// A fresh issue, so that one world can tell many short stories, in an installation of its own,
    /// so that they do not share a budget of writes.
    pub async fn next_issue(&mut self) -> i64 {
        self.github.install_anew().await;
        self.issue = self.github.open_issue(REPO, PERSON, "Checkout button is misaligned", "Off by a pixel.").await;
        self.issue
    }

    /// Pull requests that close the current issue.
    pub async fn pulls(&self) -> Vec<PullView> {
        let closes = format!("Closes #{}\n", self.issue);
        self.github.pulls(REPO).await.into_iter().filter(|pull| pull.body.contains(&closes)).collect()
    }

    /// Branches the bot made for the current issue.
    pub async fn branches(&self) -> Vec<String> {
        let head = format!("agent/{}-", self.issue);
        let all = self.github.branches(REPO).await.unwrap();
        all.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&head)).collect()
    }

    /// The newest task.
    pub async fn last_task(&self) -> Task {
        self.tasks().await.into_iter().next().expect("a task")
    }

    /// Comments of the bot.
    pub async fn answers(&self) -> Vec<CommentView> {
        let thread = self.github.thread(REPO, self.issue).await;
        thread.into_iter().filter(|comment| comment.author.ends_with("[bot]")).collect()
    }

    /// The only comment of the bot.
    pub async fn only_answer(&self) -> String {
        let answers = self.answers().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].body.clone()
    }

    /// Waits for the n-th comment of the bot.
    pub async fn answer(&self, number: usize) -> String {
        self.until("there is an answer", async |world| Some(world.answers().await.get(number)?.body.clone())).await
    }

    pub async fn only_pull(&self) -> PullView {
        let mut pulls = self.github.pulls(REPO).await;
        assert_eq!(pulls.len(), 1, "{pulls:?}\n{}", self.account().await);
        pulls.remove(0)
    }

    pub async fn store(&self) -> Store {
        let location = match self.database.strip_prefix("sqlite://") {
            Some(path) => Location::Sqlite(path.into()),
            None => Location::Postgres { url: Secret::new(&*self.database), direct_url: Secret::new(&*self.database) },
        };
        Store::open(&location, Access::Visitor).await.unwrap()
    }

    pub async fn tasks(&self) -> Vec<Task> {
        let store = self.store().await;
        let page = TaskPage { limit: 100, ..TaskPage::default() };
        let tasks = store.tasks(page).await.unwrap().into_iter().map(|(_, task)| task).collect();
        store.close().await;
        tasks
    }

    /// The log of a task, as its page gives it out.
    pub async fn log_of(&self, task: &TaskId) -> String {
        let url = format!("{}/tasks/{task}/log", self.url);
        reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    /// The most memory that the running service ever held.
    pub fn peak_memory_mib(&self) -> u64 {
        let pid = self.service.as_ref().and_then(Child::id).expect("a running service");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Runs the program beside the service. Gives whether it succeeded, and what it said.
    pub async fn run(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_hireling"))
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .output()
            .await
            .unwrap();
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

    /// Waits for a file that an agent in a local sandbox writes into its scratch folder. Gives the
    /// folder and the file's text.
    pub async fn scratch_file(&self, name: &str) -> (PathBuf, String) {
        self.until(&format!("an agent wrote {name}"), async |world| {
            let sandboxes = std::fs::read_dir(world.file("data/sandboxes")).ok()?.flatten();
            sandboxes.map(|entry| entry.path().join("scratch")).find_map(|scratch| {
                let text = std::fs::read_to_string(scratch.join(name)).ok().filter(|text| !text.is_empty())?;
                Some((scratch, text))
            })
        })
        .await
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The end of every story: a clean stop, nothing GitHub would have refused, no line at error
    /// level, and the operator's secrets nowhere.
    pub async fn finish(mut self) {
        self.github.set_faults(Vec::new());
        let mut seen = self.github.received().await.join("\n");
        for task in self.tasks().await {
            seen.push_str(&self.log_of(&task.id).await);
            let page = format!("{}/tasks/{}", self.url, task.id);
            seen.push_str(&reqwest::get(page).await.unwrap().text().await.unwrap());
        }
        if self.double.is_some() {
            self.until("no sandbox is alive", async |world| world.vercel().alive().await.is_empty().then_some(()))
                .await;
        }
        self.stop().await;
        assert_eq!(self.github.violations().await, Vec::<String>::new());
        if let Some(double) = &self.double {
            assert_eq!(double.violations(), Vec::<String>::new());
            assert!(double.most_alive() <= 1, "two sandboxes of one task were alive at once");
            assert_eq!(double.resumes(), 0, "a stopped sandbox was woken");
            for call in double.calls() {
                assert!(!call.route.contains(&self.canary), "the model key is in an address");
                assert!(!call.body.contains("PRIVATE KEY") && !call.body.contains(double::TOKEN), "{}", call.body);
            }
        }
        for number in 1..=self.starts {
            let log = std::fs::read_to_string(self.dir.path().join(format!("service-{number}.log"))).unwrap();
            assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
            seen.push_str(&log);
        }
        let database = self.database_text().await;
        assert!(!database.contains("ghu_") && !database.contains("ghr_"), "a person's token lies open");
        seen.push_str(&database);
        let key = self.github.private_key.expose().lines().nth(1).unwrap().to_owned();
        for (what, secret) in [
            ("model key", self.canary.as_str()),
            ("token for sandboxes", double::TOKEN),
            ("webhook secret", self.github.webhook_secret.expose()),
            ("private key", &key),
        ] {
            assert!(!seen.contains(secret), "the {what} got out");
        }
        assert!(!seen.contains("\"ghs_"), "a token got out");
        // The password of PostgreSQL, where there is one.
        let password = url::Url::parse(&self.database).ok().and_then(|url| url.password().map(ToOwned::to_owned));
        assert!(password.is_none_or(|password| !seen.contains(&password)), "the database's password got out");
    }

    async fn database_text(&self) -> String {
        let Some(path) = self.database.strip_prefix("sqlite://") else {
            let mut connection = postgres::connect(&self.database).await;
            let mut text = String::new();
            for sql in [
                "SELECT t::text FROM tasks t",
                "SELECT t::text FROM runs t",
                "SELECT t::text FROM outbox t",
                "SELECT t::text FROM deliveries t",
                "SELECT t::text FROM installations t",
                "SELECT t::text FROM keys t",
                "SELECT t::text FROM push_permits t",
                "SELECT t::text FROM grants t",
                "SELECT t::text FROM spending t",
            ] {
                let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
                text.push_str(&rows.join("\n"));
            }
            return text;
        };
        let mut text = String::new();
        for end in ["", "-wal"] {
            let bytes = std::fs::read(format!("{path}{end}")).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }
}
