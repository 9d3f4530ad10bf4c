//! What only a remote sandbox can do wrong: lists of several pages, limits, silence, answers that
//! get lost half-way.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hireling::adapters::sandbox::vercel::{Account, Vercel, Waits};
use hireling::adapters::system::SystemClock;
use hireling::domain::agent_stream::Exit;
use hireling::domain::ids::TaskId;
use hireling::domain::network::Network;
use hireling::domain::run::SandboxId;
use hireling::domain::secret::Secret;
use hireling::ports::sandbox::{CommandSpec, Created, Sandbox, SandboxError, SandboxSpec};

use crate::double::{self, Double, Fault, Kind, When};

fn vercel(double: &Double) -> Vercel {
    let account = Account {
        base_url: double.url.clone(),
        token: Secret::new(double::TOKEN),
        team: double::TEAM.to_owned(),
        project: double::PROJECT.to_owned(),
    };
    let waits = Waits { call: Duration::from_secs(2), idle: Duration::from_secs(2) };
    Vercel::with_waits(account, waits, Arc::new(SystemClock)).unwrap()
}

fn spec(name: &str) -> SandboxSpec {
    SandboxSpec {
        name: name.into(),
        task: TaskId("task-1".into()),
        lifetime: Duration::from_secs(600),
        network: Network::Open,
        ports: Vec::new(),
        snapshot: None,
    }
}

fn command(name: &str, script: &str) -> CommandSpec {
    CommandSpec {
        name: name.into(),
        argv: ["sh", "-c", script].map(ToOwned::to_owned).to_vec(),
        env: Vec::new(),
        stdin: None,
        stdout: None,
        timeout: Duration::from_secs(30),
    }
}

async fn with_sandbox() -> (Double, Vercel, SandboxId) {
    let double = Double::start().await;
    let vercel = vercel(&double);
    let Created { id, .. } = vercel.create(&spec("run-1")).await.unwrap();
    (double, vercel, id)
}

/// Made without the client, as another instance would.
async fn post_sandbox(double: &Double, name: &str, tags: serde_json::Value) {
    let url = format!("{}/v3/sandboxes?teamId={}", double.url, double::TEAM);
    let body = serde_json::json!({ "projectId": double::PROJECT, "name": name, "tags": tags, "persistent": false });
    let client = reqwest::Client::new();
    client.post(url).bearer_auth(double::TOKEN).json(&body).send().await.unwrap().error_for_status().unwrap();
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let double = Double::start().await;
    for number in 0..120 {
        post_sandbox(&double, &format!("ours-{number}"), serde_json::json!({ "hireling": "1" })).await;
    }
    post_sandbox(&double, "theirs", serde_json::json!({ "bot": "other" })).await;
    let found = vercel(&double).list().await.unwrap();
    assert_eq!(found.len(), 120);
    assert!(found.iter().all(|id| id.name.starts_with("ours-") && id.session.starts_with("sbx_")));
}

#[tokio::test]
async fn a_limit_with_a_long_wait_is_handed_on_at_once() {
    let (double, vercel, id) = with_sandbox().await;
    let limit = |route| Fault::first(route, 99, When::Before, Kind::Status(429, "rate_limited", Some(60)));
    double.set_faults(vec![limit("/v3/sandboxes"), limit("POST */cmd")]);
    let refused =
        [vercel.create(&spec("run-2")).await.map(|_| ()), vercel.start(&id, &command("x", "true")).await.map(|_| ())];
    for error in refused {
        assert!(matches!(error, Err(SandboxError::Busy { wait, .. }) if wait == Duration::from_secs(60)), "{error:?}");
    }
    assert_eq!(double.struck().len(), 2, "neither was sent again");
}

/// No answer, and a connection that stays: calls are given up, streams are asked about.
#[tokio::test]
async fn silence_is_noticed() {
    let (double, vercel, id) = with_sandbox().await;
    double.set_faults(vec![Fault::first("POST */cmd", 1, When::After, Kind::Hold)]);
    let said = vercel.run(&id, &command("held", "echo x >> count; cat count; exit 3")).await.unwrap();
    assert_eq!((said.exit, said.stdout.as_slice()), (Exit::Code(3), &b"x\n"[..]), "started once, and found");

    double.set_faults(vec![Fault::first("GET */logs", 1, When::Before, Kind::Hold)]);
    let started = vercel.start(&id, &command("silent", "echo one; sleep 1; echo two")).await.unwrap();
    let output: Vec<u8> = vercel.output(&id, &started).map(|piece| piece.unwrap().bytes).concat().await;
    assert_eq!(output, b"one\ntwo\n");
}

/// An extension adds: when its answer is lost it is looked for, not asked for again.
#[tokio::test]
async fn an_extension_is_made_once() {
    let (double, vercel, id) = with_sandbox().await;
    for (kind, by) in [(Kind::Reset, 700_000), (Kind::Status(500, "internal_server_error", None), 800_000)] {
        double.set_faults(vec![Fault::first("POST */extend-timeout", 1, When::After, kind)]);
        assert!(vercel.extend(&id, Duration::from_secs(100)).await.unwrap().is_some());
        assert_eq!(double.lives().await[0].timeout, by);
    }
    double.set(|knobs| knobs.max_timeout = 800_000);
    let refused = vercel.extend(&id, Duration::from_secs(100)).await;
    assert!(matches!(refused, Err(SandboxError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_snapshot_whose_answer_is_lost_is_found() {
    let (double, vercel, id) = with_sandbox().await;
    double.set_faults(vec![Fault::first("POST */snapshot", 1, When::After, Kind::Reset)]);
    let snapshot = vercel.snapshot(&id).await.unwrap();
    assert_eq!(double.snapshots().await, std::slice::from_ref(&snapshot));
    let from_it = SandboxSpec { snapshot: Some(snapshot.clone()), ..spec("run-2") };
    vercel.create(&from_it).await.unwrap();
    vercel.forget_snapshot(&snapshot).await.unwrap();
    vercel.forget_snapshot(&snapshot).await.unwrap();
    let gone = vercel.create(&SandboxSpec { name: "run-3".into(), ..from_it }).await;
    assert!(matches!(gone, Err(SandboxError::SnapshotGone)), "{gone:?}");
}

#[tokio::test]
async fn a_machine_that_never_comes_up_is_told() {
    let double = Double::start().await;
    double.set(|knobs| knobs.born_failed = true);
    let failed = vercel(&double).create(&spec("run-1")).await;
    assert!(matches!(failed, Err(SandboxError::Gone)), "{failed:?}");
}

/// Where the team or the project is unknown, nothing is "gone": the operator has to look.
#[tokio::test]
async fn an_unknown_project_is_the_operators_affair() {
    let double = Double::start().await;
    double.set_faults(vec![Fault::first("/v3/sandboxes", 9, When::Before, Kind::Status(404, "not_found", None))]);
    let refused = vercel(&double).create(&spec("run-1")).await;
    assert!(matches!(refused, Err(SandboxError::Denied(_))), "{refused:?}");
}

/// A process that was away trusts the API's list, not what it remembers.
#[tokio::test]
async fn what_another_process_started_is_found_after_forgetting() {
    let (double, first, id) = with_sandbox().await;
    let second = vercel(&double);
    let started = second.start(&id, &command("agent", "sleep 60")).await.unwrap();
    assert_eq!(first.find(&id, "agent").await.unwrap(), None, "it remembers a sandbox without commands");
    first.forget(&id).await;
    assert_eq!(first.find(&id, "agent").await.unwrap(), Some(started));
}
