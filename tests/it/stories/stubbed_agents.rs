//! Agents that run only beside their vendor's servers: Cursor, and Copilot with a token of GitHub. A
//! stub stands for the program: it takes its prompt and its key as the program does, edits a file, and
//! plays back the recorded stream (of Copilot) or the documented one (of Cursor).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hireling::domain::agent::{Agent, Install, Provider, built_in};
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;

use crate::support::world::{Builder, Engine, PERSON, World};

struct Stub {
    agent: &'static str,
    program: &'static str,
    key: &'static str,
    stream: &'static str,
    /// Of the account line in the status comment.
    model: &'static str,
    /// What it says last.
    says: &'static str,
}

const CURSOR: Stub = Stub {
    agent: "cursor",
    program: "cursor-agent",
    key: "CURSOR_API_KEY",
    stream: "cursor/edit.synthetic.jsonl",
    model: "Auto",
    says: "Done: fixed the typo in README.md.",
};
const COPILOT: Stub = Stub {
    agent: "copilot",
    program: "copilot-linux-x64",
    key: "COPILOT_GITHUB_TOKEN",
    stream: "copilot/edit.jsonl",
    model: "gpt-5.4",
    says: "Done",
};

impl Stub {
    /// `also`: what it does besides.
    fn write(&self, dir: &Path, also: &str) {
        let agent = built_in().into_iter().find(|agent| agent.name == self.agent).unwrap();
        let version = pinned(&agent);
        let stream = format!("{}/tests/fixtures/agents/{}", env!("CARGO_MANIFEST_DIR"), self.stream);
        let text = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = --version ]; then echo '{version}'; exit 0; fi\n\
             grep -q SCRIPTED-EDIT || {{ echo 'no prompt' >&2; exit 2; }}\n\
             [ -n \"${key}\" ] || {{ echo 'no key' >&2; exit 3; }}\n\
             sed -i s/wrld/world/ README.md\n\
             {also}\n\
             exec cat '{stream}'\n",
            key = self.key
        );
        let path = dir.join(self.program);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn pinned(agent: &Agent) -> String {
    match agent.install {
        Some(Install::Npm { version, .. } | Install::Archive { version, .. }) => version.to_owned(),
        _ => panic!("{} is not installed at a pinned version", agent.name),
    }
}

async fn world(stub: &Stub, dir: &Path, also: &str, key: &str) -> World {
    stub.write(dir, also);
    let builder = Builder::new(Engine::Sqlite).file("README.md", "hello wrld\n");
    let world =
        builder.setting("ANTHROPIC_API_KEY", "").setting(stub.key, key).on_vercel().await.start().await.unwrap();
    let programs = dir.display().to_string();
    world.vercel().set(|knobs| knobs.programs = Some(programs));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_plays_its_recorded_stream_ends_in_a_pull_request() {
    for stub in [&CURSOR, &COPILOT] {
        let dir = tempfile::tempdir().unwrap();
        let world = world(stub, dir.path(), "", "a-key-of-the-vendor").await;
        let comment = world.comment(PERSON, &format!("/agent {} SCRIPTED-EDIT", stub.agent)).await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let pull = world.only_pull().await;
        let diff = world.github.diff(crate::support::world::REPO, "main", &pull.head).await.unwrap();
        assert!(diff.contains("+hello world") && diff.matches("diff --git").count() == 1, "{diff}");
        let answer = world.only_answer().await;
        assert!(answer.contains(stub.model) && answer.contains("key of this instance"), "{answer}");
        assert!(answer.contains(stub.says), "{answer}");
        // Its calls do not pass the gateway: nobody knows what they cost.
        assert!(!answer.contains("by list price"), "{answer}");
        let log = world.log_of(&world.last_task().await.id).await;
        assert!(log.contains("README.md"), "{log}");
        world.finish().await;
    }
}

/// These agents hold the key itself. What they print of it is shown to nobody, not even by a process
/// that took the run up after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_program_prints_is_shown_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let also = "touch ../scratch/working; i=0; while [ ! -e ../scratch/go ] && [ $i -lt 3000 ]; do i=$((i+1)); sleep 0.05; done\n\
                echo \"my key is $CURSOR_API_KEY\" >&2; echo \"$CURSOR_API_KEY\" | rev >&2";
    let mut world = world(&CURSOR, dir.path(), also, "").await;
    let first = world.comment(PERSON, "/agent ours fix it").await;
    assert_eq!(world.ended(first).await, "rocket");
    let maria = world.last_task().await.requester.id;
    world.next_issue().await;
    let key = Secret::new(format!("key_{:032x}", rand::random::<u128>()));
    let app = world.app(&[]).await;
    app.save_key(KeyOwner::Person(maria), Provider::Cursor, &key, maria).await.unwrap();
    app.store.close().await;
    let comment = world.comment(PERSON, "/agent cursor SCRIPTED-EDIT").await;
    let root = world
        .until("the agent works", async |world| {
            let sandbox = world.vercel().alive().await.first()?.clone();
            let root = world.vercel().root(&sandbox).await;
            root.join("vercel/sandbox/scratch/working").exists().then_some(root)
        })
        .await;
    world.crash().await;
    std::fs::write(root.join("vercel/sandbox/scratch/go"), "").unwrap();
    world.restart().await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let log = world.log_of(&world.last_task().await.id).await;
    assert!(log.contains("my key is [redacted") && !log.contains(key.expose()), "{log}");
    assert!(!world.account().await.contains(key.expose()));
    world.finish().await;
}
