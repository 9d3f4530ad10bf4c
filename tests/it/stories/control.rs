//! Control from the thread: help, lists, why, cancel.

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
    for engine in Engine::BOTH {
        let Some(world) = Builder::new(engine).agent("ours", FOREVER).start().await else { continue };
        let running = world.comment(PERSON, "/agent ours first").await;
        let waiting = world.comment(PERSON, "/agent ours second").await;
        world
            .until("the agent works", async |world| {
                let task = world.tasks().await.pop()?;
                world.log_of(&task.id).await.contains("begun").then_some(())
            })
            .await;
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
