//! What a task, a person or a month may cost holds.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_spender_is_stopped_at_its_limit_and_its_work_is_saved() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|_| Reply::sse(ANSWER)).await;
        let Some(world) = world_with(engine, &vendor).await else { continue };
        let comment = world.comment(PERSON, "/agent ours --max '$1' fix this").await;
        let client = Client::new(&world).await;
        let mut codes = Vec::new();
        for _ in 0..6 {
            codes.push(client.ask().await.0);
        }
        // 4 × $0.315 is the first sum past a dollar.
        assert_eq!(codes, [200, 200, 200, 200, 400, 400]);
        assert_eq!(vendor.asked().len(), 4);
        let (_, text) = client.ask().await;
        assert!(text.contains("Stopped by a limit: $1.26 of the $1.00 allowed for this task are spent."), "{text}");
        client.let_go("badly");
        assert_eq!(world.ended(comment).await, "confused");
        let answer = world.only_answer().await;
        assert!(answer.contains("ours was stopped: $1.26 of the $1.00 allowed for this task are spent."), "{answer}");
        assert!(answer.contains("cost $1.26 by list price (404000 tokens)"), "{answer}");
        let branch = world.branches().await.pop().expect("a branch with the work so far");
        assert!(answer.contains(&branch), "{answer}");
        assert!(world.github.diff(REPO, "main", &branch).await.unwrap().contains("fixed.txt"));
        assert!(world.pulls().await.is_empty());
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monthly_limit_holds_for_the_next_task_too() {
    let vendor = Vendor::start(|_| Reply::sse(ANSWER)).await;
    let builder = Builder::new(Engine::Sqlite)
        .setting("ANTHROPIC_BASE_URL", &vendor.url)
        .setting("MAX_COST_PER_PERSON", "$0.30")
        .gateway_agent("ours", "\"anthropic\"", WAITING);
    let mut world = builder.start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    assert_eq!((client.ask().await.0, client.ask().await.0), (200, 400));
    client.let_go("well");
    // It did its work all the same.
    assert_eq!(world.ended(comment).await, "rocket");
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours again").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.only_answer().await;
    let sentence = "ours was not started: $0.32 of the $0.30 that one person may spend in a month are spent.";
    assert!(answer.contains(sentence), "{answer}");
    world.finish().await;
}

/// The limits by month are the operator's: who brings a key pays for it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_monthly_limit_does_not_hold_for_a_key_that_was_brought() {
    let vendor = Vendor::start(|asked| match asked.method.as_str() {
        "GET" => Reply::json(200, "{}"),
        _ => Reply::sse(ANSWER),
    })
    .await;
    let builder = Builder::new(Engine::Sqlite)
        .setting("ANTHROPIC_BASE_URL", &vendor.url)
        .setting("MAX_COST_PER_PERSON", "$0.30")
        .gateway_agent("ours", "\"anthropic\"", WAITING);
    let mut world = builder.start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    assert_eq!(client.ask().await.0, 200);
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    let maria = world.last_task().await.requester.id;
    let app = world.app(&[]).await;
    let key = Secret::new(format!("sk-ant-{:032x}", rand::random::<u128>()));
    app.save_key(KeyOwner::Person(maria), Provider::Anthropic, &key, maria).await.unwrap();
    app.store.close().await;
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours again").await;
    let client = Client::new(&world).await;
    assert_eq!((client.ask().await.0, client.ask().await.0), (200, 200));
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    assert!(world.only_answer().await.contains("maria's own key"));
    world.finish().await;
}

/// OpenAI's stream tells its usage last: who hangs up before is counted by what the vendor says then.
#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_off_before_the_usage_is_told_pays_for_all() {
    const BEGIN: &str = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n\n";
    const END: &str = "data: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5.4\",\
        \"usage\":{\"input_tokens\":1200,\"output_tokens\":34}}}\n\n";
    let hold = Arc::new(Notify::new());
    let held = Arc::clone(&hold);
    let vendor = Vendor::start(move |_| {
        let mut reply = Reply::sse("");
        (reply.chunks, reply.hold) = (vec![BEGIN.into(), END.into()], Some(Arc::clone(&held)));
        reply
    })
    .await;
    let script = WAITING.replace("ANTHROPIC", "OPENAI");
    let builder =
        Builder::new(Engine::Sqlite).setting("OPENAI_BASE_URL", &vendor.url).setting("OPENAI_API_KEY", "sk-1");
    let world = builder.gateway_agent("ours", "\"openai\"", &script).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    let url = format!("{}/gateway/openai/v1/responses", world.url);
    let call = client.http.post(url).bearer_auth(&client.grant).body(r#"{"model":"gpt-5.4","stream":true}"#);
    let mut answer = call.send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    hold.notify_one();
    let store = world.store().await;
    let task = world.last_task().await.id;
    let spent = world.until("the call is counted", async |_| store.spent_by(&task).await.unwrap()).await;
    assert_eq!((spent.tokens, spent.is_estimate), (1234, false));
    store.close().await;
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_off_pays_for_what_came() {
    let hold = Arc::new(Notify::new());
    let (held, first) = (Arc::clone(&hold), ANSWER.lines().take(3).collect::<Vec<_>>().join("\n") + "\n");
    let vendor = Vendor::start(move |_| {
        let mut reply = Reply::sse("");
        (reply.chunks, reply.hold) = (vec![first.clone().into(), b"never".to_vec()], Some(Arc::clone(&held)));
        reply
    })
    .await;
    let world = world_with(Engine::Sqlite, &vendor).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let client = Client::new(&world).await;
    let mut answer = client.post("/v1/messages").body(r#"{"model":"claude-sonnet-4-5"}"#).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    let store = world.store().await;
    let task = world.last_task().await.id;
    let spent = world.until("the call is counted", async |_| store.spent_by(&task).await.unwrap()).await;
    assert!(spent.is_estimate && spent.tokens >= 100_000, "{spent:?}");
    store.close().await;
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    assert!(world.only_answer().await.contains("by list price (about 100"));
    world.finish().await;
}

/// Many calls at once do not get past a limit that one after the other would meet.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_against_many_calls_at_once() {
    // Nobody gets an answer before all have asked: what is counted would make room for others.
    let hold = Arc::new(Notify::new());
    let held = Arc::clone(&hold);
    let vendor = Vendor::start(move |_| Reply { hold: Some(Arc::clone(&held)), ..Reply::sse(ANSWER) }).await;
    let world = world_with(Engine::Sqlite, &vendor).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --max '$1' fix this").await;
    let client = Client::new(&world).await;
    // Each asks for as much as it may get: 8,000 tokens are 12 cents.
    let body = r#"{"model":"claude-sonnet-4-5","stream":true,"max_tokens":8000,"messages":[]}"#;
    let calls = (0..100).map(|_| async { client.post("/v1/messages").body(body).send().await.unwrap() });
    let answers = futures::future::join_all(calls).await;
    let codes: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    let passed = codes.iter().filter(|code| **code == 200).count();
    // Eight may be under way, and all of them together are below the limit.
    assert!((1..=8).contains(&passed), "{codes:?}");
    assert_eq!(vendor.asked().len(), passed);
    let let_all_go = async {
        loop {
            hold.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = futures::future::join_all(answers.into_iter().map(reqwest::Response::bytes)) => {}
        () = let_all_go => {}
    }
    assert!(codes.iter().all(|code| [200, 400, 429].contains(code)), "{codes:?}");
    client.let_go("well");
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

/// A deploy breaks off what an agent is being told; that was told, and costs.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_stop_breaks_off_is_counted() {
    for engine in Engine::both() {
        let hold = Arc::new(Notify::new());
        let first = ANSWER.lines().take(3).collect::<Vec<_>>().join("\n") + "\n";
        let vendor = Vendor::start(move |_| {
            let mut reply = Reply::sse("");
            (reply.chunks, reply.hold) = (vec![first.clone().into(), b"never".to_vec()], Some(Arc::clone(&hold)));
            reply
        })
        .await;
        let Some(mut world) = world_with(engine, &vendor).await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        let client = Client::new(&world).await;
        let mut answer = client.post("/v1/messages").body(r#"{"model":"claude-sonnet-4-5"}"#).send().await.unwrap();
        answer.chunk().await.unwrap().unwrap();
        let scratch = client.scratch.clone();
        world.stop().await;
        assert!(!world.log().contains("not everything ended in time"), "{}", world.log());
        let store = world.store().await;
        let task = world.last_task().await.id;
        let spent = store.spent_by(&task).await.unwrap().expect("the call is counted");
        assert!(spent.is_estimate && spent.tokens >= 100_000, "{spent:?}");
        store.close().await;
        world.restart().await;
        std::fs::write(scratch.join("go"), "well").unwrap();
        assert_eq!(world.ended(comment).await, "rocket");
        world.finish().await;
    }
}
