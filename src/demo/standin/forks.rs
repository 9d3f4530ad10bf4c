//! Copies of a repository that belong to somebody else, and pull requests from them.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::state::{PullBranches, Repository};
use super::{Standin, git};

/// Somebody's copy of a repository, as a story wants it.
#[derive(Debug, Clone)]
pub struct ForkView {
    /// As in `eve/shop`.
    pub name: String,
    pub is_of_organization: bool,
    pub is_open_to_maintainers: bool,
    pub is_gone: bool,
}

impl ForkView {
    /// A person's, open to maintainers as GitHub proposes it.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), is_of_organization: false, is_open_to_maintainers: true, is_gone: false }
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

    /// What stands in a file of the fork.
    pub async fn file_of_fork(&self, repo: &str, number: i64, path: &str) -> io::Result<String> {
        git::show(&self.dir(repo).await?, &kept(number), path).await
    }
}
