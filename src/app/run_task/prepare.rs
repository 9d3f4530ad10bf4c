//! Third and fourth step: a sandbox, in it the agent and the code.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RunContext;
use super::patience::{BEFORE_WORK, CallError, Stop};
use crate::domain::agent::Install;
use crate::domain::agent_stream::Exit;
use crate::domain::failure::Failure;
use crate::domain::secret::Secret;
use crate::ports::sandbox::{CommandSpec, CommandStatus, OutputKind, SandboxId, SandboxSpec};

/// A sandbox lives longer than its agent: fetching before and collecting after take time, too.
const MARGIN: Duration = Duration::from_secs(30 * 60);
const GIT_TIMEOUT: Duration = Duration::from_secs(600);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Commits fetched, so that an agent can look a little into the past.
const DEPTH: &str = "--depth=50";
const FETCH_TRIES: u32 = 3;
/// Output kept to explain a failed command.
const TAIL_LINES: usize = 20;

/// How a short command ended, with the end of what it said.
pub(super) struct Ended {
    pub exit: Exit,
    pub stdout: String,
    pub tail: String,
}

impl Ended {
    pub(super) fn is_ok(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

pub(super) async fn provision(ctx: &mut RunContext) -> Result<(), Stop> {
    let spec = SandboxSpec { name: ctx.run.id.0.clone(), lifetime: ctx.time_limit() + MARGIN };
    let id = {
        let (ctx, spec) = (&*ctx, &spec);
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.sandbox.create(spec).await?) }).await?
    };
    ctx.run.facts.sandbox = Some(id.0);
    Ok(())
}

pub(super) async fn prepare(ctx: &mut RunContext) -> Result<(), Stop> {
    install_agent(ctx).await?;
    fetch_code(ctx).await
}

async fn install_agent(ctx: &RunContext) -> Result<(), Stop> {
    let agent = ctx.agent()?;
    let (Some(check), Some(install)) = (&agent.check, &agent.install) else { return Ok(()) };
    let is_there = |ended: &Ended| match install {
        Install::Npm { version, .. } => ended.is_ok() && ended.stdout.contains(version),
        Install::Argv(_) => ended.is_ok(),
    };
    if is_there(&run_short(ctx, "agent-check", check, &[], CHECK_TIMEOUT).await?) {
        return Ok(());
    }
    let home = ctx.app.sandbox.paths(&ctx.sandbox()?).home;
    let argv = match install {
        Install::Argv(argv) => argv.clone(),
        Install::Npm { package, version } => ["npm", "install", "--global", "--no-fund", "--no-audit", "--prefix"]
            .map(ToOwned::to_owned)
            .into_iter()
            .chain([format!("{home}/.local"), format!("{package}@{version}")])
            .collect(),
    };
    let installed = run_short(ctx, "agent-install", &argv, &[], INSTALL_TIMEOUT).await?;
    let fault = |tail: String| Stop::Failed(Failure::InstallFailed { agent: agent.name.clone(), tail });
    if !installed.is_ok() {
        return Err(fault(installed.tail));
    }
    let checked = run_short(ctx, "agent-check-again", check, &[], CHECK_TIMEOUT).await?;
    if is_there(&checked) { Ok(()) } else { Err(fault(format!("{}\n{}", checked.stdout, checked.tail))) }
}

/// Git settings that keep a hostile repository from running anything (threat T07).
pub(super) fn safe_git(args: &[&str]) -> Vec<String> {
    let switches = [
        "git",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "protocol.allow=never",
        "-c",
        "protocol.https.allow=always",
        "-c",
        "protocol.http.allow=always",
        "-c",
        "core.autocrlf=false",
        "-c",
        "gc.auto=0",
        "-c",
        "advice.detachedHead=false",
    ];
    switches.iter().chain(args).map(|word| (*word).to_owned()).collect()
}

/// No configuration from outside, no questions, no large-file downloads.
pub(super) fn git_env() -> Vec<(String, Secret)> {
    [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), Secret::new(value)))
    .to_vec()
}

async fn fetch_code(ctx: &mut RunContext) -> Result<(), Stop> {
    let base = ctx.inputs()?.base_sha.clone();
    let clone_failed = |ended: Ended| Stop::Failed(Failure::CloneFailed { tail: ended.tail });
    let init = run_short(ctx, "git-init", &safe_git(&["init", "--quiet", "."]), &git_env(), GIT_TIMEOUT).await?;
    if !init.is_ok() {
        return Err(clone_failed(init));
    }
    let mut number = 1;
    loop {
        let fetched = fetch_once(ctx, &base, number).await?;
        if fetched.is_ok() {
            break;
        }
        if number == FETCH_TRIES {
            return Err(clone_failed(fetched));
        }
        number += 1;
    }
    let checkout = safe_git(&["checkout", "--quiet", "--force", "-B", "work", &base]);
    let done = run_short(ctx, "git-checkout", &checkout, &git_env(), GIT_TIMEOUT).await?;
    if done.is_ok() { Ok(()) } else { Err(clone_failed(done)) }
}

/// Fetches with a token that can read this one repository. It travels in the environment of this
/// one command and is revoked when the command has ended.
async fn fetch_once(ctx: &mut RunContext, base: &str, number: u32) -> Result<Ended, Stop> {
    let token = {
        let ctx = &*ctx;
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.github.clone_token(&ctx.place()).await?) }).await?
    };
    ctx.guard(&token);
    let url = ctx.app.github.clone_url(&ctx.task.thread.name);
    let basic = Secret::new(STANDARD.encode(format!("x-access-token:{}", token.expose())));
    let header = Secret::new(format!("Authorization: Basic {}", basic.expose()));
    let mut env = git_env();
    env.extend([
        ("GIT_CONFIG_COUNT".to_owned(), Secret::new("1")),
        ("GIT_CONFIG_KEY_0".to_owned(), Secret::new(format!("http.{url}.extraHeader"))),
        ("GIT_CONFIG_VALUE_0".to_owned(), header),
    ]);
    let argv = safe_git(&["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", DEPTH, "--", &url, base]);
    let ended = run_short(ctx, &format!("git-fetch-{number}"), &argv, &env, GIT_TIMEOUT).await;
    if let Err(error) = ctx.app.github.revoke(&token).await {
        // It ends by itself within the hour and can only read.
        tracing::info!(error = %ctx.redacted(&error.to_string()), "a token for fetching was not revoked");
    }
    ended
}

/// Runs a command to its end. One of this name that was started before is waited for instead.
pub(super) async fn run_short(
    ctx: &RunContext,
    name: &str,
    argv: &[String],
    env: &[(String, Secret)],
    timeout: Duration,
) -> Result<Ended, Stop> {
    let spec = CommandSpec {
        name: name.to_owned(),
        argv: argv.to_vec(),
        env: env.to_vec(),
        stdin: None,
        stdout: None,
        timeout,
    };
    run_spec(ctx, &spec).await
}

pub(super) async fn run_spec(ctx: &RunContext, spec: &CommandSpec) -> Result<Ended, Stop> {
    let sandbox = ctx.sandbox()?;
    let sandbox = &sandbox;
    ctx.patiently(BEFORE_WORK, |_| async move {
        ctx.app.sandbox.start(sandbox, spec).await?;
        follow_short(ctx, sandbox, &spec.name).await
    })
    .await
}

async fn follow_short(ctx: &RunContext, sandbox: &SandboxId, name: &str) -> Result<Ended, CallError> {
    use futures::StreamExt as _;
    const KEPT: usize = 64 * 1024;
    let (mut stdout, mut both) = (Vec::new(), Vec::new());
    let mut output = ctx.app.sandbox.output(sandbox, name);
    while let Some(piece) = output.next().await {
        let piece = piece?;
        if piece.kind == OutputKind::Stdout && stdout.len() < KEPT {
            stdout.extend_from_slice(&piece.bytes);
        }
        both.extend_from_slice(&piece.bytes);
        if both.len() > 2 * KEPT {
            both.drain(..both.len() - KEPT);
        }
    }
    let exit = match ctx.app.sandbox.status(sandbox, name).await? {
        CommandStatus::Ended(exit) => exit,
        CommandStatus::Running | CommandStatus::Lost => return Err(Stop::SandboxLost.into()),
    };
    let text = String::from_utf8_lossy(&both);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
    Ok(Ended { exit, stdout: String::from_utf8_lossy(&stdout).into_owned(), tail: ctx.redacted(&tail) })
}
