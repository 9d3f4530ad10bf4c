//! Nothing on a page is done by somebody else's page, nothing foreign is run, and errors tell nothing.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, OPERATOR, PERSON, World};

/// Every route that changes something, with the form that leads to it.
const CHANGES: [&str; 15] = [
    "/auth/signout",
    "/settings/preferences",
    "/settings/accounts/link",
    "/settings/accounts/unlink",
    "/settings/accounts/merge",
    "/settings/sessions/revoke",
    "/settings/delete",
    "/settings/keys",
    "/settings/keys/test",
    "/settings/keys/delete",
    "/settings/connectors",
    "/settings/connectors/switch",
    "/settings/connectors/test",
    "/settings/connectors/delete",
    "/deliveries/some-delivery/replay",
];

const KEY: [(&str, &str); 2] = [("provider", "cursor"), ("key", "key_of_maria_herself")];

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_takes_our_own_forms_only() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    let task = world.last_task().await.id;
    let mut maria = Visitor::sign_in(&world, PERSON).await;
    let form = maria.get("/settings/keys").await;
    let saved = maria.submit(&form, "/settings/keys", "", &KEY).await;
    let form = maria.get("/settings/connectors?preset=playwright").await;
    let fields = [("owner", "me"), ("name", "playwright"), ("kind", "local"), ("command", "npx")];
    let connected = maria.submit(&form, "/settings/connectors", "name=\"name\"", &fields).await;
    let shown = maria.get(&format!("/tasks/{task}")).await;
    let page = maria.get("/settings").await;
    let pages = [&page, &saved, &connected, &shown];
    let mut with_form = 0;
    let other = page.hidden_fields("/settings/preferences", "").remove(0).1;
    let mut eve = Visitor::sign_in(&world, "eve").await;
    let of_eve = eve.get("/settings").await.hidden_fields("/settings/delete", "").remove(0).1;
    let of_task = ["cancel", "retry"].map(|action| format!("/tasks/{task}/{action}"));
    let all = CHANGES.into_iter().map(ToOwned::to_owned).chain(of_task);
    let origin = world.url.clone();
    let token = |token: &str| vec![("token".to_owned(), token.to_owned()), ("owner".to_owned(), "me".to_owned())];
    for path in all {
        let status = async |visitor: &mut Visitor, fields: &[(String, String)], origin: &str| {
            let answer = visitor.send(Method::POST, &path, fields, origin).await;
            assert!(answer.body.len() <= 200 && answer.body.contains("Error "), "{path}: {}", answer.body);
            answer.status
        };
        assert_eq!(status(&mut maria, &[], &origin).await, 403, "{path} without a token");
        assert_eq!(status(&mut maria, &token("00"), &origin).await, 403, "{path} with a wrong token");
        assert_eq!(status(&mut maria, &token(&of_eve), &origin).await, 403, "{path} with a token of eve");
        if path != "/settings/preferences" {
            assert_eq!(status(&mut maria, &token(&other), &origin).await, 403, "{path} with a token of another form");
        }
        let mut nobody = Visitor::new(&world);
        assert_eq!(status(&mut nobody, &token(&other), &origin).await, 403, "{path} signed out");
        // Our own form, sent by another page.
        if let Some(page) = pages.iter().find(|page| page.body.contains(&format!("action=\"{path}\""))) {
            for foreign in ["https://evil.test", "null", "https://127.0.0.1", "http://localhost:1"] {
                let fields = page.hidden_fields(&path, "");
                assert_eq!(status(&mut maria, &fields, foreign).await, 403, "{path} from {foreign}");
            }
            with_form += 1;
        }
        let by_get = maria.send(Method::GET, &path, &[], "").await.status;
        assert!(by_get == 405 || path == "/settings/keys" || path == "/settings/connectors", "{path}: {by_get}");
    }
    // All but linking, unlinking, merging, replaying and cancelling, which have no form here.
    assert_eq!(with_form, 12);
    assert_eq!(maria.get("/settings").await.status, 200, "she is still here");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_guarded() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    let task = format!("/tasks/{}", world.last_task().await.id);
    let mut olga = Visitor::sign_in(&world, OPERATOR).await;
    for path in [
        "/",
        "/signin",
        "/tasks",
        &task,
        "/settings",
        "/settings/keys",
        "/settings/connectors",
        "/deliveries",
        "/why",
        "/nowhere",
    ] {
        let answer = olga.get(path).await;
        let header = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert!(
            !answer.body.contains("style=\"") && !answer.body.contains("<script>") && !answer.body.contains("onclick")
        );
        assert!(!answer.body.contains("src=\"http"), "{path} loads nothing from elsewhere");
    }
    world.finish().await;
    // On https the browser is told to stay there; a script of the operator's is the only other one.
    let builder = Builder::new(Engine::Sqlite).setting("PUBLIC_URL", "https://h.test");
    let world = builder.setting("WEB_ANALYTICS_SCRIPT", "https://stats.test/a.js").start().await.unwrap();
    let answer = Visitor::new(&world).get("/").await;
    assert_eq!(answer.headers["strict-transport-security"], "max-age=31536000");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self' https://stats.test;"), "{policy}");
    assert!(answer.body.contains("<script src=\"https://stats.test/a.js\" defer>"));
    world.finish().await;
}

const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

#[tokio::test(flavor = "multi_thread")]
async fn hostile_words_are_words() {
    for engine in Engine::both() {
        let says = format!("printf '%s\\n' {}; printf '\\033[31mred\\033[0m\\r\\n'; echo b > b", quoted(HOSTILE));
        let Some(world) = Builder::new(engine).agent("ours", &says).start().await else { continue };
        let comment = world.comment(PERSON, &format!("/agent ours {HOSTILE}")).await;
        assert_eq!(world.ended(comment).await, "rocket");
        let task = world.last_task().await;
        let mut olga = Visitor::sign_in(&world, OPERATOR).await;
        let page = olga.get("/settings/connectors").await;
        let fields = [("owner", "me"), ("name", HOSTILE), ("kind", "remote"), ("url", HOSTILE), ("headers", HOSTILE)];
        let refused = olga.submit(&page, "/settings/connectors", "name=\"name\"", &fields).await;
        assert_eq!(refused.status, 422);
        let preferences = olga.get("/settings").await;
        let fields = [("agent", HOSTILE), ("model-claude", HOSTILE)];
        let wrong = olga.submit(&preferences, "/settings/preferences", "", &fields).await;
        let query: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
        let mut pages = vec![refused, wrong];
        for path in [
            format!("/tasks/{}", task.id),
            format!("/tasks/{}?q={query}", task.id),
            "/tasks".to_owned(),
            format!("/tasks?q={query}&agent={query}&repository={query}&person={query}&state={query}"),
            format!("/deliveries?decision={query}&repository={query}"),
            format!("/deliveries/{}", task.delivery),
            format!("/why?url={query}"),
            format!("/signin?next=/{query}"),
            format!("/tasks?done={query}"),
            format!("/{query}"),
        ] {
            pages.push(olga.get(&path).await);
        }
        for page in &pages {
            assert!(
                !page.body.contains("<script>alert") && !page.body.contains("<img src=x"),
                "{}: {}",
                page.url,
                page.body
            );
        }
        let shown = &pages[2];
        assert!(shown.text().contains(HOSTILE), "it is shown as it is");
        assert!(shown.text().contains("red</li>") && !shown.body.contains('\u{1b}'), "{}", shown.body);
        let raw = olga.get(&format!("/tasks/{}/log", task.id)).await;
        assert_eq!(raw.headers["x-content-type-options"], "nosniff");
        world.finish().await;
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_short_alike_and_numbered() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let mut visitor = Visitor::new(&world);
    let mut bodies = Vec::new();
    for path in [
        "/nowhere",
        "/assets/none.js",
        "/tasks/none",
        "/tasks/none/log",
        "/tasks/none/events",
        "/tasks/..%2f..%2fetc%2fpasswd",
    ] {
        let answer = visitor.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.len() <= 200, "{}", answer.body);
        bodies.push(answer.body.split("Error ").next().unwrap().to_owned());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    world.finish().await;
}

/// Nobody keeps the service waiting with a form.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_never_ends_is_refused() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let maria = Visitor::sign_in(&world, PERSON).await;
    let cookies: Vec<String> = maria.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let head = format!(
        "POST /settings/preferences HTTP/1.1\r\nhost: x\r\norigin: {}\r\ncookie: {}\r\ncontent-length: 100\r\n\r\ntoken=",
        world.url,
        cookies.join("; ")
    );
    let mut stream = tokio::net::TcpStream::connect(world.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("This took too long to arrive"), "{answer}");
    world.finish().await;
}
