//! What comes between an agent that works and the service: stops, crashes, cut streams, lost machines.

use std::time::Duration;

use super::*;

/// Says when it started, then counts on when the gate opens.
const GATED: &str = "echo x >> new.txt; for n in $(seq 1 100); do echo \"line $n é.\"; done; \
    while [ ! -e ../scratch/gate ]; do sleep 0.05; done; for n in $(seq 101 200); do echo \"line $n é.\"; done";

/// Gives the sandbox in which the agent waits at its gate.
async fn agent_waits(world: &World) -> String {
    world
        .until("the agent waits at its gate", async |world| {
            let task = world.tasks().await.into_iter().next()?;
            let life =
                world.vercel().lives().await.into_iter().find(|life| life.task == task.id.0 && life.is_running)?;
            world.log_of(&task.id).await.contains("line 100 ").then_some(life.name)
        })
        .await
}

async fn open_gate(world: &World, sandbox: &str) {
    let root = world.vercel().root(sandbox).await;
    std::fs::write(root.join("vercel/sandbox/scratch/gate"), "").unwrap();
}

/// kill -9, and a deploy, while the agent works: it works on, and is read on.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_works_on_while_the_service_is_away() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("ours", GATED);
        let Some(mut world) = builder.on_vercel().await.start().await else { continue };
        for gracefully in [false, true] {
            world.next_issue().await;
            let comment = world.comment(PERSON, "/agent ours count").await;
            let sandbox = agent_waits(&world).await;
            if gracefully {
                world.stop().await;
            } else {
                world.crash().await;
            }
            open_gate(&world, &sandbox).await;
            world.restart().await;
            assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
            assert_worked_once(&world, "away").await;
        }
        world.finish().await;
    }
}

/// Vercel goes on with a start whose caller is told to stop: the next process has to find the agent, not to start another.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_start_of_the_agent() {
    let mut world = world(Builder::new(Engine::Sqlite).agent("ours", COUNTING)).await;
    let comment = world.comment(PERSON, "/agent ours count").await;
    assert_eq!(world.ended(comment).await, "rocket");
    let starts = |world: &World| -> Vec<bool> {
        let calls = world.vercel().calls().into_iter();
        let starts = calls.filter(|call| call.route.starts_with("POST ") && call.route.contains("/cmd?"));
        starts.map(|start| start.body.contains("new.txt")).collect()
    };
    let nth = starts(&world).iter().position(|is_agent| *is_agent).unwrap();
    world.next_issue().await;
    let kind = Kind::Late(Duration::from_secs(2));
    world.vercel().set_faults(vec![Fault { route: "POST */cmd", nth, times: 1, when: When::Before, kind }]);
    let comment = world.comment(PERSON, "/agent ours count").await;
    world.vercel().held().await;
    assert_eq!(starts(&world).last(), Some(&true), "it is the agent's that is held up");
    world.stop().await;
    world.restart().await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert_worked_once(&world, "stopped").await;
    assert_eq!(starts(&world).into_iter().filter(|is_agent| *is_agent).count(), 2, "one for each task");
    world.finish().await;
}

/// The edge cuts a stream while the agent works, at any byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_while_the_agent_works_is_read_on() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", GATED)).await;
    world.vercel().set(|knobs| knobs.cut_after = Some(77));
    let comment = world.comment(PERSON, "/agent ours count").await;
    let sandbox = agent_waits(&world).await;
    open_gate(&world, &sandbox).await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert_worked_once(&world, "cut").await;
    world.finish().await;
}

/// A token that is refused for a while does not end an agent that works.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_does_not_end_a_working_agent() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", GATED)).await;
    world.vercel().set(|knobs| knobs.cut_after = Some(600));
    let refusal = Kind::Status(403, "forbidden", None);
    world.vercel().set_faults(vec![Fault { route: "/cmd/", nth: 4, times: 3, when: When::Before, kind: refusal }]);
    let comment = world.comment(PERSON, "/agent ours count").await;
    let sandbox = agent_waits(&world).await;
    open_gate(&world, &sandbox).await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert_worked_once(&world, "refused").await;
    assert!(!world.vercel().struck().is_empty());
    world.finish().await;
}

/// A sandbox that goes down slowly, and whose calls are answered with 422 meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_stops_slowly_is_waited_for() {
    let mut world = world(Builder::new(Engine::Sqlite).agent("ours", GATED)).await;
    world.vercel().set(|knobs| knobs.stopping_ms = 1_500);
    let comment = world.comment(PERSON, "/agent ours count").await;
    agent_waits(&world).await;
    world.comment(PERSON, "/agent cancel").await;
    assert_eq!(world.ended(comment).await, "confused");
    world.sandboxes_deleted().await;
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours count").await;
    let sandbox = agent_waits(&world).await;
    open_gate(&world, &sandbox).await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.sandboxes_deleted().await;
    world.finish().await;
}

/// Stopped while its sandbox is being made: nobody knows yet what it will be called there.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_cancelled_while_its_sandbox_is_made_leaves_none() {
    let world = world(Builder::new(Engine::Sqlite)).await;
    world.vercel().set_faults(vec![Fault::first("/v3/sandboxes", 1, When::After, Kind::Hold)]);
    let comment = world.comment(PERSON, "/agent ours").await;
    world.vercel().held().await;
    world.comment(PERSON, "/agent cancel").await;
    assert_eq!(world.ended(comment).await, "confused");
    world.sandboxes_deleted().await;
    assert_eq!(world.vercel().lives().await.len(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_lost_once_costs_no_more_than_time() {
    let world = world(Builder::new(Engine::Sqlite).agent("ours", GATED)).await;
    let comment = world.comment(PERSON, "/agent ours count").await;
    let first = agent_waits(&world).await;
    world.vercel().fail(&first).await;
    let second = second_machine(&world, &first, "line 100 ").await;
    assert!(world.log_of(&world.last_task().await.id).await.contains("starting again in a new one"));
    open_gate(&world, &second).await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert_eq!((world.pulls().await.len(), world.answers().await.len()), (1, 1));
    world.sandboxes_deleted().await;
    world.finish().await;
}
