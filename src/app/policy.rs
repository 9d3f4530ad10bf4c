//! The policy of a repository: looked up on its default branch, remembered for a minute. What cannot be read
//! changes nothing.

use std::time::Duration;

use super::App;
use crate::adapters::github::{GitHubError, Place};
use crate::adapters::store::StoreError;
use crate::domain::policy::{POLICY_FILE, Policy, SeenPolicy};

const FRESH_FOR: Duration = Duration::from_secs(60);

/// What holds in a repository.
#[derive(Debug, Clone, Default)]
pub struct Holding {
    pub policy: Policy,
    /// What is wrong with the file that is there now; then the last good one holds.
    pub fault: Option<String>,
    /// Git's name of the file's content; empty: there is none.
    pub sha: String,
}

fn holding(seen: &SeenPolicy) -> Holding {
    let fault = Some(seen.fault.clone()).filter(|fault| !fault.is_empty());
    Holding { policy: Policy::read(&seen.holds), fault, sha: seen.sha.clone() }
}

/// Why it is not known what holds.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    pub async fn policy_of(&self, place: &Place<'_>) -> Result<Holding, PolicyError> {
        let now = self.clock.now();
        let known = self.store.policy(place.repository).await?;
        if let Some(seen) = known.as_ref().filter(|seen| now.since(seen.looked_at) < FRESH_FOR) {
            return Ok(holding(seen));
        }
        let file = match self.github.file(place, POLICY_FILE, None).await {
            Ok(file) => file,
            // What held a while ago is better than nothing at all.
            Err(error) if error.is_passing() && known.is_some() => return Ok(holding(&known.unwrap_or_default())),
            Err(error) => return Err(error.into()),
        };
        let before = known.unwrap_or_default();
        let seen = match file {
            None => SeenPolicy { looked_at: now, ..SeenPolicy::default() },
            Some(file) if file.sha == before.sha && before.fault.is_empty() => SeenPolicy { looked_at: now, ..before },
            Some(file) => match self.judged(file.text) {
                Ok(holds) => SeenPolicy { sha: file.sha, holds, fault: String::new(), looked_at: now },
                Err(fault) => SeenPolicy { sha: file.sha, fault, looked_at: now, ..before },
            },
        };
        self.store.store_policy(place.repository, &seen).await?;
        Ok(holding(&seen))
    }

    /// The text of a policy that can be read; else why it cannot.
    pub(super) fn judged(&self, text: Option<String>) -> Result<String, String> {
        let text = text.ok_or_else(|| "It is no plain file, or a very long one.".to_owned())?;
        Policy::parse(&text, &self.agent_names()).map(|_| text)
    }

    pub(crate) fn agent_names(&self) -> Vec<String> {
        self.settings.agents.iter().map(|agent| agent.name.clone()).collect()
    }
}
