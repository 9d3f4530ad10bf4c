//! The deliveries that GitHub sent for the App, as `/app/hook/deliveries` lists them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::server::{Answer, Asked};
use super::state::World;
use super::tokens;
use crate::domain::ids::Millis;
use crate::domain::secret::Secret;
use crate::ports::clock::Clock;

/// GitHub's numbers of attempts do not fit into a double.
const FIRST_ATTEMPT: i64 = 1 << 60;
/// So long GitHub waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What GitHub notes where nobody answered.
const NO_ANSWER: u16 = 502;
const PER_PAGE: usize = 100;

/// One attempt to bring a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub id: i64,
    pub guid: String,
    pub event: String,
    pub status: u16,
    pub is_again: bool,
    sent_at: Millis,
}

/// What was sent, whoever took it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hooks {
    pub secret: Secret,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    sent: Arc<Mutex<Sent>>,
}

#[derive(Debug, Default)]
struct Sent {
    /// Where deliveries go.
    url: Option<String>,
    attempts: Vec<Attempt>,
    /// Event and body by GUID.
    bodies: BTreeMap<String, (String, Vec<u8>)>,
}

impl Hooks {
    pub(super) fn new(secret: Secret, clock: Arc<dyn Clock>) -> Self {
        Self { secret, http: reqwest::Client::new(), clock, sent: Arc::default() }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The App's webhook from here on.
    pub(super) fn set_url(&self, url: &str) {
        self.sent().url = Some(url.to_owned());
    }

    /// `/app/hook/config`
    pub(super) fn config(&self) -> Answer {
        Answer::json(200, &json!({ "content_type": "json", "insecure_ssl": "0", "url": self.sent().url }))
    }

    pub(super) fn attempts(&self) -> Vec<Attempt> {
        self.sent().attempts.clone()
    }

    /// Sends a delivery and notes what came of it. Gives the status; `None`: nobody answered.
    pub(super) async fn send(&self, guid: &str, event: &str, body: &[u8]) -> Option<u16> {
        self.sent().bodies.insert(guid.to_owned(), (event.to_owned(), body.to_vec()));
        self.attempt(guid).await
    }

    async fn attempt(&self, guid: &str) -> Option<u16> {
        let (url, event, body, is_again) = {
            let sent = self.sent();
            let (event, body) = sent.bodies.get(guid)?.clone();
            (sent.url.clone()?, event, body, sent.attempts.iter().any(|attempt| attempt.guid == guid))
        };
        let sent_at = self.clock.now();
        let request = self
            .http
            .post(url)
            .timeout(PATIENCE)
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/044aadd")
            .header("x-github-delivery", guid)
            .header("x-github-event", &event)
            .header("x-hub-signature-256", tokens::webhook_signature(&self.secret, &body))
            .body(body);
        let status = request.send().await.ok().map(|answer| answer.status().as_u16());
        let mut sent = self.sent();
        let id = FIRST_ATTEMPT + i64::try_from(sent.attempts.len()).unwrap_or(0);
        let status_noted = status.unwrap_or(NO_ANSWER);
        let guid = guid.to_owned();
        sent.attempts.push(Attempt { id, guid, event, status: status_noted, is_again, sent_at });
        status
    }

    /// One page, newest first, and the cursor of the next.
    fn page(&self, before: Option<i64>, per_page: usize) -> (Vec<Value>, Option<i64>) {
        let sent = self.sent();
        let older = |attempt: &&Attempt| before.is_none_or(|before| attempt.id < before);
        let mut found: Vec<&Attempt> = sent.attempts.iter().rev().filter(older).take(per_page + 1).collect();
        let has_more = found.len() > per_page;
        found.truncate(per_page);
        let next = found.last().map(|attempt| attempt.id).filter(|_| has_more);
        let shown = |attempt: &&Attempt| {
            json!({ "id": attempt.id, "guid": attempt.guid, "delivered_at": attempt.sent_at.rfc3339(),
                "redelivery": attempt.is_again, "duration": 0.03, "event": attempt.event, "action": null,
                "status": if attempt.status < 300 { "OK".to_owned() } else { format!("Invalid HTTP Response: {}", attempt.status) },
                "status_code": attempt.status, "installation_id": null, "repository_id": null, "url": "",
                "throttled_at": null })
        };
        (found.iter().map(shown).collect(), next)
    }
}

/// `/app/hook/deliveries…`, as the App.
pub(super) fn deliveries(world: &mut World, asked: &Asked, words: &[&str]) -> Answer {
    let hooks = world.hooks.clone();
    match (&asked.method, words) {
        (&Method::GET, []) => {
            let before = match asked.query("cursor").map(|cursor| cursor.strip_prefix("v1_").map(str::parse)) {
                None => None,
                Some(Some(Ok(before))) => Some(before),
                Some(_) => return Answer::refused(400, "Invalid cursor"),
            };
            let per_page = asked.query("per_page").and_then(|text| text.parse().ok()).unwrap_or(30).min(PER_PAGE);
            let (list, next) = hooks.page(before, per_page);
            let mut answer = Answer::json(200, &json!(list));
            if let Some(next) = next {
                let base = format!("{}/api/v3/app/hook/deliveries?per_page={per_page}", world.url);
                answer.headers.push(("link", format!("<{base}&cursor=v1_{next}>; rel=\"next\"")));
            }
            answer
        }
        (&Method::POST, [id, "attempts"]) => {
            let attempt = hooks.attempts().into_iter().find(|attempt| attempt.id.to_string() == *id);
            let Some(attempt) = attempt else { return Answer::refused(404, "Not Found") };
            // GitHub does not wait for what comes of it either.
            tokio::spawn(async move { hooks.attempt(&attempt.guid).await });
            Answer::json(202, &json!({}))
        }
        _ => super::api::violation(world, asked, 404, "an unknown route"),
    }
}
