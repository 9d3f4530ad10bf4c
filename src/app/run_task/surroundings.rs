//! What stands around a pull request, and the files that people attached, on their way to the agent. Courtesies:
//! what GitHub does not give out holds nothing up.

use super::RunContext;
use super::patience::{CallError, Stop};
use crate::adapters::github::GitHubError;
use crate::domain::attachment::{Attached, extension};
use crate::domain::surroundings::Surroundings;
use crate::domain::text::{count, without_hidden};

/// Issues that the pull request closes, and what failed at its head.
pub(super) async fn around(ctx: &RunContext, head: &str) -> Result<Surroundings, CallError> {
    let (place, github, task) = (ctx.place(), &ctx.app.github, &ctx.task);
    let issues = unless_refused(ctx, github.linked_issues(&place, task.thread.issue, task.triggered_at).await)?;
    let checks = unless_refused(ctx, github.failed_checks(&place, head).await)?;
    Ok(Surroundings { issues, checks })
}

fn unless_refused<T: Default>(ctx: &RunContext, answer: Result<T, GitHubError>) -> Result<T, CallError> {
    match answer {
        Err(error) if !error.is_passing() => {
            tracing::info!(error = %ctx.redacted(&error.to_string()), "something beside a pull request was not read");
            Ok(T::default())
        }
        answer => Ok(answer?),
    }
}

/// Fetches attached files and puts them beside the checkout.
pub(super) async fn place_attachments(ctx: &mut RunContext) -> Result<(), Stop> {
    let (wanted, is_private) = (ctx.inputs()?.attachments.clone(), ctx.inputs()?.is_private);
    if wanted.is_empty() {
        return Ok(());
    }
    let from = match is_private {
        true => ctx.app.github.signed(&ctx.place(), ctx.task.thread.issue, &wanted).await.unwrap_or(wanted.clone()),
        false => wanted.clone(),
    };
    let mut placed = Vec::new();
    for (number, (address, from)) in (1..).zip(wanted.iter().zip(from)) {
        let Some(bytes) = ctx.app.github.attachment(&from).await else { continue };
        let Some(extension) = extension(&bytes) else { continue };
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => ctx.redacted(&without_hidden(&text).text).into_bytes(),
            Err(image) => image.into_bytes(),
        };
        let file = format!("attachment-{number}.{extension}");
        let (sandbox, name, bytes) = (&ctx.sandbox()?, file.as_str(), bytes.as_slice());
        let app = &ctx.app;
        ctx.patiently_in_sandbox(|| async move { Ok(app.sandbox.write_file(sandbox, name, bytes).await?) }).await?;
        placed.push(Attached { file, address: address.clone() });
    }
    let missing = wanted.len() - placed.len();
    ctx.run.facts.attached = placed;
    let note = format!("{} could not be handed to the agent.", count(missing, "attached file"));
    if missing > 0 {
        ctx.run.facts.note(note);
    }
    Ok(())
}
