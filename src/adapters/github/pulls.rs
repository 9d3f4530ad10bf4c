//! Pull requests: found first, made second.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::issues::User;
use super::{GitHub, GitHubError, Place, Result, Scope, segment};
use crate::domain::ask::Reviewer;
use crate::domain::ids::{IssueNumber, RepoName, RepositoryId};
use crate::domain::pull::Fork;
use crate::domain::review::LineComment;

const MAX_REVIEWS: usize = 1_000;

const READY: &str =
    "mutation($id: ID!) { markPullRequestReadyForReview(input: { pullRequestId: $id }) { pullRequest { isDraft } } }";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub number: i64,
    pub url: String,
}

#[derive(Debug, Clone)]
pub struct NewPull<'a> {
    pub branch: &'a str,
    pub base: &'a str,
    pub title: &'a str,
    pub body: &'a str,
    pub draft: bool,
}

/// A pull request as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullInfo {
    pub url: String,
    pub is_open: bool,
    pub head_branch: String,
    pub head_sha: String,
    /// Where its commits are, if not in the repository itself.
    pub fork: Option<Fork>,
    pub base_branch: String,
    pub base_sha: String,
}

#[derive(Deserialize)]
struct InfoAnswer {
    #[serde(default)]
    html_url: String,
    state: String,
    head: EndAnswer,
    base: EndAnswer,
    #[serde(default)]
    maintainer_can_modify: bool,
}

#[derive(Deserialize)]
struct EndAnswer {
    r#ref: String,
    sha: String,
    /// `null`: the fork was deleted.
    repo: Option<EndRepository>,
}

#[derive(Deserialize)]
struct EndRepository {
    id: i64,
    #[serde(default)]
    full_name: String,
    owner: Option<OwnerAnswer>,
}

#[derive(Deserialize)]
struct OwnerAnswer {
    #[serde(default)]
    r#type: String,
}

impl InfoAnswer {
    fn fork(&self, repository: RepositoryId) -> Option<Fork> {
        let head = self.head.repo.as_ref();
        let kind = head.and_then(|repo| repo.owner.as_ref()).map(|owner| owner.r#type.as_str());
        head.is_none_or(|repo| repo.id != repository.0).then(|| Fork {
            name: head.and_then(|repo| RepoName::parse(&repo.full_name)),
            is_of_organization: kind == Some("Organization"),
            is_open_to_maintainers: self.maintainer_can_modify,
        })
    }
}

#[derive(Deserialize)]
struct CompareAnswer {
    status: String,
    merge_base_commit: Sha,
    #[serde(default)]
    files: Vec<FileAnswer>,
}

#[derive(Deserialize)]
struct Sha {
    sha: String,
}

#[derive(Deserialize)]
struct FileAnswer {
    filename: String,
    previous_filename: Option<String>,
}

/// GitHub lists no more files of a comparison.
const MAX_COMPARED: usize = 300;

#[derive(Deserialize)]
struct PullAnswer {
    number: i64,
    #[serde(default)]
    html_url: String,
}

#[derive(Deserialize)]
struct ReviewAnswer {
    id: i64,
    body: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct DraftAnswer {
    node_id: String,
    #[serde(default)]
    draft: bool,
}

impl From<PullAnswer> for Pull {
    fn from(answer: PullAnswer) -> Self {
        Self { number: answer.number, url: answer.html_url }
    }
}

/// On the new side of the diff.
fn line_comment(comment: &LineComment) -> serde_json::Value {
    let mut value = json!({ "path": comment.path, "line": comment.line, "side": "RIGHT", "body": comment.body });
    if let Some(start) = comment.start_line {
        (value["start_line"], value["start_side"]) = (json!(start), json!("RIGHT"));
    }
    value
}

impl GitHub {
    /// The open pull request of a branch.
    pub async fn find_pull(&self, place: &Place<'_>, branch: &str) -> Result<Option<Pull>> {
        let head = segment(&format!("{}:{branch}", place.name.owner));
        let path = format!("/repos/{}/pulls?state=open&head={head}&per_page=10", place.name);
        let found: Vec<PullAnswer> = self.list(place, Scope::Publish, &path, 10).await?;
        Ok(found.into_iter().next().map(Pull::from))
    }

    pub async fn pull(&self, place: &Place<'_>, number: i64) -> Result<PullInfo> {
        let path = format!("/repos/{}/pulls/{number}", place.name);
        let found: InfoAnswer = self.get(place, Scope::Talk, &path).await?;
        Ok(PullInfo {
            fork: found.fork(place.repository),
            url: found.html_url,
            is_open: found.state == "open",
            head_branch: found.head.r#ref,
            head_sha: found.head.sha,
            base_branch: found.base.r#ref,
            base_sha: found.base.sha,
        })
    }

    /// The last commit that two have in common.
    pub async fn merge_base(&self, place: &Place<'_>, one: &str, other: &str) -> Result<String> {
        let path = format!("/repos/{}/compare/{}...{}?per_page=1", place.name, segment(one), segment(other));
        let found: CompareAnswer = self.get(place, Scope::Publish, &path).await?;
        Ok(found.merge_base_commit.sha)
    }

    /// Files that differ between a commit and a later one on top of it. `None`: it is not on top, or they
    /// are more than GitHub lists.
    pub async fn files_between(&self, place: &Place<'_>, old: &str, new: &str) -> Result<Option<Vec<String>>> {
        let path = format!("/repos/{}/compare/{}...{}", place.name, segment(old), segment(new));
        let found: CompareAnswer = self.get(place, Scope::Publish, &path).await?;
        if found.status != "ahead" || found.files.len() >= MAX_COMPARED {
            return Ok(None);
        }
        let both = |file: FileAnswer| std::iter::once(file.filename).chain(file.previous_filename);
        Ok(Some(found.files.into_iter().flat_map(both).collect()))
    }

    /// Opens a pull request. `Moved`: the branch has one already. A plan without drafts gets one that is ready.
    pub async fn create_pull(&self, place: &Place<'_>, pull: &NewPull<'_>) -> Result<Pull> {
        let path = format!("/repos/{}/pulls", place.name);
        let body = |draft: bool| json!({ "title": pull.title, "head": pull.branch, "base": pull.base, "body": pull.body, "draft": draft });
        let answer = match self.create(place, Scope::Publish, &path, &body(pull.draft)).await {
            Err(GitHubError::Refused { status: 422, message })
                if pull.draft && message.to_ascii_lowercase().contains("draft") =>
            {
                self.create(place, Scope::Publish, &path, &body(false)).await?
            }
            Err(GitHubError::Refused { status: 422, message }) if message.contains("already exists") => {
                return Err(GitHubError::Moved { message });
            }
            answer => answer?,
        };
        Ok(Pull::from(answer.json::<PullAnswer>()?))
    }

    /// The review of `bot` that holds `marker`, if it was made before.
    pub async fn find_review(&self, place: &Place<'_>, pull: i64, marker: &str, bot: &str) -> Result<Option<i64>> {
        let path = format!("/repos/{}/pulls/{pull}/reviews?per_page=100", place.name);
        let reviews: Vec<ReviewAnswer> = self.list(place, Scope::Publish, &path, MAX_REVIEWS).await?;
        let has_marker = |review: &ReviewAnswer| {
            review.body.as_deref().is_some_and(|body| body.contains(marker))
                && review.user.as_ref().is_some_and(|user| user.login == bot)
        };
        Ok(reviews.into_iter().find(has_marker).map(|review| review.id))
    }

    /// A review that neither approves nor asks for changes, pinned to a commit.
    pub async fn create_review(
        &self,
        place: &Place<'_>,
        pull: i64,
        commit: &str,
        body: &str,
        comments: &[LineComment],
    ) -> Result<i64> {
        let path = format!("/repos/{}/pulls/{pull}/reviews", place.name);
        let comments: Vec<serde_json::Value> = comments.iter().map(line_comment).collect();
        let body = json!({ "commit_id": commit, "event": "COMMENT", "body": body, "comments": comments });
        let made: ReviewAnswer = self.create(place, Scope::Publish, &path, &body).await?.json()?;
        Ok(made.id)
    }

    pub async fn add_labels(&self, place: &Place<'_>, pull: i64, labels: &[String]) -> Result<()> {
        let path = format!("/repos/{}/issues/{pull}/labels", place.name);
        self.call(place, Scope::Talk, Method::POST, &path, Some(&json!({ "labels": labels }))).await.map(|_| ())
    }

    /// A team's or a person's review is not asked for any more.
    pub async fn end_review_request(&self, place: &Place<'_>, pull: IssueNumber, reviewer: &Reviewer) -> Result<()> {
        let path = format!("/repos/{}/pulls/{pull}/requested_reviewers", place.name);
        let (people, teams) = match reviewer.is_team {
            true => (vec![], vec![&reviewer.name]),
            false => (vec![&reviewer.name], vec![]),
        };
        let body = json!({ "reviewers": people, "team_reviewers": teams });
        self.call(place, Scope::Talk, Method::DELETE, &path, Some(&body)).await.map(|_| ())
    }

    /// Takes a pull request out of draft, if it is one.
    pub async fn mark_ready(&self, place: &Place<'_>, pull: i64) -> Result<()> {
        let path = format!("/repos/{}/pulls/{pull}", place.name);
        let found: DraftAnswer = self.call::<()>(place, Scope::Publish, Method::GET, &path, None).await?.json()?;
        if !found.draft {
            return Ok(());
        }
        let _: serde_json::Value = self.graphql(place, Scope::Publish, READY, &json!({ "id": found.node_id })).await?;
        Ok(())
    }
}
