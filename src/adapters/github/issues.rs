//! Threads: what is said on an issue, comments, reactions.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{GitHub, GitHubError, Place, Result, Scope};
use crate::domain::effect::Reaction;
use crate::domain::ids::{CommentId, IssueNumber, Millis};
use crate::domain::prompt::Quoted;
use crate::domain::task::Subject;

/// Comments read of one thread, oldest first as GitHub lists them: more than any thread has.
const MAX_COMMENTS: usize = 5_000;

#[derive(Deserialize)]
pub(super) struct User {
    #[serde(default)]
    pub login: String,
}

#[derive(Deserialize)]
struct CommentAnswer {
    id: i64,
    body: Option<String>,
    user: Option<User>,
    #[serde(default)]
    author_association: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
}

#[derive(Deserialize)]
struct ReactionAnswer {
    id: i64,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Made {
    id: i64,
}

/// Whether GitHub's label of an author means someone of the project.
pub(super) fn is_insider(association: &str) -> bool {
    matches!(association, "OWNER" | "MEMBER" | "COLLABORATOR")
}

/// Whether a text stood there at `trigger` as it stands now. GitHub tells seconds: what was edited in the same one may
/// have been edited after it.
pub(super) fn was_there(created: &str, edited: &str, trigger: Millis) -> bool {
    let at = |text: &str| Millis::parse_rfc3339(text);
    let is_as_written = edited == created || at(edited).is_some_and(|at| at.0 / 1000 < trigger.0 / 1000);
    at(created).is_some_and(|at| at <= trigger) && is_as_written
}

pub(super) fn quoted(user: Option<User>, association: &str, text: Option<String>) -> Quoted {
    Quoted {
        author: user.map(|user| user.login).unwrap_or_default(),
        is_insider: is_insider(association),
        text: text.unwrap_or_default(),
    }
}

impl GitHub {
    /// Comments of an issue as of `trigger`: what was written or edited later is left out (threat
    /// T05). The comment that triggered stays out, too: it is the request.
    pub async fn earlier_comments(
        &self,
        place: &Place<'_>,
        issue: IssueNumber,
        trigger: Millis,
        subject: Subject,
        bot_login: &str,
    ) -> Result<Vec<Quoted>> {
        let path = format!("/repos/{}/issues/{issue}/comments?per_page=100", place.name);
        let comments: Vec<CommentAnswer> = self.list(place, Scope::Talk, &path, MAX_COMMENTS).await?;
        // Of two comments of one second the ids tell which came first.
        let is_before = |comment: &CommentAnswer| match subject {
            Subject::IssueComment(CommentId(command)) => comment.id < command,
            _ => true,
        };
        let is_ours = |comment: &CommentAnswer| comment.user.as_ref().is_some_and(|user| user.login == bot_login);
        Ok(comments
            .into_iter()
            .filter(|comment| was_there(&comment.created_at, &comment.updated_at, trigger))
            .filter(|comment| is_before(comment) && !is_ours(comment))
            .map(|comment| quoted(comment.user, &comment.author_association, comment.body))
            .collect())
    }

    /// Our own comment that holds `marker`, among those made since `since`.
    pub async fn find_comment(
        &self,
        place: &Place<'_>,
        issue: IssueNumber,
        marker: &str,
        since: Millis,
        bot_login: &str,
    ) -> Result<Option<CommentId>> {
        let path = format!("/repos/{}/issues/{issue}/comments?per_page=100&since={}", place.name, since.rfc3339());
        let comments: Vec<CommentAnswer> = self.list(place, Scope::Talk, &path, MAX_COMMENTS).await?;
        Ok(comments
            .into_iter()
            .find(|comment| {
                comment.user.as_ref().is_some_and(|user| user.login == bot_login)
                    && comment.body.as_deref().is_some_and(|body| body.contains(marker))
            })
            .map(|comment| CommentId(comment.id)))
    }

    pub async fn create_comment(&self, place: &Place<'_>, issue: IssueNumber, body: &str) -> Result<CommentId> {
        let path = format!("/repos/{}/issues/{issue}/comments", place.name);
        let made: Made = self.create(place, Scope::Talk, &path, &json!({ "body": body })).await?.json()?;
        Ok(CommentId(made.id))
    }

    pub async fn edit_comment(&self, place: &Place<'_>, comment: CommentId, body: &str) -> Result<()> {
        let path = format!("/repos/{}/issues/comments/{comment}", place.name);
        self.call(place, Scope::Talk, Method::PATCH, &path, Some(&json!({ "body": body }))).await.map(|_| ())
    }

    /// Adds a reaction; GitHub answers the same for one that is there.
    pub async fn react(
        &self,
        place: &Place<'_>,
        issue: IssueNumber,
        subject: Subject,
        reaction: Reaction,
    ) -> Result<()> {
        let Some(path) = reactions_path(place, issue, subject) else { return Ok(()) };
        let body = json!({ "content": reaction.content() });
        self.call(place, Scope::Talk, Method::POST, &path, Some(&body)).await.map(|_| ())
    }

    /// Whether somebody put 👎 on a comment.
    pub async fn is_thumbed_down(
        &self,
        place: &Place<'_>,
        issue: IssueNumber,
        comment: CommentId,
        login: &str,
    ) -> Result<bool> {
        let Some(path) = reactions_path(place, issue, Subject::IssueComment(comment)) else { return Ok(false) };
        let list = format!("{path}?content=-1&per_page=100");
        let found: Vec<ReactionAnswer> = self.list(place, Scope::Talk, &list, MAX_COMMENTS).await?;
        Ok(found.into_iter().any(|one| one.user.is_some_and(|user| user.login == login)))
    }

    /// Takes our own reaction away, if it is there.
    pub async fn unreact(
        &self,
        place: &Place<'_>,
        issue: IssueNumber,
        subject: Subject,
        reaction: Reaction,
        bot_login: &str,
    ) -> Result<()> {
        let Some(path) = reactions_path(place, issue, subject) else { return Ok(()) };
        let list = format!("{path}?content={}&per_page=100", super::segment(reaction.content()));
        let found: Vec<ReactionAnswer> = self.list(place, Scope::Talk, &list, MAX_COMMENTS).await?;
        let own = found.into_iter().find(|one| one.user.as_ref().is_some_and(|user| user.login == bot_login));
        let Some(own) = own else { return Ok(()) };
        match self.call::<()>(place, Scope::Talk, Method::DELETE, &format!("{path}/{}", own.id), None).await {
            Ok(_) | Err(GitHubError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Where reactions of a text are; GitHub has none for the body of a review.
fn reactions_path(place: &Place<'_>, issue: IssueNumber, subject: Subject) -> Option<String> {
    let repo = format!("/repos/{}", place.name);
    match subject {
        Subject::Issue => Some(format!("{repo}/issues/{issue}/reactions")),
        Subject::IssueComment(id) => Some(format!("{repo}/issues/comments/{id}/reactions")),
        Subject::ReviewComment(id) => Some(format!("{repo}/pulls/comments/{id}/reactions")),
        Subject::Review(_) => None,
    }
}
