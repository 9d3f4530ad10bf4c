//! Keys that people bring: whose is used, what a broken one does, and a change of the encryption key
//! while everything runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::HeaderName;
use hireling::adapters::store::{Admit, Decision, KeptDelivery, LedgerRow, Limits, NewGrant};
use hireling::adapters::vault;
use hireling::app::App;
use hireling::app::keys::{KeyError, KeyTest, Rotated};
use hireling::domain::agent::Provider;
use hireling::domain::command::Options;
use hireling::domain::decision::DecisionCode;
use hireling::domain::ids::*;
use hireling::domain::key::{KeyId, KeyOwner};
use hireling::domain::secret::Secret;
use hireling::domain::task::{NewTask, Requester, Subject, Thread};
use hireling::web::{self, Grace, Web};
use tokio_util::sync::CancellationToken;

use crate::support::vendor::{Reply, Vendor};
use crate::support::world::{Builder, Engine, PERSON, World};

/// Calls its model once.
const CALLS: &str = "printf %s \"$ANTHROPIC_API_KEY\" > ../scratch/grant; \
    while [ ! -s ../scratch/go ]; do sleep 0.05; done; echo done > fixed.txt; echo 'All done.'";

const ANSWER: &str = r#"{"model":"claude-sonnet-4-5","usage":{"input_tokens":10,"output_tokens":2}}"#;

async fn one_call(world: &World) -> u16 {
    let (scratch, grant) = world.scratch_file("grant").await;
    std::fs::remove_file(scratch.join("grant")).unwrap();
    let url = format!("{}/gateway/anthropic/v1/messages", world.url);
    let call = reqwest::Client::new().post(url).header("x-api-key", grant).body(r#"{"model":"claude-sonnet-4-5"}"#);
    let status = call.send().await.unwrap().status().as_u16();
    std::fs::write(scratch.join("go"), "on").unwrap();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requesters_key_pays_before_the_accounts_and_that_before_the_operators() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|_| Reply::json(200, ANSWER)).await;
        let builder = Builder::new(engine).setting("ANTHROPIC_BASE_URL", &vendor.url);
        let Some(mut world) = builder.gateway_agent("ours", "\"anthropic\"", CALLS).start().await else { continue };
        let mut brought = vec![world.canary.clone()];
        let owners = ["key of this instance", "key of the account that installed the App", "maria's own key"];
        let app = world.app(&[]).await;
        for (number, whose) in owners.iter().enumerate() {
            if number > 0 {
                let task = world.last_task().await;
                world.next_issue().await;
                let installation = InstallationId(task.thread.installation.0 + 1);
                let mut owners = vec![KeyOwner::Installation(installation)];
                if number == 2 {
                    owners.push(KeyOwner::Person(task.requester.id));
                }
                for owner in owners {
                    let key = Secret::new(format!("sk-ant-{number}-{:032x}", rand::random::<u128>()));
                    app.save_key(owner, Provider::Anthropic, &key, task.requester.id).await.unwrap();
                    brought.push(key.expose().to_owned());
                }
            }
            let comment = world.comment(PERSON, "/agent ours fix it").await;
            assert_eq!(one_call(&world).await, 200);
            assert_eq!(world.ended(comment).await, "rocket");
            let answers = world.answers().await;
            let answer = &answers.last().unwrap().body;
            assert!(answer.contains(whose), "{answer}");
            let asked = vendor.asked();
            let last = asked.iter().rfind(|call| call.method == "POST").unwrap();
            assert_eq!(last.header("x-api-key"), *brought.last().unwrap());
        }
        app.store.close().await;
        let (files, brought) = (database_files(&world), &brought[1..]);
        assert!(brought.iter().all(|key| !files.contains(key.as_str())), "a key lies open in the database");
        world.finish().await;
    }
}

fn database_files(world: &World) -> String {
    let files = ["data/hireling.db", "data/hireling.db-wal"].map(|name| std::fs::read(world.file(name)));
    files.into_iter().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_vendor_refuses_is_not_saved() {
    let vendor = Vendor::start(|asked| match asked.header("x-api-key") {
        "sk-ant-good-one" => Reply::json(200, "{}"),
        "sk-ant-of-a-bad-day" => Reply::json(500, "{}"),
        _ => Reply::json(401, "{}"),
    })
    .await;
    let world = Builder::new(Engine::Sqlite).setting("ANTHROPIC_BASE_URL", &vendor.url).start().await.unwrap();
    let app = world.app(&[]).await;
    let owner = KeyOwner::Person(UserId(7));
    let save = |key: &str| {
        let (app, key) = (Arc::clone(&app), Secret::new(key));
        async move { app.save_key(owner, Provider::Anthropic, &key, UserId(7)).await }
    };
    assert!(matches!(save("sk-ant-bad-one").await, Err(KeyError::Refused("Anthropic"))));
    assert_eq!(app.store.keys_of(UserId(7), InstallationId(1)).await.unwrap(), []);
    let first = save("sk-ant-good-one").await.unwrap();
    let second = save("sk-ant-of-a-bad-day").await.unwrap();
    assert_ne!(first.fingerprint, second.fingerprint);
    let kept = app.store.keys_of(UserId(7), InstallationId(1)).await.unwrap();
    assert_eq!(kept.iter().map(|key| &key.id).collect::<Vec<_>>(), [&second.id], "one key per provider");
    assert_eq!(app.test_key(Provider::Cursor, &Secret::new("key_1")).await, KeyTest::Unknown);
    assert!(app.store.delete_key(owner, Provider::Anthropic).await.unwrap());
    assert!(!app.store.delete_key(owner, Provider::Anthropic).await.unwrap());
    app.store.close().await;
    world.finish().await;
}

/// Whoever can write to the database still cannot make one person pay for another, nor read a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_tampered_with_stays_closed() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|_| Reply::json(200, ANSWER)).await;
        let builder = Builder::new(engine).setting("ANTHROPIC_BASE_URL", &vendor.url);
        let Some(mut world) = builder.gateway_agent("ours", "\"anthropic\"", CALLS).start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        assert_eq!(one_call(&world).await, 200);
        world.ended(comment).await;
        let maria = world.last_task().await.requester.id;
        let app = world.app(&[]).await;
        for sql in [
            // Another person's key in her row, half of it, and one bit of it changed.
            "UPDATE keys SET sealed = (SELECT o.sealed FROM keys o WHERE o.owner_id = 424242) WHERE owner_id <> 424242",
            "UPDATE keys SET sealed = substr(sealed, 1, 30) WHERE owner_id <> 424242",
            "UPDATE keys SET sealed = substr(sealed, 1, 40) || CASE substr(sealed, 41, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(sealed, 42) WHERE owner_id <> 424242",
            "UPDATE keys SET owner_id = owner_id, provider = 'anthropic', id = 'other' WHERE owner_id <> 424242",
        ] {
            for (owner, key) in [(UserId(424_242), "sk-ant-of-a-stranger"), (maria, "sk-ant-of-maria-herself")] {
                let key = Secret::new(key);
                app.save_key(KeyOwner::Person(owner), Provider::Anthropic, &key, owner).await.unwrap();
            }
            world.tamper(sql).await;
            world.next_issue().await;
            let comment = world.comment(PERSON, "/agent ours fix it").await;
            assert_eq!(world.ended(comment).await, "confused", "{sql}");
            let answer = world.only_answer().await;
            assert!(answer.contains("The stored key for ours cannot be opened. Save it anew at"), "{answer}");
        }
        assert_eq!(vendor.asked().iter().filter(|call| call.method == "POST").count(), 1);
        app.store.close().await;
        // The operator is told, at error level, each time.
        world.stop().await;
    }
}

const OLD: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const TASKS: usize = 100;
const CALLS_EACH: usize = 10;

/// A hundred tasks whose agents call their models all the time, and the operator changes the
/// encryption key to and fro.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_disturbs_no_call() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|_| Reply::json(200, ANSWER)).await;
        let builder = Builder::new(engine).setting("ANTHROPIC_BASE_URL", &vendor.url);
        let Some(mut world) = builder.setting("ENCRYPTION_KEY", &format!("{OLD},{NEW}")).start().await else {
            continue;
        };
        // The service gives way to its gateway alone: the story itself holds the tasks.
        world.stop().await;
        let app = world.app(&[]).await;
        let (address, stop) = gateway(&app).await;
        let grants = running_tasks(&app).await;
        let other = world.app(&[("ENCRYPTION_KEY", &format!("{NEW},{OLD}"))]).await;
        let under_way = Arc::new(AtomicUsize::new(TASKS));
        let callers: Vec<_> = grants
            .into_iter()
            .map(|grant| tokio::spawn(calls(address.clone(), grant, Arc::clone(&under_way))))
            .collect();
        let mut rotations = 0;
        while under_way.load(Ordering::SeqCst) > 0 || rotations < 4 {
            let rotated = if rotations % 2 == 0 { &other } else { &app }.rotate_keys().await.unwrap();
            assert_eq!(rotated, Rotated { resealed: TASKS as u64, current: 0, closed: 0 }, "round {rotations}");
            rotations += 1;
        }
        for caller in callers {
            assert_eq!(caller.await.unwrap(), [200; CALLS_EACH]);
        }
        let asked = vendor.asked();
        let calls = asked.iter().filter(|call| call.method == "POST");
        assert!(calls.clone().all(|call| call.header("x-api-key").starts_with("sk-ant-of-task-")));
        assert_eq!(calls.count(), TASKS * CALLS_EACH);
        stop.cancel();
        for app in [app, other] {
            app.store.close().await;
        }
    }
}

async fn gateway(app: &Arc<App>) -> (String, CancellationToken) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap().to_string(), CancellationToken::new());
    let router = web::router(Web::new(
        Arc::clone(app),
        Vec::new(),
        None,
        HeaderName::from_static("x-forwarded-for"),
        stop.clone(),
    ));
    tokio::spawn(web::serve(listener, router, stop.clone(), Grace(Duration::from_secs(1))));
    (address, stop)
}

async fn calls(address: String, grant: String, under_way: Arc<AtomicUsize>) -> Vec<u16> {
    let http = reqwest::Client::new();
    let mut codes = Vec::new();
    for _ in 0..CALLS_EACH {
        let url = format!("http://{address}/gateway/anthropic/v1/messages");
        let call = http.post(url).header("x-api-key", &grant).body(r#"{"model":"claude-sonnet-4-5"}"#);
        codes.push(call.send().await.unwrap().status().as_u16());
    }
    under_way.fetch_sub(1, Ordering::SeqCst);
    codes
}

/// Tasks held by the story, each with a key of its own requester. Gives their grants.
async fn running_tasks(app: &App) -> Vec<String> {
    let mut grants = Vec::new();
    for number in 0..TASKS {
        let person = UserId(1_000 + i64::try_from(number).unwrap());
        let key = Secret::new(format!("sk-ant-of-task-{number:08}"));
        let owner = KeyOwner::Person(person);
        let stored = app.save_key(owner, Provider::Anthropic, &key, person).await.unwrap();
        grants.push(running_task(app, person, &stored.id).await);
    }
    grants
}

async fn running_task(app: &App, person: UserId, key: &KeyId) -> String {
    let (store, clock) = (&app.store, &app.clock);
    let id = clock.new_id();
    let ledger = LedgerRow {
        id: DeliveryId(id.clone()),
        event: "issue_comment".into(),
        action: "created".into(),
        installation: Some(1),
        repository_id: Some(10),
        repository: "acme/shop".into(),
        issue: Some(person.0),
        object: None,
        sender: "maria".into(),
        received_at: clock.now(),
        decision: None,
        facts: String::new(),
    };
    let delivery = KeptDelivery { row: ledger, meaning: Some(id.clone()), packed_body: KeptDelivery::pack(b"{}") };
    store.keep_deliveries(&[delivery]).await.unwrap();
    let (now, lease) = (clock.now(), Duration::from_secs(600));
    let pending = store.claim_pending(now, now.after(lease)).await.unwrap().remove(0);
    let task = NewTask {
        id: TaskId(clock.new_id()),
        delivery: DeliveryId(id.clone()),
        meaning: id.clone(),
        thread: Thread {
            installation: InstallationId(1),
            repository: RepositoryId(10),
            name: RepoName { owner: "acme".into(), name: "shop".into() },
            issue: IssueNumber(person.0),
            is_pull: false,
        },
        subject: Subject::Issue,
        triggered_at: now,
        requester: Requester { id: person, login: "maria".into() },
        agent: "claude".into(),
        options: Options::default(),
        request: String::new(),
        inputs_of: None,
    };
    let decision =
        Decision { seq: pending.seq, code: DecisionCode::Accepted, facts: "{}".into(), at: now, effects: &[] };
    let limits = Limits { per_day: 1_000, waiting: 1_000 };
    store.admit(&Admit { decision, tasks: &[task], limits, tells_stop: None }).await.unwrap();
    let claimed = store.claim_queued("story", lease, now).await.unwrap().expect("the task that was just let in");
    let grant = format!("hlg_{}", hex::encode(clock.new_secret()));
    let run = RunId(clock.new_id());
    let new =
        NewGrant { hash: &vault::hash(&grant), run: &run, provider: Provider::Anthropic, key: Some(key), max: None };
    store.store_grant(&claimed.lease, &new, now).await.unwrap();
    grant
}
