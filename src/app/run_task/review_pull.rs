//! A review of a pull request: what the agent found is checked against the diff, and becomes one review
//! that neither approves nor asks for changes (threat T10).

use super::collect::{git, read};
use super::patience::{CallError, FOR_RESULTS, Stop};
use super::publish::{check_permission, done};
use super::{RunContext, unfinished};
use crate::adapters::github::GitHubError;
use crate::adapters::store::Purpose;
use crate::domain::comment::{review_body_of, review_marker};
use crate::domain::diff::Diff;
use crate::domain::failure::Failure;
use crate::domain::markdown::code;
use crate::domain::review::{LineComment, Written, write};
use crate::domain::run::ReviewFacts;

const MAX_DIFF_BYTES: u64 = 32 * 1024 * 1024;
/// Of the diff that the agent is handed; it reads the rest in the checkout.
const MAX_SHOWN_BYTES: usize = 256 * 1024;

/// What the reviewer is told, with as much of the diff as has room.
pub(super) async fn prompt(ctx: &mut RunContext) -> Result<String, Stop> {
    let from = ctx.inputs()?.review_from().to_owned();
    let mut shown = diff_since(ctx, "review-prompt-diff", &from).await?.within(MAX_SHOWN_BYTES);
    shown.text = ctx.redacted(&shown.text);
    ctx.run.facts.cut.clone_from(&shown.cut);
    Ok(ctx.inputs()?.review_prompt(&ctx.task.requester.login, &ctx.task.request, &shown))
}

/// What Git shows from a commit to the head that the task is for, whatever the agent did to the files.
pub(super) async fn diff_since(ctx: &RunContext, name: &str, from: &str) -> Result<Diff, Stop> {
    let head = ctx.inputs()?.base_sha.as_str();
    // Files that nobody reads line by line count as binary.
    let options =
        ["-c", "core.quotePath=false", "-c", "core.bigFileThreshold=4m", "diff", "--no-color", "--no-ext-diff"];
    let more = ["--no-textconv", "--find-renames", "-U3", from, head, "--"];
    let args: Vec<&str> = options.into_iter().chain(more).collect();
    git(ctx, name, &args, None, Some(name)).await?;
    let diff = read(ctx, name, MAX_DIFF_BYTES).await?;
    Ok(Diff::read(&String::from_utf8_lossy(&diff)))
}

/// Sorts what was found to the lines of the diff.
pub(super) async fn collect(ctx: &mut RunContext) -> Result<(), Stop> {
    if let Some(ending) = unfinished(ctx) {
        return Err(Stop::Ended(Box::new(ending)));
    }
    let Some(found) = ctx.run.facts.found.clone() else {
        let said = ctx.run.facts.agent_text.clone().unwrap_or_default();
        return Err(Stop::Failed(Failure::NoReview { agent: ctx.task.agent.clone(), said }));
    };
    let Some(pull) = ctx.inputs()?.pull.clone() else { return Err(Stop::Failed(Failure::Internal)) };
    let diff = diff_since(ctx, "review-diff", &pull.merge_base).await?;
    let inputs = ctx.inputs()?;
    let Written { body, comments, remarks, fixed } =
        write(&ctx.task.agent, found, &diff, &inputs.ledger, &ctx.run.facts.cut);
    let commit = inputs.base_sha.clone();
    ctx.run.facts.review = Some(ReviewFacts { commit, remarks, body, comments, fixed, id: None });
    Ok(())
}

/// Makes the review, unless it was made before, and settles what is fixed.
pub(super) async fn publish(ctx: &mut RunContext) -> Result<(), Stop> {
    check_permission(ctx).await?;
    let Some(review) = ctx.run.facts.review.clone() else { return Err(Stop::Failed(Failure::Internal)) };
    let id = match make_review(ctx, &review.body, &review.comments).await? {
        Some(id) => Some(id),
        // A line that GitHub does not show, after all: better all of it in the body than none.
        None => make_review(ctx, &with_comments(&review), &[]).await?,
    };
    if let Some(review) = &mut ctx.run.facts.review {
        review.id = id;
    }
    ctx.record(&[]).await?;
    for talk in review.fixed.iter().filter_map(|standing| standing.talk.as_deref()) {
        settle_talk(ctx, talk).await?;
    }
    Err(Stop::Ended(Box::new(done())))
}

/// A courtesy: a conversation that GitHub does not let us settle is left to people.
async fn settle_talk(ctx: &RunContext, talk: &str) -> Result<(), Stop> {
    ctx.patiently(FOR_RESULTS, |_| async move {
        ctx.take_write(Purpose::Result).await?;
        match ctx.app.github.settle_talk(&ctx.place(), talk).await {
            Err(GitHubError::Forbidden { .. } | GitHubError::Refused { .. } | GitHubError::Missing) => Ok(()),
            answer => Ok(answer?),
        }
    })
    .await
}

/// Makes a review of a task, unless it was made before. Gives its number; `None`: GitHub shows some of the lines to
/// nobody.
pub(super) async fn make_review(ctx: &RunContext, body: &str, comments: &[LineComment]) -> Result<Option<i64>, Stop> {
    let body = ctx.redacted(&review_body_of(&ctx.task, body, &ctx.app.task_url(&ctx.task.id)));
    let redacted = |one: &LineComment| LineComment { body: ctx.redacted(&one.body), ..one.clone() };
    let comments: Vec<LineComment> = comments.iter().map(redacted).collect();
    let (body, comments) = (body.as_str(), comments.as_slice());
    ctx.patiently(FOR_RESULTS, |_| async move { make_once(ctx, body, comments).await }).await
}

async fn make_once(ctx: &RunContext, body: &str, comments: &[LineComment]) -> Result<Option<i64>, CallError> {
    let (place, github, pull) = (ctx.place(), &ctx.app.github, ctx.task.thread.issue.0);
    let bot = ctx.app.bot_login().await?;
    if let Some(found) = github.find_review(&place, pull, &review_marker(&ctx.task), &bot).await? {
        return Ok(Some(found));
    }
    let commit = ctx.inputs()?.base_sha.as_str();
    ctx.take_write(Purpose::Result).await?;
    match github.create_review(&place, pull, commit, body, comments).await {
        Err(GitHubError::Refused { status: 422, .. }) if !comments.is_empty() => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

fn with_comments(review: &ReviewFacts) -> String {
    let list = review
        .comments
        .iter()
        .map(|one| format!("#### {}\n\n{}", code(&format!("{}:{}", one.path, one.line)), one.body));
    format!("{}\n\n{}", review.body, list.collect::<Vec<_>>().join("\n\n"))
}
