//! Several processes on one PostgreSQL database: each task runs once, whoever dies, stops or sleeps.

use std::time::Duration;

use hireling::demo::standin::{Fault, FaultOf, Kind, When};
use nix::sys::signal::Signal;

use super::clocks::wrong_clock;
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// An agent that takes a while, and whose every start shows in the log.
const SLOW: &str = "echo 'I begin'; sleep 3; echo fixed > fixed.txt; echo 'Fixed the button.'";

async fn replicated(agent: &str) -> Option<World> {
    let builder = Builder::new(Engine::Postgres).behind_a_balancer().agent("ours", agent);
    builder.setting("MAX_CONCURRENT_TASKS", "5").only("web").start().await
}

/// How many tasks a process has claimed.
fn claimed(log: &str) -> usize {
    log.matches("\"message\":\"claimed\"").count()
}

/// How many of them it lost to others.
fn lost(log: &str) -> usize {
    log.matches("the lease was lost").count() + log.matches("was left to another worker").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_tasks_run_once_each_though_a_worker_is_killed_and_one_sleeps() {
    let Some(mut world) = replicated(SLOW).await else { return };
    world.add_replica(&["--only", "web"]).await;
    for _ in 0..3 {
        world.add_replica(&["--only", "worker"]).await;
    }
    let mut issues = Vec::new();
    for _ in 0..40 {
        issues.push(world.next_issue().await);
        world.comment(PERSON, "/agent ours").await;
    }
    // Behind the second web process: the three workers.
    world
        .until("two workers have tasks", async |world| {
            let busy = |number: usize| claimed(&world.replicas[number].log()) >= 2;
            (busy(1) && busy(2)).then_some(())
        })
        .await;
    let killed = world.replicas.remove(1);
    let sleeper = world.replicas.remove(1);
    sleeper.signal(Signal::SIGSTOP);
    killed.signal(Signal::SIGSTOP);
    // Their leases run out by the database's clock; the story doesn't wait for that. Those of the living are renewed.
    let of_the_gone = [killed.log(), sleeper.log()].concat();
    let tasks = world.tasks().await.into_iter().map(|task| task.id);
    world.expire_leases(&tasks.filter(|task| of_the_gone.contains(&task.0)).collect::<Vec<_>>()).await;
    killed.crash().await;
    world.settled().await;
    sleeper.signal(Signal::SIGCONT);
    world.until("the sleeper has noticed", async |_| (lost(&sleeper.log()) > 0).then_some(())).await;
    world.settled().await;
    sleeper.stop().await;
    let tasks = world.tasks().await;
    assert_eq!(tasks.len(), 40);
    for task in &tasks {
        let log = world.log_of(&task.id).await;
        let logs: String = world.replicas.iter().map(|replica| replica.log()).collect();
        let told: Vec<&str> = logs.lines().filter(|line| line.contains(&task.id.0)).collect();
        assert_eq!(task.state.name(), "succeeded", "{log}\n{}", told.join("\n"));
        assert_eq!(log.matches("I begin").count(), 1, "{log}");
        assert_eq!(log.matches("Fixed the button.").count(), 1, "{log}");
    }
    for issue in issues {
        world.issue = issue;
        world.only_answer().await;
        assert_eq!(world.pulls().await.len(), 1);
        assert_eq!(world.branches().await.len(), 1);
    }
    assert!(world.replicas.iter().any(|replica| claimed(&replica.log()) > 10), "the third worker took over");
    world.finish().await;
}

/// As when the database's clock is set: the run learns of it with its next renewal only, and its own worker is the first to
/// claim the task again.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_lease_ran_out_unnoticed_is_not_run_twice_at_once() {
    let Some(world) = Builder::new(Engine::Postgres).agent("ours", SLOW).start().await else { return };
    // Longer than it takes to claim the task again.
    let kind = Kind::Late(Duration::from_secs(20));
    world.github.set_fault_of(FaultOf { method: "POST", path_end: "/comments", kind });
    let comment = world.comment(PERSON, "/agent ours").await;
    world.github.held().await;
    let task = world.last_task().await.id;
    world
        .until("the task is claimed again", async |world| {
            world.expire_leases(std::slice::from_ref(&task)).await;
            (claimed(&world.log()) > 1).then_some(())
        })
        .await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    world.github.caught_up().await;
    world.settled().await;
    world.only_answer().await;
    assert_eq!((world.pulls().await.len(), world.branches().await.len()), (1, 1));
    let log = world.log_of(&task).await;
    assert_eq!(log.matches("I begin").count(), 1, "{log}");
    world.finish().await;
}

/// What it waited for comes when others have done its work, and ended the sandboxes.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_through_its_leases_makes_no_sandbox() {
    let builder = Builder::new(Engine::Postgres).on_vercel().await.behind_a_balancer();
    let Some(mut world) = builder.setting("MAX_CONCURRENT_TASKS", "20").only("web").start().await else { return };
    world.vercel().set(|knobs| knobs.max_running = 0);
    world.add_replica(&["--only", "worker"]).await;
    for _ in 0..10 {
        world.next_issue().await;
        world.comment(PERSON, "/agent ours").await;
    }
    world
        .until("all wait for a place", async |world| {
            let mut waiting = 0;
            for task in world.tasks().await {
                waiting += world.log_of(&task.id).await.matches("Waiting for a free sandbox").count();
            }
            (waiting == 10).then_some(())
        })
        .await;
    let sleeper = world.replicas.remove(0);
    sleeper.signal(Signal::SIGSTOP);
    world.vercel().set(|knobs| knobs.max_running = 20);
    world.add_replica(&["--only", "worker"]).await;
    world.until("the leases are over", async |world| (claimed(&world.replicas[0].log()) == 10).then_some(())).await;
    world.settled().await;
    world.sandboxes_deleted().await;
    sleeper.signal(Signal::SIGCONT);
    world.until("the sleeper has noticed", async |_| (lost(&sleeper.log()) == 10).then_some(())).await;
    sleeper.stop().await;
    assert_eq!(world.vercel().lives().await.len(), 10, "one sandbox each");
    assert!(world.tasks().await.iter().all(|task| task.state.name() == "succeeded"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_take_turns() {
    // One account has a backlog; another one's single task doesn't wait behind it.
    let builder = Builder::new(Engine::Postgres).agent("ours", "sleep 0.5; echo x > x.txt; echo 'Done.'");
    let Some(mut world) = builder.setting("MAX_CONCURRENT_TASKS", "1").start().await else { return };
    for number in 1..=8 {
        world.issue = world.github.open_issue(REPO, PERSON, &format!("Number {number}"), "Text.").await;
        world.comment(PERSON, "/agent ours").await;
    }
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours").await;
    world.ended(comment).await;
    let open = world.tasks().await.iter().filter(|task| !task.state.is_finished()).count();
    assert!(open >= 4, "only {open} of the backlog were left");
    world.settled().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_at_one_process_wakes_another_at_once() {
    let Some(mut world) = replicated("echo x > x.txt; echo 'Done.'").await else { return };
    world.add_replica(&["--only", "worker"]).await;
    world
        .until("the worker listens", async |world| {
            world.replicas[0].log().contains("other processes are heard").then_some(())
        })
        .await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        world.next_issue().await;
        let comment = world.comment(PERSON, "/agent ours").await;
        world.ended(comment).await;
        let task = world.last_task().await;
        waits.push(task.started_at.unwrap().since(task.created_at).as_millis());
    }
    waits.sort_unstable();
    // By looks every five seconds alone, one in a hundred runs would be as fast.
    assert!(waits[7] <= 2_000, "from the command to the worker it took {waits:?} ms");
    world.finish().await;
}

/// A decision or an answer that GitHub leaves hanging while its process is told to stop, at each call in turn.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopping_process_holds_another_takes_at_once() {
    let Some(mut world) = Builder::new(Engine::Postgres).behind_a_balancer().start().await else { return };
    for call in 0..5 {
        world.next_issue().await;
        world.github.set_faults(vec![Fault { call, times: 1, when: When::Before, kind: Kind::Hold }]);
        world.comment(PERSON, "/agent help").await;
        tokio::select! {
            _ = world.github.held() => {
                world.add_replica(&[]).await;
                world.stop_oldest().await;
            }
            () = world.settled() => {}
        }
        // A claim is left alone for a minute and more.
        world
            .until_within(Duration::from_secs(45), "the other process has answered", async |world| {
                (world.answers().await.len() == 1).then_some(())
            })
            .await;
    }
    world.settled().await;
    world.finish().await;
}

/// What processes claim and promise each other is by the database's clock (fault F42).
#[tokio::test(flavor = "multi_thread")]
async fn processes_whose_clocks_differ_do_everything_once() {
    let Some(mut world) = replicated("echo x > x.txt; echo 'Done.'").await else { return };
    let dir = tempfile::tempdir().unwrap();
    for seconds in [-300, 300] {
        let Some(library) = wrong_clock(dir.path(), seconds) else { return };
        world.set("LD_PRELOAD", &library);
        world.add_replica(&[]).await;
        let said = world.log();
        assert!(said.contains("the database's clock is not this machine's"), "{said}");
    }
    let mut issues = Vec::new();
    for number in 0..16 {
        issues.push(world.next_issue().await);
        world.comment(PERSON, if number % 2 == 0 { "/agent ours" } else { "/agent help" }).await;
    }
    // Minutes would pass until one process does what another one promised, or a claim would be none.
    world
        .until_within(Duration::from_secs(60), "all are answered", async |world| {
            for issue in &issues {
                let thread = world.github.thread(REPO, *issue).await;
                let is_answered = thread.iter().any(|comment| comment.author.ends_with("[bot]"));
                if !is_answered {
                    return None;
                }
            }
            Some(())
        })
        .await;
    world.settled().await;
    for issue in issues {
        world.issue = issue;
        world.only_answer().await;
    }
    world.finish().await;
}

/// A transaction pooler takes LISTEN and never tells anything: the processes ask instead.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_transaction_pooler_alone_processes_ask_instead_of_listening() {
    if std::env::var("TEST_POOLER_URL").is_err() {
        crate::support::skipped(
            "a service behind a pooler alone, because TEST_POOLER_URL is not set (./tests/run sets it)",
        );
        return;
    }
    let builder = Builder::new(Engine::Postgres).behind_a_balancer().only("web");
    let Some(mut world) = builder.start().await else { return };
    let pooled = world.through_pooler().expect("the pooler that was set");
    for name in ["DATABASE_URL", "DATABASE_DIRECT_URL"] {
        world.set(name, &pooled);
    }
    world.add_replica(&["--only", "worker"]).await;
    world
        .until("the worker says what is missing", async |world| {
            world.replicas[0].log().contains("set DATABASE_DIRECT_URL").then_some(())
        })
        .await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_sqlite_file_is_refused_with_one_sentence() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    let (is_good, said) = world.spawn(&[]).over().await;
    assert!(!is_good);
    assert!(said.contains("one process serves a SQLite file, use PostgreSQL for several"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    // The first is not disturbed.
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}
