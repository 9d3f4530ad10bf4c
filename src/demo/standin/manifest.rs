//! The App: made through a manifest, given permissions, installed.

use serde_json::{Value, json};

use super::oauth::CLIENT_ID;
use super::server::{Answer, Asked};
use super::state::World;
use super::{APP_SLUG, payloads};
use crate::domain::delivery::InstallationState;

/// What the App was given, in GitHub's names (of its recorded payloads).
pub(super) const GRANTED: [(&str, &str); 8] = [
    ("actions", "read"),
    ("checks", "write"),
    ("contents", "write"),
    ("emails", "read"),
    ("issues", "write"),
    ("members", "read"),
    ("metadata", "read"),
    ("pull_requests", "write"),
];
const EVENTS: [&str; 5] =
    ["issue_comment", "issues", "pull_request", "pull_request_review", "pull_request_review_comment"];

/// `/app`
pub(super) fn about(world: &World) -> Answer {
    let permissions: std::collections::BTreeMap<&str, &str> =
        GRANTED.into_iter().filter(|(name, _)| world.withheld != Some(*name)).collect();
    let owner = payloads::user(world, &world.owner);
    let about = json!({ "id": 42, "slug": APP_SLUG, "name": "Hireling", "owner": owner, "html_url": its_page(world),
        "permissions": permissions, "events": EVENTS });
    Answer::json(200, &about)
}

/// Where an Enterprise Server has it.
fn its_page(world: &World) -> String {
    format!("{}/github-apps/{APP_SLUG}", world.url)
}

/// `/app/installations/{id}`
pub(super) fn installation(world: &World, id: &str) -> Answer {
    match id.parse().ok().and_then(|id: i64| world.left.get(&id)).copied() {
        Some(InstallationState::Deleted) => Answer::refused(404, "Not Found"),
        Some(InstallationState::Suspended) => {
            Answer::json(200, &json!({ "id": 1, "suspended_at": "2026-11-22T10:00:00Z" }))
        }
        Some(InstallationState::Present) | None => Answer::json(200, &json!({ "id": 1, "suspended_at": null })),
    }
}

fn is_known(permission: &str) -> bool {
    GRANTED.iter().any(|(name, _)| *name == permission)
}

/// The form of `/setup`: the App is made, its first ping goes out, and the browser goes back.
pub(super) fn make(world: &mut World, asked: &Asked) -> Answer {
    let form: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let manifest: Value = form.get("manifest").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let text = |place: &str| manifest.pointer(place).and_then(Value::as_str).map(ToOwned::to_owned);
    let (Some(hook), Some(redirect)) = (text("/hook_attributes/url"), text("/redirect_url")) else {
        return Answer::html(422, "<h1>This is no manifest</h1>".to_owned());
    };
    let asked_for = manifest["default_permissions"].as_object();
    if let Some(name) = asked_for.into_iter().flatten().map(|(name, _)| name).find(|name| !is_known(name)) {
        return Answer::html(422, format!("<h1>{name} is not included in the list of permissions</h1>"));
    }
    let Ok(mut target) = url::Url::parse(&redirect) else { return Answer::html(422, "<h1>No address</h1>".to_owned()) };
    let code = world.clock.new_id();
    target.query_pairs_mut().append_pair("code", &code).append_pair("state", asked.query("state").unwrap_or(""));
    world.app_code = Some(code);
    let (hooks, guid) = (world.hooks.clone(), world.clock.new_id());
    hooks.set_url(&hook);
    let body = json!({ "zen": "Keep it logically awesome.", "hook_id": 1, "hook": { "type": "App" } }).to_string();
    tokio::spawn(async move { hooks.send(&guid, "ping", body.as_bytes()).await });
    Answer::redirect(target.as_str())
}

/// The secrets, for the code, once.
pub(super) fn convert(world: &mut World, code: &str) -> Answer {
    if world.app_code.take().as_deref() != Some(code) {
        return Answer::refused(404, "Not Found");
    }
    let body = json!({
        "id": world.app_id, "slug": APP_SLUG, "name": "Hireling", "client_id": CLIENT_ID,
        "client_secret": world.signins.client_secret.expose(), "webhook_secret": world.hooks.secret.expose(),
        "pem": world.keys.private_pem.expose(), "html_url": its_page(world),
    });
    Answer::json(201, &body)
}
