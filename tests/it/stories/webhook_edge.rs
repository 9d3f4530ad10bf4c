//! The door: what is let in, what is refused, and how politely.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

fn sign(secret: &str, body: &[u8]) -> String {
    let mut signer = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    signer.update(body);
    format!("sha256={}", hex::encode(signer.finalize().into_bytes()))
}

/// Posts with these headers; an empty value leaves one out.
async fn post(world: &World, changed: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let signature = sign(world.github.webhook_secret.expose(), &body);
    let mut headers = vec![
        ("content-type", "application/json"),
        ("x-github-delivery", "guid-1"),
        ("x-github-event", "issue_comment"),
        ("x-hub-signature-256", &signature),
    ];
    for (name, value) in changed {
        headers.retain(|(known, _)| known != name);
        headers.push((name, value));
    }
    let mut request = reqwest::Client::new().post(format!("{}/webhooks/github", world.url));
    for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name, value);
    }
    let response = request.body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_briefly() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let zeros = format!("sha256={}", "0".repeat(64));
    for (changed, body, status) in [
        (vec![], "{}", 202),
        (vec![("x-github-delivery", "")], "{}", 400),
        (vec![("x-github-event", "")], "{}", 400),
        (vec![("x-github-event", "a b;c")], "{}", 400),
        (vec![], "not json", 400),
        (vec![], "[1]", 400),
        (vec![("x-hub-signature-256", "")], "{}", 401),
        (vec![("x-hub-signature-256", zeros.as_str())], "{}", 401),
        (vec![("x-hub-signature-256", "sha1=abc")], "{}", 401),
        (vec![("content-type", "application/x-www-form-urlencoded")], "payload=%7B%7D", 415),
    ] {
        let (found, text) = post(&world, &changed, body.as_bytes().to_vec()).await;
        assert_eq!(found, status, "{changed:?} {body}");
        assert!(text.len() <= 100, "{text}");
    }
    let (status, text) =
        post(&world, &[("content-type", "application/x-www-form-urlencoded")], b"payload=1".to_vec()).await;
    assert_eq!(status, 415);
    assert!(text.contains("content type to application/json"));
    let wrong = reqwest::get(format!("{}/webhooks/github", world.url)).await.unwrap().status();
    assert_eq!(wrong, 405);
    world.settled().await;
    assert_eq!(world.tasks().await, []);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_knows_is_taken_and_noted() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let (status, _) =
            post(&world, &[("x-github-event", "invented_yesterday")], b"{\"action\":\"x\"}".to_vec()).await;
        assert_eq!(status, 202);
        let store = world.store().await;
        let id = hireling::domain::ids::DeliveryId("guid-1".into());
        let code = world.until("it is in the ledger", async |_| store.decision_of(&id).await.unwrap()).await;
        assert_eq!(code.name(), "event_not_used");
        store.close().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secrets_are_valid_while_one_is_replaced() {
    let builder = Builder::new(Engine::Sqlite).setting("GITHUB_WEBHOOK_SECRET", "the-new-secret,the-old-secret");
    let world = builder.start().await.unwrap();
    for (secret, status) in [("the-new-secret", 202), ("the-old-secret", 202), ("another-secret", 401)] {
        let signature = sign(secret, b"{}");
        assert_eq!(post(&world, &[("x-hub-signature-256", &signature)], b"{}".to_vec()).await.0, status, "{secret}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_githubs_cap_are_taken_and_larger_ones_are_not() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let padded = |size: usize| format!("{{\"action\":\"x\",\"pad\":\"{}\"}}", "x".repeat(size)).into_bytes();
    assert_eq!(post(&world, &[], padded(25 * 1024 * 1024 - 100)).await.0, 202);
    // The answer may come before the whole body was sent; then the connection ends early.
    let request = reqwest::Client::new()
        .post(format!("{}/webhooks/github", world.url))
        .header("x-github-delivery", "g")
        .header("x-github-event", "push")
        .header("x-hub-signature-256", format!("sha256={}", "0".repeat(64)))
        .body(padded(26 * 1024 * 1024));
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    let together = (0..10).map(|_| post(&world, &[], padded(25 * 1024 * 1024 - 100)));
    for (status, _) in futures::future::join_all(together).await {
        assert!(matches!(status, 202 | 503), "{status}");
    }
    let peak = world.peak_memory_mib();
    assert!(peak <= 160, "the service used {peak} MiB");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_who_never_ends_is_cut_off_and_hurts_nobody() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let address = world.url.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for start in ["POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-gith", "GET "] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection was not cut off");
    }
    world.finish().await;
}

/// A proxy keeps a connection that it does not use for a while; one that is closed in that moment costs a delivery.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_stays_open_between_requests() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let address = world.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
        let more = tokio::time::timeout(Duration::from_secs(7), stream.read(&mut answer)).await;
        assert!(more.is_err(), "the connection was closed: {more:?}");
    }
    drop(stream);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_figures_are_where_the_contract_has_them() {
    let world = Builder::new(Engine::Sqlite).setting("METRICS_ADDR", "127.0.0.1:0").start().await.unwrap();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(reqwest::get(format!("{}{path}", world.url)).await.unwrap().status(), 200);
    }
    assert_eq!(reqwest::get(format!("{}/metrics", world.url)).await.unwrap().status(), 404);
    let comment = world.comment(PERSON, "/agent ours").await;
    world.ended(comment).await;
    let text = world.figures().await;
    assert!(text.contains("hireling_tasks_ended_total{outcome=\"succeeded\",agent=\"ours\"} 1"), "{text}");
    assert!(text.contains("hireling_webhooks_total{status=\"202\"}"), "{text}");
    world.finish().await;
}

/// Every payload that GitHub publishes as an example, signed and posted: always taken, never a task
/// where no command is.
#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_examples_are_taken() {
    let file = std::env::var("TEST_CACHE")
        .map(|cache| format!("{cache}/node_modules/@octokit/webhooks-examples/api.github.com/index.json"));
    let Some(text) = file.ok().and_then(|file| std::fs::read(file).ok()) else {
        crate::support::skipped(
            "GitHub's example payloads, because TEST_CACHE does not hold them (./tests/run fetches them)",
        );
        return;
    };
    let world = World::start(Engine::Sqlite).await.unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let mut count = 0;
    for event in &events {
        let name = event["name"].as_str().unwrap();
        for (number, example) in event["examples"].as_array().unwrap().iter().enumerate() {
            let id = format!("{name}-{number}");
            let status = world.github.deliver(&world.url, &id, name, example.to_string().as_bytes()).await.unwrap();
            assert_eq!(status, 202, "{id}");
            count += 1;
        }
    }
    assert!(count > 300, "{count} examples");
    world.settled().await;
    assert_eq!(world.tasks().await, []);
    let _ = REPO;
    world.finish().await;
}
