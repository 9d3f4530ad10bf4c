//! The project in the sandbox: its dependencies, and its development server when the sandbox stays.

use std::time::Duration;

use super::RunContext;
use super::commands::run_short;
use super::patience::{FOR_RESULTS, Stop};
use super::prepare::set_headers;
use crate::domain::log_entry::{Kind, Line};
use crate::domain::project::{DevServer, Project};
use crate::domain::run::Kept;
use crate::domain::secret::Secret;
use crate::domain::task::Outcome;
use crate::ports::sandbox::CommandSpec;

const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
const SERVE_TIMEOUT: Duration = Duration::from_secs(600);

/// `name`: tells the commands of one step from those of another.
async fn look(ctx: &RunContext, name: &str) -> Result<Project, Stop> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let listed = run_short(ctx, &format!("{name}-files"), &words(&["ls", "-1A"]), &[], LOOK_TIMEOUT).await?;
    let files: Vec<String> = listed.stdout.lines().map(ToOwned::to_owned).collect();
    let mut package_json = None;
    if files.iter().any(|file| file == "package.json") {
        let read = words(&["cat", "package.json"]);
        package_json = Some(run_short(ctx, &format!("{name}-package"), &read, &[], LOOK_TIMEOUT).await?.stdout);
    }
    Ok(Project { files, package_json })
}

/// Installs what the project depends on. What fails is told, and the agent works all the same.
pub(super) async fn install_dependencies(ctx: &mut RunContext, name: &str) -> Result<Project, Stop> {
    let project = look(ctx, name).await?;
    for (number, argv) in project.installs().iter().enumerate() {
        let name = format!("{name}-install-{number}");
        run_told(ctx, &name, argv, "The project's dependencies could not be installed").await?;
    }
    Ok(project)
}

/// Runs what the repository's policy asks for. What fails is told, and the agent works all the same.
pub(super) async fn set_up(ctx: &mut RunContext) -> Result<(), Stop> {
    for (number, argv) in ctx.inputs()?.terms.setup.clone().iter().enumerate() {
        run_told(ctx, &format!("set-up-{number}"), argv, "A set-up command of the policy failed").await?;
    }
    Ok(())
}

async fn run_told(ctx: &mut RunContext, name: &str, argv: &[String], on_failure: &str) -> Result<(), Stop> {
    ctx.record(&[Line::new(Kind::Command, argv.join(" "))]).await?;
    let ended = run_short(ctx, name, argv, &[], INSTALL_TIMEOUT).await?;
    if !ended.is_ok() {
        ctx.record(&[Line::new(Kind::Error, ended.tail)]).await?;
        let note = format!("{on_failure} ({}).", argv.first().map_or("", String::as_str));
        ctx.run.facts.note(note);
    }
    Ok(())
}

/// Leaves the sandbox running after a run that went well, with the project served, if it was asked
/// for. Nothing that fails here spoils the result.
pub(super) async fn keep(ctx: &mut RunContext) -> Result<(), Stop> {
    let went_well = ctx
        .run
        .facts
        .ending
        .as_ref()
        .is_some_and(|ending| matches!(ending.outcome, Outcome::Succeeded | Outcome::NoChanges));
    // A sandbox that was kept before stays for the rest of its time.
    let is_to_stay = ctx.task.options.keep_alive || ctx.run.facts.took_over;
    if !is_to_stay || !went_well || ctx.run.facts.kept.is_some() {
        return Ok(());
    }
    let Some(until) = ctx.run.facts.sandbox_ends_at else {
        ctx.run.facts.note("Sandboxes on the machine of the service are not kept.".to_owned());
        return Ok(());
    };
    // Who can reach the server must not call others in the requester's name.
    if ctx.run.facts.connectors_injected && set_headers(ctx, &[]).await.is_err() {
        ctx.run.facts.note("The sandbox was not kept: its connectors' secrets could not be taken off.".to_owned());
        return Ok(());
    }
    // The result waits for this: not for long.
    let (address, about) = match tokio::time::timeout(SERVE_TIMEOUT, Box::pin(serve(ctx))).await {
        Ok(Ok(served)) => served,
        Ok(Err(Stop::Lost)) => return Err(Stop::Lost),
        Ok(Err(Stop::SandboxLost)) => {
            ctx.run.facts.note("The sandbox was lost before it could be kept.".to_owned());
            return Ok(());
        }
        Ok(Err(_)) | Err(_) => (None, "its development server could not be started".to_owned()),
    };
    // Somebody may have cancelled since the work was published.
    let task = ctx.patiently(FOR_RESULTS, |_| async { Ok(ctx.app.store.task(&ctx.task.id).await?) }).await?;
    if task.is_some_and(|task| task.cancelled_by.is_some()) {
        return Ok(());
    }
    ctx.run.facts.kept = Some(Kept { until, address, about });
    ctx.record(&[]).await
}

async fn serve(ctx: &mut RunContext) -> Result<(Option<String>, String), Stop> {
    let project = install_dependencies(ctx, "serve").await?;
    let Some(DevServer { port, argv, env }) = project.dev_server() else {
        return Ok((None, "there is no development server in its package.json".to_owned()));
    };
    let left = ctx.run.facts.sandbox_ends_at.map(|at| at.since(ctx.app.clock.now())).unwrap_or_default();
    let about = argv.join(" ");
    let spec = CommandSpec {
        name: "dev-server".to_owned(),
        argv,
        env: env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        stdin: None,
        stdout: None,
        timeout: left,
    };
    let sandbox = ctx.sandbox()?;
    let (ctx, sandbox, spec) = (&*ctx, &sandbox, &spec);
    let address = ctx
        .patiently_in_sandbox(|| async move {
            ctx.app.sandbox.start(sandbox, spec).await?;
            Ok(ctx.app.sandbox.address(sandbox, port).await?)
        })
        .await?;
    Ok((address, about))
}
