//! Repositories: what they are, who may write, where their branches stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{GitHub, GitHubError, Place, Result, Scope, segment};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub default_branch: String,
    /// Anyone may read it: `public`, not `private` and not `internal`.
    pub is_public: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    pub message: String,
    pub parents: Vec<String>,
    pub tree: String,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    id: i64,
    default_branch: String,
    #[serde(default)]
    private: bool,
    visibility: Option<String>,
}

/// A file of a repository, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub sha: String,
    /// `None`: it is no plain file, or too long to be given out.
    pub text: Option<String>,
}

#[derive(Deserialize)]
struct FileAnswer {
    sha: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: String,
}

#[derive(Deserialize)]
struct RefAnswer {
    object: ObjectAnswer,
}

#[derive(Deserialize)]
struct ObjectAnswer {
    sha: String,
}

#[derive(Deserialize)]
struct CommitAnswer {
    #[serde(default)]
    message: String,
    tree: ObjectAnswer,
    #[serde(default)]
    parents: Vec<ObjectAnswer>,
}

impl GitHub {
    pub async fn repository(&self, place: &Place<'_>) -> Result<Repository> {
        let answer: RepositoryAnswer = self.get(place, Scope::Talk, &format!("/repos/{}", place.name)).await?;
        // The name may have passed to another repository since.
        if answer.id != place.repository.0 {
            return Err(GitHubError::Missing);
        }
        let is_public = match answer.visibility.as_deref() {
            Some(visibility) => visibility == "public",
            None => !answer.private,
        };
        Ok(Repository { default_branch: answer.default_branch, is_public })
    }

    /// A small file at a revision, or on the default branch. What stands there and is none has no text.
    pub async fn file(&self, place: &Place<'_>, path: &str, at: Option<&str>) -> Result<Option<File>> {
        let at = at.map(|at| format!("?ref={}", segment(at))).unwrap_or_default();
        let route = format!("/repos/{}/contents/{}{at}", place.name, segment(path));
        match self.get::<serde_json::Value>(place, Scope::Talk, &route).await {
            Ok(answer) => {
                // A folder is answered with a list.
                let Ok(answer) = serde_json::from_value::<FileAnswer>(answer) else {
                    return Ok(Some(File { sha: "a folder".to_owned(), text: None }));
                };
                let content: String = answer.content.split_whitespace().collect();
                // Above a megabyte, and of a link, GitHub leaves the content out.
                let bytes = if answer.encoding == "base64" { STANDARD.decode(content).ok() } else { None };
                let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Ok(Some(File { sha: answer.sha, text }))
            }
            Err(GitHubError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commit a branch points to.
    pub async fn branch_head(&self, place: &Place<'_>, branch: &str) -> Result<Option<String>> {
        let path = format!("/repos/{}/git/ref/heads/{}", place.name, segment(branch));
        match self.get::<RefAnswer>(place, Scope::Talk, &path).await {
            Ok(answer) => Ok(Some(answer.object.sha)),
            Err(GitHubError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a branch. `Moved`: there is one of this name already.
    pub async fn create_branch(&self, place: &Place<'_>, branch: &str, sha: &str) -> Result<()> {
        let path = format!("/repos/{}/git/refs", place.name);
        let body = json!({ "ref": format!("refs/heads/{branch}"), "sha": sha });
        match self.call(place, Scope::Publish, Method::POST, &path, Some(&body)).await {
            Err(GitHubError::Refused { status: 422, message }) if message.contains("already exists") => {
                Err(GitHubError::Moved { message })
            }
            answer => answer.map(|_| ()),
        }
    }

    pub async fn commit(&self, place: &Place<'_>, sha: &str) -> Result<CommitInfo> {
        let path = format!("/repos/{}/git/commits/{}", place.name, segment(sha));
        let answer: CommitAnswer = self.get(place, Scope::Publish, &path).await?;
        Ok(CommitInfo {
            message: answer.message,
            parents: answer.parents.into_iter().map(|parent| parent.sha).collect(),
            tree: answer.tree.sha,
        })
    }
}
