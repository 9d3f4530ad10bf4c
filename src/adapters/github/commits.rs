//! Commits made through the API, signed by GitHub: plain files by GraphQL with compare-and-swap,
//! what that cannot carry (exec bits, links, submodules) by the Git data API.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GitHub, GitHubError, Place, Result, Scope, segment};
use crate::domain::change::{Change, Mode};
use crate::domain::comment::CommitMessage;
use crate::domain::ids::RepoName;
use crate::domain::secret::Secret;

/// Bytes of a changed file, by its Git object id.
pub type FileContent = HashMap<String, Vec<u8>>;

/// A commit to make on top of `parent`, which the branch has to point to.
#[derive(Debug)]
pub struct NewCommit<'a> {
    pub branch: &'a str,
    pub parent: &'a str,
    pub message: &'a CommitMessage,
    pub changes: &'a [Change],
    pub content: &'a FileContent,
}

const CREATE_COMMIT: &str = "mutation($input: CreateCommitOnBranchInput!) { \
    createCommitOnBranch(input: $input) { commit { oid } } }";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitData {
    create_commit_on_branch: CommitPayload,
}

#[derive(Deserialize)]
struct CommitPayload {
    commit: Oid,
}

#[derive(Deserialize)]
struct Oid {
    oid: String,
}

#[derive(Deserialize)]
struct Sha {
    sha: String,
}

impl GitHub {
    /// Commits the changes and moves the branch. Gives the new commit's id. `Moved`: the branch is
    /// not at `parent`, nothing was changed.
    pub async fn create_commit(&self, place: &Place<'_>, commit: &NewCommit<'_>) -> Result<String> {
        if commit.changes.iter().all(Change::is_plain) {
            self.commit_plain(place, commit).await
        } else {
            self.commit_by_parts(place, commit).await
        }
    }

    /// The same in a person's name, in another repository; only plain files.
    pub async fn create_commit_as(
        &self,
        token: &Secret,
        repository: &RepoName,
        commit: &NewCommit<'_>,
    ) -> Result<String> {
        let data: CommitData = self.graphql_as(token, CREATE_COMMIT, &plain_commit(repository, commit)?).await?;
        Ok(data.create_commit_on_branch.commit.oid)
    }

    async fn commit_plain(&self, place: &Place<'_>, commit: &NewCommit<'_>) -> Result<String> {
        let variables = plain_commit(place.name, commit)?;
        let data: CommitData = self.graphql(place, Scope::Publish, CREATE_COMMIT, &variables).await?;
        Ok(data.create_commit_on_branch.commit.oid)
    }

    /// Makes a branch that begins with the commit: its parent is never the end of a branch here. `Moved`: there is one of
    /// this name already.
    pub async fn begin_branch(&self, place: &Place<'_>, commit: &NewCommit<'_>) -> Result<String> {
        let made = self.make_commit(place, commit).await?;
        self.create_branch(place, commit.branch, &made).await.map(|()| made)
    }

    /// Objects first, the branch last and only forward. Done twice it makes unused objects at most.
    async fn commit_by_parts(&self, place: &Place<'_>, commit: &NewCommit<'_>) -> Result<String> {
        let made = self.make_commit(place, commit).await?;
        let path = format!("/repos/{}/git/refs/heads/{}", place.name, segment(commit.branch));
        let body = json!({ "sha": made, "force": false });
        match self.call(place, Scope::Publish, Method::PATCH, &path, Some(&body)).await {
            Err(GitHubError::Refused { status: 422, message }) if message.contains("fast forward") => {
                Err(GitHubError::Moved { message })
            }
            answer => answer.map(|_| made),
        }
    }

    async fn make_commit(&self, place: &Place<'_>, commit: &NewCommit<'_>) -> Result<String> {
        let base_tree = self.commit(place, commit.parent).await?.tree;
        let mut entries: Vec<Value> = Vec::new();
        for change in commit.changes {
            let entry = match &change.after {
                None => json!({ "path": change.path, "mode": "100644", "type": "blob", "sha": null }),
                Some((Mode::Submodule, id)) => {
                    json!({ "path": change.path, "mode": "160000", "type": "commit", "sha": id })
                }
                Some((mode, id)) => {
                    let body = json!({ "content": encoded(commit, id)?, "encoding": "base64" });
                    let blob = self.make(place, "git/blobs", &body).await?;
                    json!({ "path": change.path, "mode": mode.octal(), "type": "blob", "sha": blob })
                }
            };
            entries.push(entry);
        }
        let tree = self.make(place, "git/trees", &json!({ "base_tree": base_tree, "tree": entries })).await?;
        let message = format!("{}\n\n{}", commit.message.headline, commit.message.body);
        // No author and no committer: then GitHub signs it as the App's.
        let body = json!({ "message": message, "tree": tree, "parents": [commit.parent] });
        self.make(place, "git/commits", &body).await
    }

    async fn make(&self, place: &Place<'_>, what: &str, body: &Value) -> Result<String> {
        let path = format!("/repos/{}/{what}", place.name);
        let made: Sha = self.call(place, Scope::Publish, Method::POST, &path, Some(body)).await?.json()?;
        Ok(made.sha)
    }
}

/// What GitHub is told of a commit of plain files.
fn plain_commit(repository: &RepoName, commit: &NewCommit<'_>) -> Result<Value> {
    let mut additions: Vec<Value> = Vec::new();
    let mut deletions: Vec<Value> = Vec::new();
    for change in commit.changes {
        match &change.after {
            Some((_, id)) => additions.push(json!({ "path": change.path, "contents": encoded(commit, id)? })),
            None => deletions.push(json!({ "path": change.path })),
        }
    }
    Ok(json!({ "input": {
        "branch": { "repositoryNameWithOwner": repository.to_string(), "branchName": commit.branch },
        "message": { "headline": commit.message.headline, "body": commit.message.body },
        "expectedHeadOid": commit.parent,
        "fileChanges": { "additions": additions, "deletions": deletions },
    }}))
}

fn encoded(commit: &NewCommit<'_>, id: &str) -> Result<String> {
    let bytes = commit.content.get(id).ok_or_else(|| GitHubError::Refused {
        status: 0,
        message: "the content of a changed file is missing".to_owned(),
    })?;
    Ok(STANDARD.encode(bytes))
}
