//! First step: the status comment appears.

use super::RunContext;
use super::patience::{BEFORE_WORK, CallError, Stop};
use crate::adapters::github::GitHubError;
use crate::app::status_comment::CommentError;

impl From<CommentError> for CallError {
    fn from(error: CommentError) -> Self {
        match error {
            CommentError::GitHub(error) => Self::GitHub(error),
            CommentError::Store(error) => Self::Store(error),
            CommentError::BudgetSpent { until } => Self::BudgetSpent { until },
        }
    }
}

pub(super) async fn announce(ctx: &mut RunContext) -> Result<(), Stop> {
    // What is stored before the call tells a restarted worker to look for the comment first.
    let tried_before = ctx.run.facts.announcing;
    ctx.run.facts.announcing = true;
    ctx.record(&[]).await?;
    let ctx = &*ctx;
    ctx.patiently(BEFORE_WORK, |tries| async move {
        let made = ctx.app.ensure_status_comment((&ctx.task, &ctx.run), tried_before || tries > 0, &ctx.gate).await;
        match made {
            Ok(_) => Ok(()),
            // A locked conversation: the work goes on, its result is on the page (fault F26).
            Err(CommentError::GitHub(GitHubError::Forbidden { .. } | GitHubError::Refused { .. })) => {
                tracing::info!("no status comment is possible on this thread");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}
