//! Work on a pull request from a fork goes back in the way that is left: as suggestions on its lines, or on a
//! branch of this repository. The requester is told which way, and why.

use super::collect::{git, read};
use super::patience::{CallError, FOR_RESULTS, Stop};
use super::publish::to_approve;
use super::review_pull::{diff_since, make_review};
use super::{RunContext, unfinished};
use crate::domain::diff::Diff;
use crate::domain::markdown::code;
use crate::domain::pull::{Fork, PullAt};
use crate::domain::review::LineComment;
use crate::domain::suggestion::{MAX_SUGGESTIONS, suggestions};

const MAX_DIFF_BYTES: u64 = 4 * 1024 * 1024;

/// The work as suggestions on the lines that the pull request shows; `None`: they cannot hold it.
pub(super) async fn suggested(ctx: &RunContext) -> Result<Option<Vec<LineComment>>, Stop> {
    let Some(pull) = of_fork(ctx)? else { return Ok(None) };
    let is_for_it = unfinished(ctx).is_none() && to_approve(ctx)?.is_empty();
    let changes = ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes);
    let paths: Vec<String> = changes.map(|change| format!(":(literal){}", change.path)).collect();
    if !is_for_it || paths.len() > MAX_SUGGESTIONS || ctx.run.facts.commit.is_some() {
        return Ok(None);
    }
    let base = ctx.inputs()?.base_sha.as_str();
    let options = ["-c", "core.quotePath=false", "diff-index", "--cached", "--patch", "--unified=0", "--no-color"];
    let more = ["--no-ext-diff", "--no-textconv", "--no-renames", base, "--"];
    let args: Vec<&str> = options.into_iter().chain(more).chain(paths.iter().map(String::as_str)).collect();
    git(ctx, "fork-change", &args, None, Some("fork-change")).await?;
    let change = Diff::read(&String::from_utf8_lossy(&read(ctx, "fork-change", MAX_DIFF_BYTES).await?));
    let shown = diff_since(ctx, "fork-shown", &pull.merge_base).await?;
    let found = suggestions(&change, &shown);
    // What was redacted is not what the agent wrote.
    Ok(found.filter(|found| found.iter().all(|one| ctx.redacted(&one.body) == one.body)))
}

/// Hands the work back to the fork. False: it is to go to a branch of this repository.
pub(super) async fn hand_back(ctx: &mut RunContext, suggested: Option<Vec<LineComment>>) -> Result<bool, Stop> {
    let Some(fork) = of_fork(ctx)?.and_then(|pull| pull.fork.clone()) else { return Ok(false) };
    // What is unfinished is told elsewhere; what has a branch already was decided before.
    if unfinished(ctx).is_some() || ctx.run.facts.branch.is_some() {
        return Ok(false);
    }
    let why = format!("Nothing was pushed to the fork: {}", why_no_push(&fork));
    let because = match suggested {
        None => "the changes are not only about lines that the pull request shows",
        Some(_) if has_moved(ctx).await? => "somebody pushed to it meanwhile",
        Some(comments) => {
            let body =
                format!("The work of {} for this pull request, to be accepted line by line.", code(&ctx.task.agent));
            if make_review(ctx, &body, &comments).await?.is_some() {
                ctx.run.facts.suggested = Some(comments.len());
                ctx.run.facts.notes.push(format!("{why}. Whoever can push there can accept the suggestions."));
                return Ok(true);
            }
            "GitHub does not take comments on these lines"
        }
    };
    ctx.run.facts.notes.push(format!(
        "{why}. Nor are there suggestions: {because}. So the work is on a branch of this repository, on top of the \
         commits of #{}.",
        ctx.task.thread.issue
    ));
    Ok(false)
}

fn of_fork(ctx: &RunContext) -> Result<Option<&PullAt>, Stop> {
    Ok(ctx.inputs()?.pull.as_ref().filter(|pull| pull.fork.is_some()))
}

fn why_no_push(fork: &Fork) -> &'static str {
    fork.why_closed().unwrap_or("the service has no right to")
}

/// Somebody pushed to the fork since the work began.
async fn has_moved(ctx: &RunContext) -> Result<bool, Stop> {
    let made_for = ctx.inputs()?.base_sha.as_str();
    ctx.patiently(FOR_RESULTS, |_| async move {
        let now = ctx.app.github.pull(&ctx.place(), ctx.task.thread.issue.0).await?;
        Ok::<_, CallError>(now.head_sha != made_for)
    })
    .await
}
