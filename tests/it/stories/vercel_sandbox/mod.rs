//! Agents work in Vercel Sandboxes, seen from both ends: what people read on GitHub, and what the
//! stand-in for Vercel was asked to do.

mod each_call;
mod interrupted;

use hireling::demo::standin::PullView;

use crate::double::{Double, Fault, Kind, When};
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const COUNTING: &str = "for n in $(seq 1 200); do echo \"line $n é.\"; done; echo x >> new.txt";

async fn world(builder: Builder) -> World {
    builder.on_vercel().await.start().await.unwrap()
}

/// The log has each line once, and the agent did its work once, in one sandbox.
async fn assert_worked_once(world: &World, what: &str) {
    assert_counted(world).await;
    let pulls = world.pulls().await;
    assert_eq!(pulls.len(), 1, "{what}");
    let diff = world.github.diff(REPO, "main", &pulls[0].head).await.unwrap();
    assert_eq!(diff.matches("+x\n").count(), 1, "{what}: {diff}");
    let task = world.last_task().await.id.0;
    let lives = world.vercel().lives().await.into_iter().filter(|life| life.task == task).count();
    assert_eq!(lives, 1, "{what}: no second sandbox");
}

async fn assert_counted(world: &World) {
    let log = world.log_of(&world.last_task().await.id).await;
    let counted: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=200).map(|n| format!("line {n} é.")).collect();
    assert_eq!(counted, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_becomes_a_pull_request() {
    for engine in Engine::both() {
        let Some(world) = Builder::new(engine).on_vercel().await.start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours fix the button").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
        assert!(diff.contains("+fixed"), "{diff}");
        let made = world.vercel().calls().into_iter().find(|call| call.route.starts_with("POST /api/v3/sandboxes?"));
        let body: serde_json::Value = serde_json::from_str(&made.unwrap().body).unwrap();
        assert_eq!(body["persistent"], false);
        assert_eq!(body["timeout"], 2_700_000);
        assert_eq!(body["tags"]["task"], world.last_task().await.id.0);
        assert!(body.get("source").is_none() && body.get("env").is_none(), "{body}");
        world.sandboxes_deleted().await;
        assert_eq!(world.vercel().lives().await.len(), 1);
        world.finish().await;
    }
}

/// The secrets of a run are where they have to be, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_fetch_sees_a_token() {
    let world = world(Builder::new(Engine::Sqlite)).await;
    let comment = world.comment(PERSON, "/agent ours fix the button").await;
    assert_eq!(world.ended(comment).await, "rocket");
    let mut with_token = Vec::new();
    for call in world.vercel().calls() {
        for secret in [&world.canary, world.github.webhook_secret.expose(), crate::double::TOKEN] {
            assert!(!call.route.contains(secret) && !call.body.contains(secret), "{}", call.route);
        }
        let key = world.github.private_key.expose().lines().nth(2).unwrap();
        assert!(!call.body.contains(key) && !call.body.contains("ghs_"), "{}", call.body);
        // `x-access-token:`, as it stands in a header.
        if call.body.contains("eC1hY2Nlc3MtdG9rZW46") {
            let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
            with_token.push(body["args"][1].as_str().unwrap().to_owned());
            assert!(!body["args"].to_string().contains("Authorization"), "never in arguments");
        }
    }
    assert_eq!(with_token, ["git-fetch-1"]);
    world.finish().await;
}

/// Pieces of one byte, blank lines, unknown words, streams that break off: the log has every line
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn however_the_output_comes_the_log_is_whole() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", COUNTING)).await;
    world.vercel().set(|knobs| {
        knobs.chunk_bytes = Some(1);
        knobs.noise = true;
        knobs.cut_after = Some(700);
        knobs.pending_polls = 2;
        knobs.strict_stop = true;
    });
    let comment = world.comment(PERSON, "/agent ours count").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert_counted(&world).await;
    world.finish().await;
}

/// Some refusals end a task, each with the sentence for who has to act.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_to_whom_they_concern() {
    let mut world = world(Builder::new(Engine::Sqlite)).await;
    for (status, code) in [(401, "forbidden"), (403, "forbidden"), (402, "payment_required")] {
        world.next_issue().await;
        let kind = Kind::Status(status, code, None);
        world.vercel().set_faults(vec![Fault::first("/v3/sandboxes", 99, When::Before, kind)]);
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "confused");
        let answer = world.only_answer().await;
        assert!(answer.contains("operator has to look at the token, the plan or the quota"), "{answer}");
        assert!(!answer.contains("planned"), "what Vercel says is for the operator: {answer}");
        assert!(world.log().contains(&format!("planned {code}")));
    }
    world.vercel().set_faults(Vec::new());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_for_a_free_place_and_says_so() {
    let world = world(Builder::new(Engine::Sqlite)).await;
    world.vercel().set(|knobs| knobs.max_running = 0);
    let comment = world.comment(PERSON, "/agent ours").await;
    world
        .until("the comment says that it waits", async |world| {
            let text = world.answers().await.first()?.body.clone();
            text.contains("- [ ] Start a sandbox … waiting for a free sandbox").then_some(())
        })
        .await;
    world.vercel().set(|knobs| knobs.max_running = 1);
    assert_eq!(world.ended(comment).await, "rocket");
    let log = world.log_of(&world.last_task().await.id).await;
    assert!(log.contains("Waiting for a free sandbox"), "{log}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_grant_is_clamped_with_a_note() {
    let world = world(Builder::new(Engine::Sqlite).setting("MAX_SANDBOX_DURATION", "5h")).await;
    world.vercel().set(|knobs| {
        knobs.max_timeout = 2_700_000;
        knobs.max_vcpus = 2;
    });
    let comment = world.comment(PERSON, "/agent ours --timeout 2h fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let answer = world.only_answer().await;
    assert!(answer.contains("The plan of the sandbox's provider ends it after 45 min"), "{answer}");
    assert!(answer.contains("The agent may work for 42 min"), "{answer}");
    let calls = |world: &World| world.vercel().calls().iter().filter(|call| call.route.contains("/api/v3/")).count();
    assert_eq!(calls(&world), 3, "the time is learned, and the vCPUs");
    let comment = world.comment(PERSON, "/agent ours --new again").await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert_eq!(calls(&world), 4, "what was learned is kept");
    world.finish().await;
}

const ENDLESS: &str = "echo half > half.txt; echo working; sleep 600";

/// Gives the sandbox in which the agent of the newest task works.
async fn agent_works(world: &World) -> String {
    world
        .until("the agent works", async |world| {
            let task = world.tasks().await.into_iter().next()?;
            let life =
                world.vercel().lives().await.into_iter().find(|life| life.task == task.id.0 && life.is_running)?;
            world.log_of(&task.id).await.contains("working").then_some(life.name)
        })
        .await
}

/// The agent is stopped before its sandbox ends, and what it did is saved.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_time_the_work_so_far_is_saved() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", ENDLESS).setting("MAX_SANDBOX_DURATION", "60")).await;
    let comment = world.comment(PERSON, "/agent ours work").await;
    assert_eq!(world.ended(comment).await, "confused", "{}", world.account().await);
    let answer = world.only_answer().await;
    assert!(answer.contains("**Out of time.**") && answer.contains("The work so far is on the branch"), "{answer}");
    assert_eq!(world.branches().await.len(), 1);
    assert_eq!(world.pulls().await, Vec::<PullView>::new());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_goes_is_told_by_why_it_went() {
    let mut world = world(Builder::new(Engine::Sqlite).agent("ours", ENDLESS)).await;
    let goes: [(&str, &str, bool); 3] = [
        ("time is over", "The sandbox reached the end of its", false),
        ("stopped by hand", "The sandbox was stopped from outside", false),
        ("stopped by hand, silently", "The sandbox was stopped from outside", true),
    ];
    for (how, sentence, silent) in goes {
        world.next_issue().await;
        world.vercel().set(|knobs| knobs.silent_stop = silent);
        let comment = world.comment(PERSON, "/agent ours work").await;
        let name = agent_works(&world).await;
        match how {
            "time is over" => world.vercel().advance(2_800_000),
            _ => world.vercel().stop_from_outside(&name).await,
        }
        assert_eq!(world.ended(comment).await, "confused", "{how}");
        let answer = world.only_answer().await;
        assert!(answer.contains(sentence), "{how}: {answer}");
    }
    world.finish().await;
}

/// Gives the machine in which the agent said it once more, after the first was lost.
async fn second_machine(world: &World, first: &str, said: &str) -> String {
    world
        .until("a second machine runs the agent", async |world| {
            let log = world.log_of(&world.last_task().await.id).await;
            let next = world.vercel().alive().await.into_iter().find(|name| name != first)?;
            (log.matches(said).count() == 2).then_some(next)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_fails_is_replaced_once() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", ENDLESS)).await;
    let comment = world.comment(PERSON, "/agent ours work").await;
    let first = agent_works(&world).await;
    world.vercel().fail(&first).await;
    let second = second_machine(&world, &first, "working").await;
    world.vercel().fail(&second).await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.only_answer().await.contains("The sandbox disappeared"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_sandbox() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", ENDLESS)).await;
    let comment = world.comment(PERSON, "/agent ours work").await;
    agent_works(&world).await;
    world.comment(PERSON, "/agent cancel").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.only_answer().await.contains("**Cancelled.**"));
    world.finish().await;
}

/// What could not be stopped at the end is found by its tag and stopped later.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_was_left_is_swept_away() {
    let mut world = world(Builder::new(Engine::Sqlite)).await;
    let refused = |route| Fault::first(route, 6, When::Before, Kind::Status(500, "internal_server_error", None));
    world.vercel().set_faults(vec![refused("POST */stop"), refused("DELETE")]);
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.crash().await;
    assert_eq!(world.vercel().alive().await.len(), 1);
    // Another instance's sandbox, in the same project, is left alone.
    let foreign = foreign_sandbox(world.vercel()).await;
    world.vercel().set_faults(Vec::new());
    world.restart().await;
    world
        .until("ours is gone, the other stays", async |world| {
            (world.vercel().alive().await == [foreign.clone()]).then_some(())
        })
        .await;
    world.vercel().fail(&foreign).await;
    world.finish().await;
}

async fn foreign_sandbox(double: &Double) -> String {
    let url = format!("{}/v3/sandboxes?teamId={}", double.url, crate::double::TEAM);
    let body = serde_json::json!({
        "projectId": crate::double::PROJECT, "name": "of-another", "persistent": false,
        "tags": { "hireling": "1", "task": "elsewhere" },
    });
    let client = reqwest::Client::new();
    let answer = client.post(url).bearer_auth(crate::double::TOKEN).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
    "of-another".to_owned()
}
