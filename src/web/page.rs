//! What every page has: its frame, and the short answer where there is no page.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use tracing::Instrument as _;

use super::Web;
use super::visitor::{Me, Visitor};
use crate::ports::clock::Clock;

/// The head of a page: who looks at it, and what was done just now.
pub struct Frame {
    pub me: Option<Nav>,
    pub analytics: Option<String>,
    /// After a form: what came of it.
    pub notice: Option<&'static str>,
    pub is_fault: bool,
    /// There is nothing else to look at yet.
    pub is_bare: bool,
}

pub struct Nav {
    pub login: String,
    pub is_operator: bool,
    /// Of the form that signs out.
    pub token: String,
}

impl Frame {
    pub async fn new(web: &Web, me: Option<&Me>) -> Self {
        let me = match me {
            Some(me) => Some(Nav {
                login: me.person.login.clone(),
                is_operator: web.app.is_operator(&me.person).await,
                token: me.token("/auth/signout"),
            }),
            None => None,
        };
        let analytics = web.analytics.as_ref().map(ToString::to_string);
        Self { me, analytics, notice: None, is_fault: false, is_bare: false }
    }

    /// Of an instance that is not set up.
    pub fn bare() -> Self {
        Self { me: None, analytics: None, notice: None, is_fault: false, is_bare: true }
    }

    pub async fn of(web: &Web, visitor: &Visitor) -> Self {
        Self::new(web, visitor.me.as_ref()).await.with_notice(visitor.done.as_deref())
    }

    /// Says what a form did, by the word in the address that it led to.
    fn with_notice(mut self, done: Option<&str>) -> Self {
        self.notice = done.and_then(|done| NOTICES.iter().find(|(word, _)| *word == done)).map(|(_, text)| *text);
        self.is_fault = done.is_some_and(|done| done.starts_with("no-"));
        self
    }
}

/// Nothing of the address gets onto the page but these.
const NOTICES: [(&str, &str); 21] = [
    ("saved", "Saved."),
    ("deleted", "Deleted."),
    ("linked", "Linked."),
    ("unlinked", "Unlinked."),
    ("allowed", "Allowed."),
    ("withdrawn", "Withdrawn; the token is ended."),
    ("merged", "You are one person here now."),
    ("revoked", "That session is over."),
    ("accepted", "The vendor accepts this key."),
    ("unknown", "The vendor does not say now whether the key is good."),
    ("opens", "It can be opened, and nothing in it is refused. Whether its server answers shows in a task."),
    ("cancelling", "It is being stopped."),
    ("queued", "It is queued to be done again."),
    ("replayed", "The delivery is decided again."),
    ("ended", "You are signed out everywhere."),
    ("later", "Sign in to see it."),
    ("no-refused", "The vendor refuses this key."),
    ("no-address", "Its address, its program or a value in it is not allowed here any more: edit it."),
    ("no-open", "It cannot be opened: save it anew."),
    ("no-longer", "It is over already."),
    ("no-task", "It was not accepted; the thread says why."),
];

/// A page. What is wrong with one that cannot be made is logged; the layer around it makes the answer.
pub fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Goes on to a page of ours after a form.
pub fn then(path: &str, done: &str) -> Response {
    let mark = if path.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{path}{mark}done={done}")).into_response()
}

/// The whole of an answer that is no page: always the same but for the number, which stands in the log
/// (threat T34).
pub fn refuse(web: &Arc<Web>, status: StatusCode) -> Response {
    refuse_with(&error_id(&*web.app.clock), status)
}

/// The database, or something else of ours, did not do what it should: the log says what, under the number that the
/// visitor sees.
pub fn fail(web: &Arc<Web>, error: &dyn std::error::Error) -> Response {
    let id = error_id(&*web.app.clock);
    let why = web.app.redactor.redact(&error.to_string());
    tracing::warn!(error_id = id, error = %why, "a page could not be shown");
    refusal(&id, StatusCode::SERVICE_UNAVAILABLE)
}

tokio::task_local! {
    /// Of the request that is being answered.
    static ERROR_ID: String;
}

/// By which an operator finds the lines in the log.
pub fn error_id(clock: &dyn Clock) -> String {
    ERROR_ID.try_with(Clone::clone).unwrap_or_else(|_| clock.new_id().chars().rev().take(8).collect())
}

/// Gives a request its number: it stands in every line that is logged on the way to the answer, and in the answer if
/// something goes wrong.
pub async fn numbered(State(clock): State<Arc<dyn Clock>>, request: Request, next: Next) -> Response {
    let id = error_id(&*clock);
    let span = tracing::info_span!("request", error_id = id);
    ERROR_ID.scope(id, next.run(request)).instrument(span).await
}

pub fn refuse_with(id: &str, status: StatusCode) -> Response {
    match status.is_server_error() {
        true => tracing::warn!(error_id = id, status = status.as_u16(), "refused"),
        false => tracing::debug!(error_id = id, status = status.as_u16(), "refused"),
    }
    refusal(id, status)
}

fn refusal(id: &str, status: StatusCode) -> Response {
    let title = match status {
        StatusCode::BAD_REQUEST => "This cannot be read",
        StatusCode::FORBIDDEN => "Not yours, or too old",
        StatusCode::NOT_FOUND => "Nothing here for you",
        StatusCode::METHOD_NOT_ALLOWED => "Not this way",
        StatusCode::REQUEST_TIMEOUT => "This took too long to arrive",
        StatusCode::TOO_MANY_REQUESTS => "Too often, wait a minute",
        StatusCode::SERVICE_UNAVAILABLE => "Not now, try again",
        _ => "This went wrong",
    };
    let code = status.as_u16();
    let body = format!(
        "<!doctype html><html lang=en><title>{code}</title><link rel=stylesheet href=/assets/style.css>\
         <main><h1>{title}</h1><p>Error {id} <a href=/signin>Sign in</a></main>"
    );
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    (status, [kind], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_short_and_has_a_number() {
        for code in [400, 403, 404, 405, 408, 429, 500, 503] {
            let answer = refuse_with("0123abcd", StatusCode::from_u16(code).unwrap());
            let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(text.len() <= 200 && text.contains("0123abcd"), "{} bytes: {text}", text.len());
        }
    }
}
