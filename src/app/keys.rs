//! Keys of people and installations: saved sealed, chosen for a run, opened at the moment of use.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::run_task::conversation_sealed_for;
use super::{App, setup};
use crate::adapters::store::StoreError;
use crate::adapters::vault::{self, VaultError};
use crate::domain::agent::{Agent, Provider};
use crate::domain::gateway::key_header;
use crate::domain::ids::{InstallationId, UserId};
use crate::domain::key::{ChosenKey, KeyId, KeyOwner, StoredKey, choose, sealed_for};
use crate::domain::secret::Secret;

/// How long a vendor may take to say whether a key is one.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys sealed anew between two looks at the database.
const PAGE: i64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// For the visitor: nothing was saved.
    #[error("{0} refuses this key")]
    Refused(&'static str),
}

/// Who a run is for, as far as keys are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Payer<'a> {
    pub requester: UserId,
    pub installation: InstallationId,
    /// Login of the account that owns the repository.
    pub account: &'a str,
}

/// What a vendor says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTest {
    Accepted,
    Refused,
    /// It cannot be asked, or not now.
    Unknown,
}

/// What rotating came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    pub resealed: u64,
    /// Sealed with the first key already.
    pub current: u64,
    /// Sealed with a key that is not in the ring any more, or broken.
    pub closed: u64,
}

impl Rotated {
    /// One that is left as it is.
    pub(super) fn note<T>(&mut self, id: &str, resealed: &Result<T, VaultError>) {
        match resealed {
            Ok(_) => self.current += 1,
            Err(error) => {
                tracing::warn!(id, error = %error, "a sealed value stays closed");
                self.closed += 1;
            }
        }
    }
}

impl App {
    /// Saves a key in place of the owner's one for this provider, unless the vendor says that it is
    /// none. A vendor that cannot be asked keeps nobody from saving.
    pub async fn save_key(
        &self,
        owner: KeyOwner,
        provider: Provider,
        key: &Secret,
        saved_by: UserId,
    ) -> Result<StoredKey, KeyError> {
        if self.test_key(provider, key).await == KeyTest::Refused {
            return Err(KeyError::Refused(provider.title()));
        }
        let id = KeyId(self.clock.new_id());
        let sealed = self.vault.seal(&sealed_for(&id, owner, provider), key, self.clock.new_secret())?;
        let fingerprint = vault::fingerprint(key);
        let saved_at = self.clock.now();
        let stored = StoredKey { id, owner, provider, sealed, fingerprint, saved_at, used_at: None };
        self.store.store_key(&stored, saved_by).await?;
        Ok(stored)
    }

    /// Asks the vendor whether a key is one, by a call that costs nothing.
    pub async fn test_key(&self, provider: Provider, key: &Secret) -> KeyTest {
        let path = match provider {
            Provider::Anthropic | Provider::Openai => "/v1/models",
            Provider::Gemini => "/v1beta/models",
            Provider::Aigateway => "/v1/credits",
            // Cursor names no such call, GitHub tells nothing of Copilot.
            Provider::Cursor | Provider::Copilot => return KeyTest::Unknown,
        };
        let Some(base) = self.settings.base_urls.get(&provider) else { return KeyTest::Unknown };
        let mut headers = HeaderMap::new();
        let (name, before) = key_header(provider);
        let Ok(value) = HeaderValue::from_str(&format!("{before}{}", key.expose())) else { return KeyTest::Refused };
        headers.insert(HeaderName::from_static(name), value);
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        let url = format!("{base}{path}");
        let call = self.models.call(Method::GET, &url, headers, Bytes::new());
        match tokio::time::timeout(TEST_TIMEOUT, call).await {
            Ok(Ok(answer)) if answer.status.is_success() => KeyTest::Accepted,
            Ok(Ok(answer)) if answer.status == StatusCode::UNAUTHORIZED => KeyTest::Refused,
            // Gemini says 400 to what is no key at all.
            Ok(Ok(answer)) if provider == Provider::Gemini && answer.status == StatusCode::BAD_REQUEST => {
                KeyTest::Refused
            }
            Ok(_) | Err(_) => KeyTest::Unknown,
        }
    }

    /// Asks the vendor about a stored key. `None`: there is none.
    pub async fn test_stored_key(&self, owner: KeyOwner, provider: Provider) -> Result<Option<KeyTest>, KeyError> {
        let stored = self.store.keys_owned_by(owner).await?.into_iter().find(|key| key.provider == provider);
        let Some(stored) = stored else { return Ok(None) };
        let key = self.vault.open(&sealed_for(&stored.id, owner, provider), &stored.sealed)?;
        Ok(Some(self.test_key(provider, &key).await))
    }

    /// A stored key, for who may use it. `None`: it was deleted, or is somebody else's.
    pub(crate) async fn open_key(
        &self,
        id: &KeyId,
        provider: Provider,
        requester: UserId,
        installation: InstallationId,
    ) -> Result<Option<Secret>, KeyError> {
        let Some(stored) = self.store.key(id).await? else { return Ok(None) };
        let owners = [KeyOwner::Person(requester), KeyOwner::Installation(installation)];
        if stored.provider != provider || !owners.contains(&stored.owner) {
            tracing::error!(key = %id.0, "a key was asked for by somebody else's run");
            return Ok(None);
        }
        let bound_to = sealed_for(&stored.id, stored.owner, stored.provider);
        Ok(Some(self.vault.open(&bound_to, &stored.sealed)?))
    }

    /// The keys that a run of this agent would use: none if it needs none. `Err` holds the providers
    /// of which one is missing.
    pub async fn choose_keys(
        &self,
        agent: &Agent,
        model: Option<&str>,
        payer: Payer<'_>,
    ) -> Result<Result<Vec<ChosenKey>, Vec<Provider>>, StoreError> {
        let ways: Vec<(usize, Provider)> = agent.access_for(model).map(|(at, access)| (at, access.provider)).collect();
        if ways.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let stored = self.store.keys_of(payer.requester, payer.installation).await?;
        let account = payer.account.to_ascii_lowercase();
        let may_spend = self.settings.operator_key_accounts.as_ref().is_none_or(|list| list.contains(&account));
        let operator_has = |provider| may_spend && self.settings.keys.contains_key(&provider);
        let groups: Vec<&[(usize, Provider)]> =
            if agent.takes_all_access { ways.chunks(1).collect() } else { vec![&ways] };
        let mut chosen = Vec::new();
        for group in groups {
            match choose(group, &stored, payer.requester, operator_has) {
                Some(key) => chosen.push(key),
                None => return Ok(Err(group.iter().map(|(_, provider)| *provider).collect())),
            }
        }
        Ok(Ok(chosen))
    }

    /// The value of a chosen key. `None`: it is gone.
    pub(crate) async fn key_value(&self, chosen: &ChosenKey, payer: Payer<'_>) -> Result<Option<Secret>, KeyError> {
        match &chosen.stored {
            None => Ok(self.settings.keys.get(&chosen.provider).cloned()),
            Some((id, _)) => self.open_key(id, chosen.provider, payer.requester, payer.installation).await,
        }
    }

    /// Seals every stored secret with the first encryption key, beside a running service. One that was
    /// saved anew or deleted meanwhile is left as it is.
    pub async fn rotate_keys(&self) -> Result<Rotated, KeyError> {
        let mut rotated = Rotated::default();
        self.rotate_models_keys(&mut rotated).await?;
        self.rotate_conversations(&mut rotated).await?;
        self.rotate_connectors(&mut rotated).await?;
        self.rotate_push_permits(&mut rotated).await?;
        self.rotate_app(&mut rotated).await?;
        Ok(rotated)
    }

    /// The App that `/setup` made: without it the service could not start.
    async fn rotate_app(&self, rotated: &mut Rotated) -> Result<(), KeyError> {
        let Some(old) = self.store.instance_value(setup::NAME).await? else { return Ok(()) };
        match self.vault.reseal(setup::BOUND_TO, &old, self.clock.new_secret()) {
            Ok(Some(new)) => {
                rotated.resealed += u64::from(self.store.reseal_instance_value(setup::NAME, &old, &new).await?);
            }
            other => rotated.note(setup::NAME, &other),
        }
        Ok(())
    }

    async fn rotate_connectors(&self, rotated: &mut Rotated) -> Result<(), KeyError> {
        let mut after = String::new();
        loop {
            let page = self.store.connectors_after(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.id);
            for connector in &page {
                match self.vault.reseal(&connector.bound_to(), &connector.sealed, self.clock.new_secret()) {
                    Ok(Some(sealed)) => {
                        let done = self.store.reseal_connector(&connector.id, &connector.sealed, &sealed).await?;
                        rotated.resealed += u64::from(done);
                    }
                    other => rotated.note(&connector.id, &other),
                }
            }
        }
    }

    async fn rotate_conversations(&self, rotated: &mut Rotated) -> Result<(), KeyError> {
        let mut after = String::new();
        loop {
            let page = self.store.conversations_after(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.0);
            for task in page {
                let Some(kept) = self.store.conversation(&task).await? else { continue };
                let bound_to = conversation_sealed_for(&task);
                match self.vault.reseal_bytes(&bound_to, &kept.sealed, self.clock.new_secret()) {
                    Ok(Some(sealed)) => {
                        let done = self.store.reseal_conversation(&task, &kept.sealed, &sealed).await?;
                        rotated.resealed += u64::from(done);
                    }
                    other => rotated.note(&task.0, &other),
                }
            }
        }
    }

    async fn rotate_models_keys(&self, rotated: &mut Rotated) -> Result<(), KeyError> {
        let mut after = String::new();
        loop {
            let page = self.store.keys_after(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.id.0);
            for key in page {
                let bound_to = sealed_for(&key.id, key.owner, key.provider);
                match self.vault.reseal(&bound_to, &key.sealed, self.clock.new_secret()) {
                    Ok(Some(sealed)) => {
                        rotated.resealed += u64::from(self.store.reseal_key(&key.id, &key.sealed, &sealed).await?);
                    }
                    other => rotated.note(&key.id.0, &other),
                }
            }
        }
    }
}
