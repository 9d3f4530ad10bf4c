//! What the GitHub App is known by: from the settings, or as GitHub gave it out to `/setup`.

use serde::{Deserialize, Serialize};

use super::secret::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub app_id: i64,
    /// PEM; several while one is replaced.
    pub private_keys: Vec<Secret>,
    pub webhook_secrets: Vec<Secret>,
    /// For signing in: id and secret. `None`: nobody can sign in with GitHub.
    pub client: Option<(String, Secret)>,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    app_id: i64,
    private_key: String,
    webhook_secret: String,
    client_id: String,
    client_secret: String,
}

impl Registration {
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let client = self.client.iter().map(|(_, secret)| secret);
        self.private_keys.iter().chain(&self.webhook_secrets).chain(client)
    }

    /// For sealing. Only what `/setup` made has this form: one of each.
    pub fn to_json(&self) -> Secret {
        let first = |list: &[Secret]| list.first().map(|one| one.expose().to_owned()).unwrap_or_default();
        let (client_id, client_secret) =
            self.client.as_ref().map(|(id, secret)| (id.clone(), secret.expose().to_owned())).unwrap_or_default();
        let plain = Plain {
            app_id: self.app_id,
            private_key: first(&self.private_keys),
            webhook_secret: first(&self.webhook_secrets),
            client_id,
            client_secret,
        };
        Secret::new(serde_json::to_string(&plain).unwrap_or_default())
    }

    pub fn from_json(text: &Secret) -> Option<Self> {
        let plain: Plain = serde_json::from_str(text.expose()).ok()?;
        Some(Self {
            app_id: plain.app_id,
            private_keys: vec![Secret::new(plain.private_key)],
            webhook_secrets: vec![Secret::new(plain.webhook_secret)],
            client: (!plain.client_id.is_empty()).then(|| (plain.client_id, Secret::new(plain.client_secret))),
        })
    }
}
