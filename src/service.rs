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
use crate::adapters::signin::{self, SignIns};
use crate::adapters::store::{Access, Location, Store};
use crate::adapters::system::{SharedClock, SystemClock};
use crate::adapters::traces::Traces;
use crate::adapters::vault::{Vault, hash, is_open_to_others, key_beside, key_found_beside};
use crate::app::processes::{keep_time, set_clock_at_start};
use crate::app::setup::{self, Setup};
use crate::app::{App, Parts, Role, Settings, outbox};
use crate::config::{Config, Database, SandboxProvider};
use crate::domain::registration::Registration;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;
use crate::ports::sandbox::Sandbox;
use crate::web::{self, Grace, Web};

/// Open requests may go on this long after the stop, everything together a little longer.
const GRACE: Duration = Duration::from_secs(4);
const STOP_WITHIN: Duration = Duration::from_secs(8);
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
const UPKEEP: Duration = Duration::from_secs(10);

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

pub fn github(config: &Config, registration: &Registration, clock: Arc<dyn Clock>) -> anyhow::Result<GitHub> {
    let settings = github::Settings {
        web_url: config.github.web_url.clone(),
        api_url: config.github.api_url.clone(),
        app_id: registration.app_id,
        private_keys: registration.private_keys.clone(),
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

/// What there is before the App is known: settings, database, address, keys.
#[derive(Debug)]
pub struct Ground {
    config: Config,
    clock: Arc<SharedClock>,
    store: Store,
    vault: Vault,
    cookies: Vault,
    listener: std::net::TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Ground {
    /// Opens the database and the address.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let clock = Arc::new(SharedClock::default());
        let store = Store::open(&location(&config.database), Access::Service).await?;
        set_clock_at_start(&clock, &store).await?;
        store.expire_all_leases(clock.now(), outbox::SETTLING, outbox::CLAIM).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}; set LISTEN_ADDR or PORT", config.listen))?;
        let address = listener.local_addr()?;
        let (vault, cookies) = vaults(&config, &*clock)?;
        if let Some(file) =
            config.encryption_key_file.as_deref().filter(|file| is_open_to_others(file).unwrap_or(false))
        {
            tracing::warn!(file = %file.display(), "others on this machine can read ENCRYPTION_KEY_FILE");
        }
        Ok(Self { config, clock, store, vault, cookies, listener: listener.into_std()?, address })
    }

    /// `None`: the App has to be made first.
    pub async fn registration(&self) -> anyhow::Result<Option<Registration>> {
        registration(&self.config, &self.store, &self.vault).await
    }

    pub fn public_url(&self) -> String {
        self.config.public_url_at(self.address)
    }

    /// Answers `/setup` until the App is made, or until told to stop. `link` is called with the way in.
    pub async fn set_up(&self, link: impl FnOnce(&str), stop: CancellationToken) -> anyhow::Result<()> {
        let secret = || Secret::new(hex::encode(self.clock.new_secret()));
        let setup = Setup {
            store: self.store.clone(),
            vault: vaults(&self.config, &*self.clock)?.0,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            public_url: self.public_url(),
            web_url: self.config.github.web_url.clone(),
            api_url: self.config.github.api_url.clone(),
            code: secret(),
            state: secret(),
        };
        link(&setup.link());
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let setup = Arc::new(setup);
        let router = web::setup_router(Arc::clone(&setup), stop.clone());
        let elsewhere = {
            let (setup, stop) = (setup, stop.clone());
            tokio::spawn(async move {
                setup.made().await;
                stop.cancel();
            })
        };
        web::serve(listener, router, stop, Grace(GRACE)).await;
        elsewhere.abort();
        Ok(())
    }

    /// Starts the loops of `role`.
    pub async fn start(
        self,
        registration: Registration,
        role: Role,
        program: PathBuf,
        metrics: Option<PrometheusHandle>,
    ) -> anyhow::Result<Service> {
        let Self { config, clock, store, vault, cookies, listener, address } = self;
        let traces = config.traces.as_deref().map(Traces::new).transpose().map_err(anyhow::Error::msg)?;
        let webhook_secrets = registration.webhook_secrets.clone();
        let (metrics_address, analytics) = (config.metrics, config.analytics.clone());
        let client_ip_header = config.client_ip_header.clone();
        let stored = Stored { store, vault, cookies };
        let shown = Arc::clone(&clock) as Arc<dyn Clock>;
        let app = app(config, &registration, stored, traces, (program, address), shown)?;
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        if app.store.is_shared() {
            tracker.spawn(keep_time(clock, app.store.clone(), stop.clone()));
        }
        // Before any task is claimed: a start that fails must not hold one.
        let figures = match (metrics_address, metrics) {
            (Some(address), Some(handle)) => Some((listen_for_figures(address).await?, handle)),
            _ => None,
        };
        app.start(role, &stop, &tracker).await;
        let web = Web::new(Arc::clone(&app), webhook_secrets, analytics, client_ip_header, stop.clone());
        let router = match role {
            Role::All | Role::Web => web::router(Arc::clone(&web)),
            Role::Worker => web::worker_router(Arc::clone(&web)),
        };
        let listener = TcpListener::from_std(listener)?;
        let (requests, requests_over) =
            (web::serve(listener, router, stop.clone(), Grace(GRACE)), app.requests_over.clone());
        tracker.spawn(async move {
            requests.await;
            requests_over.cancel();
        });
        if let Some((listener, handle)) = figures {
            tracker.spawn(keep_up(handle.clone(), stop.clone()));
            tracker.spawn(web::serve(listener, web::metrics_router(handle, web), stop.clone(), Grace(GRACE)));
        }
        Ok(Service { address, app, stop, tracker })
    }
}

async fn listen_for_figures(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!("cannot listen on {address}; set METRICS_ADDR (`off` for a second process on one machine)")
    })?;
    tracing::info!(address = %listener.local_addr()?, "figures");
    Ok(listener)
}

/// Times that nobody asks for must not pile up.
async fn keep_up(handle: PrometheusHandle, stop: CancellationToken) {
    while !stop.is_cancelled() {
        handle.run_upkeep();
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Of the settings, or what `/setup` has stored.
pub async fn registration(config: &Config, store: &Store, vault: &Vault) -> anyhow::Result<Option<Registration>> {
    match &config.github.registration {
        Some(registration) => Ok(Some(registration.clone())),
        None => setup::stored(store, vault).await.context("the stored GitHub App cannot be read"),
    }
}

/// What to do where there is no App.
pub const NO_APP: &str =
    "GITHUB_APP_ID is missing: there is no GitHub App yet. `hireling serve` prints a link to make one";

impl Service {
    /// With an App that is known.
    pub async fn start(
        config: Config,
        role: Role,
        program: PathBuf,
        metrics: Option<PrometheusHandle>,
    ) -> anyhow::Result<Self> {
        let ground = Ground::open(config).await?;
        let registration = ground.registration().await?.context(NO_APP)?;
        ground.start(registration, role, program, metrics).await
    }

    /// Takes no more work, hands leases back, leaves sandboxes running, and closes.
    pub async fn stop(self) {
        self.halt().await;
        self.close().await;
    }

    /// Stops, and ends every sandbox of its own: for a service that does not come back.
    pub async fn discard(self) {
        self.halt().await;
        self.app.end_all_sandboxes().await;
        self.close().await;
    }

    /// A connection that hangs is left to the end of the process.
    async fn close(&self) {
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.app.store.close()).await;
    }

    async fn halt(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.app.unawaited.close();
        let all = async {
            self.tracker.wait().await;
            // Requests are over: what they cost is stored before the database closes.
            self.app.unawaited.wait().await;
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
    let (vault, cookies) = vaults(&config, &*clock)?;
    let registration = registration(&config, &store, &vault).await?.context(NO_APP)?;
    let address = config.listen;
    app(config, &registration, Stored { store, vault, cookies }, None, (program, address), clock)
}

/// The database, and what seals what is in it and in cookies.
struct Stored {
    store: Store,
    vault: Vault,
    cookies: Vault,
}

/// Makes the parts and wires them.
fn app(
    config: Config,
    registration: &Registration,
    Stored { store, vault, cookies }: Stored,
    traces: Option<Traces>,
    (program, address): (PathBuf, SocketAddr),
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<App>> {
    let sandbox = sandbox(&config, program, Arc::clone(&clock))?;
    let github = github(&config, registration, Arc::clone(&clock))?;
    let models = Models::new().map_err(anyhow::Error::msg)?;
    let signins = signins(&config, registration)?;
    let settings = settings(config, registration, address);
    Ok(App::new(Parts { clock, store, github, sandbox, models, vault, cookies, signins, traces, settings }))
}

/// What seals stored secrets, and what seals the cookies of browsers.
fn vaults(config: &Config, clock: &dyn Clock) -> anyhow::Result<(Vault, Vault)> {
    let keys = match &config.encryption_keys {
        Some(keys) => keys.clone(),
        None => vec![key_beside(&config.database.data_dir(), clock.new_secret()).map_err(anyhow::Error::msg)?],
    };
    let cookies = match &config.cookie_key {
        Some(key) => vec![key.clone()],
        None => keys.iter().map(|key| Secret::new(hash(&format!("cookies {}", key.expose())))).collect(),
    };
    Ok((Vault::new(&keys)?, Vault::new(&cookies)?))
}

/// What opens stored secrets, without making what is not there. `None`: no key was made yet.
pub fn vault_found(config: &Config) -> anyhow::Result<Option<Vault>> {
    let keys = match &config.encryption_keys {
        Some(keys) => keys.clone(),
        None => match key_found_beside(&config.database.data_dir()).map_err(anyhow::Error::msg)? {
            Some(key) => vec![key],
            None => return Ok(None),
        },
    };
    Ok(Some(Vault::new(&keys)?))
}

fn signins(config: &Config, registration: &Registration) -> anyhow::Result<SignIns> {
    let github = registration.client.as_ref().map(|(id, secret)| signin::Client {
        id: id.clone(),
        secret: secret.clone(),
        web_url: config.github.web_url.clone(),
        api_url: config.github.api_url.clone(),
    });
    let vercel = config.vercel_signin.as_ref().map(|vercel| signin::Client {
        id: vercel.client_id.clone(),
        secret: vercel.client_secret.clone(),
        web_url: vercel.url.clone(),
        api_url: vercel.url.clone(),
    });
    SignIns::new(github, vercel).map_err(anyhow::Error::msg)
}

fn settings(config: Config, registration: &Registration, address: SocketAddr) -> Settings {
    let public_url = config.public_url_at(address);
    let mut secrets: Vec<Secret> = registration.secrets().cloned().collect();
    secrets.extend(config.encryption_keys.unwrap_or_default());
    secrets.extend(config.cookie_key);
    secrets.extend(config.vercel_signin.map(|vercel| vercel.client_secret));
    if let SandboxProvider::Vercel { token, .. } = &config.sandbox {
        secrets.push(token.clone());
    }
    if let Database::Postgres { url, direct_url } = &config.database {
        secrets.extend([url, direct_url].into_iter().cloned());
        secrets.extend([url, direct_url].into_iter().filter_map(password_of));
    }
    Settings {
        public_url,
        allowed_accounts: config.allowed_accounts,
        review_aliases: config.review_aliases,
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
        retention: config.retention,
        secrets,
    }
}

fn password_of(url: &Secret) -> Option<Secret> {
    let parsed = url::Url::parse(url.expose()).ok()?;
    parsed.password().map(Secret::new)
}
