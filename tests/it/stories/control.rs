//! Control from the thread: help, lists, why, cancel, and the checks that show it.

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_at_once() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    world.comment(PERSON, "/agent help").await;
    assert!(world.answer(0).await.contains("| `--timeout` | a time such as `90s`, `30m` or `2h` |"));
    world.comment(PERSON, "@hireling agents").await;
    let agents = world.answer(1).await;
    assert!(
        agents.contains("| `claude` | key of this instance | `sonnet` | default |")
            && agents.contains("| `ours` | needs none |  |  |"),
        "{agents}"
    );
    assert!(agents.contains("| `cursor` | missing |  |  |"), "{agents}");
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    world.comment(PERSON, "/agent status").await;
    let status = world.answer(3).await;
    assert!(status.contains("| fix it | `ours` | succeeded | maria |"), "{status}");
    world.github.set_permission(REPO, "eve", "read").await;
    world.comment("eve", "/agent ours").await;
    world.answer(4).await;
    world.comment(PERSON, "/agent why").await;
    let why = world.answer(5).await;
    assert!(why.contains("| eve | the sender has no write access to this repository (`no_permission`) |"), "{why}");
    assert!(why.contains("the command was accepted (`accepted`)"), "{why}");
    world.finish().await;
}

const FOREVER: &str = "echo begun; while :; do sleep 1; done";

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_the_running_task_and_the_waiting_ones() {
    for engine in Engine::both() {
        let Some(world) = Builder::new(engine).agent("ours", FOREVER).start().await else { continue };
        let running = world.comment(PERSON, "/agent ours first").await;
        let waiting = world.comment(PERSON, "/agent ours second").await;
        begun(&world).await;
        let states: Vec<&str> = world.tasks().await.iter().map(|task| task.state.name()).collect();
        assert_eq!(states, ["queued", "running"], "one task of a thread runs at a time");

        let cancel = world.comment(PERSON, "/agent cancel").await;
        assert_eq!(world.ended(running).await, "confused");
        assert_eq!(world.ended(waiting).await, "confused");
        world.settled().await;
        assert_eq!(world.reactions(cancel).await, ["+1"]);
        let states: Vec<&str> = world.tasks().await.iter().map(|task| task.state.name()).collect();
        assert_eq!(states, ["cancelled", "cancelled"]);
        let answers: Vec<String> = world.answers().await.into_iter().map(|answer| answer.body).collect();
        assert!(answers.iter().any(|text| text.contains("😕 **Cancelled.** Stopped by maria.")), "{answers:?}");
        assert!(answers.iter().any(|text| text.contains("was stopped by maria before it started")), "{answers:?}");
        assert_eq!(world.github.pulls(REPO).await, []);
        world.comment(PERSON, "/agent stop").await;
        world
            .until("it is said that nothing runs", async |world| {
                world.answers().await.iter().any(|answer| answer.body.contains("Nothing is running")).then_some(())
            })
            .await;
        let left = std::fs::read_dir(world.file("data/sandboxes")).unwrap().count();
        assert_eq!(left, 0, "the sandbox is gone");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_commands_of_one_comment_are_several_tasks_in_order() {
    let script = "cat >> seen.txt; echo ok";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).agent("theirs", script).start().await.unwrap();
    world.comment(PERSON, "/agent ours,theirs one\n\n/agent ours two").await;
    world.settled().await;
    let tasks = world.tasks().await;
    let seen: Vec<(&str, &str)> = tasks.iter().rev().map(|task| (task.agent.as_str(), task.request.as_str())).collect();
    assert_eq!(seen, [("ours", "one"), ("theirs", "one"), ("ours", "two")]);
    let began: Vec<_> = tasks.iter().rev().map(|task| task.started_at.unwrap()).collect();
    assert!(began.is_sorted());
    let pulls = world.github.pulls(REPO).await;
    assert_eq!(pulls.len(), 3);
    assert!(pulls[0].body.contains("The same was asked of `theirs` ([its task]("), "{}", pulls[0].body);
    let first = format!("The same was asked of `ours` (#{}).", pulls[0].number);
    assert!(pulls[1].body.contains(&first), "{}", pulls[1].body);
    assert!(!pulls[2].body.contains("The same was asked"), "{}", pulls[2].body);
    world.finish().await;
}

/// Work that was done already is kept where it harms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_keeps_what_was_done() {
    for engine in Engine::both() {
        let script = "echo half > half.txt; echo begun; while :; do sleep 1; done";
        let Some(world) = Builder::new(engine).agent("ours", script).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours fix this").await;
        begun(&world).await;
        world.comment(PERSON, "/agent cancel").await;
        let asked = std::time::Instant::now();
        world.until("the agent is gone", async |world| world.tasks().await[0].state.is_finished().then_some(())).await;
        assert!(asked.elapsed().as_secs() < 30, "it took {:?}", asked.elapsed());
        assert_eq!(world.ended(comment).await, "confused");
        let branches = world.branches().await;
        assert_eq!(branches.len(), 1, "{branches:?}");
        assert!(world.github.diff(REPO, "main", &branches[0]).await.unwrap().contains("+half"));
        let answer = world.answer(0).await;
        assert!(answer.contains("Stopped by maria.") && answer.contains(&branches[0]), "{answer}");
        assert_eq!(world.github.pulls(REPO).await, []);
        world.finish().await;
    }
}

/// A thumb down from whoever asked is enough; from anybody else it is an opinion.
#[tokio::test(flavor = "multi_thread")]
async fn a_thumb_down_on_the_status_comment_cancels() {
    let world = Builder::new(Engine::Sqlite).agent("ours", FOREVER).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix this").await;
    begun(&world).await;
    let status = format!("comment:{}", world.answers().await[0].id);
    world.github.react(&status, "eve", "-1").await;
    world
        .until("it was looked at", async |world| {
            let looks = |path: &str| path.ends_with("/reactions") && path.contains("/comments/");
            let calls = world.github.calls().await;
            calls.iter().any(|call| call.method == "GET" && looks(&call.path)).then_some(())
        })
        .await;
    assert_eq!(world.last_task().await.state.name(), "running", "eve's is an opinion");
    world.github.react(&status, PERSON, "-1").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.only_answer().await.contains("Stopped by maria."), "{}", world.only_answer().await);
    world.finish().await;
}

/// Each task on a pull request is one line among its checks, and each line comes to an end.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_among_the_checks_of_their_pull_request() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("ours", "echo x > x.txt").agent("idle", "echo nothing");
        let Some(mut world) = builder.agent("broken", "exit 3").start().await else { continue };
        let comment = world.comment(PERSON, "/agent idle look at this").await;
        world.ended(comment).await;
        assert_eq!(world.github.checks().await, [], "an issue has none");
        world.github.branch_off(REPO, "feature").await.unwrap();
        let head = world.github.push_file(REPO, "feature", "a.txt", "a\n").await.unwrap();
        world.issue = world.github.open_pull(REPO, PERSON, "A", "feature").await;
        for agent in ["idle", "broken", "ours"] {
            let comment = world.comment(PERSON, &format!("/agent {agent} fix this")).await;
            world.ended(comment).await;
        }
        world.settled().await;
        let checks = world.github.checks().await;
        let seen: Vec<_> = checks.iter().map(|one| (one.name.as_str(), one.conclusion.as_deref())).collect();
        let (neutral, failure, success) = (Some("neutral"), Some("failure"), Some("success"));
        assert_eq!(seen, [("idle work", neutral), ("broken work", failure), ("ours work", success)]);
        assert!(checks.iter().all(|one| one.commit == head && !one.summary.is_empty()), "{checks:?}");
        world.finish().await;
    }
}

async fn begun(world: &World) {
    world
        .until("the agent works", async |world| {
            let task = world.tasks().await.pop()?;
            world.log_of(&task.id).await.contains("begun").then_some(())
        })
        .await;
}
