//! Making an App through a manifest, and the deliveries that GitHub lists for it.

use http::Method;
use serde_json::{Value, json};

use super::oauth::CLIENT_ID;
use super::server::{Answer, Asked};
use super::state::World;
use super::{APP_SLUG, tokens};
use crate::domain::secret::Secret;

#[derive(Debug)]
pub(super) struct Hooks {
    pub secret: Secret,
    /// Where deliveries go, once an App was made.
    url: Option<String>,
    code: Option<String>,
    sent: Vec<Sent>,
}

#[derive(Debug)]
struct Sent {
    id: i64,
    guid: String,
    event: &'static str,
    body: String,
}

impl Hooks {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, url: None, code: None, sent: Vec::new() }
    }
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
    let Ok(mut target) = url::Url::parse(&redirect) else { return Answer::html(422, "<h1>No address</h1>".to_owned()) };
    let code = world.clock.new_id();
    target.query_pairs_mut().append_pair("code", &code).append_pair("state", asked.query("state").unwrap_or(""));
    world.hooks.url = Some(hook);
    world.hooks.code = Some(code);
    let (id, guid) = (world.fresh_id(), world.clock.new_id());
    let body = json!({ "zen": "Keep it logically awesome.", "hook_id": 1, "hook": { "type": "App" } }).to_string();
    world.hooks.sent.push(Sent { id, guid, event: "ping", body });
    send(world, id);
    Answer::redirect(target.as_str())
}

/// The secrets, for the code, once.
pub(super) fn convert(world: &mut World, code: &str) -> Answer {
    if world.hooks.code.take().as_deref() != Some(code) {
        return Answer::refused(404, "Not Found");
    }
    let body = json!({
        "id": world.app_id, "slug": APP_SLUG, "name": "Hireling", "client_id": CLIENT_ID,
        "client_secret": world.signins.client_secret.expose(), "webhook_secret": world.hooks.secret.expose(),
        "pem": world.keys.private_pem.expose(), "html_url": format!("{}/apps/{APP_SLUG}", world.url),
    });
    Answer::json(201, &body)
}

/// `/app/hook/deliveries…`, as the App.
pub(super) fn deliveries(world: &mut World, asked: &Asked, words: &[&str]) -> Answer {
    match (&asked.method, words) {
        (&Method::GET, []) => {
            let list = world.hooks.sent.iter().rev();
            let list: Vec<Value> =
                list.map(|sent| json!({ "id": sent.id, "guid": sent.guid, "event": sent.event })).collect();
            Answer::json(200, &json!(list))
        }
        (&Method::POST, [id, "attempts"]) => {
            send(world, id.parse().unwrap_or(0));
            Answer::json(202, &json!({}))
        }
        _ => super::api::violation(world, asked, 404, "an unknown route"),
    }
}

/// Sends a delivery, again; GitHub does not wait for what comes of it either.
fn send(world: &World, id: i64) {
    let Some(url) = world.hooks.url.clone() else { return };
    let Some(sent) = world.hooks.sent.iter().find(|sent| sent.id == id) else { return };
    let signature = tokens::webhook_signature(&world.hooks.secret, sent.body.as_bytes());
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("x-github-delivery", &sent.guid)
        .header("x-github-event", sent.event)
        .header("x-hub-signature-256", signature)
        .body(sent.body.clone());
    tokio::spawn(async move {
        let _ = request.send().await;
    });
}
