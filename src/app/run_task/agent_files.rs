//! On a pull request, the files by which a repository tells agents what to do are those of its base
//! (threat T06), and stay out of what is published.

use std::time::Duration;

use super::RunContext;
use super::commands::run_short;
use super::patience::Stop;
use super::prepare::{git_env, safe_git};
use crate::domain::failure::Failure;
use crate::domain::pull::agent_pathspecs;
use crate::domain::text::count;

const TIMEOUT: Duration = Duration::from_secs(120);
/// More of them are no pull request that anybody should have an agent work on.
const MAX_FILES: usize = 500;

pub(super) async fn put_back(ctx: &mut RunContext) -> Result<(), Stop> {
    let Some(pull) = ctx.inputs()?.pull.clone() else { return Ok(()) };
    let changed = differing(ctx, "changed", "DMT", &pull.base_sha).await?;
    let added = differing(ctx, "added", "A", &pull.base_sha).await?;
    if changed.len() + added.len() > MAX_FILES {
        return Err(failed("too many files for agents"));
    }
    if !added.is_empty() {
        let args = ["rm", "--quiet", "--force", "--"].into_iter().chain(added.iter().map(String::as_str));
        git(ctx, "agent-files-remove", &args.collect::<Vec<_>>()).await?;
    }
    if !changed.is_empty() {
        let args = ["checkout", &pull.base_sha, "--"].into_iter().chain(changed.iter().map(String::as_str));
        git(ctx, "agent-files-restore", &args.collect::<Vec<_>>()).await?;
    }
    let all: Vec<String> = changed.into_iter().chain(added).collect();
    if !all.is_empty() && ctx.run.facts.put_back != all {
        let what = count(all.len(), "file");
        let note =
            format!("The pull request changes {what} for agents; the agent worked with those of {}.", pull.base_branch);
        ctx.run.facts.note(note);
        ctx.run.facts.put_back = all;
        ctx.record(&[]).await?;
    }
    Ok(())
}

/// Files for agents that the head has otherwise than the base, as literal pathspecs.
async fn differing(ctx: &RunContext, name: &str, filter: &str, base: &str) -> Result<Vec<String>, Stop> {
    let filter = format!("--diff-filter={filter}");
    let pathspecs = agent_pathspecs();
    let args = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", &filter, base, "HEAD", "--"];
    let args: Vec<&str> = args.into_iter().chain(pathspecs.iter().map(String::as_str)).collect();
    let listed = git(ctx, &format!("agent-files-{name}"), &args).await?;
    Ok(listed.split('\0').filter(|path| !path.is_empty()).map(|path| format!(":(literal){path}")).collect())
}

async fn git(ctx: &RunContext, name: &str, args: &[&str]) -> Result<String, Stop> {
    let ended = run_short(ctx, name, &safe_git(args), &git_env(), TIMEOUT).await?;
    if ended.is_ok() { Ok(ended.stdout) } else { Err(failed(&ended.tail)) }
}

fn failed(tail: &str) -> Stop {
    Stop::Failed(Failure::CloneFailed { tail: tail.to_owned() })
}
