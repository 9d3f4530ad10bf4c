//! `/setup`: before there is a GitHub App, whoever has the one-time link makes one with a button. Then
//! what is to be done next.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use super::page::{Frame, error_id, fail, refuse_with, render, then};
use super::visitor::Visitor;
use super::{Web, assets, health, with_numbers, with_security_headers};
use crate::app::setup::{Setup, SetupError};
use crate::domain::delivery::WEBHOOK_PATH;
use crate::domain::listing::InstallationLine;

/// What the handlers of an instance without an App share.
#[derive(Debug)]
struct SetupWeb {
    setup: Arc<Setup>,
    /// Cancelled when there is an App.
    made: CancellationToken,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    frame: Frame,
    code: String,
    organization: String,
    /// Where the form goes, and what is in it.
    action: String,
    manifest: String,
    web_url: String,
    public_url: String,
    is_reachable: bool,
    fault: Option<String>,
}

#[derive(Template)]
#[template(path = "next.html")]
struct NextPage {
    frame: Frame,
    slug: String,
    install_url: String,
    reached_at: Option<String>,
    is_installed: bool,
}

/// Installations that are looked at.
const SHOWN: i64 = 50;

/// Everything that an instance without an App answers.
pub fn setup_router(setup: Arc<Setup>, made: CancellationToken) -> Router {
    let headers = super::policy(None, &[&setup.web_url]);
    let https = setup.public_url.starts_with("https://");
    let clock = Arc::clone(&setup.clock);
    let web = Arc::new(SetupWeb { setup, made });
    let router = Router::new()
        .route("/setup", get(page))
        .route("/setup/callback", get(callback))
        .route("/setup/next", get(too_early))
        .route("/healthz", get(health::alive))
        .route("/assets/{name}", get(assets::asset))
        .route("/favicon.ico", get(assets::icon))
        .route(WEBHOOK_PATH, post(not_yet))
        .route("/readyz", get(health::alive))
        .fallback(nothing)
        .with_state(web);
    with_security_headers(with_numbers(router, Arc::clone(&clock)), headers, https, clock)
}

async fn not_yet() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "there is no GitHub App yet\n").into_response()
}

async fn nothing(State(web): State<Arc<SetupWeb>>) -> Response {
    refuse_with(&id(&web), StatusCode::NOT_FOUND)
}

/// A browser may have more connections here than the one that brought it back from GitHub.
async fn too_early(State(web): State<Arc<SetupWeb>>) -> Response {
    match web.made.is_cancelled() {
        true => to_the_service(),
        false => refuse_with(&id(&web), StatusCode::NOT_FOUND),
    }
}

/// The connection ends with this server; the next one is answered by the service.
fn to_the_service() -> Response {
    ([(header::CONNECTION, "close")], Redirect::to("/setup/next")).into_response()
}

fn id(web: &SetupWeb) -> String {
    error_id(&*web.setup.clock)
}

async fn page(State(web): State<Arc<SetupWeb>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let of = |name: &str| query.get(name).map_or("", |text| text.trim());
    if !web.setup.is_code(of("code")) {
        return refuse_with(&id(&web), StatusCode::NOT_FOUND);
    }
    shown(&web, of("organization"), None)
}

fn shown(web: &SetupWeb, organization: &str, fault: Option<String>) -> Response {
    let (form, organization, fault) = match web.setup.form(organization) {
        Ok(form) => (form, organization, fault),
        Err(error) => (web.setup.form("").unwrap_or_default(), "", Some(error.to_string())),
    };
    let setup = &web.setup;
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = SetupPage {
        frame: Frame::bare(),
        code: setup.code.expose().to_owned(),
        organization: organization.to_owned(),
        action: form.0,
        manifest: form.1,
        web_url: setup.web_url.clone(),
        public_url: setup.public_url.clone(),
        is_reachable: crate::domain::connector::address::check(&setup.public_url).is_ok(),
        fault,
    };
    (status, render(&page)).into_response()
}

/// GitHub sends the browser back with a code that stands for the App's secrets.
async fn callback(State(web): State<Arc<SetupWeb>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let of = |name: &str| query.get(name).map_or("", String::as_str);
    match web.setup.finish(of("state"), of("code")).await {
        Ok(slug) => {
            tracing::info!(app = slug, "the GitHub App is made");
            web.made.cancel();
            to_the_service()
        }
        Err(SetupError::Refused(why)) => {
            tracing::warn!(why, "the GitHub App was not made");
            // Whoever brings the state has had the page.
            match web.setup.is_state(of("state")) {
                true => shown(&web, "", Some(why)),
                false => refuse_with(&id(&web), StatusCode::BAD_REQUEST),
            }
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the GitHub App could not be stored");
            refuse_with(&id(&web), StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// What is left to do: for everybody until somebody has installed the App, then for operators.
pub async fn next(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let known = web.app.store.installations(SHOWN).await.unwrap_or_default();
    let is_installed = known.iter().any(InstallationLine::is_active);
    let is_operator = match visitor.person() {
        Some(person) => web.app.is_operator(person).await,
        None => false,
    };
    if is_installed && !is_operator {
        return then("/", "later");
    }
    let about = match web.app.github.about_app().await {
        Ok(about) => about,
        Err(error) => return fail(&web, &error),
    };
    let its_page = about.html_url.unwrap_or_else(|| format!("{}/apps/{}", web.app.github.web_url(), about.slug));
    let reached_at = web.app.store.last_delivery_at().await.ok().flatten();
    render(&NextPage {
        frame: Frame::of(&web, &visitor).await,
        install_url: format!("{its_page}/installations/new"),
        slug: about.slug,
        reached_at: reached_at.map(|at| at.for_people()),
        is_installed,
    })
}
