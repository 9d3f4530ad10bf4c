//! What a sandbox at Vercel can do beside running an agent: stay for people to look at, start warm,
//! be shut off from the network.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::double::{Fault, Kind, Life, When};
use crate::support::world::{Builder, Engine, PERSON, World};

/// Stands for npm: it writes down what it was asked, "installs" by making a program that tells the
/// wanted version, and "serves" by staying.
const NPM: &str = r#"#!/bin/sh
echo "npm $*" >> ../scratch/npm.log
case "$1" in
  run) echo serving; exec sleep 600 ;;
  install|ci) ;;
esac
while [ $# -gt 1 ]; do
  if [ "$1" = --prefix ]; then prefix=$2; fi
  shift
done
[ -n "$prefix" ] || exit 0
mkdir -p "$prefix/bin"
package=${1##*/}
case "$package" in
  claude-code@*) name=claude ;;
  gemini-cli@*) name=gemini ;;
  opencode-ai@*) name=opencode ;;
  *) name=${package%%@*} ;;
esac
printf '#!/bin/sh\necho "%s"\n' "${1##*@}" > "$prefix/bin/$name"
chmod +x "$prefix/bin/$name"
"#;

/// A machine on which npm is the script above and no agent is installed.
fn programs(dir: &Path) -> String {
    let built_in = hireling::domain::agent::built_in().into_iter().map(|agent| (agent.name, "#!/bin/sh\nexit 127\n"));
    for (name, text) in built_in.chain([("npm".to_owned(), NPM)]) {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir.display().to_string()
}

async fn world(builder: Builder, dir: &Path) -> World {
    let world = builder.on_vercel().await.start().await.unwrap();
    let programs = programs(dir);
    world.vercel().set(|knobs| knobs.programs = Some(programs));
    world
}

async fn npm_log(world: &World, sandbox: &str) -> String {
    let root = world.vercel().root(sandbox).await;
    std::fs::read_to_string(root.join("vercel/sandbox/scratch/npm.log")).unwrap_or_default()
}

const VITE: &str = r#"{ "scripts": { "dev": "vite" }, "devDependencies": { "vite": "8" } }"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_sandbox_serves_the_project_until_it_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Builder::new(Engine::Sqlite).file("package.json", VITE);
    let mut world = world(builder, dir.path()).await;
    let comment = world.comment(PERSON, "/agent ours --keep-alive fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let answer = world.only_answer().await;
    assert!(
        answer.contains("> The sandbox keeps running: [look at it](https://sb-") && answer.contains("-5173.vercel.run"),
        "{answer}"
    );
    assert!(answer.contains("`/agent cancel` stops it"), "{answer}");
    let sandbox = world.vercel().alive().await.remove(0);
    let log = world
        .until("the server is started", async |world| {
            let log = npm_log(world, &sandbox).await;
            log.contains("npm run dev -- --host 0.0.0.0 --port 5173").then_some(log)
        })
        .await;
    assert!(log.starts_with("npm install "), "{log}");
    // The sweeper of the next process leaves it alone.
    world.crash().await;
    let listed = |world: &World| world.vercel().calls().iter().filter(|call| call.route.contains("tags=")).count();
    let before = listed(&world);
    world.restart().await;
    world.until("the sweeper has looked", async |world| (listed(world) > before).then_some(())).await;
    world.comment(PERSON, "/agent help").await;
    world.answer(1).await;
    assert_eq!(world.vercel().alive().await, [sandbox]);
    world.comment(PERSON, "/agent cancel").await;
    assert_eq!(world.answer(2).await.lines().last().unwrap(), "The sandbox that was kept running is being stopped.");
    world.until("it is gone", async |world| world.vercel().alive().await.is_empty().then_some(())).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_installed_or_served_does_not_spoil_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(Builder::new(Engine::Sqlite).file("package.json", VITE), dir.path()).await;
    std::fs::write(dir.path().join("npm"), "#!/bin/sh\necho no network >&2; exit 1\n").unwrap();
    let comment = world.comment(PERSON, "/agent ours --keep-alive fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let answer = world.only_answer().await;
    assert!(answer.contains("The project's dependencies could not be installed (npm)."), "{answer}");
    assert!(world.log_of(&world.last_task().await.id).await.contains("no network"));
    world.comment(PERSON, "/agent cancel").await;
    world.sandboxes_deleted().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_without_a_server_is_kept_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(Builder::new(Engine::Sqlite), dir.path()).await;
    let comment = world.comment(PERSON, "/agent ours --keep-alive fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let answer = world.only_answer().await;
    assert!(answer.contains("there is no development server in its package.json"), "{answer}");
    world.vercel().advance(2_800_000);
    world.until("its time is over", async |world| world.vercel().alive().await.is_empty().then_some(())).await;
    world.finish().await;
}

/// What is installed for the agent does not get into its pull request.
#[tokio::test(flavor = "multi_thread")]
async fn dependencies_are_installed_first_and_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let script = "cp ../scratch/npm.log seen.txt; mkdir -p node_modules/x; echo x > node_modules/x/index.js";
    let builder = Builder::new(Engine::Sqlite).file("package.json", VITE).file("package-lock.json", "{}");
    let world = world(builder.agent("ours", script), dir.path()).await;
    let comment = world.comment(PERSON, "/agent ours --install fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let head = world.only_pull().await.head;
    let diff = world.github.diff(crate::support::world::REPO, "main", &head).await.unwrap();
    assert!(diff.contains("+npm ci ") && !diff.contains("node_modules/x"), "{diff}");
    world.finish().await;
}

fn started_warm(world: &World) -> usize {
    let calls = world.vercel().calls();
    calls.iter().filter(|call| call.route.contains("/v3/") && call.body.contains("\"snapshotId\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_snapshot_sandboxes_start_with_the_agents_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Builder::new(Engine::Sqlite);
    let mut world = world(builder, dir.path()).await;
    world.add_agents("[agents.theirs]\ncommand = [\"sh\", \"-c\", \"cat ../home/tool > tool.txt\"]\ncheck = [\"cat\", \"../home/tool\"]\ninstall = [\"sh\", \"-c\", \"date +%s%N >> ../home/tool\"]\n");
    world.stop().await;
    world.restart().await;
    let (good, said) = world.run(&["snapshot"]).await;
    assert!(good && said.contains("New sandboxes start from snap_"), "{said}");
    assert_eq!(world.vercel().snapshots().await.len(), 1);
    assert_eq!(world.vercel().alive().await, Vec::<String>::new(), "the sandbox it was made in is gone");

    let comment = world.comment(PERSON, "/agent theirs use it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert_eq!(started_warm(&world), 1);
    let answer = world.only_answer().await;
    assert!(answer.contains("from a snapshot)"), "{answer}");
    let head = world.only_pull().await.head;
    let diff = world.github.diff(crate::support::world::REPO, "main", &head).await.unwrap();
    assert_eq!(
        diff.lines().filter(|line| line.starts_with("+1")).count(),
        1,
        "installed once, in the snapshot: {diff}"
    );

    // Made again, the old one goes.
    let (good, said) = world.run(&["snapshot"]).await;
    assert!(good, "{said}");
    assert_eq!(world.vercel().snapshots().await.len(), 1);

    // Gone at Vercel: the task starts cold, and the service makes it anew.
    world.vercel().lose_snapshots().await;
    world.next_issue().await;
    let comment = world.comment(PERSON, "/agent theirs use it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert!(!world.only_answer().await.contains("from a snapshot"));
    world
        .until("there is a snapshot again", async |world| (!world.vercel().snapshots().await.is_empty()).then_some(()))
        .await;
    world.until("all is quiet", async |world| world.vercel().alive().await.is_empty().then_some(())).await;
    world.finish().await;
}

fn policies(world: &[Life]) -> Vec<serde_json::Value> {
    world.iter().flat_map(|life| &life.policies).map(|policy| serde_json::from_str(policy).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_reaches_what_it_needs_and_no_more() {
    let mut world = Builder::new(Engine::Sqlite).on_vercel().await.start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours --new").await;
    assert_eq!(world.ended(comment).await, "rocket");
    let usual = policies(&world.vercel().lives().await).remove(0);
    assert_eq!(usual["subnets"]["allow"], serde_json::json!(["127.0.0.1/32"]), "GitHub's stand-in has no name");
    let hosts = usual["allow"].as_array().unwrap();
    assert!(hosts.contains(&"registry.npmjs.org".into()) && !hosts.contains(&"*".into()), "{usual}");

    world.set("SANDBOX_NETWORK", "only, npm.example.org");
    world.stop().await;
    world.restart().await;
    let comment = world.comment(PERSON, "/agent ours --new").await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert_eq!(policies(&world.vercel().lives().await)[1]["allow"], serde_json::json!(["npm.example.org"]));

    world.set("SANDBOX_NETWORK", "open");
    world.stop().await;
    world.restart().await;
    let comment = world.comment(PERSON, "/agent ours --new").await;
    assert_eq!(world.ended(comment).await, "rocket");
    assert_eq!(policies(&world.vercel().lives().await)[2], serde_json::json!({ "mode": "allow-all" }));
    world.finish().await;
}

/// The token that fetches the code is put on the requests outside: nothing in the sandbox has it.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_for_fetching_never_enters_the_sandbox() {
    let world = Builder::new(Engine::Sqlite).behind_firewall().on_vercel().await.start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    // `x-access-token:` as it stands in a header; policies are not commands.
    let in_commands = |world: &World| {
        let calls = world.vercel().calls();
        let commands = calls.iter().filter(|call| !call.route.contains("/network-policy?"));
        commands.filter(|call| call.body.contains("eC1hY2Nlc3MtdG9rZW46")).count()
    };
    assert_eq!(in_commands(&world), 0);
    let seen = policies(&world.vercel().lives().await);
    assert_eq!(seen.len(), 3, "at first, for the fetch, and after it");
    let rule = &seen[1]["allow"]["localhost"][0];
    assert_eq!(rule["match"]["path"]["startsWith"], "/acme/shop.git/");
    assert!(rule["transform"][0]["headers"]["authorization"].as_str().unwrap().starts_with("Basic "));
    assert_eq!(seen[0], seen[2]);

    // A plan without it: the token goes into the environment of the one call, and that is remembered.
    world.vercel().set(|knobs| knobs.no_injection = true);
    for _ in 0..2 {
        let comment = world.comment(PERSON, "/agent ours --new again").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    }
    assert_eq!(in_commands(&world), 2);
    let asked = world.vercel().calls().iter().filter(|call| call.route.contains("/network-policy?")).count();
    assert_eq!(asked, 3, "two of the first task, one that was refused");
    world.finish().await;
}

/// What the sandbox has less than the agent may have is asked for before the agent starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_with_too_little_time_is_extended() {
    let builder = Builder::new(Engine::Sqlite).setting("MAX_SANDBOX_DURATION", "5h");
    let world = builder.on_vercel().await.start().await.unwrap();
    let minutes = |number: i64| number * 60_000;
    world.vercel().set(|knobs| knobs.max_timeout = minutes(20));
    // Time to change the plan in, between making the sandbox and starting the agent.
    world.vercel().set_faults(vec![Fault::first("POST */fs/write", 1, When::Before, Kind::Wait)]);
    let comment = world.comment(PERSON, "/agent ours --timeout 30m fix it").await;
    world.vercel().held().await;
    world.vercel().set(|knobs| knobs.max_timeout = minutes(60));
    world.vercel().release();
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let timeout = world.vercel().lives().await[0].timeout;
    assert!((minutes(32)..minutes(33)).contains(&timeout), "20 minutes and what was missing: {timeout}");
    assert!(!world.only_answer().await.contains("The agent may work for"), "it got its 30 minutes");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_works_in_a_vercel_sandbox() {
    let world = Builder::new(Engine::Sqlite).on_vercel().await.start().await.unwrap();
    let (good, said) = world.run(&["demo", "--once"]).await;
    assert!(good && said.contains("── pull request #2"), "{said}");
    world.sandboxes_deleted().await;
    assert_eq!(world.vercel().lives().await.len(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_whether_sandboxes_can_be_had() {
    let mut world = Builder::new(Engine::Sqlite).on_vercel().await.start().await.unwrap();
    let (good, said) = world.run(&["check"]).await;
    assert!(good && said.contains("ok    sandbox: vercel, project prj_P"), "{said}");
    world.set("SANDBOX_VERCEL_TOKEN", "another-token-than-theirs");
    let (good, said) = world.run(&["check"]).await;
    assert!(!good && said.contains("FAIL  sandbox: Vercel refuses the token, the team or the project"), "{said}");
    world.set("SANDBOX_VERCEL_TOKEN", "");
    let (good, said) = world.run(&["check"]).await;
    assert!(!good && said.contains("SANDBOX_VERCEL_TOKEN is missing"), "{said}");
    world.finish().await;
}
