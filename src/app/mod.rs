//! What the service does, in order. `App` is the wired parts; each of its loops is one file:
//! `receive` (store, then answer), `recovery` (fetch what was missed), `intake` (decide), `worker` and `run_task` (do), `outbox` (tell),
//! `sweep` (tidy up).

pub mod access;
mod accounts;
mod check_run;
mod claims;
pub mod connectors;
mod ending;
mod figures;
mod from_page;
pub mod gate;
pub mod gateway;
pub mod identity;
pub mod intake;
pub mod keys;
pub mod live;
pub mod log_writer;
pub mod outbox;
pub mod people;
pub mod policy;
pub mod processes;
mod push_permit;
pub mod receive;
mod recovery;
mod retention;
pub mod run_task;
pub mod setup;
pub mod signals;
pub mod snapshot;
pub mod status_comment;
pub mod sweep;
pub mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapters::github::GitHub;
use crate::adapters::models::Models;
pub use crate::adapters::signin::SignInError;
use crate::adapters::signin::SignIns;
use crate::adapters::store::Store;
pub use crate::adapters::store::StoreError;
use crate::adapters::traces::Traces;
use crate::adapters::vault::Vault;
use crate::domain::agent::{Agent, Provider};
use crate::domain::ids::TaskId;
use crate::domain::redact::Redactor;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;
use crate::ports::sandbox::Sandbox;
use identity::WhoWeAre;
use receive::Receiver;
use signals::Signals;

/// The values of the settings that the service acts on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a trailing slash.
    pub public_url: String,
    pub allowed_accounts: Option<Vec<String>>,
    pub operator_key_accounts: Option<Vec<String>>,
    /// Team slugs and logins whose review request asks the bot.
    pub review_aliases: Vec<String>,
    pub default_agent: String,
    /// By agent.
    pub default_models: HashMap<String, String>,
    pub agents: Vec<Agent>,
    pub keys: HashMap<Provider, Secret>,
    pub base_urls: HashMap<Provider, String>,
    pub max_duration: Duration,
    /// What sandboxes may reach.
    pub network: crate::domain::network::Rule,
    pub max_per_day: i64,
    pub cost_limits: crate::domain::gateway::CostLimits,
    pub max_concurrent: usize,
    pub retention: crate::domain::retention::Retention,
    /// What must never be shown, besides the keys above.
    pub secrets: Vec<Secret>,
}

/// What an `App` is made of.
#[derive(Debug)]
pub struct Parts {
    pub clock: Arc<dyn Clock>,
    pub store: Store,
    pub github: GitHub,
    pub sandbox: Arc<dyn Sandbox>,
    pub models: Models,
    pub vault: Vault,
    /// Seals what browsers keep.
    pub cookies: Vault,
    pub signins: SignIns,
    /// `None`: nobody collects traces.
    pub traces: Option<Traces>,
    pub settings: Settings,
}

#[derive(Debug)]
pub struct App {
    pub clock: Arc<dyn Clock>,
    pub store: Store,
    pub github: GitHub,
    pub sandbox: Arc<dyn Sandbox>,
    pub(crate) models: Models,
    pub(crate) vault: Vault,
    pub(crate) cookies: Vault,
    pub signins: SignIns,
    /// Calls of models under way, and those that are being counted.
    pub(crate) places: Arc<gateway::places::Places>,
    /// What nobody waits for but the stop: counts of calls, traces, sandboxes that are ended.
    pub unawaited: TaskTracker,
    /// The last request was answered, or broken off.
    pub requests_over: CancellationToken,
    pub settings: Settings,
    pub signals: Signals,
    /// Tells this process from others.
    process: String,
    pub receiver: Receiver,
    pub(crate) log_writer: log_writer::LogWriter,
    pub(crate) who: WhoWeAre,
    /// Knows the secrets of this instance; runs add theirs.
    pub redactor: Redactor,
    traces: Option<Traces>,
    answers: access::Answers,
    followers: live::Followers,
}

/// A loop does not wait longer for the database.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Which loops a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    All,
    Web,
    Worker,
}

impl App {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { clock, store, github, sandbox, models, vault, cookies, signins, traces, settings } = parts;
        let redactor = Redactor::new(settings.all_secrets());
        Arc::new(Self {
            who: WhoWeAre::new(github.app_id()),
            signals: Signals::default(),
            process: clock.new_id(),
            receiver: Receiver::default(),
            log_writer: log_writer::LogWriter::default(),
            answers: access::Answers::default(),
            followers: live::Followers::default(),
            redactor,
            traces,
            clock,
            store,
            github,
            sandbox,
            models,
            vault,
            cookies,
            signins,
            places: Arc::default(),
            unawaited: TaskTracker::new(),
            requests_over: CancellationToken::new(),
            settings,
        })
    }

    /// Starts the loops of a role. They end after `stop`, and those that requests need after `requests_over`; `tracker`
    /// waits for them.
    pub async fn start(self: &Arc<Self>, role: Role, stop: &CancellationToken, tracker: &TaskTracker) {
        tracker.spawn(processes::tell_all(Arc::clone(self), stop.clone()));
        tracker.spawn(processes::hear_all(Arc::clone(self), stop.clone()));
        if role != Role::Worker {
            tracker.spawn(receive::keep(Arc::clone(self)));
            tracker.spawn(receive::note(Arc::clone(self)));
            tracker.spawn(intake::decide_all(Arc::clone(self), stop.clone()));
            tracker.spawn(recovery::recover_all(Arc::clone(self), stop.clone()));
        }
        if role != Role::Web {
            tracker.spawn(outbox::deliver_all(Arc::clone(self), stop.clone()));
            tracker.spawn(log_writer::write_all(Arc::clone(self), stop.clone()));
            tracker.spawn(worker::work(Arc::clone(self), stop.clone()));
            tracker.spawn(sweep::sweep_all(Arc::clone(self), stop.clone()));
            tracker.spawn(retention::forget_all(Arc::clone(self), stop.clone()));
            tracker.spawn(snapshot::keep(Arc::clone(self), stop.clone()));
        }
    }

    /// What the database answers; a connection can be dead for a quarter of an hour before the system tells.
    pub(crate) async fn in_time<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        tokio::time::timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(StoreError::Silent))
    }

    /// Where people link their keys.
    pub fn keys_url(&self) -> String {
        format!("{}/settings/keys", self.settings.public_url)
    }

    /// Where people follow a task.
    pub fn task_url(&self, task: &TaskId) -> String {
        format!("{}/tasks/{task}", self.settings.public_url)
    }
}

impl Settings {
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// The model an agent is asked for where the command names none and the vendor is chosen.
    pub fn default_model(&self, agent: &Agent, access: Option<usize>) -> Option<String> {
        let set = self.default_models.get(&agent.name).cloned();
        set.or_else(|| agent.access.get(access?)?.default_model.map(ToOwned::to_owned))
    }

    fn all_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().chain(self.keys.values())
    }
}
