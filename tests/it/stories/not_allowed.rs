//! Who may not, and what is wrong: one helpful answer at most, and no task.

use hireling::domain::delivery::InstallationState;

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Nothing was started, and nothing more is coming.
async fn no_task(world: &World) {
    world.settled().await;
    assert_eq!(world.tasks().await, []);
    assert_eq!(world.github.pulls(REPO).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_that_commands_need_write_access() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        world.github.set_permission(REPO, "eve", "read").await;
        let comment = world.comment("eve", "/agent ours fix it").await;
        no_task(&world).await;
        assert_eq!(world.reactions(comment).await, ["confused"]);
        assert!(world.only_answer().await.ends_with("eve, commands need write access to this repository."));
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_bots_and_edits_get_no_answer() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    world.github.set_permission(REPO, "nobody", "none").await;
    world.github.set_permission(REPO, "renovate[bot]", "write").await;
    world.github.set_permission(REPO, "hireling[bot]", "write").await;
    for login in ["nobody", "renovate[bot]", "hireling[bot]"] {
        world.comment(login, "/agent ours fix it").await;
    }
    let comment = world.github.comment(REPO, world.issue, PERSON, "/agent ours fix it").await;
    let mut edited = world.github.comment_payload(comment).await;
    edited["action"] = "edited".into();
    world.github.deliver(&world.url, "guid-e", "issue_comment", edited.to_string().as_bytes()).await.unwrap();
    let mut forged = world.github.comment_payload(comment).await;
    forged["comment"]["user"]["id"] = 1.into();
    world.github.deliver(&world.url, "guid-f", "issue_comment", forged.to_string().as_bytes()).await.unwrap();
    no_task(&world).await;
    // The only comment of a bot is the one a story wrote in its name.
    assert_eq!(world.answers().await.len(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_command_gets_one_reply_that_points_at_the_fault() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --modle x fix it").await;
    no_task(&world).await;
    assert_eq!(world.reactions(comment).await, ["confused"]);
    let answer = world.only_answer().await;
    assert!(answer.contains("Did you mean `--model`?"), "{answer}");
    assert!(answer.contains("/agent ours --modle x fix it\n            ^^^^^^^\n"), "{answer}");

    world.comment(PERSON, "/agent opencode --model gpt-5.5 fix it").await;
    assert!(world.answer(1).await.contains("models of opencode begin with anthropic/, openai/, google/, vercel/."));
    world.comment(PERSON, "/agent cladue fix it").await;
    assert!(world.answer(2).await.contains("Did you mean `claude`?"));
    world.comment(PERSON, "/agent ours --max '$3' fix it").await;
    assert!(world.answer(3).await.contains("do not pass the model gateway"));
    world.comment(PERSON, "/agent ours --mcp linear fix it").await;
    assert!(world.answer(4).await.contains("There is no connector `linear`"));
    no_task(&world).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_key_is_said_before_anything_starts() {
    let world = Builder::new(Engine::Sqlite).setting("ANTHROPIC_API_KEY", "").start().await.unwrap();
    world.comment(PERSON, "/agent claude fix it").await;
    no_task(&world).await;
    let answer = world.only_answer().await;
    let link = format!("Link one of Anthropic or Vercel AI Gateway at {}/settings/keys", world.url);
    assert!(answer.contains(&link) && answer.contains("Nothing was started."), "{answer}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_accounts_are_not_worked_for() {
    let world = Builder::new(Engine::Sqlite).setting("ALLOWED_ACCOUNTS", "somebody-else").start().await.unwrap();
    world.comment(PERSON, "/agent ours fix it").await;
    no_task(&world).await;
    assert_eq!(world.answers().await, []);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_installation_starts_nothing() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let event = |action: &str| {
        serde_json::json!({ "action": action, "installation": { "id": 5001, "account": { "id": 1, "login": "acme" } } })
            .to_string()
    };
    world.github.set_installation(5001, InstallationState::Suspended).await;
    world.github.deliver(&world.url, "guid-s", "installation", event("suspend").as_bytes()).await.unwrap();
    world.settled().await;
    world.comment(PERSON, "/agent ours fix it").await;
    no_task(&world).await;
    world.github.set_installation(5001, InstallationState::Present).await;
    world.github.deliver(&world.url, "guid-u", "installation", event("unsuspend").as_bytes()).await.unwrap();
    world.settled().await;
    // An old event that comes late, or once more, changes nothing: GitHub is asked what holds.
    world.github.deliver(&world.url, "guid-late", "installation", event("suspend").as_bytes()).await.unwrap();
    world.settled().await;
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_limit_holds_even_for_commands_at_once() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).setting("MAX_MESSAGES_PER_DAY", "3").agent("ours", "echo nothing to do");
        let Some(world) = builder.start().await else { continue };
        let mut sent = Vec::new();
        for n in 0..10 {
            let comment = world.github.comment(REPO, world.issue, PERSON, "/agent ours fix it").await;
            let body = world.github.comment_payload(comment).await.to_string();
            sent.push((format!("guid-{n}"), body));
        }
        let deliveries =
            sent.iter().map(|(id, body)| world.github.deliver(&world.url, id, "issue_comment", body.as_bytes()));
        futures::future::join_all(deliveries).await;
        world.settled().await;
        assert_eq!(world.tasks().await.len(), 3, "{engine:?}");
        let refused =
            world.answers().await.iter().filter(|a| a.body.contains("more than 3 commands for today")).count();
        assert_eq!(refused, 7, "{engine:?}");
        world.finish().await;
    }
}
