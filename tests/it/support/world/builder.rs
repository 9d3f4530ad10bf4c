//! How a world is set up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hireling::adapters::system::SystemClock;
use hireling::demo::standin::Standin;

use super::{OPERATOR, PERSON, REPO, World};
use crate::double::{self, Double};
use crate::support::front::Front;
use crate::support::postgres;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// Where stories are told through a pooler, they are not told on SQLite once more.
    pub fn both() -> Vec<Self> {
        if postgres::is_through_pooler() { vec![Self::Postgres] } else { vec![Self::Sqlite, Self::Postgres] }
    }
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
    has_front: bool,
    has_api_at_the_root: bool,
    /// Arguments of the first process.
    args: Vec<&'static str>,
    cuttable: bool,
    data: Option<PathBuf>,
}

/// An agent that changes one file, as scripts in stories do unless they say otherwise.
pub const EDIT: &str = "echo 'I will fix it'; echo fixed > fixed.txt; echo 'Fixed the button.'";

impl Builder {
    /// A story that is told on one engine tells through a pooler what it can: nothing in it looks at the file.
    pub fn new(engine: Engine) -> Self {
        let engine = if postgres::is_through_pooler() { Engine::Postgres } else { engine };
        let builder = Self {
            canary: format!("sk-ant-canary/{:032x}+ZZ", rand::random::<u128>()),
            engine,
            double: None,
            behind_firewall: false,
            agents: String::new(),
            settings: Vec::new(),
            has_app: true,
            has_front: false,
            has_api_at_the_root: false,
            args: Vec::new(),
            cuttable: false,
            data: None,
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

    /// GitHub's API is at the root of its host, as on github.com, and not below `/api`, as on an Enterprise Server.
    pub fn with_api_at_the_root(mut self) -> Self {
        self.has_api_at_the_root = true;
        self
    }

    /// A balancer keeps one address while processes come and go.
    pub fn behind_a_balancer(mut self) -> Self {
        self.has_front = true;
        self
    }

    /// The way to PostgreSQL can be cut.
    pub fn with_a_cuttable_database(mut self) -> Self {
        self.cuttable = true;
        self
    }

    /// The SQLite file is in this folder.
    pub fn data_in(mut self, folder: PathBuf) -> Self {
        self.data = Some(folder);
        self
    }

    /// The first process is only `web` or `worker`.
    pub fn only(mut self, role: &'static str) -> Self {
        self.args = vec!["--only", role];
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
        let database = self.database(dir.path()).await?;
        let front = if self.has_front { Some(Front::start().await) } else { None };
        let (github, issue) = self.github(&dir.path().join("github")).await;
        let agents = dir.path().join("agents.toml");
        std::fs::write(&agents, &self.agents).unwrap();
        let mut settings = self.usual_settings(&github, &database, &agents);
        settings.extend(self.vercel_settings(&github).await);
        if self.has_api_at_the_root {
            settings.push(("GITHUB_API_URL".to_owned(), github.url.clone()));
        }
        if let Some(front) = &front {
            settings.push(("PUBLIC_URL".to_owned(), front.url.clone()));
        }
        let database_way = if self.cuttable { Some(Front::before(&database).await) } else { None };
        if let Some(way) = &database_way {
            settings.push(("DATABASE_URL".to_owned(), way.in_place_of(&database)));
        } else if let Some(pooler) = postgres::pooled(&database) {
            settings.push(("DATABASE_URL".to_owned(), pooler));
            settings.push(("DATABASE_DIRECT_URL".to_owned(), database.clone()));
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
            replicas: Vec::new(),
            front,
            database_way,
            args: self.args,
            starts: 0,
            double: self.double,
        };
        if self.has_app {
            world.restart().await;
        } else {
            world.service = Some(world.spawn(&[]));
        }
        Some(world)
    }

    async fn database(&self, dir: &Path) -> Option<String> {
        match self.engine {
            Engine::Sqlite => {
                let folder = self.data.clone().unwrap_or_else(|| dir.join("data"));
                Some(format!("sqlite://{}", folder.join("hireling.db").display()))
            }
            Engine::Postgres => postgres::fresh_database().await,
        }
    }

    /// With a repository, a person who may write there, and an issue.
    async fn github(&self, dir: &Path) -> (Arc<Standin>, i64) {
        let github = Standin::start(dir, Arc::new(SystemClock)).await.unwrap();
        let files: Vec<(&str, &str)> = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        github.add_repository(REPO, &files).await.unwrap();
        github.set_permission(REPO, PERSON, "write").await;
        github.set_owner(OPERATOR).await;
        let issue = github.open_issue(REPO, PERSON, "Checkout button is misaligned", "It is off by a pixel.").await;
        (Arc::new(github), issue)
    }

    fn usual_settings(&self, github: &Standin, database: &str, agents: &Path) -> Vec<(String, String)> {
        [
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("DATABASE_URL", database),
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
            ("AGENTS_FILE", &agents.display().to_string()),
            ("METRICS_ADDR", "off"),
            ("LOG_FORMAT", "json"),
            ("RUST_LOG", "info"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    async fn vercel_settings(&self, github: &Standin) -> Vec<(String, String)> {
        let Some(double) = &self.double else { return Vec::new() };
        let mut settings = [
            ("SANDBOX_PROVIDER", "vercel"),
            ("SANDBOX_VERCEL_TOKEN", double::TOKEN),
            ("SANDBOX_VERCEL_TEAM_ID", double::TEAM),
            ("SANDBOX_VERCEL_PROJECT_ID", double::PROJECT),
            ("VERCEL_API_URL", &double.url),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        if self.behind_firewall {
            settings.push(("GITHUB_URL".to_owned(), double.stand_before(&github.url).await));
        }
        settings
    }
}
