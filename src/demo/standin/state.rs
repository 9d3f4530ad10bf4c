//! What the stand-in remembers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::CheckView;
use super::forks::ForkBranch;
use super::git;
use super::hooks::Hooks;
use super::oauth::SignIns;
use super::review_comments::ReviewCommentView;
use super::tokens::{AppKeys, Token};
use crate::domain::delivery::InstallationState;
use crate::domain::review::LineComment;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;

#[derive(Debug)]
pub(super) struct World {
    pub dir: PathBuf,
    pub url: String,
    pub app_id: i64,
    pub installation: i64,
    /// Installations that are suspended or gone.
    pub left: BTreeMap<i64, InstallationState>,
    /// A permission that the App was not given.
    pub withheld: Option<&'static str>,
    pub keys: AppKeys,
    pub clock: Arc<dyn Clock>,
    pub users: BTreeMap<String, i64>,
    /// Login of who owns the App.
    pub owner: String,
    pub signins: SignIns,
    pub hooks: Hooks,
    /// Of an App that was just made.
    pub app_code: Option<String>,
    pub repositories: BTreeMap<String, Repository>,
    pub comments: BTreeMap<i64, Comment>,
    pub reviews: Vec<ReviewView>,
    pub review_comments: BTreeMap<i64, ReviewCommentView>,
    /// By subject, such as `comment:7` or `issue:acme/shop#1`.
    pub reactions: BTreeMap<i64, Reaction>,
    pub checks: BTreeMap<i64, CheckView>,
    /// Files that people attached, by name.
    pub attached: BTreeMap<String, Vec<u8>>,
    /// Of issues and pull requests, as `acme/shop#1 name`.
    pub labels: Vec<String>,
    /// Requests for a review that were taken back: the pull request and who was asked.
    pub ended_requests: Vec<(i64, String)>,
    pub tokens: BTreeMap<String, Token>,
    pub calls: Vec<Call>,
    /// Paths of the API's calls as they came.
    pub targets: Vec<String>,
    pub violations: Vec<String>,
    pub received: Vec<String>,
    next_id: i64,
}

#[derive(Debug)]
pub(super) struct Repository {
    pub id: i64,
    pub name: String,
    pub dir: PathBuf,
    pub private: bool,
    pub permissions: BTreeMap<String, String>,
    pub issues: BTreeMap<i64, Issue>,
}

#[derive(Debug, Clone)]
pub(super) struct Issue {
    pub number: i64,
    pub id: i64,
    pub author: String,
    pub title: String,
    pub body: String,
    pub created_at: String,
    pub locked: bool,
    /// Head and base branch, of a pull request.
    pub pull: Option<PullBranches>,
}

#[derive(Debug, Clone)]
pub(super) struct PullBranches {
    pub head: String,
    pub base: String,
    pub draft: bool,
    pub closed: bool,
    /// Where the head is, if not in the repository itself.
    pub fork: Option<ForkBranch>,
}

#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub id: i64,
    pub repo: String,
    pub issue: i64,
    pub author: String,
    pub body: String,
    pub created_at: String,
    pub updated_at: String,
    pub edits: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Reaction {
    pub subject: String,
    pub author: String,
    pub content: String,
}

/// One call of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub status: u16,
}

impl Call {
    /// Whether GitHub counts it as creating content.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.path.ends_with("/access_tokens") && self.path != "/installation/token"
    }
}

/// A comment, as a reader of the thread sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentView {
    pub id: i64,
    pub author: String,
    pub body: String,
    pub edits: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionView {
    pub author: String,
    pub content: String,
}

/// A review, as a reader of the pull request sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewView {
    pub id: i64,
    pub repo: String,
    pub pull: i64,
    pub commit: String,
    pub body: String,
    pub comments: Vec<LineComment>,
}

impl ReviewView {
    pub(super) fn is_of(&self, repo: &str, pull: &str) -> bool {
        self.repo == repo && pull.parse() == Ok(self.pull)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullView {
    pub number: i64,
    pub title: String,
    pub body: String,
    pub head: String,
    pub base: String,
    pub draft: bool,
    pub closed: bool,
}

impl World {
    pub(super) fn new(
        dir: &Path,
        url: String,
        app_id: i64,
        keys: AppKeys,
        webhook_secret: Secret,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let client_secret = Secret::new(format!("client-secret-{}", clock.new_id()));
        Self {
            dir: dir.to_owned(),
            url,
            app_id,
            installation: super::FIRST_INSTALLATION,
            left: BTreeMap::new(),
            withheld: None,
            keys,
            users: BTreeMap::new(),
            owner: super::OWNER.to_owned(),
            signins: SignIns::new(client_secret),
            hooks: Hooks::new(webhook_secret, Arc::clone(&clock)),
            app_code: None,
            clock,
            repositories: BTreeMap::new(),
            comments: BTreeMap::new(),
            reviews: Vec::new(),
            review_comments: BTreeMap::new(),
            reactions: BTreeMap::new(),
            checks: BTreeMap::new(),
            attached: BTreeMap::new(),
            labels: Vec::new(),
            ended_requests: Vec::new(),
            tokens: BTreeMap::new(),
            calls: Vec::new(),
            targets: Vec::new(),
            violations: Vec::new(),
            received: Vec::new(),
            next_id: 1000,
        }
    }

    pub(super) fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn now(&self) -> String {
        self.clock.now().rfc3339()
    }

    pub(super) fn bot(&self) -> String {
        format!("{}[bot]", super::APP_SLUG)
    }

    /// Id of a user, made when first named.
    pub(super) fn user(&mut self, login: &str) -> i64 {
        if let Some(id) = self.users.get(login) {
            return *id;
        }
        let id = self.fresh_id();
        self.users.insert(login.to_owned(), id);
        id
    }

    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(&name.to_ascii_lowercase())
    }

    pub(super) fn repository_mut(&mut self, name: &str) -> Option<&mut Repository> {
        self.repositories.get_mut(&name.to_ascii_lowercase())
    }

    pub(super) async fn add_repository(&mut self, name: &str, files: Option<&[(&str, &str)]>) -> std::io::Result<()> {
        let dir = self.dir.join(format!("{name}.git"));
        git::init(&dir).await?;
        if let Some(files) = files {
            git::first_commit(&dir, files).await?;
        }
        let id = self.fresh_id();
        let repository = Repository {
            id,
            name: name.to_owned(),
            dir,
            private: false,
            permissions: BTreeMap::new(),
            issues: BTreeMap::new(),
        };
        self.repositories.insert(name.to_ascii_lowercase(), repository);
        Ok(())
    }

    pub(super) fn open_issue(&mut self, repo: &str, login: &str, title: &str, body: &str) -> i64 {
        self.open(repo, login, (title, body), None)
    }

    /// Issues and pull requests share their numbers.
    pub(super) fn open(
        &mut self,
        repo: &str,
        login: &str,
        (title, body): (&str, &str),
        pull: Option<PullBranches>,
    ) -> i64 {
        self.user(login);
        let (id, created_at) = (self.fresh_id(), self.now());
        let Some(repository) = self.repository_mut(repo) else { return 0 };
        let number = repository.issues.len() as i64 + 1;
        let issue = Issue {
            number,
            id,
            author: login.to_owned(),
            title: title.to_owned(),
            body: body.to_owned(),
            created_at,
            locked: false,
            pull,
        };
        repository.issues.insert(number, issue);
        number
    }

    pub(super) fn add_comment(&mut self, repo: &str, issue: i64, login: &str, body: &str) -> i64 {
        self.user(login);
        let (id, now) = (self.fresh_id(), self.now());
        let comment = Comment {
            id,
            repo: repo.to_owned(),
            issue,
            author: login.to_owned(),
            body: body.to_owned(),
            created_at: now.clone(),
            updated_at: now,
            edits: 0,
        };
        self.comments.insert(id, comment);
        id
    }

    pub(super) fn edit_comment(&mut self, id: i64, body: &str) {
        let now = self.now();
        if let Some(comment) = self.comments.get_mut(&id) {
            body.clone_into(&mut comment.body);
            comment.updated_at = now;
            comment.edits += 1;
        }
    }

    pub(super) fn delete_comment(&mut self, id: i64) {
        self.comments.remove(&id);
    }

    pub(super) fn lock_issue(&mut self, repo: &str, issue: i64) {
        if let Some(issue) = self.repository_mut(repo).and_then(|repository| repository.issues.get_mut(&issue)) {
            issue.locked = true;
        }
    }

    pub(super) fn thread(&self, repo: &str, issue: i64) -> Vec<CommentView> {
        self.comments
            .values()
            .filter(|comment| comment.repo.eq_ignore_ascii_case(repo) && comment.issue == issue)
            .map(|comment| CommentView {
                id: comment.id,
                author: comment.author.clone(),
                body: comment.body.clone(),
                edits: comment.edits,
            })
            .collect()
    }

    pub(super) fn react(&mut self, subject: &str, login: &str, content: &str) {
        self.user(login);
        let id = self.fresh_id();
        let (subject, author, content) = (subject.to_owned(), login.to_owned(), content.to_owned());
        self.reactions.insert(id, Reaction { subject, author, content });
    }

    pub(super) fn reactions_on(&self, subject: &str) -> Vec<ReactionView> {
        self.reactions
            .values()
            .filter(|reaction| reaction.subject == subject)
            .map(|reaction| ReactionView { author: reaction.author.clone(), content: reaction.content.clone() })
            .collect()
    }

    pub(super) fn pulls_of(&self, repo: &str) -> Vec<PullView> {
        let issues = self.repository(repo).map(|repository| repository.issues.values());
        issues
            .into_iter()
            .flatten()
            .filter_map(|issue| {
                let pull = issue.pull.as_ref()?;
                Some(PullView {
                    number: issue.number,
                    title: issue.title.clone(),
                    body: issue.body.clone(),
                    head: pull.head.clone(),
                    base: pull.base.clone(),
                    draft: pull.draft,
                    closed: pull.closed,
                })
            })
            .collect()
    }
}
