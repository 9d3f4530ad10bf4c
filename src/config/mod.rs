//! The only reader of the environment. Everything is read and checked before anything starts; a
//! fault is one sentence that names the setting and shows no secret.

mod accounts;
mod models;
mod names;
mod read;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderName;

use crate::domain::agent::{Agent, Provider};
use crate::domain::gateway::CostLimits;
use crate::domain::network;
use crate::domain::retention::{self, Retention, SHORTEST_FOR_DELIVERIES};
use crate::domain::secret::Secret;
use models::{agents, base_urls, cost_limits, default_models, keys};
use read::Vars;

pub use accounts::{GitHubConfig, VercelSignIn};
pub use names::SETTINGS;
pub use read::Source;

/// Missing and malformed settings, one sentence for the operator about each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl ConfigError {
    pub fn new(fault: impl Into<String>) -> Self {
        Self(vec![fault.into()])
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

/// Reads each part, whatever is wrong with the others, so that all faults are told at once.
macro_rules! each {
    ($made:ident { $($part:ident = $read:expr;)+ }) => {
        each! { $($part = $read;)+ => $made { $($part),+ } }
    };
    ($($part:ident = $read:expr;)+ => $made:expr) => {{
        $(let $part: Result<_> = $read;)+
        let mut faults = Vec::new();
        $(faults.extend($part.as_ref().err().into_iter().flat_map(|error| error.0.clone()));)+
        match ($($part,)+) {
            ($(Ok($part),)+) => Ok($made),
            _ => Err(ConfigError(faults)),
        }
    }};
}

use each;

/// What depends on a part that is at fault is not looked at.
fn after<A, T: Default>(part: &Result<A>, read: impl FnOnce(&A) -> Result<T>) -> Result<T> {
    part.as_ref().map_or_else(|_| Ok(T::default()), read)
}

#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Without a trailing slash; `None`: made from the address that is listened on.
    pub public_url: Option<String>,
    pub database: Database,
    pub github: GitHubConfig,
    /// `None`: nobody can sign in with Vercel.
    pub vercel_signin: Option<VercelSignIn>,
    /// Seals what browsers keep; `None`: made from the key that seals stored secrets.
    pub cookie_key: Option<Secret>,
    /// A script of the operator's for the pages.
    pub analytics: Option<url::Url>,
    pub sandbox: SandboxProvider,
    /// What secrets are sealed with, the first for new ones; `None`: kept beside the SQLite file.
    pub encryption_keys: Option<Vec<Secret>>,
    /// Where they were read from, if from a file.
    pub encryption_key_file: Option<PathBuf>,
    /// The operator's keys.
    pub keys: HashMap<Provider, Secret>,
    /// Where models are, by provider; complete for those that have an address.
    pub base_urls: HashMap<Provider, String>,
    /// Accounts the service works for; `None`: all.
    pub allowed_accounts: Option<Vec<String>>,
    /// Accounts that may spend the operator's keys; `None`: all.
    pub operator_key_accounts: Option<Vec<String>>,
    pub default_agent: String,
    /// By agent.
    pub default_models: HashMap<String, String>,
    /// Built-in and custom ones.
    pub agents: Vec<Agent>,
    pub max_sandbox_duration: Duration,
    /// What sandboxes may reach.
    pub network: network::Rule,
    /// Team slugs and logins whose review request asks the bot.
    pub review_aliases: Vec<String>,
    pub max_messages_per_day: i64,
    pub cost_limits: CostLimits,
    pub max_concurrent_tasks: usize,
    pub retention: Retention,
    /// `None`: no metrics.
    pub metrics: Option<SocketAddr>,
    /// In which a proxy nearby says whom it serves.
    pub client_ip_header: HeaderName,
    /// Where traces go; `None`: nowhere.
    pub traces: Option<String>,
    pub log: LogConfig,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    Sqlite(PathBuf),
    Postgres { url: Secret, direct_url: Secret },
}

impl Database {
    /// Where files that belong to the data are kept.
    pub fn data_dir(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) => path.parent().map_or_else(|| PathBuf::from("."), PathBuf::from),
            Self::Postgres { .. } => PathBuf::from("data"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxProvider {
    Local,
    Vercel { api_url: String, token: Secret, team: String, project: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub json: bool,
    /// Directives as of `RUST_LOG`.
    pub filter: String,
}

impl LogConfig {
    /// What may be known before the rest of the settings is.
    pub fn from_source(source: &Source) -> Result<Self> {
        let vars = Vars::new(source);
        let format = vars.text("LOG_FORMAT")?.unwrap_or_else(|| "text".to_owned());
        let json = match format.as_str() {
            "json" => true,
            "text" => false,
            other => return Err(ConfigError::new(format!("LOG_FORMAT is “{other}”; it can be text or json"))),
        };
        Ok(Self { json, filter: vars.text("RUST_LOG")?.unwrap_or_else(|| "info".to_owned()) })
    }
}

impl Config {
    pub fn from_source(source: &Source) -> Result<Self> {
        let vars = Vars::new(source);
        each! {
            Config {
                listen = listen(&vars);
                public_url = vars.url("PUBLIC_URL");
                database = database(&vars);
                github = accounts::github(&vars);
                vercel_signin = accounts::vercel_signin(&vars);
                cookie_key = accounts::cookie_key(&vars);
                analytics = accounts::analytics(&vars);
                sandbox = sandbox(&vars);
                encryption_keys = after(&database, |database| encryption_keys(&vars, database));
                encryption_key_file = Ok(vars.file_of("ENCRYPTION_KEY"));
                keys = keys(&vars);
                base_urls = base_urls(&vars);
                allowed_accounts = vars.list("ALLOWED_ACCOUNTS");
                operator_key_accounts = after(&allowed_accounts, |allowed| operator_key_accounts(&vars, allowed));
                agents = agents(&vars);
                default_agent = after(&agents, |agents| default_agent(&vars, agents));
                default_models = after(&agents, |agents| default_models(&vars, agents));
                max_sandbox_duration = max_duration(&vars);
                network = network(&vars);
                review_aliases = vars.list("REVIEW_ALIASES").map(Option::unwrap_or_default);
                max_messages_per_day = vars.number("MAX_MESSAGES_PER_DAY", 50, 1..=100_000);
                cost_limits = cost_limits(&vars);
                max_concurrent_tasks = vars.number("MAX_CONCURRENT_TASKS", 8, 1..=1_000);
                retention = retention(&vars);
                metrics = metrics(&vars);
                client_ip_header = client_ip_header(&vars);
                traces = vars.url("OTEL_EXPORTER_OTLP_ENDPOINT");
                log = LogConfig::from_source(source);
            }
        }
    }

    /// Where people and GitHub reach a service that listens there.
    pub fn public_url_at(&self, address: SocketAddr) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{address}"))
    }

    /// Only the database, for commands that need no more.
    pub fn database_from(source: &Source) -> Result<Database> {
        database(&Vars::new(source))
    }
}

fn default_agent(vars: &Vars<'_>, agents: &[Agent]) -> Result<String> {
    let name = vars.text("DEFAULT_AGENT")?.unwrap_or_else(|| "claude".to_owned()).to_ascii_lowercase();
    match agents.iter().any(|agent| agent.name == name) {
        true => Ok(name),
        false => Err(ConfigError::new(format!("DEFAULT_AGENT is “{name}”, which is no agent of this instance"))),
    }
}

/// Several machines have to seal alike: only beside a file of one machine can a key be made.
fn encryption_keys(vars: &Vars<'_>, database: &Database) -> Result<Option<Vec<Secret>>> {
    let keys = vars.secrets("ENCRYPTION_KEY")?;
    let is_key = |key: &Secret| key.expose().len() == 64 && key.expose().bytes().all(|b| b.is_ascii_hexdigit());
    match (keys.as_slice(), database) {
        ([], Database::Sqlite(_)) => Ok(None),
        ([], Database::Postgres { .. }) => {
            Err(ConfigError::new("ENCRYPTION_KEY is missing: on PostgreSQL it seals the keys of models"))
        }
        (all, _) if all.iter().all(is_key) => Ok(Some(keys)),
        _ => Err(ConfigError::new("ENCRYPTION_KEY has to be 64 hex digits (several by comma: the first seals)")),
    }
}

fn listen(vars: &Vars<'_>) -> Result<SocketAddr> {
    match (vars.text("LISTEN_ADDR")?, vars.text("PORT")?) {
        (Some(addr), _) => addr
            .parse()
            .map_err(|_| ConfigError::new(format!("LISTEN_ADDR is “{addr}”; it has to look like 127.0.0.1:8080"))),
        (None, Some(port)) => {
            let port: u16 =
                port.parse().map_err(|_| ConfigError::new(format!("PORT is “{port}”, which is no port number")))?;
            Ok(SocketAddr::from(([0, 0, 0, 0], port)))
        }
        (None, None) => Ok(SocketAddr::from(([127, 0, 0, 1], 8080))),
    }
}

fn database(vars: &Vars<'_>) -> Result<Database> {
    let (name, url) = match (vars.text("DATABASE_URL")?, vars.text("POSTGRES_URL")?) {
        (Some(url), _) => ("DATABASE_URL", url),
        (None, Some(url)) => ("POSTGRES_URL", url),
        (None, None) => ("DATABASE_URL", "sqlite://data/hireling.db".to_owned()),
    };
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') || path == ":memory:" {
            return Err(ConfigError::new(format!("{name} has to name a file, as in sqlite://data/hireling.db")));
        }
        return Ok(Database::Sqlite(PathBuf::from(path)));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let direct_url = vars.text("DATABASE_DIRECT_URL")?.unwrap_or_else(|| url.clone());
        check_tls(name, &url)?;
        check_tls("DATABASE_DIRECT_URL", &direct_url)?;
        return Ok(Database::Postgres { url: Secret::new(url), direct_url: Secret::new(direct_url) });
    }
    Err(ConfigError::new(format!("{name} has to begin with sqlite: or postgres:")))
}

/// Without a mode, the driver would fall back to plain text; over a network that shows everything.
fn check_tls(name: &str, text: &str) -> Result<()> {
    let url = url::Url::parse(text).map_err(|_| ConfigError::new(format!("{name} is not a URL")))?;
    let is_local = matches!(url.host_str(), None | Some("" | "localhost" | "127.0.0.1" | "[::1]"));
    let mode = url.query_pairs().find(|(key, _)| key == "sslmode").map(|(_, value)| value.into_owned());
    match mode.as_deref() {
        Some("require" | "verify-ca" | "verify-full") => Ok(()),
        _ if is_local => Ok(()),
        _ => Err(ConfigError::new(format!("{name} leads to another host: add sslmode=verify-full (or require)"))),
    }
}

/// Who may use the service may spend the operator's keys, where nothing else is said.
fn operator_key_accounts(vars: &Vars<'_>, allowed: &Option<Vec<String>>) -> Result<Option<Vec<String>>> {
    Ok(vars.list("OPERATOR_KEY_ACCOUNTS")?.or_else(|| allowed.clone()))
}

fn sandbox(vars: &Vars<'_>) -> Result<SandboxProvider> {
    let token = vars.text("SANDBOX_VERCEL_TOKEN")?;
    match (vars.text("SANDBOX_PROVIDER")?.as_deref(), token) {
        (Some("local"), _) => Ok(SandboxProvider::Local),
        (Some("vercel") | None, Some(token)) => {
            if token.len() < MIN_SECRET_BYTES {
                return Err(ConfigError::new(format!(
                    "SANDBOX_VERCEL_TOKEN has fewer than {MIN_SECRET_BYTES} characters"
                )));
            }
            each! {
                api_url = vars.url("VERCEL_API_URL");
                team = vars.required("SANDBOX_VERCEL_TEAM_ID");
                project = vars.required("SANDBOX_VERCEL_PROJECT_ID");
                => SandboxProvider::Vercel {
                    api_url: api_url.unwrap_or_else(|| "https://vercel.com/api".to_owned()),
                    token: Secret::new(token),
                    team,
                    project,
                }
            }
        }
        (Some("vercel"), None) => Err(ConfigError::new(
            "SANDBOX_VERCEL_TOKEN is missing: SANDBOX_PROVIDER is vercel, which needs it, SANDBOX_VERCEL_TEAM_ID and \
             SANDBOX_VERCEL_PROJECT_ID"
                .to_owned(),
        )),
        (Some(other), _) => Err(ConfigError::new(format!("SANDBOX_PROVIDER is “{other}”; it can be vercel or local"))),
        (None, None) => Err(ConfigError::new(
            "SANDBOX_VERCEL_TOKEN is missing; with it agents run in Vercel Sandbox. SANDBOX_PROVIDER=local runs them \
             on this machine (for development)"
                .to_owned(),
        )),
    }
}

/// Shorter ones could not be told from ordinary words in a log.
const MIN_SECRET_BYTES: usize = crate::domain::redact::SHORTEST_SECRET;

fn max_duration(vars: &Vars<'_>) -> Result<Duration> {
    let Some(text) = vars.text("MAX_SANDBOX_DURATION")? else { return Ok(Duration::from_secs(2700)) };
    let seconds = text.parse::<u64>().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs);
    seconds.or_else(|| crate::domain::command::parse_duration(&text)).ok_or_else(|| {
        ConfigError::new(format!("MAX_SANDBOX_DURATION is “{text}”; it has to be seconds, or look like 45m or 5h"))
    })
}

fn retention(vars: &Vars<'_>) -> Result<Retention> {
    let of = |name: &str, default: Option<Duration>, least: Duration| {
        let Some(text) = vars.text(name)? else { return Ok(default) };
        let time = retention::parse(&text).ok_or_else(|| {
            ConfigError::new(format!("{name} is “{text}”; it has to look like 30d or 12h, or be forever"))
        })?;
        match time.is_some_and(|time| time < least) {
            true => Err(ConfigError::new(format!("{name} is “{text}”; GitHub can send again what is younger than 4d"))),
            false => Ok(time),
        }
    };
    let usual = Retention::default();
    each! {
        Retention {
            logs = of("KEEP_LOGS", usual.logs, Duration::ZERO);
            deliveries = of("KEEP_DELIVERIES", usual.deliveries, SHORTEST_FOR_DELIVERIES);
            payloads = of("KEEP_PAYLOADS", usual.payloads, Duration::ZERO);
            after_uninstall = of("KEEP_AFTER_UNINSTALL", usual.after_uninstall, Duration::ZERO);
        }
    }
}

fn network(vars: &Vars<'_>) -> Result<network::Rule> {
    let text = vars.text("SANDBOX_NETWORK")?.unwrap_or_default();
    network::Rule::parse(&text).map_err(|error| ConfigError::new(format!("SANDBOX_NETWORK: {error}")))
}

fn metrics(vars: &Vars<'_>) -> Result<Option<SocketAddr>> {
    match vars.text("METRICS_ADDR")?.as_deref() {
        None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 9464)))),
        Some("off") => Ok(None),
        Some(addr) => addr.parse().map(Some).map_err(|_| {
            ConfigError::new(format!("METRICS_ADDR is “{addr}”; it has to look like 127.0.0.1:9464, or be off"))
        }),
    }
}

fn client_ip_header(vars: &Vars<'_>) -> Result<HeaderName> {
    let name = vars.text("CLIENT_IP_HEADER")?.unwrap_or_else(|| "x-forwarded-for".to_owned());
    name.parse().map_err(|_| ConfigError::new(format!("CLIENT_IP_HEADER is “{name}”, which is no name of a header")))
}

#[cfg(test)]
mod tests;
