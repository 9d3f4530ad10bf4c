//! Keys for models: whose they are, and which one pays for a run.

use serde::{Deserialize, Serialize};

use super::agent::Provider;
use super::ids::{InstallationId, Millis, UserId};

/// Who brought a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "id")]
pub enum KeyOwner {
    Person(UserId),
    /// The account that installed the App; its administrators see to the key.
    Installation(InstallationId),
}

impl KeyOwner {
    pub fn kind(self) -> &'static str {
        match self {
            Self::Person(_) => "person",
            Self::Installation(_) => "installation",
        }
    }

    /// In the audit log, which outlives people: nobody's number.
    pub fn for_the_record(self) -> String {
        match self {
            Self::Person(_) => "of their own".to_owned(),
            Self::Installation(id) => format!("of installation {}", id.0),
        }
    }

    pub fn account(self) -> Option<InstallationId> {
        match self {
            Self::Person(_) => None,
            Self::Installation(id) => Some(id),
        }
    }

    pub fn id(self) -> i64 {
        match self {
            Self::Person(UserId(id)) | Self::Installation(InstallationId(id)) => id,
        }
    }
}

/// The name of a stored key. It is part of what the key is sealed with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

/// A stored key as it is shown: never the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: KeyId,
    pub owner: KeyOwner,
    pub provider: Provider,
    /// Sealed, bound to this row.
    pub sealed: String,
    /// Tells keys apart.
    pub fingerprint: String,
    pub saved_at: Millis,
    pub used_at: Option<Millis>,
}

/// What a sealed value of this row is bound to: nobody can put it into another row.
pub fn sealed_for(id: &KeyId, owner: KeyOwner, provider: Provider) -> String {
    format!("keys/{}/{}-{}/{}", id.0, owner.kind(), owner.id(), provider.name())
}

/// The key that a run uses: chosen once, named in its facts, opened when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenKey {
    pub provider: Provider,
    /// Place of the way in the agent's `access`.
    pub access: usize,
    /// `None`: the operator's.
    pub stored: Option<(KeyId, KeyOwner)>,
}

impl ChosenKey {
    /// Whether the limits by month hold for what it pays: those are the operator's.
    pub fn counts_by_month(&self) -> bool {
        self.stored.is_none() && self.provider.has_gateway()
    }

    /// Whose key pays, for the status comment.
    pub fn whose(&self, requester: &str) -> String {
        match &self.stored {
            None => "key of this instance".to_owned(),
            Some((_, KeyOwner::Person(_))) => format!("{requester}'s own key"),
            Some((_, KeyOwner::Installation(_))) => "key of the account that installed the App".to_owned(),
        }
    }
}

/// Which ways a run could take, and which keys there are: the person's come first, then those of
/// the installation, then the operator's. Of one owner, the agent's preferred provider counts.
pub fn choose(
    ways: &[(usize, Provider)],
    stored: &[StoredKey],
    requester: UserId,
    operator_has: impl Fn(Provider) -> bool,
) -> Option<ChosenKey> {
    let of = |is_person: bool| {
        ways.iter().find_map(|(access, provider)| {
            let owned = |key: &&StoredKey| match key.owner {
                KeyOwner::Person(id) => is_person && id == requester,
                KeyOwner::Installation(_) => !is_person,
            };
            let key = stored.iter().filter(|key| key.provider == *provider).find(owned)?;
            Some(ChosenKey { provider: *provider, access: *access, stored: Some((key.id.clone(), key.owner)) })
        })
    };
    let operators = || {
        let (access, provider) = ways.iter().find(|(_, provider)| operator_has(*provider))?;
        Some(ChosenKey { provider: *provider, access: *access, stored: None })
    };
    of(true).or_else(|| of(false)).or_else(operators)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: KeyOwner, provider: Provider) -> StoredKey {
        StoredKey {
            id: KeyId(format!("{}-{}", owner.kind(), provider.name())),
            owner,
            provider,
            sealed: String::new(),
            fingerprint: String::new(),
            saved_at: Millis(0),
            used_at: None,
        }
    }

    #[test]
    fn a_persons_key_comes_before_the_installations_and_that_before_the_operators() {
        let (me, org) = (KeyOwner::Person(UserId(1)), KeyOwner::Installation(InstallationId(2)));
        let ways = [(0, Provider::Anthropic), (1, Provider::Aigateway)];
        let chosen = |stored: &[StoredKey]| {
            let chosen = choose(&ways, stored, UserId(1), |provider| provider == Provider::Anthropic)?;
            Some((chosen.stored.map(|(id, _)| id.0), chosen.access))
        };
        assert_eq!(chosen(&[]), Some((None, 0)));
        let installations = key(org, Provider::Anthropic);
        assert_eq!(chosen(std::slice::from_ref(&installations)), Some((Some("installation-anthropic".into()), 0)));
        let mine = key(me, Provider::Aigateway);
        assert_eq!(chosen(&[installations.clone(), mine]), Some((Some("person-aigateway".into()), 1)));
        let strangers = key(KeyOwner::Person(UserId(9)), Provider::Anthropic);
        assert_eq!(chosen(&[strangers]), Some((None, 0)));
        assert_eq!(choose(&ways, &[], UserId(1), |_| false), None);
    }
}
