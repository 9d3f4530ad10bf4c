//! Signing in and out, and linking what else one signs in with.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::Web;
use super::limits::Peer;
use super::page::{Frame, fail, refuse, render, then};
use super::visitor::{Posted, Visitor, cookie};
use crate::app::SignInError;
use crate::app::people::{Departure, Landed, SignInFault};
use crate::domain::person::{LONGEST, SignInWith};

/// What a browser has for the way to the provider and back.
const SIGNIN_SECONDS: u64 = 600;
const HOME: &str = "/tasks";

#[derive(Template)]
#[template(path = "signin.html")]
struct SignInPage {
    frame: Frame,
    /// Name and title of each way.
    ways: Vec<(&'static str, &'static str)>,
    next: String,
    /// Why it did not work.
    fault: Option<String>,
}

#[derive(Template)]
#[template(path = "merge.html")]
struct MergePage {
    frame: Frame,
    title: &'static str,
    account: String,
    there: String,
    token: String,
    proof: String,
}

/// A path of ours to come back to. Whatever a browser could read as another host is none.
fn local(next: &str) -> Option<&str> {
    let plain = !next.contains(['\\', '\n', '\r', '\t']) && !next.chars().any(char::is_control);
    let base = url::Url::parse("https://here.invalid").ok()?;
    let stays = base.join(next).ok()?.origin() == base.origin();
    (plain && stays && next.starts_with('/') && !next.starts_with("//")).then_some(next)
}

async fn page(web: &Web, visitor: &Visitor, next: &str, fault: Option<String>) -> Response {
    let ways = [SignInWith::GitHub, SignInWith::Vercel];
    let ways = ways.into_iter().filter(|with| web.app.signins.offers(*with)).map(|with| (with.name(), with.title()));
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    let frame = Frame::of(web, visitor).await;
    let status = if fault.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, render(&SignInPage { frame, ways: ways.collect(), next, fault })).into_response()
}

pub async fn signin(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let next = query.get("next").map_or(HOME, String::as_str);
    let Some(next) = local(next) else { return refuse(&web, StatusCode::BAD_REQUEST) };
    page(&web, &visitor, next, None).await
}

async fn depart(
    web: &Arc<Web>,
    with: SignInWith,
    visitor: &Visitor,
    query: &HashMap<String, String>,
    peer: Peer,
) -> Response {
    if !web.tries.allow(peer, web.app.clock.now()) {
        return refuse(web, StatusCode::TOO_MANY_REQUESTS);
    }
    let next = query.get("next").map_or(HOME, String::as_str);
    let Some(next) = local(next) else { return refuse(web, StatusCode::BAD_REQUEST) };
    match web.app.begin_signin(with, next, None) {
        Ok(departure) => leave(web, &departure),
        Err(fault) => refused(web, visitor, next, &fault).await,
    }
}

/// To the provider, with what has to come back.
fn leave(web: &Web, departure: &Departure) -> Response {
    let mut response = Redirect::to(&departure.address).into_response();
    web.set_cookie(&mut response, &web.signin_cookie(), &departure.cookie, SIGNIN_SECONDS);
    response
}

/// Says what the visitor can do; the operator finds the rest in the log.
async fn refused(web: &Arc<Web>, visitor: &Visitor, next: &str, fault: &SignInFault) -> Response {
    tracing::info!(fault = %web.app.redactor.redact(&fault.to_string()), "nobody was signed in");
    let text = match fault {
        SignInFault::Provider(SignInError::NotSetUp(title)) => {
            format!("Signing in with {title} is not set up on this instance.")
        }
        SignInFault::Provider(SignInError::Refused(_)) | SignInFault::Stale => {
            "That sign-in was not begun in this browser, was used already, or took too long. Begin again.".to_owned()
        }
        SignInFault::Provider(SignInError::Unavailable(_)) => {
            "The provider does not answer now. Try again in a moment.".to_owned()
        }
        SignInFault::Refused(text) => text.clone(),
        SignInFault::Store(_) | SignInFault::Vault(_) => return fail(web, fault),
    };
    page(web, visitor, next, Some(text)).await
}

async fn arrive(
    web: &Arc<Web>,
    with: SignInWith,
    visitor: Visitor,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    peer: Peer,
) -> Response {
    let of = |name: &str| query.get(name).map_or("", String::as_str);
    let client = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    let here = visitor.me.as_ref().map(|me| (&me.person, &me.session));
    let landed = match cookie(headers, &web.signin_cookie()).filter(|_| of("error").is_empty()) {
        Some(cookie) => web.app.finish_signin(with, cookie, (of("state"), of("code")), here, client).await,
        // They said no, there.
        None if of("error") == "access_denied" => return Redirect::to("/signin").into_response(),
        None => Err(SignInFault::Stale),
    };
    let mut response = match landed {
        Ok(Landed::SignedIn { cookie, next }) => signed_in(web, &next, &cookie),
        Ok(Landed::Linked { next }) => then(&next, "linked"),
        Ok(Landed::Permitted { next }) => then(&next, "allowed"),
        Ok(Landed::OfAnother { proof, account, there }) => {
            let Some(me) = &visitor.me else { return refuse(web, StatusCode::FORBIDDEN) };
            let frame = Frame::of(web, &visitor).await;
            let token = me.token("/settings/accounts/merge");
            let (title, there) = (with.title(), there.login);
            render(&MergePage { frame, title, account: account.login, there, token, proof })
        }
        // Who did leave from here was counted then.
        Err(SignInFault::Stale)
            if !web.tries.allow(peer.client(headers, &web.client_ip_header), web.app.clock.now()) =>
        {
            refuse(web, StatusCode::TOO_MANY_REQUESTS)
        }
        Err(fault) => refused(web, &visitor, HOME, &fault).await,
    };
    web.set_cookie(&mut response, &web.signin_cookie(), "", 0);
    response
}

fn signed_in(web: &Web, next: &str, cookie: &str) -> Response {
    let mut response = Redirect::to(next).into_response();
    web.set_cookie(&mut response, &web.session_cookie(), cookie, LONGEST.as_secs());
    response
}

type Asked = Query<HashMap<String, String>>;

pub async fn to_github(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    Query(query): Asked,
    headers: HeaderMap,
) -> Response {
    depart(&web, SignInWith::GitHub, &visitor, &query, peer.client(&headers, &web.client_ip_header)).await
}

pub async fn to_vercel(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    Query(query): Asked,
    headers: HeaderMap,
) -> Response {
    depart(&web, SignInWith::Vercel, &visitor, &query, peer.client(&headers, &web.client_ip_header)).await
}

pub async fn from_github(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    Query(query): Asked,
    headers: HeaderMap,
) -> Response {
    arrive(&web, SignInWith::GitHub, visitor, &query, &headers, peer).await
}

pub async fn from_vercel(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    Query(query): Asked,
    headers: HeaderMap,
) -> Response {
    arrive(&web, SignInWith::Vercel, visitor, &query, &headers, peer).await
}

/// Ends the session here and on the server.
pub async fn signout(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let (user, session) = (posted.me.person.id, &posted.me.session.id);
    if let Err(error) = web.app.store.end_sessions(user, Some(session)).await {
        return fail(&web, &error);
    }
    let mut response = Redirect::to("/").into_response();
    web.set_cookie(&mut response, &web.session_cookie(), "", 0);
    response
}

/// Leaves for a provider to add its account to the person who is signed in.
pub async fn link(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let Some(with) = SignInWith::parse(posted.field("with")) else { return refuse(&web, StatusCode::BAD_REQUEST) };
    match web.app.begin_signin(with, "/settings", Some(posted.me.person.id)) {
        Ok(departure) => leave(&web, &departure),
        Err(fault) => {
            let visitor = Visitor { me: Some(posted.me), done: None };
            refused(&web, &visitor, HOME, &fault).await
        }
    }
}

/// Leaves for GitHub to let us push to forks in the person's name.
pub async fn allow_push(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    match web.app.begin_push_permit(&posted.me.person) {
        Ok(departure) => leave(&web, &departure),
        Err(fault) => {
            let visitor = Visitor { me: Some(posted.me), done: None };
            refused(&web, &visitor, HOME, &fault).await
        }
    }
}

pub async fn withdraw_push(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    match web.app.withdraw_push_permit(posted.me.person.id).await {
        Ok(()) => {
            web.app.audit(posted.me.person.id, "withdrew", "pushing to forks").await;
            then("/settings", "withdrawn")
        }
        Err(error) => fail(&web, &error),
    }
}

pub async fn unlink(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    match web.app.store.unlink_vercel(posted.me.person.id).await {
        Ok(_) => {
            web.app.audit(posted.me.person.id, "unlinked", SignInWith::Vercel.title()).await;
            then("/settings", "unlinked")
        }
        Err(error) => fail(&web, &error),
    }
}

/// The answer to the question of the page above.
pub async fn merge(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    match web.app.confirm_merge(&posted.me.person, &posted.me.session, posted.field("proof")).await {
        Ok(cookie) => signed_in(&web, "/settings?done=merged", &cookie),
        Err(fault) => {
            let visitor = Visitor { me: Some(posted.me), done: None };
            refused(&web, &visitor, HOME, &fault).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for good in ["/", "/tasks", "/tasks/1?done=x", "/why?url=https%3A%2F%2Fgithub.com"] {
            assert_eq!(local(good), Some(good));
        }
        for bad in [
            "",
            "tasks",
            "//evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "https://evil.test",
            "/\n/evil.test",
            "/\t/evil.test",
            "javascript:alert(1)",
        ] {
            assert_eq!(local(bad), None, "{bad:?}");
        }
    }
}
