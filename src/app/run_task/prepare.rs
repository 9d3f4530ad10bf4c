//! Fourth step: the agent and the code get into the sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::agent_files::put_back;
use super::commands::{Ended, run_short};
use super::conversation::restore;
use super::patience::{BEFORE_WORK, Stop};
use super::project::{install_dependencies, set_up};
use super::provision::network;
use super::surroundings::place_attachments;
use super::{RunContext, connectors, retry_wait};
use crate::domain::agent::Agent;
use crate::domain::failure::Failure;
use crate::domain::network::Injection;
use crate::domain::project::NEVER_COMMITTED;
use crate::domain::secret::Secret;
use crate::ports::sandbox::{HOME, NPM_PREFIX, SCRATCH, SandboxError};

const GIT_TIMEOUT: Duration = Duration::from_secs(600);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Commits fetched, so that an agent can look a little into the past.
const DEPTH: &str = "--depth=50";
const FETCH_TRIES: u32 = 3;
pub(super) async fn prepare(ctx: &mut RunContext) -> Result<(), Stop> {
    install_agent(ctx, ctx.agent()?, "agent").await?;
    restore(ctx).await?;
    fetch_code(ctx).await?;
    put_back(ctx).await?;
    connectors::inject(ctx).await?;
    place_home_files(ctx).await?;
    place_attachments(ctx).await?;
    if ctx.inputs()?.is_of_fork() {
        // What it installs could change what the agent is told and how it starts.
        let note = "Nothing of the fork was set up or installed before the agent began.".to_owned();
        let is_wanted = ctx.task.options.install || !ctx.inputs()?.terms.setup.is_empty();
        if is_wanted {
            ctx.run.facts.note(note);
        }
        return Ok(());
    }
    set_up(ctx).await?;
    if ctx.task.options.install {
        install_dependencies(ctx, "project").await?;
    }
    Ok(())
}

/// `name`: tells its commands from those for another agent.
pub(super) async fn install_agent(ctx: &RunContext, agent: &Agent, name: &str) -> Result<(), Stop> {
    let Some(check) = agent.check.as_ref().filter(|_| agent.install.is_some()) else { return Ok(()) };
    let is_there = |ended: &Ended| agent.is_there(ended.is_ok(), &ended.stdout);
    if is_there(&run_short(ctx, &format!("{name}-check"), check, &[], CHECK_TIMEOUT).await?) {
        return Ok(());
    }
    let fault = |tail: String| Stop::Failed(Failure::InstallFailed { agent: agent.name.clone(), tail });
    for (number, argv) in (1..).zip(agent.installation(NPM_PREFIX, SCRATCH)) {
        let installed = run_short(ctx, &format!("{name}-install-{number}"), &argv, &[], INSTALL_TIMEOUT).await?;
        if !installed.is_ok() {
            return Err(fault(installed.tail));
        }
    }
    let checked = run_short(ctx, &format!("{name}-check-again"), check, &[], CHECK_TIMEOUT).await?;
    if is_there(&checked) { Ok(()) } else { Err(fault(format!("{}\n{}", checked.stdout, checked.tail))) }
}

/// The agent's own settings, with its connectors.
async fn place_home_files(ctx: &mut RunContext) -> Result<(), Stop> {
    let mcp = connectors::written(ctx).await?;
    let ctx = &*ctx;
    let agent = ctx.agent()?;
    let mut files: BTreeMap<&str, &str> = agent.home_files.iter().copied().collect();
    files.extend(mcp.as_ref().map(|mcp| (mcp.path, mcp.text.expose())));
    place_files(ctx, agent, files, "home-file").await
}

/// Files below the home folder, by path. Only the scratch folder can be written from outside.
pub(super) async fn place_files(
    ctx: &RunContext,
    agent: &Agent,
    files: BTreeMap<&str, &str>,
    name: &str,
) -> Result<(), Stop> {
    let sandbox = ctx.sandbox()?;
    let sandbox = &sandbox;
    for (number, (path, text)) in files.into_iter().enumerate() {
        let name = format!("{name}-{number}");
        let file = &name;
        ctx.patiently_in_sandbox(
            || async move { Ok(ctx.app.sandbox.write_file(sandbox, file, text.as_bytes()).await?) },
        )
        .await?;
        let place = ["install", "-D", "-m", "600", "--", &format!("{SCRATCH}/{name}"), &format!("{HOME}/{path}")];
        let placed = run_short(ctx, &name, &place.map(ToOwned::to_owned), &[], CHECK_TIMEOUT).await?;
        if !placed.is_ok() {
            return Err(Stop::Failed(Failure::InstallFailed { agent: agent.name.clone(), tail: placed.tail }));
        }
    }
    Ok(())
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
    let of_base = ctx.inputs()?.pull.iter().flat_map(|pull| [pull.base_sha.clone(), pull.merge_base.clone()]);
    let reviewed = ctx.inputs()?.ledger.since.clone();
    let wanted: Vec<String> = std::iter::once(base.clone()).chain(of_base).chain(reviewed).collect();
    let clone_failed = |ended: Ended| Stop::Failed(Failure::CloneFailed { tail: ended.tail });
    let init = run_short(ctx, "git-init", &safe_git(&["init", "--quiet", "."]), &git_env(), GIT_TIMEOUT).await?;
    if !init.is_ok() {
        return Err(clone_failed(init));
    }
    let mut number = 1;
    loop {
        let fetched = fetch_once(ctx, &wanted, number).await?;
        if fetched.is_ok() {
            break;
        }
        if number == FETCH_TRIES {
            return Err(clone_failed(fetched));
        }
        // A policy takes a moment until it holds everywhere.
        tokio::time::sleep(retry_wait(number + 1, &*ctx.app.clock)).await;
        number += 1;
    }
    let checkout = safe_git(&["checkout", "--quiet", "--force", "-B", "work", &base]);
    let done = run_short(ctx, "git-checkout", &checkout, &git_env(), GIT_TIMEOUT).await?;
    if !done.is_ok() {
        return Err(clone_failed(done));
    }
    if ctx.run.facts.took_over {
        // What the earlier run left must not look like this one's work.
        let mut clean = vec!["clean", "-ffdq"];
        clean.extend(NEVER_COMMITTED.iter().flat_map(|kept| ["-e", *kept]));
        let cleaned = run_short(ctx, "git-clean", &safe_git(&clean), &git_env(), GIT_TIMEOUT).await?;
        if !cleaned.is_ok() {
            return Err(clone_failed(cleaned));
        }
    }
    Ok(())
}

/// Fetches with a token that can read this one repository. Where the sandbox's network can put it on
/// the requests, it never enters the sandbox; else it travels in the environment of this one command.
/// It is revoked when the command has ended.
async fn fetch_once(ctx: &mut RunContext, wanted: &[String], number: u32) -> Result<Ended, Stop> {
    let token = {
        let ctx = &*ctx;
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.github.clone_token(&ctx.place()).await?) }).await?
    };
    ctx.guard(&token);
    let url = ctx.app.github.clone_url(&ctx.task.thread.name);
    let basic = Secret::new(STANDARD.encode(format!("x-access-token:{}", token.expose())));
    // The last try does without: a network that accepts a policy may still not do what it says.
    let is_injected = number < FETCH_TRIES && inject(ctx, &url, &basic).await?;
    let mut env = git_env();
    if !is_injected {
        let header = Secret::new(format!("Authorization: Basic {}", basic.expose()));
        env.extend([
            ("GIT_CONFIG_COUNT".to_owned(), Secret::new("1")),
            ("GIT_CONFIG_KEY_0".to_owned(), Secret::new(format!("http.{url}.extraHeader"))),
            ("GIT_CONFIG_VALUE_0".to_owned(), header),
        ]);
    }
    let args = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", DEPTH, "--", &url];
    let args: Vec<&str> = args.into_iter().chain(wanted.iter().map(String::as_str)).collect();
    let argv = safe_git(&args);
    let ended = run_short(ctx, &format!("git-fetch-{number}"), &argv, &env, GIT_TIMEOUT).await;
    let cleared = if is_injected { set_headers(ctx, &[]).await.map(|_| ()) } else { Ok(()) };
    if let Err(error) = ctx.app.github.revoke(&token).await {
        // It ends by itself within the hour and can only read.
        tracing::info!(error = %ctx.redacted(&error.to_string()), "a token for fetching was not revoked");
    }
    // No agent starts in a sandbox whose requests still carry a token.
    cleared?;
    ended
}

/// Has the network put the token on requests for this one repository. False: it cannot.
async fn inject(ctx: &RunContext, url: &str, basic: &Secret) -> Result<bool, Stop> {
    let Some((host, path)) = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else {
        return Ok(false);
    };
    if !ctx.app.sandbox.can_inject() {
        return Ok(false);
    }
    let header = ("authorization".to_owned(), Secret::new(format!("Basic {}", basic.expose())));
    let host = host.split(':').next().unwrap_or(host).to_owned();
    set_headers(ctx, &[Injection { host, path: format!("/{path}/"), headers: vec![header] }]).await
}

/// Has the sandbox reach what this run may reach. False: the headers cannot be put on its requests.
pub(super) async fn set_headers(ctx: &RunContext, headers: &[Injection]) -> Result<bool, Stop> {
    let (sandbox, network) = (ctx.sandbox()?, network(ctx)?);
    let (sandbox, network) = (&sandbox, &network);
    ctx.patiently_in_sandbox(|| async move {
        match ctx.app.sandbox.set_network(sandbox, network, headers).await {
            Ok(()) => Ok(true),
            Err(SandboxError::Refused(_)) if !headers.is_empty() => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
