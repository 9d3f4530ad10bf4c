//! What an agent remembers: its own record of a conversation is kept, sealed, at the end of a run, and
//! put into the sandbox of the next one of its thread. What cannot be kept is told in the prompt.

use std::time::Duration;

use super::RunContext;
use super::commands::run_short;
use super::patience::{BEFORE_WORK, Stop};
use crate::adapters::store::Conversation;
use crate::domain::agent::Sessions;
use crate::domain::ids::TaskId;
use crate::domain::log_entry::{Kind, Line};
use crate::ports::sandbox::{HOME, SCRATCH, SandboxError};

const TIMEOUT: Duration = Duration::from_secs(120);
const FILE: &str = "conversation.tar.gz";
/// Packed. Longer ones are told in the prompt.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// What a sealed conversation is bound to.
pub(crate) fn sealed_for(task: &TaskId) -> String {
    format!("conversations/{task}")
}

/// An id from an agent's output, before it becomes an argument.
fn is_id(session: &str) -> bool {
    (1..=100).contains(&session.len())
        && session.starts_with(|c: char| c.is_ascii_alphanumeric())
        && session.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Keeps the record of the conversation. That it cannot be kept ends no run.
pub(super) async fn save(ctx: &RunContext) -> Result<(), Stop> {
    let Some(sessions) = ctx.agent()?.sessions.filter(|_| ctx.app.sandbox.has_fixed_paths()) else { return Ok(()) };
    let Some(session) = ctx.run.facts.session.clone().filter(|session| is_id(session)) else { return Ok(()) };
    let Some(packed) = packed(ctx, &sessions).await? else { return Ok(()) };
    let sealed = ctx.app.vault.seal_bytes(&sealed_for(&ctx.task.id), &packed, ctx.app.clock.new_secret());
    let Ok(sealed) = sealed else { return Ok(()) };
    let kept = &Conversation { session, sealed };
    ctx.patiently_in_store(|_| async move {
        Ok(ctx.app.store.store_conversation(&ctx.task.id, kept, ctx.app.clock.now()).await?)
    })
    .await
}

async fn packed(ctx: &RunContext, sessions: &Sessions) -> Result<Option<Vec<u8>>, Stop> {
    let archive = format!("{SCRATCH}/{FILE}");
    let mut argv = words(&["tar", "-czf", &archive, "-C", HOME, "--"]);
    argv.extend(sessions.files.iter().map(|file| (*file).to_owned()));
    // Files that are not there make it fail, and the rest is packed all the same.
    run_short(ctx, "conversation-pack", &argv, &[], TIMEOUT).await?;
    let sandbox = ctx.sandbox()?;
    let sandbox = &sandbox;
    ctx.patiently_in_sandbox(|| async move {
        match ctx.app.sandbox.read_file(sandbox, FILE, MAX_BYTES).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(SandboxError::TooLarge { .. } | SandboxError::Refused(_) | SandboxError::Faulty(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Puts the record of the conversation that this run follows into the sandbox, if there is one.
pub(super) async fn restore(ctx: &mut RunContext) -> Result<(), Stop> {
    let Some(follows) = ctx.inputs()?.follows.clone() else { return Ok(()) };
    let earlier = TaskId(follows.task.clone());
    let session = unpacked(ctx, &earlier).await?;
    let how = if session.is_some() { "in the same conversation" } else { "with a summary of what was said" };
    let on = follows.branch.map(|branch| format!(", on the branch {branch}")).unwrap_or_default();
    ctx.run.facts.is_resumed = session.is_some();
    ctx.run.facts.session = session;
    ctx.record(&[Line::new(Kind::Info, format!("Going on with task {earlier} {how}{on}."))]).await
}

async fn unpacked(ctx: &RunContext, earlier: &TaskId) -> Result<Option<String>, Stop> {
    let Some(sessions) = ctx.agent()?.sessions.filter(|_| ctx.app.sandbox.has_fixed_paths()) else { return Ok(None) };
    let kept = ctx
        .patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.store.conversation(earlier).await?) })
        .await?
        .filter(|kept| is_id(&kept.session));
    let Some(Conversation { session, sealed }) = kept else { return Ok(None) };
    let packed = match ctx.app.vault.open_bytes(&sealed_for(earlier), &sealed) {
        Ok(packed) => packed,
        Err(error) => {
            tracing::warn!(error = %error, "a conversation stays closed; the prompt tells what was said");
            return Ok(None);
        }
    };
    let sandbox = ctx.sandbox()?;
    let (sandbox, packed) = (&sandbox, &packed);
    ctx.patiently_in_sandbox(|| async move { Ok(ctx.app.sandbox.write_file(sandbox, FILE, packed).await?) }).await?;
    // Only what was asked for leaves the archive: it comes from a sandbox.
    let archive = format!("{SCRATCH}/{FILE}");
    let mut argv = words(&["tar", "-xzf", &archive, "--no-same-owner", "-C", HOME, "--"]);
    argv.extend(sessions.files.iter().map(|file| (*file).to_owned()));
    // Those that were not packed make it fail; what was comes out all the same.
    run_short(ctx, "conversation-unpack", &argv, &[], TIMEOUT).await?;
    Ok(Some(session))
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_becomes_an_argument() {
        for good in ["01a2047e-b19d", "ses_1a", "7"] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", "--resume", "-x", "a b", "a/../b", &"x".repeat(101)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
