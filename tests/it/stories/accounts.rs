//! The App's place in an account changes, and GitHub tells of it late, twice, or not at all.

use std::time::Duration;

use hireling::adapters::system::SystemClock;
use hireling::demo::standin::{Fault, Kind, When};
use hireling::domain::agent::Provider;
use hireling::domain::delivery::InstallationState;
use hireling::domain::ids::{InstallationId, UserId};
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;
use hireling::ports::clock::Clock;

use crate::support::world::{Builder, Engine, PERSON, World};

const ACCOUNT: i64 = 5001;
/// Waits for a file that never comes.
const ENDLESS: &str = "echo 'I begin'; echo here > ../scratch/begun; while true; do sleep 0.1; done";

async fn tell(world: &World, guid: &str, action: &str) {
    let body = serde_json::json!({ "action": action,
        "installation": { "id": ACCOUNT, "account": { "id": 1, "login": "acme" } } });
    world.github.deliver(&world.url, guid, "installation", body.to_string().as_bytes()).await.unwrap();
}

async fn save_key(world: &World) {
    let app = world.app(&[]).await;
    let key = Secret::new(format!("sk-ant-7-{:032x}", rand::random::<u128>()));
    let owner = KeyOwner::Installation(InstallationId(ACCOUNT));
    app.save_key(owner, Provider::Anthropic, &key, UserId(77)).await.unwrap();
    app.store.close().await;
}

async fn keys(world: &World) -> usize {
    let store = world.store().await;
    let keys = store.keys_owned_by(KeyOwner::Installation(InstallationId(ACCOUNT))).await.unwrap().len();
    store.close().await;
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_while_suspended_is_told_afterwards() {
    for engine in Engine::both() {
        let Some(world) = Builder::new(engine).agent("slow", ENDLESS).start().await else { continue };
        let running = world.comment(PERSON, "/agent slow").await;
        world.scratch_file("begun").await;
        let waiting = world.comment(PERSON, "/agent ours --new").await;
        world.until("both are there", async |world| (world.tasks().await.len() == 2).then_some(())).await;
        world.until("one is seen", async |world| (world.reactions(running).await == ["eyes"]).then_some(())).await;
        world.github.set_installation(ACCOUNT, InstallationState::Suspended).await;
        tell(&world, "suspended", "suspend").await;
        world
            .until("both are over", async |world| {
                world.tasks().await.iter().all(|task| task.state.name() == "cancelled").then_some(())
            })
            .await;
        assert_eq!(world.reactions(running).await, ["eyes"], "nobody can be told now");
        world.github.set_installation(ACCOUNT, InstallationState::Present).await;
        tell(&world, "back", "unsuspend").await;
        for comment in [running, waiting] {
            assert_eq!(world.ended(comment).await, "confused");
        }
        assert!(world.answer(0).await.contains("the App was suspended"), "{}", world.account().await);
        world.settled().await;
        world.finish().await;
    }
}

/// GitHub refuses first and tells of it later; and when the account is back, it refuses for a moment more (fault F25).
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_and_after_a_suspension_is_told_too() {
    for engine in Engine::both() {
        let script = "echo here > ../scratch/begun; until [ -f ../scratch/go ]; do sleep 0.1; done; echo x > x.txt";
        let Some(world) = Builder::new(engine).agent("slow", script).start().await else { continue };
        let comment = world.comment(PERSON, "/agent slow").await;
        let (scratch, _) = world.scratch_file("begun").await;
        world.until("it is seen", async |world| (world.reactions(comment).await == ["eyes"]).then_some(())).await;
        world.github.set_installation(ACCOUNT, InstallationState::Suspended).await;
        std::fs::write(scratch.join("go"), "on").unwrap();
        let store = world.store().await;
        world
            .until("its end is put off", async |_| {
                let now = SystemClock.now();
                // What is due by now waits behind it.
                let next = store.next_effect_after(Some(now)).await.unwrap();
                let soon = now.after(Duration::from_secs(600));
                let noted = store.installation_state(InstallationId(ACCOUNT)).await.unwrap();
                let is_noted = noted.is_some_and(|(state, _)| state == InstallationState::Suspended);
                (is_noted && next.is_some_and(|at| at > soon)).then_some(())
            })
            .await;
        store.close().await;
        world.github.set_installation(ACCOUNT, InstallationState::Present).await;
        // The first call is the question what holds now.
        let refusal = r#"{"message": "This installation has been suspended"}"#.into();
        let kind = Kind::Answer { status: 403, headers: vec![], body: refusal };
        world.github.set_faults(vec![Fault { call: 1, times: 1, when: When::Before, kind }]);
        tell(&world, "back", "unsuspend").await;
        let state = world.last_task().await.state;
        assert_eq!(world.ended(comment).await, "confused", "{state:?}");
        world.settled().await;
        let answer = world.only_answer().await;
        assert!(answer.contains("This installation has been suspended"), "{answer}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_left_unheard_is_found_at_the_next_look() {
    for engine in Engine::both() {
        let Some(mut world) = World::start(engine).await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        world.ended(comment).await;
        world.settled().await;
        save_key(&world).await;
        world.stop().await;
        world.github.set_installation(ACCOUNT, InstallationState::Deleted).await;
        world.restart().await;
        world.until("its keys are erased", async |world| (keys(world).await == 0).then_some(())).await;
        // Who may read the task is asked of GitHub.
        world.github.set_installation(ACCOUNT, InstallationState::Present).await;
        world.finish().await;
    }
}

/// GitHub tells of an account and does not find it, for a moment (fault F25).
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_found_for_a_moment_keeps_its_keys() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    save_key(&world).await;
    world.github.set_installation(ACCOUNT, InstallationState::Deleted).await;
    tell(&world, "accepted", "new_permissions_accepted").await;
    world
        .until("GitHub was asked", async |world| {
            let asked = world.github.calls().await;
            asked.iter().any(|call| call.status == 404 && call.path.ends_with("/app/installations/5001")).then_some(())
        })
        .await;
    world.github.set_installation(ACCOUNT, InstallationState::Present).await;
    world.settled().await;
    assert_eq!(keys(&world).await, 1);
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

/// Its coming back was not heard; that it sends something says enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_came_back_unheard_is_worked_for() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    world.github.set_installation(ACCOUNT, InstallationState::Suspended).await;
    tell(&world, "suspended", "suspend").await;
    world.settled().await;
    world.github.set_installation(ACCOUNT, InstallationState::Present).await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

/// Also where nobody could stop it otherwise: while another agent looks at what is published, and while the run waits for
/// GitHub with its result.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_run_does_ends_when_the_account_leaves() {
    for engine in Engine::both() {
        let gated = "echo here > ../scratch/begun; until [ -f ../scratch/go ]; do sleep 0.1; done; echo x > x.txt";
        for command in ["/agent ours --review-by slow", "/agent gated"] {
            let builder = Builder::new(engine).agent("slow", ENDLESS).agent("gated", gated);
            let Some(world) = builder.start().await else { continue };
            world.comment(PERSON, command).await;
            let (scratch, _) = world.scratch_file("begun").await;
            if command.contains("gated") {
                // GitHub asked to leave the account alone for very long.
                world.tamper("UPDATE installations SET blocked_until = 9000000000000").await;
                std::fs::write(scratch.join("go"), "on").unwrap();
                world
                    .until("it waits with its result", async |world| {
                        world.log().contains("\"step\":\"publish\"").then_some(())
                    })
                    .await;
            }
            world.github.set_installation(ACCOUNT, InstallationState::Deleted).await;
            tell(&world, "gone", "deleted").await;
            world
                .until_within(Duration::from_secs(30), "it is over, and so is its sandbox", async |world| {
                    let is_over = world.last_task().await.state.name() == "cancelled";
                    let is_gone = std::fs::read_dir(world.file("data/sandboxes")).ok()?.next().is_none();
                    (is_over && is_gone).then_some(())
                })
                .await;
            // Who may read the task is asked of GitHub.
            world.github.set_installation(ACCOUNT, InstallationState::Present).await;
            world.finish().await;
        }
    }
}
