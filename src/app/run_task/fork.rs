//! Work on a pull request from a fork goes back in the first way that is open: pushed in the requester's name, as
//! suggestions on its lines, or on a branch of this repository. The requester is told which way, and why.

use super::collect::{git, read};
use super::patience::{CallError, FOR_RESULTS, Stop};
use super::publish::{redacted_message, to_approve};
use super::review_pull::{diff_since, make_review};
use super::{RunContext, retry_wait, unfinished};
use crate::adapters::github::{FileContent, GitHubError, NewCommit};
use crate::adapters::store::Purpose;
use crate::app::push_permit::PermitError;
use crate::domain::change::{Change, refused_path};
use crate::domain::comment::CommitMessage;
use crate::domain::diff::Diff;
use crate::domain::failure::Failure;
use crate::domain::ids::RepoName;
use crate::domain::markdown::code;
use crate::domain::pull::{Fork, PullAt};
use crate::domain::review::LineComment;
use crate::domain::run::PullLink;
use crate::domain::secret::Secret;
use crate::domain::suggestion::{MAX_SUGGESTIONS, suggestions};

const MAX_DIFF_BYTES: u64 = 4 * 1024 * 1024;
/// Times that GitHub is asked whose push it was.
const LOOKS: u32 = 4;
const MOVED: &str = "somebody pushed to it meanwhile";

/// The work as suggestions on the lines that the pull request shows; `None`: they cannot hold it.
pub(super) async fn suggested(ctx: &RunContext) -> Result<Option<Vec<LineComment>>, Stop> {
    match read_suggestions(ctx).await {
        // Too long to be read, say: there are other ways.
        Err(Stop::Failed(failure)) => {
            tracing::info!(?failure, "work on a fork is no matter of suggestions");
            Ok(None)
        }
        found => found,
    }
}

async fn read_suggestions(ctx: &RunContext) -> Result<Option<Vec<LineComment>>, Stop> {
    let Some(pull) = of_fork(ctx)? else { return Ok(None) };
    let is_for_it = unfinished(ctx).is_none() && to_approve(ctx)?.is_empty();
    let is_little = ctx.run.facts.files_changed <= MAX_SUGGESTIONS;
    if !is_for_it || !is_little || ctx.run.facts.commit.is_some() {
        return Ok(None);
    }
    let change = Diff::read(&change(ctx, "fork-change", "--unified=0").await?);
    let shown = diff_since(ctx, "fork-shown", &pull.merge_base).await?;
    let found = suggestions(&change, &shown);
    // The sandbox made the diff: it is about what was selected, all of it and nothing else. And what was redacted is
    // not what the agent wrote.
    let selected = || ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes);
    let is_whole = selected().all(|change_of| change.files().any(|(path, _)| path == change_of.path))
        && change.len() == selected().count();
    Ok(found.filter(|found| is_whole && found.iter().all(|one| ctx.redacted(&one.body) == one.body)))
}

/// The work as Git shows it.
async fn change(ctx: &RunContext, name: &str, context: &str) -> Result<String, Stop> {
    let base = ctx.inputs()?.base_sha.as_str();
    let changes = ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes);
    let paths: Vec<String> = changes.map(|change| format!(":(literal){}", change.path)).collect();
    let options = ["-c", "core.quotePath=false", "diff-index", "--cached", "--patch", context, "--no-color"];
    let more = ["--no-ext-diff", "--no-textconv", "--no-renames", base, "--"];
    let args: Vec<&str> = options.into_iter().chain(more).chain(paths.iter().map(String::as_str)).collect();
    git(ctx, name, &args, None, Some(name)).await?;
    Ok(String::from_utf8_lossy(&read(ctx, name, MAX_DIFF_BYTES).await?).into_owned())
}

/// How the work got back to the fork.
pub(super) enum Handed {
    Pushed,
    Suggested,
    /// It is to go to a branch of this repository, with what the requester should know of that.
    No(Option<String>),
}

/// Hands the work back to the fork, if there is a way.
pub(super) async fn hand_back(
    ctx: &mut RunContext,
    suggested: Option<Vec<LineComment>>,
    files: &FileContent,
) -> Result<Handed, Stop> {
    let Some(pull) = of_fork(ctx)?.cloned() else { return Ok(Handed::No(None)) };
    // What is unfinished is told elsewhere, what has a branch already was decided before, and what is to be approved
    // gets between nobody's commits.
    if unfinished(ctx).is_some() || ctx.run.facts.branch.is_some() || !to_approve(ctx)?.is_empty() {
        return Ok(Handed::No(None));
    }
    if ctx.run.facts.commit.is_some() {
        return Ok(Handed::Pushed);
    }
    if ctx.run.facts.push_mark.is_none() {
        ctx.run.facts.push_mark = ctx.app.clock.new_secret().first_chunk::<8>().map(hex::encode);
        ctx.record(&[]).await?;
    }
    let why = match push(ctx, &pull, files).await? {
        Ok(commit) => {
            let number = ctx.task.thread.issue.0;
            ctx.run.facts.commit = Some(commit);
            (ctx.run.facts.pull, ctx.run.facts.pull_was_there) = (Some(PullLink { number, url: pull.url }), true);
            let login = &ctx.task.requester.login;
            ctx.run.facts.note(format!("It was pushed to the fork in the name of {login}, who allowed that."));
            ctx.record(&[]).await?;
            return Ok(Handed::Pushed);
        }
        Err(why) => format!("Nothing was pushed to the fork: {why}"),
    };
    let because = match suggested {
        None => "the changes are not only about lines that the pull request shows",
        Some(_) if has_moved(ctx).await? => MOVED,
        Some(comments) => {
            let body =
                format!("The work of {} for this pull request, to be accepted line by line.", code(&ctx.task.agent));
            if make_review(ctx, &body, &comments).await?.is_some() {
                ctx.run.facts.suggested = Some(comments.len());
                ctx.run.facts.note(format!("{why}. Whoever can push there can accept the suggestions."));
                if ctx.task.options.review_by.is_some() {
                    ctx.run.facts.note("There is no second opinion on suggestions.".to_owned());
                }
                return Ok(Handed::Suggested);
            }
            "GitHub does not take comments on these lines"
        }
    };
    Ok(Handed::No(Some(format!(
        "{why}. Nor are there suggestions: {because}. So the work is on a branch of this repository, on top of the \
         commits of #{}.",
        ctx.task.thread.issue
    ))))
}

/// Pushes in the requester's name, who allowed it. `Ok(Err(_))`: why that cannot be, in half a sentence.
async fn push(ctx: &RunContext, pull: &PullAt, files: &FileContent) -> Result<Result<String, String>, Stop> {
    let fork = pull.fork.as_ref();
    let (Some(name), None) = (fork.and_then(|fork| fork.name.as_ref()), fork.and_then(Fork::why_closed)) else {
        return Ok(Err(fork.and_then(Fork::why_closed).unwrap_or("the fork is gone").to_owned()));
    };
    if !ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes).all(Change::is_plain) {
        return Ok(Err("it changes more than plain files".to_owned()));
    }
    let token = ctx.patiently(FOR_RESULTS, |_| push_token(ctx)).await?;
    let login = &ctx.task.requester.login;
    let Some(token) = token else {
        return Ok(Err(format!("{login} has not allowed it at {}/settings", ctx.app.settings.public_url)));
    };
    let mut message = redacted_message(ctx)?;
    message.body = format!("{}\n{}", message.body, mark(ctx));
    let (token, message) = (&token, &message);
    ctx.patiently(FOR_RESULTS, |_| async move { push_once(ctx, (pull, name), token, message, files).await }).await
}

async fn push_token(ctx: &RunContext) -> Result<Option<Secret>, CallError> {
    match ctx.app.push_token(ctx.task.requester.id).await {
        Ok(token) => Ok(token),
        Err(PermitError::Store(error)) => Err(error.into()),
        // A courtesy: the other ways are open.
        Err(PermitError::Unavailable(error)) => {
            tracing::info!(error = %ctx.redacted(&error), "a token to push to a fork cannot be had");
            Ok(None)
        }
    }
}

async fn push_once(
    ctx: &RunContext,
    (pull, fork): (&PullAt, &RepoName),
    token: &Secret,
    message: &CommitMessage,
    files: &FileContent,
) -> Result<Result<String, String>, CallError> {
    let base = ctx.inputs()?.base_sha.as_str();
    if let Some(head) = moved_to(ctx).await? {
        return Ok(ours(ctx, head).await?.ok_or_else(|| MOVED.to_owned()));
    }
    let changes = ctx.run.facts.selection.as_ref().map(|selection| selection.changes.as_slice()).unwrap_or_default();
    let commit = NewCommit { branch: &pull.head_branch, parent: base, message, changes, content: files };
    ctx.take_write(Purpose::Result).await?;
    match ctx.app.github.create_commit_as(token, fork, &commit).await {
        Ok(id) => Ok(Ok(id)),
        // It may have been us, of whom GitHub has not told the pull request yet.
        Err(GitHubError::Moved { .. }) => {
            for tries in 0..LOOKS {
                if let Some(head) = moved_to(ctx).await? {
                    return Ok(ours(ctx, head).await?.ok_or_else(|| MOVED.to_owned()));
                }
                tokio::time::sleep(retry_wait(tries, &*ctx.app.clock)).await;
            }
            Ok(Err(MOVED.to_owned()))
        }
        Err(error) if error.is_passing() && error != GitHubError::Unauthorized => Err(error.into()),
        Err(error) => {
            tracing::info!(error = %ctx.redacted(&error.to_string()), "a push to a fork was refused");
            Ok(Err(format!("GitHub does not let the App push there; {} has to have it, too", fork.owner)))
        }
    }
}

/// Nobody can know it before we have pushed: a task's id is public.
fn mark(ctx: &RunContext) -> String {
    format!("Hireling-Push: {}", ctx.run.facts.push_mark.as_deref().unwrap_or_default())
}

/// Our own commit, of which the answer was lost.
async fn ours(ctx: &RunContext, head: String) -> Result<Option<String>, CallError> {
    let found = ctx.app.github.commit(&ctx.place(), &head).await?;
    let is_ours = found.parents == [ctx.inputs()?.base_sha.as_str()] && found.message.contains(&mark(ctx));
    Ok(is_ours.then_some(head))
}

/// The head of the pull request, if it is another one than the work was made for.
async fn moved_to(ctx: &RunContext) -> Result<Option<String>, CallError> {
    let now = ctx.app.github.pull(&ctx.place(), ctx.task.thread.issue.0).await?.head_sha;
    Ok(Some(now).filter(|now| ctx.inputs().is_ok_and(|inputs| inputs.base_sha != *now)))
}

/// A branch here carries the fork's commits. Those that change what runs with this repository's rights stay out.
pub(super) async fn check_may_stand_here(ctx: &RunContext) -> Result<(), Stop> {
    let Some(pull) = of_fork(ctx)? else { return Ok(()) };
    let head = ctx.inputs()?.base_sha.as_str();
    let changed = ctx
        .patiently(FOR_RESULTS, |_| async move {
            Ok(ctx.app.github.files_between(&ctx.place(), &pull.merge_base, head).await?)
        })
        .await?;
    let bad = match changed {
        Some(paths) => paths.into_iter().find(|path| refused_path(path).is_some()),
        None => Some("more files than GitHub lists".to_owned()),
    };
    let Some(path) = bad else { return Ok(()) };
    // What is done is not lost: people can take it from here.
    let patch = change(ctx, "fork-patch", "--unified=3").await.unwrap_or_default();
    Err(Stop::Failed(Failure::ForkNotHere { path, patch }))
}

fn of_fork(ctx: &RunContext) -> Result<Option<&PullAt>, Stop> {
    Ok(ctx.inputs()?.pull.as_ref().filter(|pull| pull.fork.is_some()))
}

/// Somebody pushed to the fork since the work began.
async fn has_moved(ctx: &RunContext) -> Result<bool, Stop> {
    Ok(ctx.patiently(FOR_RESULTS, |_| moved_to(ctx)).await?.is_some())
}
