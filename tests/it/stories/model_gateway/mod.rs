//! An agent calls its model through the gateway with a grant that is worth nothing elsewhere. The
//! story itself plays the agent's client: the agent hands out its grant and waits.

mod limits;

use std::io::Write as _;
use std::sync::Arc;

use hireling::domain::agent::Provider;
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;
use tokio::sync::Notify;

use crate::support::vendor::{Reply, Vendor};
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Changes a file, shows its grant to the story, and goes on when it is told to: well, or not.
const WAITING: &str = "echo done > fixed.txt; printf %s \"$ANTHROPIC_API_KEY\" > ../scratch/grant; \
    while [ ! -s ../scratch/go ]; do sleep 0.05; done; [ \"$(cat ../scratch/go)\" = well ] && echo 'All done.'";

/// 100,000 tokens in and 1,000 out: $0.315 with claude-sonnet-4-5.
const ANSWER: &str = "event: message_start\n\
    data: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":100000,\"output_tokens\":1}}}\n\n\
    data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hello\"}}\n\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1000}}\n\n\
    data: {\"type\":\"message_stop\"}\n\n";

async fn world_with(engine: Engine, vendor: &Vendor) -> Option<World> {
    let builder = Builder::new(engine).setting("ANTHROPIC_BASE_URL", &vendor.url);
    builder.gateway_agent("ours", "\"anthropic\"", WAITING).start().await
}

/// The client that an agent would be.
struct Client<'a> {
    world: &'a World,
    grant: String,
    scratch: std::path::PathBuf,
    http: reqwest::Client,
}

impl<'a> Client<'a> {
    async fn new(world: &'a World) -> Self {
        let (scratch, grant) = world.scratch_file("grant").await;
        assert!(grant.starts_with("hlg_"), "{grant}");
        Self { world, grant, scratch, http: reqwest::Client::builder().no_gzip().build().unwrap() }
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/gateway/anthropic{path}", self.world.url);
        self.http.post(url).header("x-api-key", &self.grant).header("content-type", "application/json")
    }

    async fn ask(&self) -> (u16, String) {
        let body = r#"{"model":"claude-sonnet-4-5","stream":true,"messages":[]}"#;
        let answer = self.post("/v1/messages?beta=true").body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn let_go(&self, word: &str) {
        std::fs::write(self.scratch.join("go"), word).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_gets_the_key_and_the_agent_a_grant() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|_| {
            let mut reply = Reply::sse(ANSWER);
            reply.headers.extend([("set-cookie", "a=b"), ("request-id", "req_1"), ("x-internal", "secret")]);
            reply
        })
        .await;
        let Some(world) = world_with(engine, &vendor).await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        let client = Client::new(&world).await;
        let answer = client
            .post("/v1/messages?beta=true&key=other")
            .header("anthropic-version", "2023-06-01")
            .header("cookie", "c=d")
            .header("x-forwarded-for", "1.2.3.4")
            .body(r#"{"model":"claude-sonnet-4-5","stream":true}"#)
            .send()
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["request-id"]), (200, &"req_1".parse().unwrap()));
        assert!(answer.headers().get("set-cookie").is_none() && answer.headers().get("x-internal").is_none());
        assert_eq!(answer.text().await.unwrap(), ANSWER);
        let asked = vendor.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/v1/messages?beta=true"));
        assert_eq!(asked[0].header("x-api-key"), world.canary);
        assert_eq!(asked[0].header("anthropic-version"), "2023-06-01");
        for gone in ["cookie", "x-forwarded-for", "authorization"] {
            assert_eq!(asked[0].header(gone), "", "{gone}");
        }
        client.let_go("well");
        assert_eq!(world.ended(comment).await, "rocket");
        let answer = world.only_answer().await;
        assert!(answer.contains("cost $0.32 by list price (101000 tokens) · key of this instance"), "{answer}");
        let (status, text) = client.ask().await;
        assert_eq!(status, 401, "the run is over: {text}");
        assert!(text.contains(r#""type":"authentication_error""#), "{text}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_of_a_model_does_not_pass() {
    let vendor = Vendor::start(|_| Reply::sse(ANSWER)).await;
    let world = world_with(Engine::Sqlite, &vendor).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    for (path, expected) in [
        ("/v1/messages/batches", 404),
        ("/v1/files", 404),
        ("/v1/../v1/files", 404),
        ("/v1/organizations/api_keys", 404),
    ] {
        assert_eq!(client.post(path).body("{}").send().await.unwrap().status().as_u16(), expected, "{path}");
    }
    let elsewhere = |provider: &str, path: &str, header: &str, value: &str| {
        let url = format!("{}/gateway/{provider}{path}", world.url);
        client.http.post(url).header(header, value).body("{}").send()
    };
    let bearer = format!("Bearer {}", client.grant);
    let other = elsewhere("openai", "/v1/responses", "authorization", &bearer).await.unwrap();
    assert_eq!(other.status().as_u16(), 403, "a grant is for one vendor");
    let unknown = elsewhere("openai", "/v1/responses", "authorization", "Bearer hlg_00").await.unwrap();
    assert_eq!(unknown.status().as_u16(), 401);
    assert!(unknown.text().await.unwrap().contains(r#""code":"invalid_api_key""#));
    let none = elsewhere("gemini", "/v1beta/models/m:generateContent", "x-goog-api-key", "AIza").await.unwrap();
    assert_eq!(none.status().as_u16(), 401);
    assert!(none.text().await.unwrap().contains("UNAUTHENTICATED"));
    assert_eq!(elsewhere("cursor", "/v1/messages", "x-api-key", "x").await.unwrap().status().as_u16(), 404);
    let large = client.post("/v1/messages").body(vec![b' '; 33 * 1024 * 1024]).send().await;
    // The answer may come before the whole body is written.
    assert!(large.map_or(true, |answer| answer.status().as_u16() == 413));
    assert!(vendor.asked().is_empty(), "{:?}", vendor.asked());
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_pass_as_they_come_packed_or_not() {
    let hold = Arc::new(Notify::new());
    let (first, rest) = ANSWER.split_at(ANSWER.find("data: {\"type\":\"content_block").unwrap());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(ANSWER.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let (held, pieces, whole) = (Arc::clone(&hold), [first, rest].map(|text| text.as_bytes().to_vec()), packed.clone());
    let vendor = Vendor::start(move |asked| {
        let mut reply = Reply::sse("");
        if asked.header("accept-encoding") == "gzip" {
            reply.headers.push(("content-encoding", "gzip"));
            reply.chunks = whole.chunks(20).map(<[u8]>::to_vec).collect();
        } else {
            (reply.chunks, reply.hold) = (pieces.to_vec(), Some(Arc::clone(&held)));
        }
        reply
    })
    .await;
    let world = world_with(Engine::Sqlite, &vendor).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    let request = || client.post("/v1/messages").body(r#"{"model":"claude-sonnet-4-5","stream":true}"#);

    let mut answer = request().send().await.unwrap();
    let piece = answer.chunk().await.unwrap().unwrap();
    assert_eq!(piece, first.as_bytes(), "the vendor has not sent the rest yet");
    hold.notify_one();
    let mut text = piece.to_vec();
    while let Some(piece) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    assert_eq!(text, ANSWER.as_bytes());

    let answer = request().header("accept-encoding", "gzip, br").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.bytes().await.unwrap(), packed);

    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    let answer = world.only_answer().await;
    assert!(answer.contains("cost $0.63 by list price (202000 tokens)"), "both were counted: {answer}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_vendor_shows_nothing_of_the_key() {
    let vendor = Vendor::start(|asked| match asked.body.contains("teapot") {
        true => Reply::json(418, r#"{"type":"error","error":{"message":"I am a teapot"}}"#),
        false => Reply::json(401, r#"{"error":{"message":"Incorrect API key provided: sk-ant-c******ZZ"}}"#),
    })
    .await;
    let mut world = world_with(Engine::Sqlite, &vendor).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    let (status, text) = client.ask().await;
    assert_eq!(status, 401);
    assert!(text.contains("The vendor refused the key.") && !text.contains("sk-ant"), "{text}");
    let answer = client.post("/v1/messages").body(r#"{"model":"teapot"}"#).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 418);
    assert!(answer.text().await.unwrap().contains("I am a teapot"));
    vendor.end().await;
    let (status, text) = client.ask().await;
    assert_eq!(status, 502, "{text}");
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    assert!(world.only_answer().await.contains("cost not reported"));

    // A grant outlives the process that gave it, as its agent does.
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours again").await;
    let (scratch, grant) = world.scratch_file("grant").await;
    world.crash().await;
    world.restart().await;
    let http = reqwest::Client::new();
    let url = format!("{}/gateway/anthropic/v1/messages", world.url);
    let answer = http.post(url).header("x-api-key", grant).body("{}").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 502);
    std::fs::write(scratch.join("go"), "well").unwrap();
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}
