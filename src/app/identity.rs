//! Who we are on GitHub: asked once, remembered for the life of the process.

use std::sync::OnceLock;

use super::App;
use crate::adapters::github::GitHubError;
use crate::domain::delivery::Identity;

#[derive(Debug)]
pub(crate) struct WhoWeAre {
    app_id: i64,
    known: OnceLock<Identity>,
}

impl WhoWeAre {
    pub(crate) fn new(app_id: i64) -> Self {
        Self { app_id, known: OnceLock::new() }
    }
}

impl App {
    /// What is known without asking: the handle is empty until GitHub has told it.
    pub(crate) fn identity_so_far(&self) -> Identity {
        let unknown = || Identity { app_id: self.who.app_id, handle: String::new() };
        self.who.known.get().cloned().unwrap_or_else(unknown)
    }

    pub(crate) async fn identity(&self) -> Result<Identity, GitHubError> {
        if let Some(known) = self.who.known.get() {
            return Ok(known.clone());
        }
        let handle = self.github.app_slug().await?;
        Ok(self.who.known.get_or_init(|| Identity { app_id: self.who.app_id, handle }).clone())
    }

    /// Our name in addresses, and in mentions.
    pub async fn handle(&self) -> Result<String, GitHubError> {
        Ok(self.identity().await?.handle)
    }

    /// Login under which our comments stand.
    pub(crate) async fn bot_login(&self) -> Result<String, GitHubError> {
        Ok(format!("{}[bot]", self.identity().await?.handle))
    }
}
