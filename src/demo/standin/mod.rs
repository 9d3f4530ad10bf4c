//! A stand-in for GitHub on this machine: stateful, strict, with real Git repositories. The demo
//! shows the main job with it, and the tests hold the service to it: it checks signatures, tokens
//! and their permissions, counts writes, and fails on demand.

mod api;
mod checks;
mod faults;
mod forks;
mod git;
mod graphql;
mod hooks;
mod issues;
mod manifest;
mod oauth;
mod on_pulls;
mod pages;
mod payloads;
mod pulls;
mod refs;
mod review_comments;
mod server;
mod state;
mod tokens;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::domain::delivery::{InstallationState, WEBHOOK_PATH};
use crate::domain::ids::Millis;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;

pub use checks::CheckView;
pub use faults::{Fault, FaultOf, Held, Kind, When};
pub use forks::ForkView;
pub use hooks::Attempt;
pub use review_comments::ReviewCommentView;
pub use state::{Call, CommentView, PullView, ReactionView, ReviewView};

use state::World;

/// A running stand-in. Stops answering when dropped.
#[derive(Debug)]
pub struct Standin {
    world: Arc<Mutex<World>>,
    plans: Arc<faults::Plans>,
    /// `http://127.0.0.1:port`
    pub url: String,
    pub app_id: i64,
    pub private_key: Secret,
    pub webhook_secret: Secret,
    /// For signing in.
    pub client_id: &'static str,
    pub client_secret: Secret,
    _server: tokio_util::sync::DropGuard,
}

/// The first installation; repositories belong to the newest.
const FIRST_INSTALLATION: i64 = 5001;
pub const APP_SLUG: &str = "hireling";
/// Who owns the App.
const OWNER: &str = "olga";

impl Standin {
    /// Listens on a free port of 127.0.0.1 and keeps repositories below `dir`.
    pub async fn start(dir: &Path, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let keys = tokens::AppKeys::generate()?;
        let private_key = keys.private_pem.clone();
        let webhook_secret = Secret::new(format!("whsec-{}", clock.new_id()));
        let app_id = 42;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let world = World::new(dir, url.clone(), app_id, keys, webhook_secret.clone(), clock);
        let client_secret = world.signins.client_secret.clone();
        let world = Arc::new(Mutex::new(world));
        let plans = Arc::new(faults::Plans::default());
        let stop = tokio_util::sync::CancellationToken::new();
        tokio::spawn(server::serve(listener, Arc::clone(&world), Arc::clone(&plans), stop.clone()));
        Ok(Self {
            world,
            plans,
            url,
            app_id,
            private_key,
            webhook_secret,
            client_id: oauth::CLIENT_ID,
            client_secret,
            _server: stop.drop_guard(),
        })
    }

    /// Base of the REST API, in the form of an Enterprise Server.
    pub fn api_url(&self) -> String {
        format!("{}/api/v3", self.url)
    }

    /// Makes a repository with one commit on `main`.
    pub async fn add_repository(&self, name: &str, files: &[(&str, &str)]) -> std::io::Result<()> {
        self.world.lock().await.add_repository(name, Some(files)).await
    }

    /// Makes a repository from a local one, at its current commit.
    pub async fn clone_repository(&self, name: &str, from: &Path) -> std::io::Result<()> {
        let mut world = self.world.lock().await;
        world.add_repository(name, None).await?;
        let dir = world.repository(name).map(|repository| repository.dir.clone());
        let Some(dir) = dir else { return Ok(()) };
        git::import(&dir, from).await
    }

    pub async fn set_private(&self, name: &str, private: bool) {
        if let Some(repository) = self.world.lock().await.repository_mut(name) {
            repository.private = private;
        }
    }

    /// `admin`, `maintain`, `write`, `triage`, `read` or `none`.
    pub async fn set_permission(&self, name: &str, login: &str, permission: &str) {
        let mut world = self.world.lock().await;
        world.user(login);
        if let Some(repository) = world.repository_mut(name) {
            repository.permissions.insert(login.to_owned(), permission.to_owned());
        }
    }

    /// Who somebody is by number.
    pub async fn user_id(&self, login: &str) -> i64 {
        self.world.lock().await.user(login)
    }

    /// The repository is renamed, and somebody makes a public one of its name.
    pub async fn replace_repository(&self, name: &str) {
        let mut world = self.world.lock().await;
        let id = world.fresh_id();
        if let Some(repository) = world.repository_mut(name) {
            (repository.id, repository.private) = (id, false);
            repository.permissions.clear();
        }
    }

    /// Which repository it is by number; 0: none.
    pub async fn repository_id(&self, name: &str) -> i64 {
        self.world.lock().await.repository(name).map_or(0, |repository| repository.id)
    }

    /// Somebody belongs to an organization: `admin` or `member`.
    pub async fn set_membership(&self, organization: &str, login: &str, role: &str) {
        let mut world = self.world.lock().await;
        world.user(login);
        let members = world.signins.organizations.entry(organization.to_owned()).or_default();
        members.insert(login.to_owned(), role.to_owned());
    }

    /// User tokens that are good: none once who signed in is known.
    pub async fn user_tokens(&self) -> usize {
        self.world.lock().await.signins.tokens.len()
    }

    /// Whose App it is.
    pub async fn set_owner(&self, login: &str) {
        let mut world = self.world.lock().await;
        world.user(login);
        login.clone_into(&mut world.owner);
    }

    /// A person opens an issue. Gives its number; `deliver_issue` tells the App.
    pub async fn open_issue(&self, repo: &str, login: &str, title: &str, body: &str) -> i64 {
        self.world.lock().await.open_issue(repo, login, title, body)
    }

    /// A person comments. Gives the comment's id; `deliver_comment` tells the App.
    pub async fn comment(&self, repo: &str, issue: i64, login: &str, body: &str) -> i64 {
        self.world.lock().await.add_comment(repo, issue, login, body)
    }

    /// The App is installed anew: from here on everything belongs to another installation, with its
    /// own budget of writes.
    pub async fn install_anew(&self) {
        self.world.lock().await.installation += 1;
    }

    /// The App's place in an account from here on.
    pub async fn set_installation(&self, installation: i64, now: InstallationState) {
        self.world.lock().await.left.insert(installation, now);
    }

    /// The App has this permission no more.
    pub async fn withhold(&self, permission: &'static str) {
        self.world.lock().await.withheld = Some(permission);
    }

    pub async fn edit_comment(&self, id: i64, body: &str) {
        self.world.lock().await.edit_comment(id, body);
    }

    /// It was written a day ago.
    pub async fn backdate(&self, id: i64) {
        let mut world = self.world.lock().await;
        let then = Millis(world.clock.now().0 - 86_400_000).rfc3339();
        if let Some(comment) = world.comments.get_mut(&id) {
            (comment.created_at, comment.updated_at) = (then.clone(), then);
        }
    }

    pub async fn delete_comment(&self, id: i64) {
        self.world.lock().await.delete_comment(id);
    }

    pub async fn lock_issue(&self, repo: &str, issue: i64) {
        self.world.lock().await.lock_issue(repo, issue);
    }

    /// Payload of `issue_comment.created`.
    pub async fn comment_payload(&self, comment: i64) -> serde_json::Value {
        payloads::comment_created(&*self.world.lock().await, comment)
    }

    /// Payload of `issues.opened`.
    pub async fn issue_payload(&self, repo: &str, issue: i64) -> serde_json::Value {
        payloads::issue_opened(&*self.world.lock().await, repo, issue)
    }

    /// Signs a body and posts it as GitHub does, to the App's webhook from here on. Gives the status of the
    /// answer; `None`: nobody answered.
    pub async fn deliver(&self, to: &str, guid: &str, event: &str, body: &[u8]) -> Option<u16> {
        let hooks = self.world.lock().await.hooks.clone();
        hooks.set_url(&format!("{to}{WEBHOOK_PATH}"));
        hooks.send(guid, event, body).await
    }

    /// Where the service is, from here on.
    pub async fn set_webhook(&self, service: &str) {
        self.world.lock().await.hooks.set_url(&format!("{service}{WEBHOOK_PATH}"));
    }

    /// Every attempt to bring a delivery, in order.
    pub async fn attempts(&self) -> Vec<Attempt> {
        self.world.lock().await.hooks.attempts()
    }

    /// A person's comment, told to the App under a fresh delivery id. Gives the comment's id.
    pub async fn say(&self, to: &str, repo: &str, issue: i64, login: &str, body: &str) -> i64 {
        let comment = self.comment(repo, issue, login, body).await;
        let payload = self.comment_payload(comment).await.to_string();
        let guid = self.world.lock().await.clock.new_id();
        self.deliver(to, &guid, "issue_comment", payload.as_bytes()).await;
        comment
    }

    pub async fn thread(&self, repo: &str, issue: i64) -> Vec<CommentView> {
        self.world.lock().await.thread(repo, issue)
    }

    pub async fn reactions(&self, subject: &str) -> Vec<ReactionView> {
        self.world.lock().await.reactions_on(subject)
    }

    /// A person reacts: `comment:7`, `review:8` for one on a line.
    pub async fn react(&self, subject: &str, login: &str, content: &str) {
        self.world.lock().await.react(subject, login, content);
    }

    /// The text of a file on a branch.
    pub async fn file(&self, repo: &str, branch: &str, path: &str) -> std::io::Result<String> {
        let dir = self.dir(repo).await?;
        git::show(&dir, branch, path).await
    }

    /// Names and commits of all branches.
    pub async fn branches(&self, repo: &str) -> std::io::Result<Vec<(String, String)>> {
        let dir = self.dir(repo).await?;
        git::branches(&dir).await
    }

    /// Difference between two revisions, as text.
    pub async fn diff(&self, repo: &str, from: &str, to: &str) -> std::io::Result<String> {
        let dir = self.dir(repo).await?;
        git::diff(&dir, from, to).await
    }

    /// Whole message of a commit.
    pub async fn message(&self, repo: &str, revision: &str) -> std::io::Result<String> {
        let dir = self.dir(repo).await?;
        git::message(&dir, revision).await
    }

    /// Makes a branch at the end of `main`.
    pub async fn branch_off(&self, repo: &str, branch: &str) -> std::io::Result<()> {
        let dir = self.dir(repo).await?;
        let main = git::head(&dir, "main").await.unwrap_or_default();
        git::move_branch(&dir, branch, &main, "").await
    }

    /// Commits a file on a branch, as a person's push would.
    pub async fn push_file(&self, repo: &str, branch: &str, path: &str, text: &str) -> std::io::Result<String> {
        let dir = self.dir(repo).await?;
        git::push_files(&dir, branch, &[(path, text)]).await
    }

    /// Commits many files on a branch at once.
    pub async fn push_files(&self, repo: &str, branch: &str, files: &[(&str, &str)]) -> std::io::Result<String> {
        let dir = self.dir(repo).await?;
        git::push_files(&dir, branch, files).await
    }

    async fn dir(&self, repo: &str) -> std::io::Result<std::path::PathBuf> {
        let world = self.world.lock().await;
        let found = world.repository(repo).map(|repository| repository.dir.clone());
        found.ok_or_else(|| std::io::Error::other(format!("there is no repository {repo}")))
    }

    /// Where the API was called: below `/api`, or at the root.
    pub async fn targets(&self) -> Vec<String> {
        self.world.lock().await.targets.clone()
    }

    /// Calls of the API so far, in order.
    pub async fn calls(&self) -> Vec<Call> {
        self.world.lock().await.calls.clone()
    }

    /// What GitHub would never have accepted: unknown routes, missing permissions, unknown fields.
    pub async fn violations(&self) -> Vec<String> {
        self.world.lock().await.violations.clone()
    }

    /// Everything that came in, byte for byte: to look for what should not have left the service.
    pub async fn received(&self) -> Vec<String> {
        self.world.lock().await.received.clone()
    }

    /// From here on, calls are counted from 0 and fail as told.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.plans.of_calls.set(faults);
    }

    /// The next call of a kind fails.
    pub fn set_fault_of(&self, fault: FaultOf) {
        self.plans.of_calls.set_of(fault);
    }

    /// The same for the list of deliveries, whose calls are counted apart.
    pub fn set_delivery_faults(&self, faults: Vec<Fault>) {
        self.plans.of_deliveries.set(faults);
    }

    /// Number of calls since the faults were set.
    pub fn calls_since_faults(&self) -> usize {
        self.plans.of_calls.count()
    }

    /// Waits until the effects that were to come late are there.
    pub async fn caught_up(&self) {
        self.plans.of_calls.caught_up().await;
    }

    /// Waits until a held call has arrived.
    pub async fn held(&self) -> Held {
        self.plans.of_calls.held().await
    }
}
