//! `hireling demo`: the main job on this machine, with no account and no network. The service is the
//! real one; only GitHub is a stand-in.

mod agent;
mod show;
pub mod standin;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::adapters::system::SystemClock;
use crate::app::Role;
use crate::config::{Config, Source};
use crate::domain::ids::Millis;
use crate::domain::task::{Outcome, Task, TaskState};
use crate::ports::clock::Clock;
use crate::service::Service;
use show::Screen;
use standin::Standin;

/// What was asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct Order {
    pub agent: Option<String>,
    pub repo: Option<PathBuf>,
    pub once: bool,
    pub request: String,
}

const REPO: &str = "acme/shop";
const PERSON: &str = "maria";
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs the demo. With `once`, `Ok(true)` means that the pull request is there; without, it returns
/// when the person ends it.
pub async fn run(order: Order, source: &Source, program: PathBuf) -> anyhow::Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = tempfile::Builder::new().prefix("hireling-demo-").tempdir().context("no temporary folder can be made")?;
    let github = Standin::start(&dir.path().join("github"), Arc::clone(&clock)).await?;
    match &order.repo {
        Some(path) => github
            .clone_repository(REPO, path)
            .await
            .with_context(|| format!("{} cannot be read as a Git repository", path.display()))?,
        None => github.add_repository(REPO, &agent::SAMPLE).await?,
    }
    github.set_permission(REPO, PERSON, "write").await;
    github.set_owner(PERSON).await;
    let config = config(&order, source, &github, dir.path())?;
    let agent = order.agent.clone().unwrap_or_else(|| agent::NAME.to_owned());
    let service = Service::start(config, Role::All, program, None).await?;
    let url = format!("http://{}", service.address);
    let screen = Screen::new();
    screen.line(&format!("Hireling listens on {url}, the stand-in for GitHub on {}.", github.url));
    if order.agent.is_none() {
        screen.line(
            "No agent was named: the built-in one `demo` works, a short script that really edits the repository.",
        );
    }
    let (title, body) = match &order.repo {
        Some(_) => ("A wish for this repository", order.request.as_str()),
        None => ("The greeting is misspelt", "Our greeting says `Helo, wrld`. Customers laugh."),
    };
    let issue = github.open_issue(REPO, PERSON, title, body).await;
    let command = format!("/agent {agent} {}", order.request).trim_end().to_owned();
    screen.line(&format!("\n#{issue} {title}\n{PERSON}: {command}\n"));
    github.say(&url, REPO, issue, PERSON, &command).await;
    let followed = tokio::select! {
        followed = follow(&service, &screen, clock.now()) => Some(followed?),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(task) = followed else {
        screen.line("Stopped.");
        service.discard().await;
        return Ok(false);
    };
    screen.thread(&github, REPO, issue).await;
    let mut done = false;
    if let Some(task) = &task {
        done = screen.pull(&github, REPO, task).await? && task.state == TaskState::Finished(Outcome::Succeeded);
        screen.line(&format!("The task and its log: {url}/tasks/{}", task.id));
    }
    screen.line(&format!("The thread: {}/{REPO}/issues/{issue}", github.url));
    if !order.once {
        screen.line("\nThe pages stay up until you press Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    service.discard().await;
    Ok(done)
}

/// Keys, addresses of models and the sandbox come from the person's settings, everything else is the
/// demo's own.
fn config(order: &Order, source: &Source, github: &Standin, dir: &std::path::Path) -> anyhow::Result<Config> {
    let database = format!("sqlite://{}", dir.join("data").join("hireling.db").display());
    let app_id = github.app_id.to_string();
    let api_url = github.api_url();
    let source = source.with([
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("PUBLIC_URL", ""),
        ("DATABASE_URL", &database),
        ("GITHUB_APP_ID", &app_id),
        ("GITHUB_APP_PRIVATE_KEY", github.private_key.expose()),
        ("GITHUB_WEBHOOK_SECRET", github.webhook_secret.expose()),
        ("GITHUB_CLIENT_ID", github.client_id),
        ("GITHUB_CLIENT_SECRET", github.client_secret.expose()),
        ("GITHUB_URL", &github.url),
        ("GITHUB_API_URL", &api_url),
        ("SANDBOX_PROVIDER", if source.names_a_stand_in_for_vercel() { "vercel" } else { "local" }),
        ("ALLOWED_ACCOUNTS", ""),
        ("OPERATOR_KEY_ACCOUNTS", ""),
        ("DEFAULT_AGENT", ""),
        ("METRICS_ADDR", "off"),
    ]);
    let mut config = Config::from_source(&source)?;
    config.agents.push(agent::agent());
    if let Some(name) = &order.agent {
        anyhow::ensure!(config.agents.iter().any(|agent| agent.name == *name), "there is no agent named {name} here");
    }
    Ok(config)
}

/// Prints the log of the task as it grows, until the task is over and told on the thread. `None`:
/// the command came to no task; the thread says why.
async fn follow(service: &Service, screen: &Screen, started: Millis) -> anyhow::Result<Option<Task>> {
    let (app, mut seen) = (&service.app, 0);
    let mut news = app.signals.log.subscribe();
    loop {
        anyhow::ensure!(app.clock.now().since(started) < PATIENCE, "the task took too long");
        // Asked first: a delivery that is decided by then has made its task.
        let told = !app.store.has_open_promises().await?;
        let page = crate::adapters::store::TaskPage { limit: 1, ..Default::default() };
        let newest = app.store.tasks(page).await?.into_iter().next().map(|(_, task)| task);
        match newest {
            Some(task) => {
                for entry in app.store.log_after(&task.id, seen, 500).await? {
                    seen = entry.seq;
                    screen.entry(&entry);
                }
                if task.state.is_finished() && !app.store.has_open_promises().await? {
                    return Ok(Some(task));
                }
            }
            None if told => return Ok(None),
            None => {}
        }
        let _ = tokio::time::timeout(Duration::from_millis(100), news.recv()).await;
    }
}
