//! Who looks: the session of the cookie, the fields of a form, and whether the form is ours.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Web;
use super::page::refuse;
use crate::domain::person::{Person, Session};
use crate::domain::secret::Secret;

/// A form of ours is a few kilobytes.
const MAX_FORM: usize = 64 * 1024;
const FORM_WITHIN: Duration = Duration::from_secs(10);

/// Somebody who is signed in.
#[derive(Debug)]
pub struct Me {
    pub person: Person,
    pub session: Session,
    secret: Secret,
}

impl Me {
    /// Of the form that leads to this path, in this session: nobody else can make it.
    pub fn token(&self, action: &str) -> String {
        hex::encode(self.mac(action).finalize().into_bytes())
    }

    fn mac(&self, action: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.expose().as_bytes());
        // A key of any length will do.
        let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes every key"));
        mac.update(format!("form {action}").as_bytes());
        mac
    }

    fn has_made(&self, action: &str, token: &str) -> bool {
        hex::decode(token).is_ok_and(|token| self.mac(action).verify_slice(&token).is_ok())
    }
}

/// Whoever looks at a page.
#[derive(Debug)]
pub struct Visitor {
    pub me: Option<Me>,
    /// What a form that led here did.
    pub done: Option<String>,
}

impl Visitor {
    pub fn person(&self) -> Option<&Person> {
        self.me.as_ref().map(|me| &me.person)
    }
}

impl FromRequestParts<Arc<Web>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or("");
        let done = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "done");
        let me = match cookie(&parts.headers, &web.session_cookie()) {
            Some(cookie) => me(web, cookie).await,
            None => None,
        };
        Ok(Self { me, done: done.map(|(_, value)| value.into_owned()) })
    }
}

async fn me(web: &Web, cookie: &str) -> Option<Me> {
    match web.app.signed_in(cookie).await {
        Ok(found) => found.map(|(person, session, secret)| Me { person, session, secret }),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a session cannot be read");
            None
        }
    }
}

/// A page for people who are signed in: others are asked to, and come back.
impl FromRequestParts<Arc<Web>> for Me {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let Ok(visitor) = Visitor::from_request_parts(parts, web).await;
        visitor.me.ok_or_else(|| {
            let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let next: String = url::form_urlencoded::byte_serialize(here.as_bytes()).collect();
            Redirect::to(&format!("/signin?next={next}")).into_response()
        })
    }
}

/// A form that somebody who is signed in has sent from a page of ours.
#[derive(Debug)]
pub struct Posted {
    pub me: Me,
    fields: HashMap<String, String>,
}

impl Posted {
    /// A field without the blanks around it; empty where it is missing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.trim())
    }

    pub fn is_checked(&self, name: &str) -> bool {
        !self.field(name).is_empty()
    }
}

impl FromRequest<Arc<Web>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, web: &Arc<Web>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Ok(visitor) = Visitor::from_request_parts(&mut parts, web).await;
        let forbidden = || refuse(web, StatusCode::FORBIDDEN);
        if !is_from_here(&parts.headers, &web.app.settings.public_url) {
            return Err(forbidden());
        }
        let me = visitor.me.ok_or_else(forbidden)?;
        let body = tokio::time::timeout(FORM_WITHIN, axum::body::to_bytes(body, MAX_FORM)).await;
        let body = body.map_err(|_| refuse(web, StatusCode::REQUEST_TIMEOUT))?;
        let body = body.map_err(|_| refuse(web, StatusCode::BAD_REQUEST))?;
        let fields: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
        let token = fields.get("token").map_or("", String::as_str);
        if !me.has_made(parts.uri.path(), token) {
            return Err(forbidden());
        }
        Ok(Self { me, fields })
    }
}

/// Browsers name the page that sent a form; one that does not is asked how the form got here.
fn is_from_here(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::ORIGIN.as_str()) {
        Some(origin) => {
            let ours = url::Url::parse(public_url).ok().map(|url| url.origin().ascii_serialization());
            let host = text(header::HOST.as_str()).unwrap_or("");
            let same_host = url::Url::parse(origin).ok().is_some_and(|url| {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let name = url.host_str().unwrap_or("");
                is_this_machine(name) && format!("{name}{port}") == host
            });
            ours.as_deref() == Some(origin) || same_host
        }
        None => matches!(text("sec-fetch-site"), None | Some("same-origin" | "none")),
    }
}

/// Whether a browser takes an address for safe without https: nobody is between.
pub fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// The value of a cookie. Of several of one name the browser sends the narrowest first.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name).then_some(value)
    })
}

impl Web {
    /// `__Host-` keeps cookies from other hosts and from plain http; a browser takes it only over
    /// https, or on this machine.
    fn cookie_name(&self, name: &str) -> String {
        if self.has_safe_cookies { format!("__Host-{name}") } else { name.to_owned() }
    }

    pub fn session_cookie(&self) -> String {
        self.cookie_name("session")
    }

    pub fn signin_cookie(&self) -> String {
        self.cookie_name("signin")
    }

    /// Has the browser keep a value for so many seconds; 0 has it forget it.
    pub fn set_cookie(&self, response: &mut Response, name: &str, value: &str, seconds: u64) {
        let secure = if self.has_safe_cookies { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_come_from_here_or_are_refused() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.extend(
                pairs
                    .iter()
                    .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value))),
            );
            is_from_here(&headers, "https://h.test")
        };
        assert!(from(&[("origin", "https://h.test")]));
        assert!(from(&[("origin", "http://localhost:8080"), ("host", "localhost:8080")]));
        assert!(from(&[]));
        for foreign in ["https://evil.test", "null", "http://h.test", "https://h.test.evil.test", "https://h.test:8443"]
        {
            assert!(!from(&[("origin", foreign), ("host", "h.test")]), "{foreign}");
        }
        assert!(!from(&[("sec-fetch-site", "cross-site")]));
        assert!(!from(&[("sec-fetch-site", "same-site")]));
    }
}
