//! Forgetting: an account takes the App away, a person or an operator wants less to be kept, and a copy of
//! everything is made and put back.

use std::time::{Duration, Instant};

use hireling::domain::agent::Provider;
use hireling::domain::delivery::InstallationState;
use hireling::domain::ids::{InstallationId, UserId};
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, PERSON, World};

/// Waits for a file that never comes.
const ENDLESS: &str = "echo 'I begin'; echo here > ../scratch/begun; while true; do sleep 0.1; done";

async fn tell(world: &World, guid: &str, action: &str, installation: i64) {
    let body = serde_json::json!({ "action": action,
        "installation": { "id": installation, "account": { "id": 1, "login": "acme" } } });
    world.github.deliver(&world.url, guid, "installation", body.to_string().as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_takes_the_app_away_is_left_at_once_and_forgotten_later() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("slow", ENDLESS).setting("KEEP_AFTER_UNINSTALL", "0d");
        let Some(mut world) = builder.start().await else { continue };
        let app = world.app(&[]).await;
        let key = |number| Secret::new(format!("sk-ant-{number}-{:032x}", rand::random::<u128>()));
        let (person, account) = (KeyOwner::Person(UserId(77)), KeyOwner::Installation(InstallationId(5001)));
        for owner in [person, account] {
            app.save_key(owner, Provider::Anthropic, &key(1), UserId(77)).await.unwrap();
        }
        world.comment(PERSON, "/agent slow").await;
        world.scratch_file("begun").await;
        // One more waits behind it.
        world.comment(PERSON, "/agent ours --new").await;
        world.until("both are there", async |world| (world.tasks().await.len() == 2).then_some(())).await;
        let store = world.store().await;
        // Of another account nothing is touched.
        world.next_issue().await;
        let neighbour = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(neighbour).await, "rocket");
        let neighbours = world.last_task().await;
        assert_eq!(neighbours.thread.installation, InstallationId(5002));
        app.save_key(KeyOwner::Installation(InstallationId(5002)), Provider::Anthropic, &key(2), UserId(77))
            .await
            .unwrap();
        // And of this one also the policy of a repository that never had a task.
        for sql in [
            "INSERT INTO deliveries (guid, event, action, installation_id, repository_id, repository, sender, received_at, \
             decision, facts) VALUES ('refused', 'issue_comment', 'created', 5001, 999, 'acme/quiet', 'x', 4102444800000, 'no_permission', '')",
            "INSERT INTO audit_log (at, user_id, installation_id, action, about) VALUES (1, 77, 5001, 'saved a key', ''), \
             (1, 77, 5002, 'saved a key', '')",
            "INSERT INTO policies (repository_id, seen_sha, holds, fault, looked_at) VALUES (999, '', '{}', '', 1)",
        ] {
            world.tamper(sql).await;
        }
        let since = Instant::now();
        world.github.set_installation(5001, InstallationState::Deleted).await;
        tell(&world, "gone", "deleted", 5001).await;
        world
            .until("both are over", async |world| {
                let tasks = world.tasks().await;
                let mut theirs = tasks.iter().filter(|task| task.thread.installation == InstallationId(5001));
                theirs.all(|task| task.state.name() == "cancelled").then_some(())
            })
            .await;
        world
            .until("no sandbox is left", async |world| {
                std::fs::read_dir(world.file("data/sandboxes")).ok()?.next().is_none().then_some(())
            })
            .await;
        assert!(since.elapsed() < Duration::from_secs(30), "{engine:?}: it took {:?}", since.elapsed());
        assert_eq!(app.store.keys_owned_by(account).await.unwrap(), []);
        assert_eq!(app.store.keys_owned_by(person).await.unwrap().len(), 1);
        app.store.close().await;
        // The term is over at the next start.
        world
            .until("nothing is left to tell", async |world| {
                let store = world.store().await;
                let open = store.has_open_promises().await.unwrap();
                store.close().await;
                (!open).then_some(())
            })
            .await;
        world.stop().await;
        world.restart().await;
        world
            .until("the account is forgotten", async |_| {
                let known = store.installations(10).await.unwrap();
                known.iter().all(|account| account.id != InstallationId(5001)).then_some(())
            })
            .await;
        for table in ["tasks", "deliveries", "outbox", "write_budget", "audit_log"] {
            let count = async |id: i64| {
                world.number(&format!("SELECT count(*) FROM {table} WHERE installation_id = {id}")).await
            };
            assert_eq!(count(5001).await, 0, "{engine:?}: {table}");
            assert!(count(5002).await > 0, "{engine:?}: {table} of the neighbour");
        }
        assert_eq!(world.number("SELECT count(*) FROM policies WHERE repository_id = 999").await, 0);
        for table in ["runs", "log_entries", "task_messages"] {
            let strangers = format!("SELECT count(*) FROM {table} WHERE task_id <> '{}'", neighbours.id);
            assert_eq!(world.number(&strangers).await, 0, "{engine:?}: {table}");
        }
        assert!(world.log_of(&neighbours.id).await.contains("I will fix it"));
        let theirs = KeyOwner::Installation(InstallationId(5002));
        assert_eq!(store.keys_owned_by(theirs).await.unwrap().len(), 1);
        store.close().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_forgotten_and_what_is_open_is_not() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).setting("KEEP_LOGS", "0d").setting("KEEP_PAYLOADS", "0d");
        let Some(mut world) = builder.start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        world.ended(comment).await;
        world.settled().await;
        let task = world.last_task().await;
        assert!(world.log_of(&task.id).await.contains("I will fix it"));
        world.stop().await;
        world.restart().await;
        let store = world.store().await;
        world
            .until("log, text and payload are gone", async |world| {
                let (line, body) = store.delivery_line(&task.delivery).await.unwrap()?;
                let is_gone = body.is_none() && line.code.is_some() && store.inputs(&task.id).await.unwrap().is_none();
                (is_gone && !world.log_of(&task.id).await.contains("I will fix it")).then_some(())
            })
            .await;
        // The task itself, its outcome and its row in the ledger stay; it can be done again, by whoever says what.
        assert_eq!(world.last_task().await.state.name(), "succeeded");
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = maria.get(&format!("/tasks/{}", task.id)).await;
        maria.submit(&page, &format!("/tasks/{}/retry", task.id), "", &[]).await;
        let told = world.answer(1).await;
        assert!(told.contains("is not kept any more. Write the command again."), "{told}");
        assert_eq!(world.tasks().await.len(), 1);
        let again = world.comment(PERSON, "/agent retry").await;
        assert_eq!(world.ended(again).await, "rocket");
        store.close().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_key_is_told_to_its_owner() {
    let builder = Builder::new(Engine::Sqlite).gateway_agent("ours", "\"anthropic\"", crate::support::world::EDIT);
    let world = builder.start().await.unwrap();
    let mut maria = Visitor::sign_in(&world, PERSON).await;
    let app = world.app(&[]).await;
    let user = UserId(world.github.user_id(PERSON).await);
    let key = Secret::new(format!("sk-ant-9-{:032x}", rand::random::<u128>()));
    app.save_key(KeyOwner::Person(user), Provider::Anthropic, &key, user).await.unwrap();
    app.store.close().await;
    let comment = world.comment(PERSON, "/agent ours").await;
    world.ended(comment).await;
    let task = world.last_task().await;
    let page = maria.get("/settings").await.text();
    let line = format!("Anthropic in task {}", task.id);
    assert!(page.contains("used a key") && page.contains(&line), "{page}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_service_is_put_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    let first = world.comment(PERSON, "/agent ours").await;
    world.ended(first).await;
    world.settled().await;
    let (file, name) = (world.file("copy.db"), "copy.db");
    let copy = ["backup", name];
    // While deliveries come in.
    let burst = async {
        for _ in 0..50 {
            world.comment(PERSON, "Thanks, `/agent` is only named here").await;
        }
    };
    let ((), (is_good, said)) = tokio::join!(burst, world.run(&copy));
    assert!(is_good && said.contains("keep ENCRYPTION_KEY"), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (is_good, said) = world.run(&["backup", name]).await;
    assert!(!is_good && said.contains("copy.db cannot be made"), "nothing is written over: {said}");
    let task = world.last_task().await;
    // What came after the copy is lost, what was before is there, and the service goes on from it.
    world.next_issue().await;
    let later = world.comment(PERSON, "/agent ours").await;
    world.ended(later).await;
    world.stop().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.file(&format!("data/hireling.db{end}")));
    }
    std::fs::copy(&file, world.file("data/hireling.db")).unwrap();
    world.restart().await;
    let tasks = world.tasks().await;
    assert_eq!(tasks.iter().map(|found| &found.id).collect::<Vec<_>>(), [&task.id]);
    assert!(world.log_of(&task.id).await.contains("I will fix it"));
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_postgres_is_left_to_its_own_tools() {
    let Some(world) = World::start(Engine::Postgres).await else { return };
    let (is_good, said) = world.run(&["backup", "copy.db"]).await;
    assert!(!is_good && said.contains("back it up with pg_dump"), "{said}");
    world.finish().await;
}
