//! Accounts that have the App, took it away, or had it suspended. GitHub is asked what holds: its events come late,
//! twice and out of order, and some never.

use super::App;
use super::intake::cancelled_in_queue;
use super::outbox::{CLAIM, SETTLING};
use super::signals::Topic;
use crate::adapters::github::GitHubError;
use crate::adapters::store::{Asked, StoreError};
use crate::domain::delivery::InstallationState;
use crate::domain::ids::{InstallationId, Millis};
use crate::domain::listing::Deed;
use crate::domain::task::Thread;

impl App {
    /// What GitHub says holds now of an account.
    pub(super) async fn note_account(
        &self,
        id: InstallationId,
        account: &str,
        now: InstallationState,
    ) -> Result<(), StoreError> {
        self.store.note_installation(id, self.github.app_id(), account, now, self.clock.now()).await?;
        self.leave(id, now).await?;
        if now == InstallationState::Present {
            // What could not be told while it was suspended. What is claimed comes by itself.
            self.store.hasten_effects(id, self.clock.now(), CLAIM).await?;
            self.signals.announce(Topic::Outbox);
        }
        Ok(())
    }

    /// Whether it is noted that the App may not act there; GitHub is not asked.
    pub(super) async fn is_noted_as_left(&self, id: InstallationId) -> bool {
        let noted = self.in_time(self.store.installation_state(id)).await;
        matches!(noted, Ok(Some((state, _))) if state != InstallationState::Present)
    }

    /// Whether the App may not act there. What was noted may be out of date: then GitHub would send nothing from there.
    pub(super) async fn has_left(&self, id: InstallationId, account: &str) -> Result<bool, LookError> {
        let noted = self.store.installation_state(id).await?;
        if noted.is_none_or(|(state, _)| state == InstallationState::Present) {
            return Ok(false);
        }
        let now = self.github.installation_now(id).await?;
        if now == InstallationState::Present {
            self.note_account(id, account, now).await?;
        }
        Ok(now != InstallationState::Present)
    }

    /// Whether GitHub may have refused something for no other reason than that the account was suspended. `begun_at`: when
    /// GitHub was called.
    pub(super) async fn is_refused_as_suspended(&self, thread: &Thread, begun_at: Millis) -> Result<bool, LookError> {
        let id = thread.installation;
        match self.store.installation_state(id).await? {
            Some((InstallationState::Suspended, _)) => return Ok(true),
            // It came back meanwhile, or just before, and not all of GitHub knew (fault F25).
            Some((InstallationState::Present, since)) if since.after(SETTLING) >= begun_at => return Ok(true),
            _ => {}
        }
        // GitHub refuses first and tells of it later.
        let now = self.github.installation_now(id).await?;
        if now == InstallationState::Suspended {
            self.note_account(id, &thread.name.owner, now).await?;
        }
        Ok(now == InstallationState::Suspended)
    }

    /// Finds accounts whose taking the App away, suspending it or coming back was not heard of.
    pub(super) async fn look_after_accounts(&self) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        for (id, account, noted) in self.store.installations_of(self.github.app_id()).await? {
            let now = match self.github.installation_now(id).await {
                Ok(now) => now,
                Err(error) => {
                    tracing::info!(
                        installation = id.0,
                        error = &error as &dyn std::error::Error,
                        "an account is looked after later"
                    );
                    if error.is_passing() {
                        break;
                    }
                    continue;
                }
            };
            match now {
                // Whatever broke off while it was left.
                _ if now == noted => self.leave(id, now).await?,
                InstallationState::Deleted => gone.push((id, account)),
                _ => self.note_account(id, &account, now).await?,
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        // GitHub says it a second time before secrets are erased (fault F25).
        tokio::time::sleep(SETTLING).await;
        for (id, account) in gone {
            if let Ok(now @ InstallationState::Deleted) = self.github.installation_now(id).await {
                tracing::warn!(installation = id.0, account, "an account has the App no more, and no event told it");
                self.note_account(id, &account, now).await?;
            }
        }
        Ok(())
    }

    /// The App was taken away or suspended: nothing of that account goes on, and its secrets are gone at once.
    async fn leave(&self, id: InstallationId, state: InstallationState) -> Result<(), StoreError> {
        let by = match state {
            InstallationState::Present => return Ok(()),
            InstallationState::Suspended => "GitHub, for the App was suspended",
            InstallationState::Deleted => "GitHub, for the App was uninstalled",
        };
        let now = self.clock.now();
        let erased = self.store.erase_secrets_of(id).await?;
        if erased > 0 {
            let about = format!("{erased} keys and connectors");
            let deed = Deed { by: None, account: Some(id), action: "erased", about: &about };
            self.store.audit(&deed, now).await?;
        }
        let asked = Asked { by, written_at: now, now };
        for task in self.store.open_tasks_of(id).await? {
            // Where the App is gone nobody can be told on GitHub any more; the page tells it.
            let effects = match state {
                InstallationState::Suspended => cancelled_in_queue(&task, by),
                _ => Vec::new(),
            };
            self.stop_task(&task, &asked, &effects).await?;
        }
        self.store.release_all_kept(id).await?;
        self.signals.announce(Topic::Sweep);
        Ok(())
    }
}

/// Why it cannot be told whether an account has the App.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
