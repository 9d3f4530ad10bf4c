//! What people do on pull requests of the stand-in, and what is to be seen there.

use super::checks::CheckView;
use super::review_comments::{self, ReviewCommentView};
use super::state::{PullBranches, PullView, ReviewView};
use super::{Standin, forks, git, payloads};

impl Standin {
    pub async fn pulls(&self, repo: &str) -> Vec<PullView> {
        self.world.lock().await.pulls_of(repo)
    }

    /// Reviews, in order.
    pub async fn reviews(&self) -> Vec<ReviewView> {
        self.world.lock().await.reviews.clone()
    }

    /// A person opens a pull request from a branch. Gives its number.
    pub async fn open_pull(&self, repo: &str, login: &str, title: &str, head: &str) -> i64 {
        let branches =
            PullBranches { head: head.to_owned(), base: "main".to_owned(), draft: false, closed: false, fork: None };
        self.world.lock().await.open(repo, login, (title, "What it is for."), Some(branches))
    }

    /// A person speaks of a line of a pull request. Gives the comment's id.
    pub async fn say_of_line(&self, comment: ReviewCommentView) -> i64 {
        review_comments::say(&mut *self.world.lock().await, comment)
    }

    /// What is said on the lines of a pull request, in order.
    pub async fn said_of_lines(&self, repo: &str, pull: i64) -> Vec<ReviewCommentView> {
        let world = self.world.lock().await;
        world.review_comments.values().filter(|one| one.repo == repo && one.pull == pull).cloned().collect()
    }

    /// A conversation on a line is marked as settled.
    pub async fn settle_talk(&self, first: i64) {
        if let Some(comment) = self.world.lock().await.review_comments.get_mut(&first) {
            comment.is_resolved = true;
        }
    }

    /// Payload of an event about an issue or a pull request by itself, such as `labeled`. `more`: its own fields.
    pub async fn payload_about(
        &self,
        repo: &str,
        number: i64,
        (action, login): (&str, &str),
        more: &serde_json::Value,
    ) -> serde_json::Value {
        let mut world = self.world.lock().await;
        world.user(login);
        let head = match world.repository(repo) {
            Some(repository) => forks::head_of(repository, number).await.unwrap_or_default(),
            None => String::new(),
        };
        payloads::about(&world, repo, number, (action, login, &head), more)
    }

    /// A job of GitHub Actions has ended at a commit, having printed this.
    pub async fn end_job(&self, repo: &str, commit: &str, (name, conclusion): (&str, &str), log: &str) {
        let mut world = self.world.lock().await;
        let id = world.fresh_id();
        let (repo, commit, name) = (repo.to_owned(), commit.to_owned(), name.to_owned());
        let log_of_other = Some(log.to_owned());
        let conclusion = Some(conclusion.to_owned());
        world.checks.insert(id, CheckView { id, repo, name, commit, conclusion, log_of_other, ..CheckView::default() });
    }

    /// Somebody attaches a file. Gives its address, which opens for everybody where the repository is public.
    pub async fn attach(&self, bytes: &[u8]) -> String {
        let mut world = self.world.lock().await;
        let name = world.fresh_id().to_string();
        world.attached.insert(name.clone(), bytes.to_vec());
        format!("{}/user-attachments/assets/{name}", world.url)
    }

    /// Check runs, in order.
    pub async fn checks(&self) -> Vec<CheckView> {
        self.world.lock().await.checks.values().cloned().collect()
    }

    /// Labels that the bot put on, as `acme/shop#1 name`.
    pub async fn labels(&self) -> Vec<String> {
        self.world.lock().await.labels.clone()
    }

    /// Requests for a review that the bot took back.
    pub async fn ended_requests(&self) -> Vec<(i64, String)> {
        self.world.lock().await.ended_requests.clone()
    }

    /// Turns a pull request into a draft, or out of it.
    pub async fn set_draft(&self, repo: &str, number: i64, draft: bool) {
        let mut world = self.world.lock().await;
        let issue = world.repository_mut(repo).and_then(|repository| repository.issues.get_mut(&number));
        if let Some(pull) = issue.and_then(|issue| issue.pull.as_mut()) {
            pull.draft = draft;
        }
    }

    /// Payload of `pull_request_review_comment.created`.
    pub async fn review_comment_payload(&self, comment: i64) -> serde_json::Value {
        payloads::review_comment_created(&*self.world.lock().await, comment)
    }

    /// Submits a review with its comments, of which the first words are `body`. Gives the payload.
    pub async fn submit_review(&self, repo: &str, pull: i64, login: &str, body: &str) -> (i64, serde_json::Value) {
        let mut world = self.world.lock().await;
        let id = world.fresh_id();
        (id, payloads::review_submitted(&world, repo, pull, login, (id, body)))
    }

    /// Its author writes another text.
    pub async fn describe(&self, repo: &str, number: i64, body: &str) {
        let mut world = self.world.lock().await;
        if let Some(issue) = world.repository_mut(repo).and_then(|repository| repository.issues.get_mut(&number)) {
            body.clone_into(&mut issue.body);
        }
    }

    pub async fn delete_branch(&self, repo: &str, branch: &str) -> std::io::Result<()> {
        let dir = self.dir(repo).await?;
        git::git(&dir, &["update-ref", "-d", &format!("refs/heads/{branch}")], &[], b"").await.map(|_| ())
    }

    /// A person closes a pull request.
    pub async fn close_pull(&self, repo: &str, number: i64) {
        let mut world = self.world.lock().await;
        let issue = world.repository_mut(repo).and_then(|repository| repository.issues.get_mut(&number));
        if let Some(pull) = issue.and_then(|issue| issue.pull.as_mut()) {
            pull.closed = true;
        }
    }
}
