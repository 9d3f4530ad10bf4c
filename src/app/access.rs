//! Who may see and do what, asked of GitHub: a task is for the readers of its repository, its buttons
//! for the writers, keys of an account for its administrators, the ledger for the operators. Reading is
//! remembered for a minute. What is not there and what may not be seen look the same.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::Mutex;

use super::App;
use crate::adapters::github::{GitHubError, Permission};
use crate::domain::ids::{InstallationId, Millis, RepositoryId, TaskId, UserId};
use crate::domain::person::{Person, SeenInstallation};
use crate::domain::task::{Task, Thread};

const REMEMBERED: Duration = Duration::from_secs(60);
/// Answers remembered at once.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    IsPublic(RepositoryId),
    Reads(RepositoryId, UserId),
    Writes(RepositoryId, UserId),
    Administers(InstallationId, UserId),
    OwnsTheApp(UserId),
}

#[derive(Debug, Default)]
pub(super) struct Answers {
    known: Mutex<HashMap<Question, (bool, Millis)>>,
}

impl App {
    /// The task, if this visitor may see it.
    pub async fn visible_task(&self, id: &TaskId, who: Option<&Person>) -> Option<Task> {
        let task = match self.store.task(id).await {
            Ok(task) => task?,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a task cannot be shown");
                return None;
            }
        };
        self.may_read(&task.thread, who).await.then_some(task)
    }

    /// Whether GitHub shows the repository of this thread to the visitor.
    pub async fn may_read(&self, thread: &Thread, who: Option<&Person>) -> bool {
        let place = super::intake::place(thread);
        let is_public = self
            .asked(Question::IsPublic(thread.repository), async {
                self.github.repository(&place).await.map(|repository| repository.is_public)
            })
            .await;
        let Some(person) = who.filter(|person| !is_public && person.is_on_github()) else { return is_public };
        self.asked(Question::Reads(thread.repository, person.id), async {
            let permission = self.github.permission_of(&place, &person.login, person.id).await?;
            Ok(permission >= Permission::Read)
        })
        .await
    }

    /// Whether the person could write within the last minute: for showing buttons, not for what they do.
    pub async fn seems_to_write(&self, thread: &Thread, person: &Person) -> bool {
        self.asked(Question::Writes(thread.repository, person.id), self.may_write(thread, person)).await
    }

    /// Whether the person may write to the repository of this thread, now.
    pub async fn may_write(&self, thread: &Thread, person: &Person) -> Result<bool, GitHubError> {
        if !person.is_on_github() {
            return Ok(false);
        }
        let place = super::intake::place(thread);
        Ok(self.github.permission_of(&place, &person.login, person.id).await? >= Permission::Write)
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
        self.asked(Question::Administers(*id, person.id), async {
            self.github.is_administrator(*id, account, &person.login, person.id).await
        })
        .await
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
        self.asked(Question::OwnsTheApp(person.id), async {
            let owner = self.github.app_owner().await?;
            if owner.id == person.id {
                return Ok(true);
            }
            let through = person.installations.iter().find(|one| one.account.eq_ignore_ascii_case(&owner.login));
            match through.filter(|one| one.is_organization) {
                Some(one) => self.github.is_administrator(one.id, &owner.login, &person.login, person.id).await,
                None => Ok(false),
            }
        })
        .await
    }

    /// The answer of GitHub, not older than a minute. Where it does not answer: no.
    async fn asked(&self, question: Question, ask: impl Future<Output = Result<bool, GitHubError>>) -> bool {
        let now = self.clock.now();
        if let Some((answer, at)) = self.answers.known.lock().await.get(&question)
            && now.since(*at) < REMEMBERED
        {
            return *answer;
        }
        let answer = match ask.await {
            Ok(answer) => answer,
            Err(GitHubError::Missing) => false,
            Err(error) => {
                tracing::info!(error = %self.redactor.redact(&error.to_string()), "who may see it could not be asked");
                return false;
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
