//! The thin edge: routes, headers, limits. What happens behind a route is in `app`.

mod assets;
mod body;
mod gateway;
mod health;
mod limits;
mod live_log;
mod operator;
mod page;
mod serve;
mod settings;
mod setup;
mod signin;
mod task;
mod tasks;
mod visitor;
mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::domain::delivery::WEBHOOK_PATH;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;
use settings::{connectors, keys};

pub use health::metrics_router;
pub use serve::{Grace, serve};
pub use setup::setup_router;

/// What the handlers share.
#[derive(Debug)]
pub struct Web {
    pub app: Arc<App>,
    /// Any of them may have signed; several while one is replaced.
    pub webhook_secrets: Vec<Secret>,
    /// A script of the operator's.
    analytics: Option<url::Url>,
    /// Live pages end when the service stops.
    pub stop: CancellationToken,
    bodies: body::BodyBudget,
    /// Places for pages that stay open: they must not crowd out deliveries.
    viewers: Arc<Semaphore>,
    /// Places for calls of models, and room for what they send.
    model_calls: Arc<Semaphore>,
    model_room: Arc<Semaphore>,
    /// Places for searches, which read more than a page.
    searches: Semaphore,
    /// Sign-ins that were tried.
    tries: limits::Tries,
    /// In which a proxy nearby says whom it serves.
    client_ip_header: HeaderName,
    /// A browser takes `__Host-` cookies from this address.
    has_safe_cookies: bool,
}

/// Searches at once: the database has other readers.
const MAX_SEARCHES: usize = 2;
/// Live pages and logs that are read at once.
const MAX_VIEWERS: usize = 1_000;

impl Web {
    pub fn new(
        app: Arc<App>,
        webhook_secrets: Vec<Secret>,
        analytics: Option<url::Url>,
        client_ip_header: HeaderName,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let url = url::Url::parse(&app.settings.public_url).ok();
        let is_here = |url: &url::Url| url.host_str().is_some_and(visitor::is_this_machine);
        let has_safe_cookies = url.is_some_and(|url| url.scheme() == "https" || is_here(&url));
        Arc::new(Self {
            app,
            webhook_secrets,
            analytics,
            stop,
            bodies: body::BodyBudget::default(),
            viewers: Arc::new(Semaphore::new(MAX_VIEWERS)),
            model_calls: Arc::new(Semaphore::new(gateway::MAX_CALLS)),
            model_room: Arc::new(Semaphore::new(gateway::ROOM)),
            searches: Semaphore::new(MAX_SEARCHES),
            tries: limits::Tries::default(),
            client_ip_header,
            has_safe_cookies,
        })
    }
}

/// What a process answers that only works: whether it lives.
pub fn worker_router(web: Arc<Web>) -> Router {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).with_state(web)
}

/// Everything that the public address answers.
pub fn router(web: Arc<Web>) -> Router {
    let https = web.app.settings.public_url.starts_with("https://");
    let origins = web.app.signins.origins();
    let forms: Vec<&str> = std::iter::once(web.app.github.web_url()).chain(origins).collect();
    let policy = policy(web.analytics.as_ref(), &forms);
    let machines = Router::new()
        .route(WEBHOOK_PATH, post(webhook::receive))
        .route("/gateway/{provider}/{*path}", any(gateway::call))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/policy.schema.json", get(assets::policy_schema))
        .with_state(Arc::clone(&web));
    let clock = Arc::clone(&web.app.clock);
    let people = pages().layer(axum::middleware::from_fn_with_state(Arc::clone(&web), counted)).with_state(web);
    let people = with_numbers(people, Arc::clone(&clock));
    with_security_headers(machines.merge(people), policy, https, clock)
}

fn pages() -> Router<Arc<Web>> {
    Router::new()
        .route("/", get(tasks::home))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(task::task))
        .route("/tasks/{id}/cancel", post(task::cancel))
        .route("/tasks/{id}/retry", post(task::retry))
        .route("/tasks/{id}/events", get(live_log::events))
        .route("/tasks/{id}/lines", get(live_log::lines))
        .route("/tasks/{id}/log", get(live_log::plain))
        .route("/settings", get(settings::settings))
        .route("/settings/preferences", post(settings::save_preferences))
        .route("/settings/accounts/link", post(signin::link))
        .route("/settings/accounts/unlink", post(signin::unlink))
        .route("/settings/accounts/merge", post(signin::merge))
        .route("/settings/forks/allow", post(signin::allow_push))
        .route("/settings/forks/withdraw", post(signin::withdraw_push))
        .route("/settings/sessions/revoke", post(settings::revoke))
        .route("/settings/export", get(settings::export))
        .route("/settings/delete", post(settings::delete))
        .route("/settings/keys", get(keys::page).post(keys::save))
        .route("/settings/keys/test", post(keys::test))
        .route("/settings/keys/delete", post(keys::delete))
        .route("/settings/connectors", get(connectors::page).post(connectors::save))
        .route("/settings/connectors/switch", post(connectors::switch))
        .route("/settings/connectors/test", post(connectors::test))
        .route("/settings/connectors/delete", post(connectors::delete))
        .route("/deliveries", get(operator::deliveries))
        .route("/deliveries/{id}", get(operator::delivery))
        .route("/deliveries/{id}/replay", post(operator::replay))
        .route("/installations", get(operator::installations))
        .route("/why", get(operator::why))
        .route("/signin", get(signin::signin))
        .route("/auth/github", get(signin::to_github))
        .route("/auth/vercel", get(signin::to_vercel))
        .route("/api/auth/github/callback", get(signin::from_github))
        .route("/api/auth/callback/vercel", get(signin::from_vercel))
        .route("/auth/signout", post(signin::signout))
        .route("/setup/next", get(setup::next))
        .route("/assets/{name}", get(assets::asset))
        .route("/favicon.ico", get(assets::icon))
        .fallback(nothing)
        .method_not_allowed_fallback(not_this_way)
}

async fn nothing(State(web): State<Arc<Web>>) -> Response {
    page::refuse(&web, StatusCode::NOT_FOUND)
}

async fn not_this_way(State(web): State<Arc<Web>>) -> Response {
    page::refuse(&web, StatusCode::METHOD_NOT_ALLOWED)
}

/// Counts page views and how long they take, by the route and never by what is in the address.
async fn counted(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    let started = web.app.clock.now();
    let mut response = next.run(request).await;
    let is_html = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/html; charset=utf-8");
    if (response.status().is_client_error() || response.status().is_server_error()) && !is_html {
        // Words of a library tell too much, or too little.
        response = page::refuse(&web, response.status());
    }
    let route = route.unwrap_or_else(|| "other".to_owned());
    let status = response.status().as_u16().to_string();
    let took = web.app.clock.now().since(started).as_secs_f64();
    metrics::histogram!("hireling_page_seconds", "route" => route.clone()).record(took);
    metrics::counter!("hireling_page_views_total", "route" => route, "status" => status).increment(1);
    response
}

/// What the pages may load, and where their forms lead.
fn policy(analytics: Option<&url::Url>, forms: &[&str]) -> HeaderValue {
    let origin = |url: &url::Url| url.origin().ascii_serialization();
    let script = analytics.map(|url| format!(" {}", origin(url))).unwrap_or_default();
    let forms: String =
        forms.iter().filter_map(|url| url::Url::parse(url).ok()).map(|url| format!(" {}", origin(&url))).collect();
    let text = format!(
        "default-src 'none'; script-src 'self'{script}; style-src 'self'; connect-src 'self'{script}; img-src 'self' data:; \
         form-action 'self'{forms}; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// A panic is caught within, so that its lines have the number, too.
fn with_numbers(router: Router, clock: Arc<dyn Clock>) -> Router {
    let at = Arc::clone(&clock);
    router
        .layer(CatchPanicLayer::custom(move |_| after_panic(&*at)))
        .layer(axum::middleware::from_fn_with_state(clock, page::numbered))
}

/// What it was is logged where it happened.
fn after_panic(clock: &dyn Clock) -> Response {
    page::refuse_with(&page::error_id(clock), StatusCode::INTERNAL_SERVER_ERROR)
}

fn with_security_headers(router: Router, policy: HeaderValue, https: bool, clock: Arc<dyn Clock>) -> Router {
    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Forms name their page to us, and to nobody else.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if https {
        headers.push((header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")));
    }
    let mut router = router.layer(CatchPanicLayer::custom(move |_| after_panic(&*clock)));
    for (name, value) in headers {
        router = router.layer(SetResponseHeaderLayer::if_not_present(name, value));
    }
    router
}
