//! OAuth with GitHub and Vercel: where a browser is sent, and who it was that came back. A token is
//! used to ask who it belongs to, and ended at once: nothing of it is kept, unless the person wants it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::domain::ids::{InstallationId, Millis};
use crate::domain::person::{Account, SeenInstallation, SignInWith};
use crate::domain::secret::Secret;

const TIMEOUT: Duration = Duration::from_secs(15);
/// Longer answers are none.
const MAX_ANSWER: usize = 1024 * 1024;

/// Our registration at a provider.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: String,
    pub secret: Secret,
    /// Where the provider's pages are; no trailing slash.
    pub web_url: String,
    /// Where it tells who a token belongs to.
    pub api_url: String,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The operator has not registered us there.
    #[error("signing in with {0} is not set up here")]
    NotSetUp(&'static str),
    /// The code is wrong, used or too old.
    #[error("the provider did not take the code: {0}")]
    Refused(String),
    #[error("the provider cannot be reached: {0}")]
    Unavailable(String),
}

/// What acts in a person's name at GitHub.
#[derive(Debug, Clone)]
pub struct UserToken {
    pub access: Secret,
    /// `None`: it does not end by itself.
    pub ends_at: Option<Millis>,
    /// What a new one is had for, once.
    pub refresh: Option<Secret>,
}

/// Who came back.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub account: Account,
    /// Only where it was to be kept.
    pub token: Option<UserToken>,
    /// Of GitHub: where the person can see our App. `None`: it did not say.
    pub installations: Option<Vec<SeenInstallation>>,
}

#[derive(Debug)]
pub struct SignIns {
    http: reqwest::Client,
    github: Option<Client>,
    vercel: Option<Client>,
}

/// GitHub answers a bad code with 200 and an `error`.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    /// Seconds.
    expires_in: Option<i64>,
    refresh_token: Option<String>,
    error: Option<String>,
}

impl TokenAnswer {
    fn token(self, now: Millis) -> Result<UserToken, SignInError> {
        match (self.access_token, self.error) {
            (Some(access), None) if !access.is_empty() => Ok(UserToken {
                access: Secret::new(access),
                ends_at: self.expires_in.map(|seconds| Millis(now.0 + seconds * 1000)),
                refresh: self.refresh_token.map(Secret::new),
            }),
            (_, error) => Err(SignInError::Refused(error.unwrap_or_else(|| "no token".to_owned()))),
        }
    }
}

#[derive(Deserialize)]
struct GitHubUser {
    id: i64,
    login: String,
}

#[derive(Deserialize)]
struct GitHubEmail {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Deserialize)]
struct GitHubInstallations {
    installations: Vec<GitHubInstallation>,
}

#[derive(Deserialize)]
struct GitHubInstallation {
    id: i64,
    account: Option<GitHubAccount>,
}

#[derive(Deserialize)]
struct GitHubAccount {
    login: Option<String>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
struct VercelUser {
    sub: String,
    preferred_username: Option<String>,
    name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
}

/// What a browser has to be told by whoever started (RFC 7636).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

impl SignIns {
    /// The error is one sentence for the operator.
    pub fn new(github: Option<Client>, vercel: Option<Client>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("hireling/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| format!("no client for sign-ins can be made: {error}"))?;
        Ok(Self { http, github, vercel })
    }

    pub fn offers(&self, with: SignInWith) -> bool {
        self.client(with).is_ok()
    }

    /// Hosts of the providers, for the pages' policy.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        [&self.github, &self.vercel].into_iter().flatten().map(|client| client.web_url.as_str())
    }

    fn client(&self, with: SignInWith) -> Result<&Client, SignInError> {
        let client = match with {
            SignInWith::GitHub => &self.github,
            SignInWith::Vercel => &self.vercel,
        };
        client.as_ref().ok_or(SignInError::NotSetUp(with.title()))
    }

    /// Where the browser goes to say who it is.
    pub fn address(
        &self,
        with: SignInWith,
        redirect_uri: &str,
        state: &str,
        verifier: &str,
    ) -> Result<String, SignInError> {
        let client = self.client(with)?;
        let path = match with {
            SignInWith::GitHub => "/login/oauth/authorize",
            SignInWith::Vercel => "/oauth/authorize",
        };
        let mut url = url::Url::parse(&format!("{}{path}", client.web_url))
            .map_err(|error| SignInError::Unavailable(error.to_string()))?;
        url.query_pairs_mut()
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("response_type", "code")
            .append_pair("state", state)
            .append_pair("code_challenge", &challenge(verifier))
            .append_pair("code_challenge_method", "S256");
        if with == SignInWith::Vercel {
            url.query_pairs_mut().append_pair("scope", "openid email profile");
        }
        Ok(url.into())
    }

    /// Who the code stands for. `keep_at`: the time now, where the token is to be kept.
    pub async fn arrive(
        &self,
        with: SignInWith,
        redirect_uri: &str,
        (code, verifier): (&str, &str),
        keep_at: Option<Millis>,
    ) -> Result<Arrived, SignInError> {
        let client = self.client(with)?;
        let path = match with {
            SignInWith::GitHub => "/login/oauth/access_token",
            SignInWith::Vercel => "/api/login/oauth/token",
        };
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &client.id),
            ("client_secret", client.secret.expose()),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let request = self.http.post(format!("{}{path}", client.web_url)).form(&form);
        let answer: TokenAnswer = read(request, true).await?;
        let token = answer.token(keep_at.unwrap_or(Millis(0)))?;
        let arrived = match with {
            SignInWith::GitHub => self.at_github(client, &token.access).await,
            SignInWith::Vercel => self.at_vercel(client, &token.access).await,
        };
        match (arrived, keep_at) {
            (Ok(arrived), Some(_)) => Ok(Arrived { token: Some(token), ..arrived }),
            (arrived, _) => {
                self.end(with, client, &token.access).await;
                arrived
            }
        }
    }

    /// A new token of GitHub's for one that ends.
    pub async fn renew(&self, refresh: &Secret, now: Millis) -> Result<UserToken, SignInError> {
        let client = self.client(SignInWith::GitHub)?;
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &client.id),
            ("client_secret", client.secret.expose()),
            ("refresh_token", refresh.expose()),
        ];
        let request = self.http.post(format!("{}/login/oauth/access_token", client.web_url)).form(&form);
        read::<TokenAnswer>(request, true).await?.token(now)
    }

    /// Ends a token of GitHub's that was kept.
    pub async fn end_user_token(&self, token: &Secret) {
        if let Ok(client) = self.client(SignInWith::GitHub) {
            self.end(SignInWith::GitHub, client, token).await;
        }
    }

    fn get(&self, url: String, token: &Secret) -> reqwest::RequestBuilder {
        self.http.get(url).bearer_auth(token.expose())
    }

    async fn at_github(&self, client: &Client, token: &Secret) -> Result<Arrived, SignInError> {
        let api = &client.api_url;
        let user: GitHubUser = read(self.get(format!("{api}/user"), token), false).await?;
        // An App without this permission is told 403: then there is no address.
        let emails = self.get(format!("{api}/user/emails"), token);
        let emails: Vec<GitHubEmail> = read(emails, false).await.unwrap_or_default();
        let email = emails.into_iter().find(|one| one.primary && one.verified).map(|one| one.email);
        let seen = self.get(format!("{api}/user/installations?per_page=100"), token);
        let seen: Option<GitHubInstallations> = read(seen, false).await.ok();
        let as_seen = |one: GitHubInstallation| {
            let account = one.account?;
            Some(SeenInstallation {
                id: InstallationId(one.id),
                account: account.login?,
                is_organization: account.r#type.as_deref() == Some("Organization"),
            })
        };
        let installations = seen.map(|seen| seen.installations.into_iter().filter_map(as_seen).collect());
        let account = Account { with: SignInWith::GitHub, subject: user.id.to_string(), login: user.login, email };
        Ok(Arrived { account, token: None, installations })
    }

    async fn at_vercel(&self, client: &Client, token: &Secret) -> Result<Arrived, SignInError> {
        let user = self.get(format!("{}/api/login/oauth/userinfo", client.api_url), token);
        let user: VercelUser = read(user, false).await?;
        let login = user.preferred_username.or(user.name).unwrap_or_else(|| user.sub.clone());
        let email = user.email.filter(|_| user.email_verified);
        let account = Account { with: SignInWith::Vercel, subject: user.sub, login, email };
        Ok(Arrived { account, token: None, installations: None })
    }

    /// Ends a token that has told what it was for. Where that fails it ends by itself, in hours.
    async fn end(&self, with: SignInWith, client: &Client, token: &Secret) {
        let request = match with {
            SignInWith::GitHub => self
                .http
                .delete(format!("{}/applications/{}/token", client.api_url, client.id))
                .json(&serde_json::json!({ "access_token": token.expose() })),
            SignInWith::Vercel => self
                .http
                .post(format!("{}/api/login/oauth/token/revoke", client.web_url))
                .form(&[("token", token.expose())]),
        };
        let sent = request.basic_auth(&client.id, Some(client.secret.expose())).send().await;
        match sent.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {}
            Err(error) => tracing::info!(error = %error.without_url(), "a token of a sign-in was not ended"),
        }
    }
}

/// `refusal_is_answer`: the provider says in the body why it refuses.
async fn read<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
    refusal_is_answer: bool,
) -> Result<T, SignInError> {
    let unavailable = |error: reqwest::Error| SignInError::Unavailable(error.without_url().to_string());
    let mut response = request.header("accept", "application/json").send().await.map_err(unavailable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unavailable)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(SignInError::Unavailable("an answer without end".to_owned()));
        }
    }
    if status.is_success() || (refusal_is_answer && status.is_client_error()) {
        return serde_json::from_slice(&body)
            .map_err(|_| SignInError::Unavailable("an answer that cannot be read".to_owned()));
    }
    match status.is_client_error() {
        true => Err(SignInError::Refused(status.to_string())),
        false => Err(SignInError::Unavailable(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
