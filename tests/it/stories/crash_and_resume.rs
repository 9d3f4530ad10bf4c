//! The service dies at any point, and nobody notices but by the clock: one status comment, one
//! branch, one pull request, a log without hole or double.

use std::time::Duration;

use hireling::demo::standin::{Fault, FaultOf, Kind, When};

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const COUNTING: &str = "for n in $(seq 1 20); do echo \"line $n.\"; done; echo x > new.txt";

/// A stop waits three seconds for what GitHub is doing.
const WITHIN_A_STOP: Duration = Duration::from_secs(2);
const BEYOND_A_STOP: Duration = Duration::from_secs(6);

async fn killed_at_each_call(engine: Engine, when: When) {
    let Some(mut world) = Builder::new(engine).agent("ours", COUNTING).start().await else { return };
    for call in 0.. {
        world.next_issue().await;
        let Some(comment) = world.dies_at(call, when, "/agent ours count").await else {
            assert!(call > 15, "a run makes more calls than {call}");
            break;
        };
        world.settled().await;
        assert_told_once(&world, comment, &format!("{engine:?}, killed {when:?} call {call}")).await;
    }
    world.finish().await;
}

async fn assert_told_once(world: &World, comment: i64, what: &str) {
    assert_eq!(world.reactions(comment).await, ["rocket"], "{what}\n{}", world.account().await);
    assert_eq!(world.answers().await.len(), 1, "{what}\n{}", world.account().await);
    assert_eq!(world.pulls().await.len(), 1, "{what}\n{}", world.account().await);
    assert_eq!(world.branches().await.len(), 1, "{what}");
    assert!(world.only_answer().await.contains("**Done.**"), "{what}");
    assert_counted(world, 20, what).await;
}

/// The log holds every line of the agent once, in order.
async fn assert_counted(world: &World, lines: usize, what: &str) {
    let log = world.log_of(&world.last_task().await.id).await;
    let counted: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=lines).map(|n| format!("line {n}.")).collect();
    assert_eq!(counted, expected, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_call_on_sqlite() {
    killed_at_each_call(Engine::Sqlite, When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_each_call_on_sqlite() {
    killed_at_each_call(Engine::Sqlite, When::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_call_on_postgres() {
    killed_at_each_call(Engine::Postgres, When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_each_call_on_postgres() {
    killed_at_each_call(Engine::Postgres, When::After).await;
}

/// Says when it started, then counts until the gate opens.
const GATED: &str = "echo started >> starts.txt; for n in $(seq 1 30); do echo \"line $n.\"; done; \
    while [ ! -e gate ] && [ ! -e ../scratch/gate ]; do sleep 0.05; done; \
    for n in $(seq 31 60); do echo \"line $n.\"; done; rm -f gate";

/// The one sandbox of the world, from outside.
fn open_gate(world: &World) {
    let root = world.file("data/sandboxes");
    let dirs = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let sandbox = dirs.filter(|path| path.join("scratch").is_dir()).last().expect("a sandbox");
    std::fs::write(sandbox.join("scratch/gate"), "").unwrap();
}

async fn agent_has_counted(world: &World) {
    world
        .until("the agent's first lines are stored", async |world| {
            let task = world.tasks().await.into_iter().next()?;
            world.log_of(&task.id).await.contains("line 30.").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_works_on_while_the_service_is_dead() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("ours", GATED).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours count").await;
        agent_has_counted(&world).await;
        world.crash().await;
        open_gate(&world);
        world.restart().await;
        assert_eq!(world.ended(comment).await, "rocket");
        assert_counted(&world, 60, &format!("{engine:?}")).await;
        let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
        assert_eq!(diff.matches("+started").count(), 1, "the agent was started once: {diff}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_is_invisible() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("ours", GATED).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours count").await;
        agent_has_counted(&world).await;
        world.stop().await;
        assert_eq!(world.reactions(comment).await, ["eyes"]);
        world.restart().await;
        open_gate(&world);
        assert_eq!(world.ended(comment).await, "rocket");
        assert_counted(&world, 60, &format!("{engine:?}")).await;
        assert_eq!(world.last_task().await.deaths, 0, "a graceful stop is no death");
        world.finish().await;
    }
}

/// GitHub goes on with a call whose caller is told to stop: the next process must not miss what comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_what_github_is_doing() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    for call in 0.. {
        world.next_issue().await;
        world.github.set_faults(vec![Fault { call, times: 1, when: When::Before, kind: Kind::Late(WITHIN_A_STOP) }]);
        let comment = world.comment(PERSON, "/agent ours").await;
        let is_over = tokio::select! {
            _ = world.github.held() => false,
            () = world.settled() => true,
        };
        if !is_over {
            world.stop().await;
            world.restart().await;
        }
        assert_eq!(world.ended(comment).await, "rocket", "call {call}");
        world.github.caught_up().await;
        world.settled().await;
        world.only_answer().await;
        assert_eq!((world.pulls().await.len(), world.branches().await.len()), (1, 1), "call {call}");
        if is_over {
            assert!(call > 10, "only {call} calls");
            break;
        }
    }
    world.finish().await;
}

/// What takes longer is not waited for by the stop, but by who goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_github_is_doing_at_a_stop_is_not_made_twice_however_long_it_takes() {
    for (engine, text) in
        Engine::both().into_iter().flat_map(|engine| [(engine, "/agent ours"), (engine, "/agent help")])
    {
        let Some(mut world) = World::start(engine).await else { continue };
        world.github.set_fault_of(slow_comment(BEYOND_A_STOP));
        world.comment(PERSON, text).await;
        world.github.held().await;
        world.stop().await;
        world.restart().await;
        is_answered_once(&world).await;
        world.finish().await;
    }
}

/// A worker that slept through its lease takes the task again, while its own former run is still at GitHub. Stopped then,
/// it leaves the task alone for as long as any run at GitHub.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_run_was_making_at_a_stop_is_not_made_twice() {
    let Some(mut world) = World::start(Engine::Postgres).await else { return };
    world.github.set_fault_of(slow_comment(2 * BEYOND_A_STOP));
    world.comment(PERSON, "/agent ours").await;
    world.github.held().await;
    let task = world.last_task().await.id;
    world.expire_leases(&[task]).await;
    let claims = |world: &World| world.log().matches("\"claimed\"").count();
    world.until("the task is claimed again", async |world| (claims(world) == 2).then_some(())).await;
    world.stop().await;
    world.restart().await;
    is_answered_once(&world).await;
    world.finish().await;
}

/// The run is broken off at once, and what it was making is looked for by its end.
#[tokio::test(flavor = "multi_thread")]
async fn what_github_is_doing_at_a_cancel_is_not_made_twice() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        world.github.set_fault_of(slow_comment(BEYOND_A_STOP));
        let comment = world.comment(PERSON, "/agent ours").await;
        world.github.held().await;
        world.comment(PERSON, "/agent cancel").await;
        assert_eq!(world.ended(comment).await, "confused");
        world.github.caught_up().await;
        world.settled().await;
        let about_it =
            world.answers().await.into_iter().filter(|answer| answer.body.contains("hireling:task=")).count();
        assert_eq!(about_it, 1, "{}", world.account().await);
        world.finish().await;
    }
}

/// GitHub goes on with what it was asked for, and the next process is there in no time. On PostgreSQL it waits for the lease.
#[tokio::test(flavor = "multi_thread")]
async fn what_github_is_doing_at_a_crash_on_sqlite_is_not_made_twice() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    for text in ["/agent ours", "/agent help"] {
        world.next_issue().await;
        world.github.set_fault_of(slow_comment(BEYOND_A_STOP));
        world.comment(PERSON, text).await;
        world.github.held().await;
        world.crash().await;
        world.restart().await;
        is_answered_once(&world).await;
    }
    world.finish().await;
}

/// With all that GitHub does late.
async fn is_answered_once(world: &World) {
    world.answer(0).await;
    world.github.caught_up().await;
    world.settled().await;
    world.only_answer().await;
}

fn slow_comment(by: Duration) -> FaultOf {
    FaultOf { method: "POST", path_end: "/comments", kind: Kind::Late(by) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_worker_each_time_is_given_up() {
    let mut world = Builder::new(Engine::Sqlite).agent("ours", GATED).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours count").await;
    agent_has_counted(&world).await;
    for _ in 0..3 {
        world.crash().await;
        world.restart().await;
        world
            .until("the run is taken up, or given up", async |world| {
                (world.log().contains("\"claimed\"")).then_some(())
            })
            .await;
    }
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.only_answer().await.contains("stopped 3 times in the middle of this task"));
    world
        .until("its sandbox is gone", async |world| {
            let left = std::fs::read_dir(world.file("data/sandboxes")).unwrap().count();
            (left == 0).then_some(())
        })
        .await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sandbox_is_replaced_once() {
    let mut world = Builder::new(Engine::Sqlite).agent("ours", GATED).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours count").await;
    agent_has_counted(&world).await;
    world.crash().await;
    lose_sandboxes(&world).await;
    world.restart().await;
    world
        .until("a second sandbox runs the agent", async |world| {
            let log = world.log_of(&world.last_task().await.id).await;
            (log.contains("starting again") && log.matches("line 30.").count() == 2).then_some(())
        })
        .await;
    open_gate(&world);
    assert_eq!(world.ended(comment).await, "rocket");
    assert_eq!(world.answers().await.len(), 1);
    world.finish().await;
}

/// The machine is gone with everything on it, as after a reboot.
async fn lose_sandboxes(world: &World) {
    let root = world.file("data/sandboxes");
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let runs = !path.join("agent/exit").exists();
        if let (true, Ok(pid)) = (runs, std::fs::read_to_string(path.join("agent/pid"))) {
            let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
    tokio::time::timeout(Duration::from_secs(20), async {
        while std::fs::remove_dir_all(&root).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// The branch is there, the commit is not, and the changes are lost with the sandbox: the second
/// attempt knows its own branch.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_lost_while_publishing_leaves_one_branch() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    let warm_up = world.comment(PERSON, "/agent ours").await;
    world.ended(warm_up).await;
    world.next_issue().await;
    world.github.set_faults(Vec::new());
    let before = world.github.calls().await.len();
    let measured = world.comment(PERSON, "/agent ours").await;
    world.ended(measured).await;
    let commit_call = world.github.calls().await[before..].iter().position(|call| call.path == "/graphql").unwrap();

    world.next_issue().await;
    world.github.set_faults(vec![Fault { call: commit_call, times: 1, when: When::Before, kind: Kind::Hold }]);
    let comment = world.comment(PERSON, "/agent ours").await;
    world.github.held().await;
    assert_eq!(world.branches().await.len(), 1, "the branch is made, the commit is not");
    world.crash().await;
    lose_sandboxes(&world).await;
    world.github.set_faults(Vec::new());
    world.restart().await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert_eq!((world.branches().await.len(), world.pulls().await.len(), world.answers().await.len()), (1, 1, 1));
    world.finish().await;
}
