//! Before there is a GitHub App: `/setup` has GitHub make one, and keeps its secrets sealed.

use crate::adapters::github::{Registered, convert};
use crate::adapters::store::{Store, StoreError};
use crate::adapters::vault::{self, Vault, VaultError};
use crate::domain::listing::Deed;
use crate::domain::manifest::manifest;
use crate::domain::registration::Registration;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;

/// Where the sealed App is stored, and what it is bound to.
pub const NAME: &str = "github-app";
pub const BOUND_TO: &str = "instance/github-app";
const TRIES: u32 = 20;
const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// For the visitor.
    #[error("{0}")]
    Refused(String),
}

/// An instance without an App.
#[derive(Debug)]
pub struct Setup {
    pub store: Store,
    pub vault: Vault,
    pub clock: std::sync::Arc<dyn Clock>,
    pub public_url: String,
    /// GitHub's pages and its API; no trailing slash.
    pub web_url: String,
    pub api_url: String,
    /// Shown once to the operator; who has it may set up.
    pub code: Secret,
    /// What GitHub has to bring back.
    pub state: Secret,
}

/// The App that was made before, if any.
pub async fn stored(store: &Store, vault: &Vault) -> Result<Option<Registration>, SetupError> {
    let Some(sealed) = store.instance_value(NAME).await? else { return Ok(None) };
    let opened = vault.open(BOUND_TO, &sealed)?;
    Ok(Some(Registration::from_json(&opened).ok_or(VaultError::Closed)?))
}

impl Setup {
    /// The link for the operator.
    pub fn link(&self) -> String {
        format!("{}/setup?code={}", self.public_url, self.code.expose())
    }

    pub fn is_code(&self, shown: &str) -> bool {
        // Compared by their hashes, which tell nothing by the time it takes.
        vault::hash(shown) == vault::hash(self.code.expose())
    }

    pub fn is_state(&self, shown: &str) -> bool {
        vault::hash(shown) == vault::hash(self.state.expose())
    }

    /// Where the form goes for an account, and what is in it. An empty organization: one's own account.
    pub fn form(&self, organization: &str) -> Result<(String, String), SetupError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !organization.chars().all(legal) {
            return Err(SetupError::Refused("This is no name of an organization.".to_owned()));
        }
        let owner = match organization {
            "" => String::new(),
            name => format!("/organizations/{name}"),
        };
        let action = format!("{}{owner}/settings/apps/new?state={}", self.web_url, self.state.expose());
        let manifest = manifest(&self.public_url).map_err(SetupError::Refused)?;
        Ok((action, manifest.to_string()))
    }

    /// Takes the App that GitHub made. Gives its name in addresses.
    pub async fn finish(&self, state: &str, code: &str) -> Result<String, SetupError> {
        if !self.is_state(state) {
            return Err(SetupError::Refused("This set-up was not begun here.".to_owned()));
        }
        let Registered { registration, slug } = convert(&self.api_url, code).await.map_err(SetupError::Refused)?;
        let sealed = self.vault.seal(BOUND_TO, &registration.to_json(), self.clock.new_secret())?;
        if !self.keep(&sealed).await? {
            return Err(SetupError::Refused("There is an App already.".to_owned()));
        }
        let deed = Deed { by: None, account: None, action: "made the GitHub App", about: &slug };
        if let Err(error) = self.store.audit(&deed, self.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "not audited");
        }
        Ok(slug)
    }

    /// GitHub gives the secrets out once: a database that is away for a moment must not lose them.
    async fn keep(&self, sealed: &str) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            match self.store.store_instance_value(NAME, sealed, self.clock.now()).await {
                Err(StoreError::Unavailable(_) | StoreError::Silent) => tokio::time::sleep(WAIT).await,
                stored => return stored,
            }
        }
        self.store.store_instance_value(NAME, sealed, self.clock.now()).await
    }

    /// Waits until there is an App, made here or by another process.
    pub async fn made(&self) {
        loop {
            tokio::time::sleep(WAIT).await;
            if matches!(stored(&self.store, &self.vault).await, Ok(Some(_))) {
                return;
            }
        }
    }
}
