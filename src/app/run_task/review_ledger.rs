//! What was remarked on a pull request before, as the frozen input of a review: our own record tells what
//! was said and of which commit, GitHub what people made of it.

use std::collections::{BTreeMap, BTreeSet};

use super::RunContext;
use super::patience::{CallError, Stop};
use crate::adapters::github::PullInfo;
use crate::domain::failure::reviewed_already;
use crate::domain::review::ledger::{Ledger, Remark, RemarkTalk, Standing};
use crate::domain::run::ReviewFacts;

/// Earlier tasks of the pull request that are looked at.
const LOOK_BACK: i64 = 100;

/// A review that was made, and by which agent.
struct Earlier {
    agent: String,
    review: ReviewFacts,
}

/// Ends the run where there is nothing new to look at and nothing special is asked for.
pub(super) async fn ledger(ctx: &RunContext, pull: &PullInfo) -> Result<Ledger, CallError> {
    if !ctx.task.options.is_review {
        return Ok(Ledger::default());
    }
    let earlier = earlier_reviews(ctx).await?;
    let touched = touched_since(ctx, &earlier, &pull.head_sha).await?;
    let own = earlier.iter().rev().find(|one| one.agent == ctx.task.agent).map(|one| one.review.commit.clone());
    let options = &ctx.task.options;
    let is_partial = !options.full && !options.is_retry && ctx.task.request.trim().is_empty();
    if is_partial && own.as_deref() == Some(pull.head_sha.as_str()) {
        let ending = reviewed_already(&ctx.task.agent, &pull.head_sha);
        return Err(Stop::Ended(Box::new(ending)).into());
    }
    // A head that was rewritten is looked at as a whole.
    let since = own.filter(|commit| is_partial && touched.get(commit).is_some_and(Option::is_some));
    let bot = ctx.app.bot_login().await?;
    let talks = ctx.app.github.remark_talks(&ctx.place(), ctx.task.thread.issue, &bot).await?;
    Ok(sorted(&earlier, &touched, &talks, since))
}

/// Oldest first.
async fn earlier_reviews(ctx: &RunContext) -> Result<Vec<Earlier>, CallError> {
    let (store, thread) = (&ctx.app.store, &ctx.task.thread);
    let mut found = Vec::new();
    for task in store.tasks_of_thread(thread.repository, thread.issue, LOOK_BACK).await?.into_iter().rev() {
        if !task.options.is_review || !task.state.is_finished() {
            continue;
        }
        let review = store.latest_run(&task.id).await?.and_then(|run| run.facts.review);
        found.extend(
            review.filter(|review| review.id.is_some()).map(|review| Earlier { agent: task.agent.clone(), review }),
        );
    }
    Ok(found)
}

/// Files that have changed since each commit that was reviewed; `None`: the head is not on top of it, or
/// they are too many to be listed.
async fn touched_since(
    ctx: &RunContext,
    earlier: &[Earlier],
    head: &str,
) -> Result<BTreeMap<String, Option<Vec<String>>>, CallError> {
    let commits: BTreeSet<&String> = earlier.iter().map(|one| &one.review.commit).collect();
    let mut touched = BTreeMap::new();
    for commit in commits {
        let files = match commit == head {
            true => Some(Vec::new()),
            false => ctx.app.github.files_between(&ctx.place(), commit, head).await.or_else(gone)?,
        };
        touched.insert(commit.clone(), files);
    }
    Ok(touched)
}

/// A commit that nobody has any more.
fn gone(error: crate::adapters::github::GitHubError) -> Result<Option<Vec<String>>, CallError> {
    match error {
        crate::adapters::github::GitHubError::Missing => Ok(None),
        error => Err(error.into()),
    }
}

fn sorted(
    earlier: &[Earlier],
    touched: &BTreeMap<String, Option<Vec<String>>>,
    talks: &[RemarkTalk],
    since: Option<String>,
) -> Ledger {
    let mut ledger = Ledger { since, ..Ledger::default() };
    for (place, Earlier { review, .. }) in earlier.iter().enumerate() {
        // A matter that came back after it was settled was remarked on anew.
        let later = earlier.get(place + 1..).unwrap_or_default().iter().flat_map(|one| &one.review.fixed);
        let fixed: BTreeSet<&String> = later.map(|standing| &standing.remark.id).collect();
        let changed = touched.get(&review.commit).and_then(Option::as_ref);
        let is_touched = |remark: &Remark| changed.is_none_or(|files| files.contains(&remark.path));
        for remark in review.remarks.iter().filter(|remark| !fixed.contains(&remark.id)) {
            let talk = talks.iter().find(|talk| talk.remark == remark.id);
            if talk.is_some_and(|talk| talk.is_resolved && !talk.is_declined) {
                ledger.settled.insert(remark.id.clone());
                continue;
            }
            ledger.standing.push(Standing {
                remark: remark.clone(),
                is_declined: talk.is_some_and(|talk| talk.is_declined),
                is_touched: is_touched(remark),
                talk: talk.map(|talk| talk.talk.clone()),
            });
        }
    }
    ledger
}
