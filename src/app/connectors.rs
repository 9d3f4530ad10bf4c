//! Connectors: saved with their secrets sealed, chosen for a task, opened when a run needs them.

use std::collections::BTreeSet;

use super::App;
use super::keys::Payer;
use crate::adapters::store::StoreError;
use crate::adapters::vault::VaultError;
use crate::domain::command::Options;
use crate::domain::connector::config::{Server, server};
use crate::domain::connector::{Connector, Secrets, Selected, Transport, check, is_variable, sealed_for, select};
use crate::domain::ids::UserId;
use crate::domain::key::KeyOwner;

/// What a stored connector is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    Good,
    /// It leads where it may not, by the settings of now.
    NotAllowed,
    /// Its secrets were changed, or sealed with a key that is gone.
    Closed,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// For the visitor: nothing was saved.
    #[error("{0}")]
    Refused(String),
}

impl App {
    /// Saves a connector in place of the owner's one of this name. Secrets that are not given anew and
    /// still mentioned stay as they were.
    pub async fn save_connector(
        &self,
        owner: KeyOwner,
        name: &str,
        transport: Transport,
        secrets: Secrets,
        saved_by: UserId,
    ) -> Result<Connector, ConnectorError> {
        let is_allowed = |url: &str| self.settings.network.names_host_of(url);
        let mentioned = check(name, &transport, is_allowed).map_err(ConnectorError::Refused)?;
        if let Some(bad) = secrets.0.keys().find(|name| !is_variable(name)) {
            return Err(ConnectorError::Refused(format!("{bad:?} is no name of a secret")));
        }
        if secrets.0.values().any(|value| value.expose().chars().any(char::is_control)) {
            return Err(ConnectorError::Refused("a secret holds control characters".to_owned()));
        }
        let old = self.store.connector(owner, name).await?;
        // Secrets of one address are not sent to another because somebody edited it.
        let leads_elsewhere = |old: &Connector| old.transport.target() != transport.target();
        let old_secrets = match &old {
            Some(old) if !leads_elsewhere(old) => self.open_connector(old)?,
            _ => Secrets::default(),
        };
        // The environment of a local one holds more than its arguments mention.
        let wanted: BTreeSet<String> = match transport {
            Transport::Local { .. } => old_secrets.0.keys().cloned().chain(mentioned.iter().cloned()).collect(),
            Transport::Remote { .. } => mentioned.clone(),
        };
        let secrets = secrets.completed_by(&old_secrets, &wanted);
        if let Some(missing) = mentioned.iter().find(|name| !secrets.0.contains_key(*name)) {
            return Err(ConnectorError::Refused(format!("the secret {missing} is mentioned but not given")));
        }
        let id = old.as_ref().map_or_else(|| self.clock.new_id(), |old| old.id.clone());
        let sealed =
            self.vault.seal(&sealed_for(&id, owner, &transport), &secrets.to_json(), self.clock.new_secret())?;
        let connector = Connector {
            id,
            owner,
            name: name.to_owned(),
            transport,
            sealed,
            is_enabled: old.is_none_or(|old| old.is_enabled),
            saved_at: self.clock.now(),
        };
        self.store.store_connector(&connector, saved_by).await?;
        Ok(connector)
    }

    /// What can be told of a stored one: the service itself never calls it. `None`: there is none of
    /// this name.
    pub async fn check_connector(&self, owner: KeyOwner, name: &str) -> Result<Option<Checked>, StoreError> {
        let Some(connector) = self.store.connector(owner, name).await? else { return Ok(None) };
        let is_allowed = |url: &str| self.settings.network.names_host_of(url);
        Ok(Some(match check(name, &connector.transport, is_allowed) {
            Err(_) => Checked::NotAllowed,
            Ok(_) if self.open_connector(&connector).is_err() => Checked::Closed,
            Ok(_) => Checked::Good,
        }))
    }

    fn open_connector(&self, connector: &Connector) -> Result<Secrets, VaultError> {
        let opened = self.vault.open(&connector.bound_to(), &connector.sealed)?;
        Secrets::from_json(&opened).ok_or(VaultError::Closed)
    }

    /// The connectors of a task, by its options.
    pub(crate) async fn connectors_for(&self, options: &Options, payer: Payer<'_>) -> Result<Selected, StoreError> {
        if options.no_mcp {
            return Ok(Selected::default());
        }
        let all = self.store.connectors_of(payer.requester, payer.installation).await?;
        Ok(select(all, options.mcp.as_deref()))
    }

    /// With their secrets filled in. Those that cannot be opened are left out, and named.
    pub(crate) fn servers(&self, connectors: &[Connector]) -> (Vec<Server>, Vec<String>) {
        let (mut servers, mut closed, mut number) = (Vec::new(), Vec::new(), 0);
        for connector in connectors {
            match self.open_connector(connector) {
                Ok(secrets) => servers.push(server(&connector.name, &connector.transport, &secrets, &mut number)),
                Err(error) => {
                    tracing::error!(connector = %connector.id, error = %error, "a connector stays closed");
                    closed.push(connector.name.clone());
                }
            }
        }
        (servers, closed)
    }
}
