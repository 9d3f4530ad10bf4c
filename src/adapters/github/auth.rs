//! Who we are to GitHub: the App's signed token, and from it short tokens, each narrowed to one
//! repository and to what one kind of call needs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{Answer, GitHub, GitHubError, Owner, Place, Result};
use crate::domain::delivery::InstallationState;
use crate::domain::ids::{InstallationId, Millis, RepositoryId};
use crate::domain::secret::Secret;
use crate::ports::clock::Clock as _;

/// What a token may do. GitHub's names of the permissions are in `permissions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read the thread and the repository, comment, react.
    Talk,
    /// Branch, commit, pull request.
    Publish,
    /// Fetch the code; given to one Git call in the sandbox.
    Clone,
    /// Show what becomes of a pull request beside its commits.
    Checks,
    /// Read what jobs printed.
    Logs,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Talk, Self::Publish, Self::Clone, Self::Checks, Self::Logs];

    pub fn permissions(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Talk => {
                &[("contents", "read"), ("issues", "write"), ("metadata", "read"), ("pull_requests", "write")]
            }
            Self::Publish => &[("contents", "write"), ("metadata", "read"), ("pull_requests", "write")],
            Self::Clone => &[("contents", "read"), ("metadata", "read")],
            Self::Checks => &[("checks", "write"), ("metadata", "read")],
            Self::Logs => &[("actions", "read"), ("metadata", "read")],
        }
    }
}

/// A private key that can sign.
#[derive(Clone)]
pub struct AppKey(EncodingKey);

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("•••")
    }
}

impl AppKey {
    /// PEM, as GitHub gives it out. The error names no content.
    pub fn from_pem(pem: &Secret) -> std::result::Result<Self, String> {
        EncodingKey::from_rsa_pem(pem.expose().as_bytes())
            .map(Self)
            .map_err(|_| "GITHUB_APP_PRIVATE_KEY is not an RSA private key in PEM form".to_owned())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub value: Secret,
    minted_at: Millis,
    renew_at: Millis,
}

type Slot = Arc<Mutex<Option<Token>>>;

#[derive(Debug)]
pub(super) struct Auth {
    app_id: i64,
    keys: Vec<AppKey>,
    /// Which key GitHub took last.
    current: AtomicUsize,
    slots: Mutex<HashMap<(InstallationId, RepositoryId, Scope), Slot>>,
}

#[derive(Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

#[derive(Serialize)]
pub(super) struct NarrowTo {
    /// `None`: it is not about repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_ids: Option<[i64; 1]>,
    pub permissions: HashMap<&'static str, &'static str>,
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    expires_at: String,
}

/// What GitHub says of the App.
#[derive(Debug, Deserialize)]
pub struct AboutApp {
    /// Its name in addresses; its login is this with `[bot]` behind.
    pub slug: String,
    /// Its page; an Enterprise Server has it elsewhere than github.com.
    pub html_url: Option<String>,
    /// Level by name.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    #[serde(default)]
    pub events: Vec<String>,
    pub owner: Option<Owner>,
}

#[derive(Deserialize)]
struct InstallationAnswer {
    suspended_at: Option<String>,
}

#[derive(Deserialize)]
struct HookConfig {
    url: Option<String>,
    #[serde(default)]
    content_type: String,
}

/// How GitHub sends deliveries.
#[derive(Debug)]
pub struct Webhook {
    pub url: String,
    /// As `json`; otherwise as a form, which nobody here reads.
    pub is_json: bool,
}

/// A refused token is made once more if the clock it was made by was off by this.
const LEEWAY_MS: u64 = 30_000;
const FRESH: std::time::Duration = std::time::Duration::from_secs(10);
/// Tokens live an hour; one that ends within this time is replaced.
const RENEW_BEFORE_MS: i64 = 10 * 60 * 1000;

impl Auth {
    pub(super) fn new(app_id: i64, keys: &[Secret]) -> std::result::Result<Self, String> {
        let keys = keys.iter().map(AppKey::from_pem).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self { app_id, keys, current: AtomicUsize::new(0), slots: Mutex::default() })
    }

    pub(super) fn app_id(&self) -> i64 {
        self.app_id
    }

    /// A token of the App itself: a minute back against drifting clocks, nine minutes ahead.
    fn app_token(&self, which: usize, now: Millis) -> Result<Secret> {
        let seconds = now.0 / 1000;
        let claims = Claims { iat: seconds - 60, exp: seconds + 540, iss: self.app_id.to_string() };
        let key = self.keys.get(which).ok_or(GitHubError::Unauthorized)?;
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key.0)
            .map(Secret::new)
            .map_err(|_| GitHubError::Unauthorized)
    }

    async fn slot(&self, place: &Place<'_>, scope: Scope) -> Slot {
        let key = (place.installation, place.repository, scope);
        Arc::clone(self.slots.lock().await.entry(key).or_default())
    }

    /// Tokens that nobody asks for any more do not pile up.
    async fn drop_expired(&self, now: Millis) {
        let is_live = |slot: &Slot| match slot.try_lock() {
            Ok(token) => token.as_ref().is_some_and(|token| token.renew_at > now),
            Err(_) => true,
        };
        // Who holds a slot besides is about to fill it.
        self.slots.lock().await.retain(|_, slot| Arc::strong_count(slot) > 1 || is_live(slot));
    }

    /// Drops a token that was refused, unless another call has replaced it already.
    pub(super) async fn forget(&self, place: &Place<'_>, scope: Scope, refused: &Secret) {
        let slot = self.slot(place, scope).await;
        let mut token = slot.lock().await;
        if token.as_ref().is_some_and(|token| token.value == *refused) {
            *token = None;
        }
    }
}

impl GitHub {
    /// A cached token; of many who ask at once, one mints it.
    pub(super) async fn token(&self, place: &Place<'_>, scope: Scope) -> Result<Secret> {
        let slot = self.auth.slot(place, scope).await;
        let mut cached = slot.lock().await;
        let now = self.theirs.now();
        if let Some(token) = cached.as_ref().filter(|token| token.renew_at > now) {
            return Ok(token.value.clone());
        }
        self.auth.drop_expired(now).await;
        let token = self.mint(place, scope).await?;
        let value = token.value.clone();
        *cached = Some(token);
        Ok(value)
    }

    /// Whether the cached token is in its first seconds (fault F22).
    pub(super) async fn is_fresh(&self, place: &Place<'_>, scope: Scope) -> bool {
        let slot = self.auth.slot(place, scope).await;
        let cached = slot.lock().await;
        cached.as_ref().is_some_and(|token| self.theirs.now().since(token.minted_at) < FRESH)
    }

    /// A token to fetch this one repository, and nothing else. Not cached: `revoke` it after use.
    pub async fn clone_token(&self, place: &Place<'_>) -> Result<Secret> {
        Ok(self.mint(place, Scope::Clone).await?.value)
    }

    /// Ends a token before its time.
    pub async fn revoke(&self, token: &Secret) -> Result<()> {
        self.send::<()>(token, Method::DELETE, "/installation/token", None).await.map(|_| ())
    }

    async fn mint(&self, place: &Place<'_>, scope: Scope) -> Result<Token> {
        let narrow = NarrowTo {
            repository_ids: Some([place.repository.0]),
            permissions: scope.permissions().iter().copied().collect(),
        };
        self.mint_narrowed(place.installation, &narrow).await
    }

    pub(super) async fn mint_narrowed(&self, installation: InstallationId, narrow: &NarrowTo) -> Result<Token> {
        let path = format!("/app/installations/{installation}/access_tokens");
        let minted: Minted = self.as_app(Method::POST, &path, Some(narrow)).await?;
        let now = self.theirs.now();
        let expires = Millis::parse_rfc3339(&minted.expires_at).unwrap_or(now);
        Ok(Token { value: Secret::new(minted.token), minted_at: now, renew_at: Millis(expires.0 - RENEW_BEFORE_MS) })
    }

    /// One call as the App, with each of its keys until GitHub takes one.
    pub(super) async fn as_app<B: Serialize + Sync, T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T> {
        self.answer_as_app(method, path, body).await?.json()
    }

    pub(super) async fn answer_as_app<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer> {
        let start = self.auth.current.load(Ordering::Relaxed);
        let count = self.auth.keys.len().max(1);
        for turn in 0..count {
            let which = (start + turn) % count;
            match self.send_signed(which, &method, path, body).await {
                Err(GitHubError::Unauthorized) if turn + 1 < count => {}
                answer => {
                    self.auth.current.store(which, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(GitHubError::Unauthorized)
    }

    /// Once more where the refusal tells that this machine's clock is wrong.
    async fn send_signed<B: Serialize + Sync>(
        &self,
        which: usize,
        method: &Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer> {
        let ahead = self.theirs.ahead_ms();
        let token = self.auth.app_token(which, self.theirs.now())?;
        let answer = self.send(&token, method.clone(), path, body).await;
        let was_wrong = self.theirs.ahead_ms().abs_diff(ahead) > LEEWAY_MS;
        if !was_wrong || !matches!(answer, Err(GitHubError::Unauthorized)) {
            return answer;
        }
        tracing::warn!(
            ahead_ms = self.theirs.ahead_ms(),
            "GitHub's clock is not this machine's; its tokens go by GitHub's"
        );
        let token = self.auth.app_token(which, self.theirs.now())?;
        self.send(&token, method.clone(), path, body).await
    }

    /// The App's name in addresses; its login is this with `[bot]` behind.
    pub async fn app_slug(&self) -> Result<String> {
        Ok(self.about_app().await?.slug)
    }

    pub async fn about_app(&self) -> Result<AboutApp> {
        self.as_app::<(), _>(Method::GET, "/app", None).await
    }

    /// Whether an account has the App now. Events of it come late, twice, and out of order.
    pub async fn installation_now(&self, id: InstallationId) -> Result<InstallationState> {
        let path = format!("/app/installations/{}", id.0);
        match self.as_app::<(), InstallationAnswer>(Method::GET, &path, None).await {
            Ok(InstallationAnswer { suspended_at: Some(_) }) => Ok(InstallationState::Suspended),
            Ok(InstallationAnswer { suspended_at: None }) => Ok(InstallationState::Present),
            Err(GitHubError::Missing) => Ok(InstallationState::Deleted),
            Err(error) => Err(error),
        }
    }

    /// Where GitHub sends deliveries; `None`: nowhere.
    pub async fn webhook(&self) -> Result<Option<Webhook>> {
        match self.as_app::<(), HookConfig>(Method::GET, "/app/hook/config", None).await {
            Ok(HookConfig { url, content_type }) => {
                let is_json = content_type == "json";
                Ok(url.filter(|url| !url.is_empty()).map(|url| Webhook { url, is_json }))
            }
            Err(GitHubError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RepoName;

    #[tokio::test]
    async fn tokens_that_are_over_do_not_pile_up() {
        let auth = Auth::new(1, &[]).unwrap();
        let name = RepoName { owner: "acme".into(), name: "shop".into() };
        let place = |id| Place { installation: InstallationId(id), repository: RepositoryId(id), name: &name };
        let token = |renew_at| Token { value: Secret::new("t"), minted_at: Millis(0), renew_at: Millis(renew_at) };
        *auth.slot(&place(1), Scope::Talk).await.lock().await = Some(token(100));
        *auth.slot(&place(2), Scope::Talk).await.lock().await = Some(token(200));
        let being_filled = auth.slot(&place(3), Scope::Talk).await;
        auth.drop_expired(Millis(150)).await;
        let left =
            async || auth.slots.lock().await.keys().map(|(id, _, _)| id.0).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(left().await, [2, 3].into());
        drop(being_filled);
        auth.drop_expired(Millis(150)).await;
        assert_eq!(left().await, [2].into());
    }
}
