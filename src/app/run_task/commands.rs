//! Short commands in the sandbox of a run, with the end of what they said.

use std::time::Duration;

use super::RunContext;
use super::patience::Stop;
use crate::domain::agent_stream::Exit;
use crate::domain::secret::Secret;
use crate::ports::sandbox::CommandSpec;

/// Lines kept to explain a failed command.
const TAIL_LINES: usize = 20;

/// How a short command ended.
pub(super) struct Ended {
    pub exit: Exit,
    pub stdout: String,
    /// The last lines it wrote, redacted.
    pub tail: String,
}

impl Ended {
    pub(super) fn is_ok(&self) -> bool {
        self.exit == Exit::Code(0)
    }
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

/// In a sandbox that was taken over, commands of these names have run before.
pub(super) fn named_for(ctx: &RunContext, spec: CommandSpec) -> CommandSpec {
    match ctx.run.facts.took_over {
        true => CommandSpec { name: format!("{}-{}", spec.name, ctx.run.id.short()), ..spec },
        false => spec,
    }
}

pub(super) async fn run_spec(ctx: &RunContext, spec: &CommandSpec) -> Result<Ended, Stop> {
    let sandbox = ctx.sandbox()?;
    let (sandbox, spec) = (&sandbox, &named_for(ctx, spec.clone()));
    let finished = ctx.patiently_in_sandbox(|| async move { Ok(ctx.app.sandbox.run(sandbox, spec).await?) }).await?;
    let text = String::from_utf8_lossy(&finished.tail);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    Ok(Ended { exit: finished.exit, stdout, tail: ctx.redacted(&tail) })
}
