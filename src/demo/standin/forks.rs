//! Copies of a repository that belong to somebody else, and pull requests from them.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::server::Answer;
use super::state::{PullBranches, Repository, World};
use super::{Standin, git, graphql};

/// Somebody's copy of a repository, as a story wants it.
#[derive(Debug, Clone)]
pub struct ForkView {
    /// As in `eve/shop`.
    pub name: String,
    pub is_of_organization: bool,
    pub is_open_to_maintainers: bool,
    pub is_gone: bool,
    /// Its account has the App, too: without, a token that a person gave the App does nothing there.
    pub has_app: bool,
}

impl ForkView {
    /// A person's, open to maintainers as GitHub proposes it.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_of_organization: false,
            is_open_to_maintainers: true,
            is_gone: false,
            has_app: true,
        }
    }
}

/// Where the head of a pull request from a fork is.
#[derive(Debug, Clone)]
pub(super) struct ForkBranch {
    pub view: ForkView,
    pub dir: PathBuf,
}

/// GitHub keeps it in the repository itself, even when the fork is gone.
fn kept(number: i64) -> String {
    format!("refs/pull/{number}/head")
}

/// The end of a pull request's branch, wherever that is.
pub(super) async fn head_of(repository: &Repository, number: i64) -> Option<String> {
    let pull = repository.issues.get(&number)?.pull.as_ref()?;
    match &pull.fork {
        None => git::head(&repository.dir, &pull.head).await,
        Some(_) => git::commit_at(&repository.dir, &kept(number)).await,
    }
}

/// A commit in a person's name on the branch of a fork, if that person may.
pub(super) async fn commit_as(world: &World, login: &str, input: &Value) -> Answer {
    let name = input["branch"]["repositoryNameWithOwner"].as_str().unwrap_or_default();
    let of_fork = |pull: &PullBranches| pull.fork.clone().filter(|fork| fork.view.name == name);
    let found = world.repositories.values().find_map(|repository| {
        let issue = repository.issues.values().find(|issue| issue.pull.as_ref().and_then(of_fork).is_some())?;
        Some((repository, issue.number, of_fork(issue.pull.as_ref()?)?))
    });
    let Some((repository, number, fork)) = found else { return graphql::error("NOT_FOUND", "no such repository") };
    let is_writer = repository.permissions.get(login).is_some_and(|role| role == "write" || role == "admin");
    if !(fork.view.has_app && fork.view.is_open_to_maintainers && is_writer) {
        return graphql::error("FORBIDDEN", "Resource not accessible by integration");
    }
    match graphql::commit(&fork.dir, input).await {
        Ok(oid) => match git::import_branch(&repository.dir, &fork.dir, &format!("+patch:{}", kept(number))).await {
            Ok(()) => graphql::committed(&oid),
            Err(error) => graphql::error("BAD", &error.to_string()),
        },
        Err(answer) => answer,
    }
}

/// The `head` of a pull request as GitHub tells it.
pub(super) fn head_json(repository: &Repository, pull: &PullBranches, sha: &str) -> Value {
    let home = match &pull.fork {
        None => json!({ "id": repository.id, "full_name": repository.name, "owner": { "type": "Organization" } }),
        Some(fork) if fork.view.is_gone => Value::Null,
        Some(fork) => {
            let kind = if fork.view.is_of_organization { "Organization" } else { "User" };
            json!({ "id": repository.id + 1_000_000, "full_name": fork.view.name, "owner": { "type": kind } })
        }
    };
    json!({ "ref": pull.head, "sha": sha, "repo": home })
}

impl Standin {
    /// Somebody forks a repository, changes files on the branch `patch` there, and opens a pull request. Gives its
    /// number.
    pub async fn open_fork_pull(
        &self,
        repo: &str,
        login: &str,
        view: ForkView,
        files: &[(&str, &str)],
    ) -> io::Result<i64> {
        let from = self.dir(repo).await?;
        let dir = from.with_extension(format!("fork-{}", view.name.replace('/', "-")));
        git::init(&dir).await?;
        git::import_branch(&dir, &from, "main:refs/heads/patch").await?;
        let fork = Some(ForkBranch { view, dir });
        let pull = PullBranches { head: "patch".into(), base: "main".into(), draft: false, closed: false, fork };
        let title = "A change from outside";
        let number = self.world.lock().await.open(repo, login, (title, "What it is for."), Some(pull));
        self.push_to_fork(repo, number, files).await?;
        Ok(number)
    }

    /// Tokens that people give from now on are good for so many seconds.
    pub async fn set_token_life(&self, seconds: i64) {
        self.world.lock().await.signins.lives = seconds;
    }

    /// Its author pushes. Gives the commit.
    pub async fn push_to_fork(&self, repo: &str, number: i64, files: &[(&str, &str)]) -> io::Result<String> {
        let dir = self.dir(repo).await?;
        let fork = {
            let world = self.world.lock().await;
            let issue = world.repository(repo).and_then(|repository| repository.issues.get(&number));
            issue.and_then(|issue| issue.pull.as_ref()?.fork.clone()).ok_or(io::ErrorKind::NotFound)?
        };
        let commit = git::push_files(&fork.dir, "patch", files).await?;
        git::import_branch(&dir, &fork.dir, &format!("+patch:{}", kept(number))).await?;
        Ok(commit)
    }

    /// Commits of a pull request from a fork, the newest first.
    pub async fn commits_of_pull(&self, repo: &str, number: i64) -> io::Result<Vec<String>> {
        let range = format!("main..{}", kept(number));
        let text = git::git(&self.dir(repo).await?, &["rev-list", &range], &[], b"").await?;
        Ok(String::from_utf8_lossy(&text).lines().map(ToOwned::to_owned).collect())
    }

    /// What stands in a file of the fork.
    pub async fn file_of_fork(&self, repo: &str, number: i64, path: &str) -> io::Result<String> {
        git::show(&self.dir(repo).await?, &kept(number), path).await
    }
}
