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
            return Ok(self.holding(seen));
        }
        let file = match self.github.file(place, POLICY_FILE, None).await {
            Ok(file) => file,
            // What held a while ago is better than nothing at all.
            Err(error) if error.is_passing() && known.is_some() => return Ok(self.holding(&known.unwrap_or_default())),
            Err(error) => return Err(error.into()),
        };
        let before = known.unwrap_or_default();
        let seen = match file {
            None => SeenPolicy { looked_at: now, ..SeenPolicy::default() },
            Some(file) if file.sha == before.sha => SeenPolicy { looked_at: now, ..before },
            Some(file) => match Policy::parse(&file.text, &self.agent_names()) {
                Ok(_) => SeenPolicy { sha: file.sha, holds: file.text, fault: String::new(), looked_at: now },
                Err(fault) => SeenPolicy { sha: file.sha, fault, looked_at: now, ..before },
            },
        };
        self.store.store_policy(place.repository, &seen).await?;
        Ok(self.holding(&seen))
    }

    fn holding(&self, seen: &SeenPolicy) -> Holding {
        let fault = Some(seen.fault.clone()).filter(|fault| !fault.is_empty());
        // One that named an agent which is gone since holds no more.
        let policy = Policy::parse(&seen.holds, &self.agent_names());
        let fault = fault.or_else(|| policy.as_ref().err().cloned());
        Holding { policy: policy.unwrap_or_default(), fault, sha: seen.sha.clone() }
    }

    pub(crate) fn agent_names(&self) -> Vec<String> {
        self.settings.agents.iter().map(|agent| agent.name.clone()).collect()
    }
}
