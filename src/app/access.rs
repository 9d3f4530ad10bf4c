//! Who may see and do what, asked of GitHub: a task is for the readers of its repository, its buttons
//! for the writers, keys of an account for its administrators, the ledger for the operators. Reading is
//! remembered for a minute. What is not there and what may not be seen look the same.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::Mutex;

use super::App;
use crate::adapters::github::GitHubError;
use crate::domain::ids::{InstallationId, Millis, RepositoryId, TaskId, UserId};
use crate::domain::permission::Permission;
use crate::domain::person::{Person, SeenInstallation};
use crate::domain::task::{Task, Thread};

const REMEMBERED: Duration = Duration::from_secs(60);
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Answers remembered at once.
const MAX_REMEMBERED: usize = 10_000;

/// GitHub or the database gives no answer now: neither yes nor no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    IsPublic(RepositoryId),
    Reads(RepositoryId, UserId),
    Writes(RepositoryId, UserId),
    Administers(InstallationId, UserId),
    OwnsTheApp(UserId),
}

/// What GitHub said, and when.
type Answer = (Result<bool, Unknown>, Millis);

#[derive(Debug, Default)]
pub(super) struct Answers {
    known: Mutex<HashMap<Question, Answer>>,
}

impl App {
    /// The task, if this visitor may see it.
    pub async fn visible_task(&self, id: &TaskId, who: Option<&Person>) -> Result<Option<Task>, Unknown> {
        let task = match self.store.task(id).await {
            Ok(Some(task)) => task,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a task cannot be shown");
                return Err(Unknown);
            }
        };
        Ok(self.may_read(&task.thread, who).await?.then_some(task))
    }

    /// Whether GitHub shows the repository of this thread to the visitor.
    pub async fn may_read(&self, thread: &Thread, who: Option<&Person>) -> Result<bool, Unknown> {
        let place = super::intake::place(thread);
        let is_public = self
            .asked(Question::IsPublic(thread.repository), async {
                self.github.repository(&place).await.map(|repository| repository.is_public)
            })
            .await?;
        let Some(person) = who.filter(|person| !is_public && person.is_on_github()) else { return Ok(is_public) };
        self.asked(Question::Reads(thread.repository, person.id), async {
            // Missing where another repository has the name now.
            self.github.repository(&place).await?;
            let permission = self.github.permission_of(&place, &person.login, person.id).await?;
            Ok(permission >= Permission::Read)
        })
        .await
    }

    /// Whether the person could write within the last minute: for showing buttons, not for what they do.
    pub async fn seems_to_write(&self, thread: &Thread, person: &Person) -> Result<bool, Unknown> {
        self.asked(Question::Writes(thread.repository, person.id), self.may_write(thread, person)).await
    }

    /// Whether the person may write to the repository of this thread, now.
    pub async fn may_write(&self, thread: &Thread, person: &Person) -> Result<bool, GitHubError> {
        if !person.is_on_github() {
            return Ok(false);
        }
        let place = super::intake::place(thread);
        self.github.repository(&place).await?;
        Ok(self.github.permission_of(&place, &person.login, person.id).await? >= Permission::Write)
    }

    /// Whether the person sees to the keys of this account, asked now: for what a form does.
    pub async fn administers_now(&self, person: &Person, id: InstallationId) -> bool {
        let Some(one) = person.installations.iter().find(|one| one.id == id) else { return false };
        self.answers.known.lock().await.remove(&Question::Administers(id, person.id));
        self.administers(person, one).await
    }

    /// The accounts whose keys and connectors the person sees to.
    pub async fn administered(&self, person: &Person) -> Vec<SeenInstallation> {
        let asked =
            person.installations.iter().map(|one| async move { self.administers(person, one).await.then_some(one) });
        futures::future::join_all(asked).await.into_iter().flatten().cloned().collect()
    }

    async fn administers(&self, person: &Person, installation: &SeenInstallation) -> bool {
        if !installation.is_organization {
            return person.is_on_github() && installation.account.eq_ignore_ascii_case(&person.login);
        }
        let SeenInstallation { id, account, .. } = installation;
        let asked = self.asked(Question::Administers(*id, person.id), async {
            self.github.is_administrator(*id, account, &person.login, person.id).await
        });
        asked.await == Ok(true)
    }

    /// Administrators of the accounts that the service works for, or, where it works for all, of the one
    /// that owns the App.
    pub async fn is_operator(&self, person: &Person) -> bool {
        if !person.is_on_github() {
            return false;
        }
        let Some(accounts) = &self.settings.allowed_accounts else { return self.owns_the_app(person).await };
        let is_named = |account: &str| accounts.iter().any(|name| name.eq_ignore_ascii_case(account));
        if is_named(&person.login) {
            return true;
        }
        for installation in person.installations.iter().filter(|one| is_named(&one.account)) {
            if self.administers(person, installation).await {
                return true;
            }
        }
        false
    }

    async fn owns_the_app(&self, person: &Person) -> bool {
        let asked = self.asked(Question::OwnsTheApp(person.id), async {
            let owner = self.github.about_app().await?.owner.ok_or(GitHubError::Missing)?;
            if owner.id == person.id {
                return Ok(true);
            }
            let through = person.installations.iter().find(|one| one.account.eq_ignore_ascii_case(&owner.login));
            match through.filter(|one| one.is_organization) {
                Some(one) => self.github.is_administrator(one.id, &owner.login, &person.login, person.id).await,
                None => Ok(false),
            }
        });
        asked.await == Ok(true)
    }

    /// The answer of GitHub, not older than a minute. That it gives none is remembered for a moment, so
    /// that a page of many does not wait for each.
    async fn asked(
        &self,
        question: Question,
        ask: impl Future<Output = Result<bool, GitHubError>>,
    ) -> Result<bool, Unknown> {
        let now = self.clock.now();
        if let Some((answer, at)) = self.answers.known.lock().await.get(&question)
            && now.since(*at) < if answer.is_ok() { REMEMBERED } else { UNKNOWN_FOR }
        {
            if answer.is_err() {
                tracing::info!("GitHub gave no answer a moment ago, and is not asked again yet who may see it");
            }
            return *answer;
        }
        let answer = match ask.await {
            Ok(answer) => Ok(answer),
            Err(GitHubError::Missing) => Ok(false),
            Err(error) => {
                tracing::info!(error = %self.redactor.redact(&error.to_string()), "who may see it could not be asked");
                Err(Unknown)
            }
        };
        let mut known = self.answers.known.lock().await;
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(question, (answer, now));
        answer
    }
}
