//! GitHub. octocrab and jsonwebtoken live in this folder and nowhere else; methods take and give
//! domain values. Nothing is retried here but a refused token: whether a call may be repeated is
//! known where its effect is known, in `app`.

mod around;
mod auth;
mod checks;
mod commits;
mod deliveries;
mod downloads;
mod error;
mod figures;
mod graphql;
mod issues;
mod manifest;
mod payload;
mod people;
mod pulls;
mod repos;
mod review_talks;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use octocrab::Octocrab;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::adapters::system::SharedClock;
use crate::domain::ids::{InstallationId, Millis, RepositoryId};
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;

pub use auth::Webhook;
pub use auth::{AboutApp, AppKey, Scope};
pub use commits::{FileContent, NewCommit};
pub use deliveries::Cursor;
pub use error::GitHubError;
pub use manifest::{Registered, convert};
pub use payload::decode;
pub use people::{ABOUT_PEOPLE, Owner};
pub use pulls::{NewPull, Pull, PullInfo};
pub use repos::{CommitInfo, File, Repository};

pub type Result<T> = std::result::Result<T, GitHubError>;

/// Larger answers are treated as broken ones (fault F30).
const MAX_ANSWER_BYTES: usize = 10 * 1024 * 1024;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 3;
/// A later answer sets the clock wrong by more than tokens bear.
const TELLS_TIME_WITHIN: Duration = Duration::from_secs(10);

/// Where GitHub is, and who we are there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://github.com` or a GitHub Enterprise Server.
    pub web_url: String,
    /// `https://api.github.com` or `https://ghes/api/v3`.
    pub api_url: String,
    pub app_id: i64,
    /// PEM; several while one is replaced: the first that GitHub takes is used.
    pub private_keys: Vec<Secret>,
}

/// A repository within an installation: what every call is about, and what its token is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    pub installation: InstallationId,
    pub repository: RepositoryId,
    pub name: &'a crate::domain::ids::RepoName,
}

#[derive(Debug)]
pub struct GitHub {
    crab: Octocrab,
    http: reqwest::Client,
    web_url: String,
    api_url: url::Url,
    graphql_url: String,
    auth: auth::Auth,
    clock: Arc<dyn Clock>,
    /// GitHub's own, as its answers tell it: it judges by that how old a token is (fault F42).
    theirs: SharedClock,
}

/// An answer whose body was read.
#[derive(Debug)]
struct Answer {
    body: bytes::Bytes,
    link: Option<String>,
}

impl Answer {
    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| GitHubError::Unavailable(format!("an answer that cannot be read: {error}")))
    }
}

impl GitHub {
    /// The error is one sentence for the operator.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> std::result::Result<Self, String> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("hireling/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
        let base = settings.api_url.trim_end_matches('/');
        let api_url = url::Url::parse(base).map_err(|error| format!("GITHUB_API_URL is not a URL: {error}"))?;
        let crab = Octocrab::builder()
            .base_uri(base)
            .and_then(|builder| builder.build_with_reqwest(http.clone()))
            .map_err(|error| format!("GITHUB_API_URL cannot be used: {error}"))?;
        Ok(Self {
            crab,
            http,
            web_url: settings.web_url.trim_end_matches('/').to_owned(),
            graphql_url: graphql_url(base),
            api_url,
            auth: auth::Auth::new(settings.app_id, &settings.private_keys)?,
            clock,
            theirs: SharedClock::default(),
        })
    }

    pub fn app_id(&self) -> i64 {
        self.auth.app_id()
    }

    /// The time by GitHub's clock, as far as it is known.
    pub fn now(&self) -> Millis {
        self.theirs.now()
    }

    /// What the service's clock shows at a moment, by GitHub's.
    pub fn in_its_time(&self, ours: Millis) -> Millis {
        Millis(ours.0 + (self.theirs.now().0 - self.clock.now().0))
    }

    /// Where people see it; no trailing slash.
    pub fn web_url(&self) -> &str {
        &self.web_url
    }

    /// Where Git fetches a repository from.
    pub fn clone_url(&self, name: &crate::domain::ids::RepoName) -> String {
        format!("{}/{name}.git", self.web_url)
    }

    /// One call with a token of an installation; a refused token is replaced and the call repeated,
    /// which is safe because a 401 has no effect (faults F21, F22).
    async fn call<B: Serialize + Sync + ?Sized>(
        &self,
        place: &Place<'_>,
        scope: Scope,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer> {
        let mut refused = 0u32;
        loop {
            let token = self.token(place, scope).await?;
            match self.send(&token, method.clone(), path, body).await {
                Err(GitHubError::Unauthorized) if refused < 3 => {
                    self.auth.forget(place, scope, &token).await;
                    if refused > 0 {
                        tokio::time::sleep(Duration::from_secs(u64::from(refused))).await;
                    }
                    refused += 1;
                }
                // A narrowed token is sometimes not known everywhere in its first seconds.
                Err(error) if refused < 3 && error.is_of_fresh_token() && self.is_fresh(place, scope).await => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_secs(u64::from(refused))).await;
                }
                answer => return answer,
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, place: &Place<'_>, scope: Scope, path: &str) -> Result<T> {
        self.call::<()>(place, scope, Method::GET, path, None).await?.json()
    }

    /// All pages of a list, at most `max` items, following GitHub's own links.
    async fn list<T: DeserializeOwned>(
        &self,
        place: &Place<'_>,
        scope: Scope,
        path: &str,
        max: usize,
    ) -> Result<Vec<T>> {
        let mut items: Vec<T> = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take() {
            let answer = self.call::<()>(place, scope, Method::GET, &path, None).await?;
            items.extend(answer.json::<Vec<T>>()?);
            if items.len() < max {
                next = answer.link.as_deref().and_then(next_link).and_then(|link| self.own_path(&link));
            }
        }
        items.truncate(max);
        Ok(items)
    }

    /// One call that makes something anew each time.
    async fn create<B: Serialize + Sync + ?Sized>(
        &self,
        place: &Place<'_>,
        scope: Scope,
        path: &str,
        body: &B,
    ) -> Result<Answer> {
        match self.call(place, scope, Method::POST, path, Some(body)).await {
            Err(GitHubError::Unavailable(why)) => Err(GitHubError::Unclear(why)),
            answer => answer,
        }
    }

    /// One call with a bearer; follows GitHub's redirects of renamed repositories with the same method.
    async fn send<B: Serialize + Sync + ?Sized>(
        &self,
        bearer: &Secret,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer> {
        self.send_accepting(bearer, method, path, body, "application/vnd.github+json").await
    }

    async fn send_accepting<B: Serialize + Sync + ?Sized>(
        &self,
        bearer: &Secret,
        method: Method,
        path: &str,
        body: Option<&B>,
        accept: &'static str,
    ) -> Result<Answer> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
                .map_err(|_| GitHubError::Unauthorized)?;
            value.set_sensitive(true);
            let builder = http::Request::builder()
                .method(method.clone())
                .uri(&path)
                .header(header::AUTHORIZATION, value)
                .header(header::ACCEPT, accept);
            let request = self
                .crab
                .build_request(builder, body)
                .map_err(|error| GitHubError::Unavailable(format!("the call cannot be built: {error}")))?;
            let asked = self.theirs.ask();
            let response = self.crab.execute(request).await.map_err(|error| {
                figures::count(&method, None, self.clock.now());
                GitHubError::Unavailable(error::describe(&error))
            })?;
            let (parts, stream) = response.into_parts();
            if let Some(shown) = error::date(&parts.headers) {
                self.theirs.set(shown, &asked, TELLS_TIME_WITHIN);
            }
            let moved = matches!(parts.status.as_u16(), 301 | 302 | 307 | 308);
            let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            if let (true, Some(next)) = (moved, location.and_then(|location| self.own_path(location))) {
                path = next;
                continue;
            }
            let body = Limited::new(stream, MAX_ANSWER_BYTES).collect().await;
            let answer = body.is_ok().then_some((parts.status, &parts.headers));
            figures::count(&method, answer, self.clock.now());
            let body =
                body.map_err(|error| GitHubError::Unavailable(format!("the answer broke off: {error}")))?.to_bytes();
            // A 202 is "later", but where a delivery is asked for again.
            let is_later = parts.status == StatusCode::ACCEPTED && !path.ends_with("/attempts");
            if parts.status.is_success() && !is_later {
                let link = parts.headers.get(header::LINK).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
                return Ok(Answer { body, link });
            }
            return Err(error::of_answer(parts.status, &parts.headers, &body, self.clock.now()));
        }
        Err(GitHubError::Unavailable("redirected too often".to_owned()))
    }

    /// Path and query of a link, if it leads to this GitHub: a token goes nowhere else.
    fn own_path(&self, link: &str) -> Option<String> {
        let link = self.api_url.join(link).ok()?;
        if link.origin() != self.api_url.origin() {
            return None;
        }
        let base = self.api_url.path().trim_end_matches('/');
        let path = link.path().strip_prefix(base)?;
        Some(link.query().map_or(path.to_owned(), |query| format!("{path}?{query}")))
    }
}

/// GraphQL stands beside REST on github.com, and outside `/v3` on Enterprise Server.
fn graphql_url(api: &str) -> String {
    match api.strip_suffix("/api/v3") {
        Some(host) => format!("{host}/api/graphql"),
        None => format!("{api}/graphql"),
    }
}

/// The `rel="next"` of a `Link` header.
fn next_link(header: &str) -> Option<String> {
    header.split(',').find_map(|part| {
        let (link, rel) = part.split_once(';')?;
        let link = link.trim().strip_prefix('<')?.strip_suffix('>')?;
        rel.contains("rel=\"next\"").then(|| link.to_owned())
    })
}

/// A piece of a path: everything that is not plainly harmless is percent-encoded.
fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphql_is_where_github_has_it() {
        assert_eq!(graphql_url("https://api.github.com"), "https://api.github.com/graphql");
        assert_eq!(graphql_url("https://ghes.test/api/v3"), "https://ghes.test/api/graphql");
    }

    #[test]
    fn the_next_page_is_read_from_the_link() {
        let header = r#"<https://h/x?page=1>; rel="prev", <https://h/x?page=3>; rel="next""#;
        assert_eq!(next_link(header).as_deref(), Some("https://h/x?page=3"));
        assert_eq!(next_link("<https://h/x>; rel=\"last\""), None);
    }

    #[test]
    fn a_branch_name_cannot_change_a_route() {
        assert_eq!(segment("feature/a#1?x=..%2f"), "feature/a%231%3Fx%3D..%252f");
    }
}
