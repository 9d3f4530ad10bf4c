//! The programs call connectors of both kinds, with their secrets.

use super::*;

/// A model that has both connectors asked.
async fn asks_its_connectors(real: &Real) -> Option<Model> {
    let call = |number: u32, tool: &str| {
        json!({ "match": { "userMessage": "SCRIPTED-MCP", "sequenceIndex": number },
            "response": { "content": "Asking.", "toolCalls": [{ "name": tool, "arguments": {} }] } })
    };
    let [local, remote] = real.connectors_tools;
    let mut fixtures = vec![call(0, local)];
    // opencode asks for a title at the same time, in the same words.
    let first = u32::from(real.agent == "opencode");
    fixtures.extend((first == 1).then(|| call(1, local)));
    fixtures.extend([
        call(first + 1, remote),
        json!({ "match": { "userMessage": "SCRIPTED-MCP" }, "response": { "content": "They said pong." } }),
        json!({ "match": { "userMessage": "SCRIPTED-NONE" }, "response": { "content": "Alone." } }),
    ]);
    Model::start(fixtures).await
}

/// Both kinds of connectors, with their secrets, and none where the command says so.
async fn uses_its_connectors(real: &Real) {
    if !real.is_installed().await {
        return;
    }
    let namespaced = crate::support::model::namespaced("SCRIPTED-MCP").await;
    let scripted = asks_its_connectors(real).await;
    let Some(scripted) = &scripted else { return };
    let url = if real.agent == "codex" { &namespaced.url } else { &scripted.url };
    let server = crate::support::mcp::http().await;
    let world = real.world(url, false).await;
    world.github.push_file(REPO, "main", "mcp.js", crate::support::mcp::STDIO).await.unwrap();
    let first = real.ask(&world, "--no-mcp SCRIPTED-NONE").await;
    world.ended(first).await;
    let maria = world.last_task().await.requester.id;
    let app = world.app(&[]).await;
    let owner = KeyOwner::Person(maria);
    let secrets = |name: &str, value: &str| Secrets([(name.to_owned(), Secret::new(value))].into());
    let argv = ["node", "mcp.js"].map(str::to_owned).to_vec();
    let local = Transport::Local { argv, hosts: Vec::new() };
    app.save_connector(owner, "loc", local, secrets("TOKEN", real.secret), maria).await.unwrap();
    let headers = [("Authorization".to_owned(), "Bearer ${KEY}".to_owned())].into();
    let remote = Transport::Remote { url: format!("{}/mcp", server.url), protocol: Protocol::Http, headers };
    app.save_connector(owner, "rem", remote, secrets("KEY", "remote-secret-23"), maria).await.unwrap();
    app.store.close().await;

    let comment = real.ask(&world, "--new SCRIPTED-MCP").await;
    let reaction = world.ended(comment).await;
    let log = world.log_of(&world.last_task().await.id).await;
    assert_eq!(reaction, "rocket", "{log}\n{}", server.asked().len());
    let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
    let expected = format!("+called with a secret of {}\n", real.secret.len());
    assert!(diff.contains(&expected), "{diff}");
    assert_eq!(diff.matches("diff --git").count(), 1, "no file of the connectors: {diff}");
    let asked = server.asked();
    let calls: Vec<_> = asked.iter().filter(|call| call.body.contains("tools/call")).collect();
    assert_eq!(calls.len(), 1, "{asked:?}");
    assert_eq!(calls[0].header("authorization"), "Bearer remote-secret-23");
    assert!(!log.contains("remote-secret") && !log.contains("local-secret"), "{log}");
    let answers = world.answers().await;
    assert!(answers[1].body.contains("connectors `loc`, `rem`"), "{}", answers[1].body);
    assert!(!answers[0].body.contains("connectors"), "{}", answers[0].body);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_uses_its_connectors() {
    uses_its_connectors(&CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_uses_its_connectors() {
    uses_its_connectors(&CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copilot_uses_its_connectors() {
    uses_its_connectors(&COPILOT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_uses_its_connectors() {
    uses_its_connectors(&GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_uses_its_connectors() {
    uses_its_connectors(&OPENCODE).await;
}

/// Where the sandbox's network can do it, a connector's secret stays outside.
#[tokio::test(flavor = "multi_thread")]
async fn on_vercel_a_connectors_secret_never_enters_the_sandbox() {
    let real = &CLAUDE;
    if !real.is_installed().await {
        return;
    }
    let fixtures = real.runs("SCRIPTED-EDIT", "sed -i s/wrld/world/ README.md", "Fixed.");
    let Some(model) = Model::start(fixtures).await else { return };
    let world = real.world(&model.url, true).await;
    let first = world.comment(PERSON, "/agent ours").await;
    world.ended(first).await;
    let maria = world.last_task().await.requester.id;
    let app = world.app(&[]).await;
    let headers =
        [("Authorization".to_owned(), "Bearer ${KEY}".to_owned()), ("X-Team".to_owned(), "a".to_owned())].into();
    let remote = Transport::Remote { url: "https://mcp.example.com/mcp".to_owned(), protocol: Protocol::Http, headers };
    let secrets = Secrets([("KEY".to_owned(), Secret::new("remote-secret-23"))].into());
    app.save_connector(KeyOwner::Person(maria), "rem", remote, secrets, maria).await.unwrap();
    app.store.close().await;
    let comment = real.ask(&world, "--new SCRIPTED-EDIT").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let calls = world.vercel().calls();
    let with_secret: Vec<_> = calls.iter().filter(|call| call.body.contains("remote-secret-23")).collect();
    assert_eq!(with_secret.len(), 1);
    assert!(with_secret[0].route.contains("network-policy"), "{}", with_secret[0].route);
    let policy: Value = serde_json::from_str(&with_secret[0].body).unwrap();
    let rule = &policy["allow"]["mcp.example.com"][0];
    assert_eq!(rule["match"]["path"]["startsWith"], "/mcp", "{policy}");
    assert_eq!(rule["transform"][0]["headers"]["Authorization"], "Bearer remote-secret-23", "{policy}");
    world.finish().await;
}
