//! Pull requests: found first, made second.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{GitHub, GitHubError, Place, Result, Scope, segment};

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

#[derive(Deserialize)]
struct PullAnswer {
    number: i64,
    #[serde(default)]
    html_url: String,
}

impl From<PullAnswer> for Pull {
    fn from(answer: PullAnswer) -> Self {
        Self { number: answer.number, url: answer.html_url }
    }
}

impl GitHub {
    /// The open pull request of a branch.
    pub async fn find_pull(&self, place: &Place<'_>, branch: &str) -> Result<Option<Pull>> {
        let head = segment(&format!("{}:{branch}", place.name.owner));
        let path = format!("/repos/{}/pulls?state=open&head={head}&per_page=10", place.name);
        let found: Vec<PullAnswer> = self.list(place, Scope::Publish, &path, 10).await?;
        Ok(found.into_iter().next().map(Pull::from))
    }

    /// Opens a pull request. `Moved`: the branch has one already. A plan without drafts gets one that is ready.
    pub async fn create_pull(&self, place: &Place<'_>, pull: &NewPull<'_>) -> Result<Pull> {
        let path = format!("/repos/{}/pulls", place.name);
        let body = |draft: bool| json!({ "title": pull.title, "head": pull.branch, "base": pull.base, "body": pull.body, "draft": draft });
        let answer = match self.call(place, Scope::Publish, Method::POST, &path, Some(&body(pull.draft))).await {
            Err(GitHubError::Refused { status: 422, message })
                if pull.draft && message.to_ascii_lowercase().contains("draft") =>
            {
                self.call(place, Scope::Publish, Method::POST, &path, Some(&body(false))).await?
            }
            Err(GitHubError::Refused { status: 422, message }) if message.contains("already exists") => {
                return Err(GitHubError::Moved { message });
            }
            answer => answer?,
        };
        Ok(Pull::from(answer.json::<PullAnswer>()?))
    }
}
