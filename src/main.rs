//! The command line: reads the settings, starts what was asked for, and says in one sentence what
//! is wrong when something is.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that talks to a person")]

mod check;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use hireling::adapters::sandbox::local;
use hireling::adapters::store::{Access, Store};
use hireling::adapters::system::SystemClock;
use hireling::app::Role;
use hireling::config::{Config, LogConfig, Source};
use hireling::demo;
use hireling::domain::ids::DeliveryId;
use hireling::ports::clock::Clock as _;
use hireling::service::{self, Ground};
use hireling::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A comment on GitHub becomes a pull request.
#[derive(Debug, Parser)]
#[command(
    name = "hireling",
    version,
    about,
    after_help = "Settings come from the environment and from .env; the README lists them."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service: web and worker in one process [default]
    Serve {
        /// Run only one half; the other runs in another process on the same PostgreSQL database
        #[arg(long)]
        only: Option<Only>,
    },
    /// The main job on this machine, with no account and no network
    Demo {
        /// The agent to use; without it, a short script that edits the sample repository
        #[arg(long)]
        agent: Option<String>,
        /// A local Git repository to work on, instead of the sample
        #[arg(long)]
        repo: Option<PathBuf>,
        /// Exit when the task is over: 0 only if the pull request is there
        #[arg(long)]
        once: bool,
        /// What the agent should do
        request: Vec<String>,
    },
    /// Apply database migrations and stop
    Migrate,
    /// Validate the settings; reach the database, GitHub and the sandbox
    Check,
    /// Process a stored delivery again
    Replay {
        /// The delivery's GUID, as GitHub and the ledger show it
        id: String,
    },
    /// Re-seal every stored secret with the first ENCRYPTION_KEY, beside a running service
    RotateKeys,
    /// Copy the SQLite database into a new file, beside a running service
    Backup {
        /// Where to; it must not be there
        file: PathBuf,
    },
    /// Make or renew the sandbox snapshot with the agents' CLIs in it
    Snapshot,
    /// Stands over one command of a local sandbox; started by the service itself
    #[command(hide = true, name = "sandbox-command")]
    Supervise,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    Web,
    Worker,
}

/// What still runs when all is done is left alone after this time.
const LINGER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Some(Command::Supervise)) {
        return match local::supervise() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hireling: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(cli.command.unwrap_or(Command::Serve { only: None })));
    // A name that is being looked up does not hold up the end.
    runtime.shutdown_timeout(LINGER);
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hireling: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: it ran, and the answer is no.
async fn run(command: Command) -> anyhow::Result<bool> {
    let source = Source::environment()?;
    let mut log = LogConfig::from_source(&source)?;
    if matches!(
        command,
        Command::Demo { .. }
            | Command::Check
            | Command::Migrate
            | Command::RotateKeys
            | Command::Backup { .. }
            | Command::Snapshot
    ) && log.filter == "info"
    {
        // These talk to a person themselves.
        "error".clone_into(&mut log.filter);
    }
    telemetry::start_logs(&log)?;
    match command {
        Command::Serve { only } => serve(&source, only).await,
        Command::Demo { agent, repo, once, request } => {
            let order = demo::Order { agent, repo, once, request: request.join(" ") };
            demo::run(order, &source, own_program()?).await
        }
        Command::Migrate => {
            let database = Config::database_from(&source)?;
            let store = Store::open(&service::location(&database), Access::Migration).await?;
            println!("The {} database is up to date.", store.engine());
            Ok(true)
        }
        Command::Check => Ok(check::check(&source, own_program()?).await),
        Command::Replay { id } => replay(&source, id).await,
        Command::RotateKeys => rotate_keys(&source).await,
        Command::Backup { file } => backup(&source, &file).await,
        Command::Snapshot => snapshot(&source).await,
        Command::Supervise => Ok(true),
    }
}

fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own file cannot be found")
}

async fn serve(source: &Source, only: Option<Only>) -> anyhow::Result<bool> {
    let config = Config::from_source(source)?;
    let role = match only {
        None => Role::All,
        Some(Only::Web) => Role::Web,
        Some(Only::Worker) => Role::Worker,
    };
    let metrics = config.metrics.map(|_| telemetry::start_metrics()).transpose()?;
    // Listening comes first: a stop during the start is heard.
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ground = tokio::select! {
        ground = Ground::open(config) => ground?,
        // Another process may hold up the migrations.
        _ = term.recv() => return Ok(true),
        _ = int.recv() => return Ok(true),
    };
    if role != Role::Worker && ground.registration().await?.is_none() {
        let stop = CancellationToken::new();
        let mut set_up = std::pin::pin!(ground.set_up(tell_link, stop.clone()));
        let is_told_to_stop = tokio::select! {
            done = &mut set_up => { done?; false }
            _ = term.recv() => true,
            _ = int.recv() => true,
        };
        if is_told_to_stop {
            // GitHub tells the App's secrets once: whoever is storing them is waited for.
            stop.cancel();
            set_up.await?;
            return Ok(true);
        }
    }
    let registration = ground.registration().await?.context(service::NO_APP)?;
    let service = ground.start(registration, role, own_program()?, metrics).await?;
    tracing::info!(address = %service.address, public_url = %service.app.settings.public_url, "listening");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    service.stop().await;
    Ok(true)
}

/// To the operator's screen and nowhere else: whoever has the link makes the App.
fn tell_link(link: &str) {
    tracing::info!("there is no GitHub App yet: set-up is open");
    eprintln!("\nThere is no GitHub App yet. Open this link to make one:\n\n    {link}\n");
}

async fn backup(source: &Source, file: &std::path::Path) -> anyhow::Result<bool> {
    let database = Config::database_from(source)?;
    let store = Store::open(&service::location(&database), Access::Visitor).await?;
    let bytes = store.back_up(file).await?;
    store.close().await;
    println!("{} holds the database of this moment ({} KiB).", file.display(), bytes.div_ceil(1024));
    println!(
        "The key that opens the secrets in it is not in it: keep ENCRYPTION_KEY, or the key file, somewhere else."
    );
    Ok(true)
}

async fn snapshot(source: &Source) -> anyhow::Result<bool> {
    let config = Config::from_source(source)?;
    let app = service::visitor(config, own_program()?).await?;
    println!("Installing the agents in a sandbox; this takes minutes.");
    let made = app.make_snapshot().await?;
    println!("New sandboxes start from {}.", made.id);
    for (agent, _) in made.left_out {
        println!("{agent} could not be installed; it is left out (the log says why).");
    }
    app.store.close().await;
    Ok(true)
}

async fn rotate_keys(source: &Source) -> anyhow::Result<bool> {
    let config = Config::from_source(source)?;
    let app = service::visitor(config, own_program()?).await?;
    let rotated = app.rotate_keys().await?;
    app.store.close().await;
    println!("{} sealed anew, {} sealed with the first key before.", rotated.resealed, rotated.current);
    if rotated.closed > 0 {
        println!("{} cannot be opened: the key that sealed them is not in ENCRYPTION_KEY.", rotated.closed);
    }
    Ok(rotated.closed == 0)
}

async fn replay(source: &Source, id: String) -> anyhow::Result<bool> {
    let database = Config::database_from(source)?;
    let store = Store::open(&service::location(&database), Access::Visitor).await?;
    if store.replay(&DeliveryId(id.clone()), SystemClock.now()).await? {
        println!("Delivery {id} is decided again by the running service, or at its next start.");
        return Ok(true);
    }
    println!("There is no stored delivery {id} with a body.");
    Ok(false)
}
