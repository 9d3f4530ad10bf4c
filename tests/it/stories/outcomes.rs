//! Six ways to end, each with its own sentence, each checked against facts.

use crate::support::world::{Builder, EDIT, Engine, PERSON, REPO, World};

async fn world_with(script: &str) -> World {
    Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_change() {
    let world = world_with("echo 'It is fine as it is.'").await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "+1");
    let answer = world.only_answer().await;
    assert!(answer.contains("👍 **Nothing to change.**") && answer.contains("> It is fine as it is."), "{answer}");
    assert_eq!(world.github.branches(REPO).await.unwrap().len(), 1, "no branch is left behind");
    world.finish().await;
}

/// An agent that says it succeeded and changed nothing has changed nothing; one that failed has
/// failed, whatever it changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_agent_is_quoted_and_publishes_nothing() {
    let world =
        world_with("echo x > half.txt; echo 'Done, all fixed!'; echo 'disk on fire @octocat' >&2; exit 3").await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.only_answer().await;
    assert!(answer.contains("😕 **Failed.** ours failed."), "{answer}");
    assert!(answer.contains("```text\nit ended with exit code 3:\ndisk on fire @octocat\n```"), "{answer}");
    assert_eq!(world.github.pulls(REPO).await, []);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_time_saves_the_work_on_a_branch() {
    let world = world_with("echo half > half.txt; while :; do sleep 1; done").await;
    let comment = world.comment(PERSON, "/agent ours --timeout 5s").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.only_answer().await;
    assert!(
        answer.contains("😕 **Out of time.** ours was stopped after 5 s. The work so far is on the branch `agent/1-"),
        "{answer}"
    );
    assert_eq!(world.github.pulls(REPO).await, []);
    let branch = world.branches().await.remove(0);
    assert!(world.github.diff(REPO, "main", &branch).await.unwrap().contains("+half"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_lost_write_access_meanwhile_gets_nothing_published() {
    let world = world_with(&format!("{EDIT}; while [ ! -e ../scratch/gate ]; do sleep 0.05; done")).await;
    let comment = world.comment(PERSON, "/agent ours").await;
    world
        .until("the agent works", async |world| {
            let task = world.tasks().await.pop()?;
            world.log_of(&task.id).await.contains("Fixed the button.").then_some(())
        })
        .await;
    world.github.set_permission(REPO, PERSON, "read").await;
    for entry in std::fs::read_dir(world.file("data/sandboxes")).unwrap() {
        let scratch = entry.unwrap().path().join("scratch");
        if scratch.is_dir() {
            std::fs::write(scratch.join("gate"), "").unwrap();
        }
    }
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.only_answer().await;
    assert!(answer.contains("😕 **Refused.** maria no longer has write access"), "{answer}");
    assert_eq!(world.github.branches(REPO).await.unwrap().len(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_base_and_a_taken_branch_are_named() {
    let world = world_with(EDIT).await;
    let comment = world.comment(PERSON, "/agent ours --base nowhere").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.answer(0).await.contains("The repository has no branch nowhere to start from."));

    world.github.push_file(REPO, "taken", "theirs.txt", "x\n").await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --branch taken").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.answer(1).await.contains("The branch taken exists already."));

    let before = world.github.branches(REPO).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --branch main").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.answer(2).await.contains("The branch main exists already."));
    assert_eq!(world.github.branches(REPO).await.unwrap(), before, "nothing is pushed to the default branch");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_installed_or_started_is_said() {
    let world = world_with(EDIT).await;
    world.add_agents(
        "[agents.absent]\ncommand = [\"no-such-program\"]\n\
         [agents.broken]\ncommand = [\"true\"]\ncheck = [\"false\"]\ninstall = [\"sh\", \"-c\", \"echo no network >&2; exit 9\"]\n\
         [agents.fresh]\ncommand = [\"sh\", \"-c\", \"fresh-agent\"]\ncheck = [\"fresh-agent\", \"--version\"]\n\
         install = [\"sh\", \"-c\", \"mkdir -p $HOME/.local/bin; printf '#!/bin/sh\\\\necho hi > hi.txt\\\\n' > $HOME/.local/bin/fresh-agent; chmod +x $HOME/.local/bin/fresh-agent\"]\n",
    );
    let mut world = world;
    world.stop().await;
    world.restart().await;
    let comment = world.comment(PERSON, "/agent absent").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.answer(0).await.contains("absent failed."));
    let comment = world.comment(PERSON, "/agent broken").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.answer(1).await;
    assert!(
        answer.contains("broken could not be installed in the sandbox.") && answer.contains("no network"),
        "{answer}"
    );
    let comment = world.comment(PERSON, "/agent fresh").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_locked_thread_the_work_is_done_without_a_comment() {
    let world = world_with(EDIT).await;
    world.github.lock_issue(REPO, world.issue).await;
    world.comment(PERSON, "/agent ours").await;
    world.settled().await;
    assert_eq!(world.last_task().await.state.name(), "succeeded");
    world.only_pull().await;
    assert_eq!(world.answers().await, []);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_comment_that_somebody_deletes_comes_once_more() {
    let world = world_with(&format!("{EDIT}; while [ ! -e ../scratch/gate ]; do sleep 0.05; done")).await;
    let comment = world.comment(PERSON, "/agent ours").await;
    world.answer(0).await;
    world.github.delete_comment(world.answers().await[0].id).await;
    world
        .until("the agent waits at the gate", async |world| {
            for entry in std::fs::read_dir(world.file("data/sandboxes")).unwrap() {
                let scratch = entry.unwrap().path().join("scratch");
                if scratch.join("prompt.txt").exists() {
                    std::fs::write(scratch.join("gate"), "").unwrap();
                    return Some(());
                }
            }
            let _ = world;
            None
        })
        .await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert!(world.only_answer().await.contains("**Done.**"));
    world.finish().await;
}

/// Codex goes on for ever where its model cannot be reached.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_waits_in_vain_is_stopped() {
    for on_vercel in [false, true] {
        let mut builder = Builder::new(Engine::Sqlite);
        if on_vercel {
            builder = builder.on_vercel().await;
        }
        let mut world = builder.start().await.unwrap();
        let wait = r#"{"type":"error","message":"Reconnecting... waiting for network (no route)"}"#;
        let script = format!("for n in 1 2 3; do echo '{wait}'; done; sleep 600");
        let script = toml::Value::String(script);
        world.add_agents(&format!("[agents.waiting]\ncommand = [\"sh\", \"-c\", {script}]\noutput = \"codex\"\n"));
        world.stop().await;
        world.restart().await;
        let comment = world.comment(PERSON, "/agent waiting").await;
        assert_eq!(world.ended(comment).await, "confused");
        let answer = world.only_answer().await;
        assert!(answer.contains("The model of waiting did not answer.") && answer.contains("no route"), "{answer}");
        world.finish().await;
    }
}
