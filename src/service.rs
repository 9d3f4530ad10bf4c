//! From settings to a running service: the parts are made, wired and started here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapters::github::{self, GitHub};
use crate::adapters::models::Models;
use crate::adapters::sandbox::local::LocalSandbox;
use crate::adapters::sandbox::vercel::{Account, Vercel};
use crate::adapters::store::{Access, Location, Store};
use crate::adapters::system::SystemClock;
use crate::adapters::vault::{Vault, key_beside};
use crate::app::{App, Parts, Role, Settings};
use crate::config::{Config, Database, SandboxProvider};
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;
use crate::ports::sandbox::Sandbox;
use crate::web::{self, Grace, Web};

/// Open requests may go on this long after the stop, everything together a little longer.
const GRACE: Duration = Duration::from_secs(4);
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    pub app: Arc<App>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

pub fn location(database: &Database) -> Location {
    match database {
        Database::Sqlite(path) => Location::Sqlite(path.clone()),
        Database::Postgres { url, direct_url } => {
            Location::Postgres { url: url.clone(), direct_url: direct_url.clone() }
        }
    }
}

pub fn github(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<GitHub> {
    let settings = github::Settings {
        web_url: config.github.web_url.clone(),
        api_url: config.github.api_url.clone(),
        app_id: config.github.app_id,
        private_keys: config.github.private_keys.clone(),
    };
    GitHub::new(&settings, clock).map_err(anyhow::Error::msg)
}

/// `program` is this program's own file: it is started again to stand over local commands.
pub fn sandbox(config: &Config, program: PathBuf, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Sandbox>> {
    match &config.sandbox {
        SandboxProvider::Local => {
            let root = config.database.data_dir().join("sandboxes");
            let sandbox = LocalSandbox::new(&root, program)
                .with_context(|| format!("the sandboxes in {} cannot be used", root.display()))?;
            tracing::warn!(
                isolation = sandbox.isolation().name(),
                "agents run on this machine: SANDBOX_PROVIDER=local is for development"
            );
            Ok(Arc::new(sandbox))
        }
        SandboxProvider::Vercel { api_url, token, team, project } => {
            let account = Account {
                base_url: api_url.clone(),
                token: token.clone(),
                team: team.clone(),
                project: project.clone(),
            };
            Ok(Arc::new(Vercel::new(account, clock).map_err(anyhow::Error::msg)?))
        }
    }
}

impl Service {
    /// Opens the database, listens, and starts the loops of `role`.
    pub async fn start(
        config: Config,
        role: Role,
        program: PathBuf,
        metrics: Option<PrometheusHandle>,
    ) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Store::open(&location(&config.database), Access::Service).await?;
        store.expire_all_leases().await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}; set LISTEN_ADDR or PORT", config.listen))?;
        let address = listener.local_addr()?;
        let sandbox = sandbox(&config, program, Arc::clone(&clock))?;
        let github = github(&config, Arc::clone(&clock))?;
        let (models, vault) = (Models::new().map_err(anyhow::Error::msg)?, vault(&config, &*clock)?);
        let webhook_secrets = config.github.webhook_secrets.clone();
        let metrics_address = config.metrics;
        let settings = settings(config, address);
        let app = App::new(Parts { clock, store, github, sandbox, models, vault, settings });
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        app.start(role, &stop, &tracker).await;
        let web = Web::new(Arc::clone(&app), webhook_secrets, stop.clone());
        let router = match role {
            Role::All | Role::Web => web::router(Arc::clone(&web)),
            Role::Worker => web::worker_router(Arc::clone(&web)),
        };
        tracker.spawn(web::serve(listener, router, stop.clone(), Grace(GRACE)));
        if let (Some(address), Some(handle)) = (metrics_address, metrics) {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}; set METRICS_ADDR"))?;
            tracing::info!(address = %listener.local_addr()?, "figures");
            tracker.spawn(web::serve(listener, web::metrics_router(handle, web), stop.clone(), Grace(GRACE)));
        }
        Ok(Self { address, app, stop, tracker })
    }

    /// Takes no more work, hands leases back, leaves sandboxes running, and closes.
    pub async fn stop(self) {
        self.halt().await;
        self.app.store.close().await;
    }

    /// Stops, and ends every sandbox of its own: for a service that does not come back.
    pub async fn discard(self) {
        self.halt().await;
        self.app.end_all_sandboxes().await;
        self.app.store.close().await;
    }

    async fn halt(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.app.counting.close();
        let all = async {
            self.tracker.wait().await;
            // Streams are over: what they cost is stored before the database closes.
            self.app.counting.wait().await;
        };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!("not everything ended in time; leases end by themselves");
        }
    }
}

/// The parts of the service without its loops, beside a running one or without any.
pub async fn visitor(config: Config, program: PathBuf) -> anyhow::Result<Arc<App>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&location(&config.database), Access::Visitor).await?;
    let sandbox = sandbox(&config, program, Arc::clone(&clock))?;
    let github = github(&config, Arc::clone(&clock))?;
    let (models, vault) = (Models::new().map_err(anyhow::Error::msg)?, vault(&config, &*clock)?);
    let address = config.listen;
    Ok(App::new(Parts { clock, store, github, sandbox, models, vault, settings: settings(config, address) }))
}

/// The ring of keys that secrets are sealed with.
fn vault(config: &Config, clock: &dyn Clock) -> anyhow::Result<Vault> {
    let keys = match &config.encryption_keys {
        Some(keys) => keys.clone(),
        None => vec![key_beside(&config.database.data_dir(), clock.new_secret()).map_err(anyhow::Error::msg)?],
    };
    Ok(Vault::new(&keys)?)
}

fn settings(config: Config, address: SocketAddr) -> Settings {
    let mut secrets: Vec<Secret> = config.github.webhook_secrets;
    secrets.extend(config.encryption_keys.unwrap_or_default());
    secrets.extend(config.github.private_keys);
    if let SandboxProvider::Vercel { token, .. } = &config.sandbox {
        secrets.push(token.clone());
    }
    if let Database::Postgres { url, direct_url } = &config.database {
        secrets.extend([url, direct_url].into_iter().cloned());
        secrets.extend([url, direct_url].into_iter().filter_map(password_of));
    }
    Settings {
        public_url: config.public_url.unwrap_or_else(|| format!("http://{address}")),
        allowed_accounts: config.allowed_accounts,
        operator_key_accounts: config.operator_key_accounts,
        default_agent: config.default_agent,
        default_models: config.default_models,
        agents: config.agents,
        keys: config.keys,
        base_urls: config.base_urls,
        max_duration: config.max_sandbox_duration,
        network: config.network,
        max_per_day: config.max_messages_per_day,
        cost_limits: config.cost_limits,
        max_concurrent: config.max_concurrent_tasks,
        secrets,
    }
}

fn password_of(url: &Secret) -> Option<Secret> {
    let parsed = url::Url::parse(url.expose()).ok()?;
    parsed.password().map(Secret::new)
}
