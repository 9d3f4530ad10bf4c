//! What is asked for without a comment: by labels, by requests for a review, by opening, pushing and closing.

use hireling::domain::ids::{IssueNumber, RepositoryId};
use serde_json::{Value, json};

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const NOTHING_FOUND: &str = "cat > /dev/null; echo '{\"findings\": []}'";
const WAITS: &str =
    "echo x > ../scratch/here; while [ ! -e ../scratch/go ]; do sleep 0.05; done; echo '{\"findings\": []}'";

async fn open_pull(world: &mut World) {
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.github.push_file(REPO, "feature", "src/app.txt", "one\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
}

/// Tells the service of an event about the current thread. Gives the payload's words for saying it again.
async fn tell(world: &World, event: &str, what: (&str, &str), more: Value) -> String {
    let payload = world.github.payload_about(REPO, world.issue, what, &more).await.to_string();
    deliver(world, event, &payload).await;
    payload
}

async fn deliver(world: &World, event: &str, payload: &str) {
    let guid = format!("{:032x}", rand::random::<u128>());
    assert_eq!(world.github.deliver(&world.url, &guid, event, payload.as_bytes()).await.unwrap(), 202);
}

/// Waits until the newest delivery has its decision, by the answer of the operator's ledger.
async fn decided(world: &World) -> String {
    world.settled().await;
    let store = world.store().await;
    let repository = RepositoryId(world.github.repository_id(REPO).await);
    let ledger = store.ledger(repository, IssueNumber(world.issue), 1).await.unwrap();
    store.close().await;
    ledger[0].code.unwrap().name().to_owned()
}

fn team(slug: &str) -> Value {
    json!({ "requested_team": { "slug": slug, "name": slug } })
}

fn person(login: &str) -> Value {
    json!({ "requested_reviewer": { "login": login, "id": 7 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_start_work_and_reviews() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("ours", NOTHING_FOUND).agent("editor", "echo x > x.txt");
        let Some(mut world) = builder.setting("DEFAULT_AGENT", "ours").start().await else { continue };
        let label = |name: &str| json!({ "label": { "name": name } });
        let payload = tell(&world, "issues", ("labeled", PERSON), label("agent:editor")).await;
        world.until("there is a pull request", async |world| world.github.pulls(REPO).await.pop()).await;
        world.settled().await;
        // A copy of it under another id, other labels, and taking it off start nothing.
        deliver(&world, "issues", &payload).await;
        tell(&world, "issues", ("labeled", PERSON), label("bug")).await;
        tell(&world, "issues", ("unlabeled", PERSON), label("agent")).await;
        tell(&world, "issues", ("labeled", "renovate[bot]"), label("agent")).await;
        world.settled().await;
        assert_eq!(world.tasks().await.len(), 1);
        // Somebody who may not is told.
        tell(&world, "issues", ("labeled", "eve"), label("agent")).await;
        assert!(world.answer(1).await.contains("eve, commands need write access"));
        tell(&world, "issues", ("labeled", PERSON), label("agent:nobody")).await;
        assert!(world.answer(2).await.contains("nobody"));
        open_pull(&mut world).await;
        tell(&world, "pull_request", ("labeled", PERSON), label("agent:review")).await;
        world.until("there is a review", async |world| world.github.reviews().await.pop()).await;
        world.settled().await;
        assert_eq!(world.last_task().await.agent, "ours");
        world.finish().await;
    }
}

/// Of the requests for a review, those to our aliases are ours.
#[tokio::test(flavor = "multi_thread")]
async fn review_requests_to_our_aliases_are_answered() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("ours", NOTHING_FOUND);
        let builder = builder.setting("DEFAULT_AGENT", "ours").setting("REVIEW_ALIASES", "Robots,the-machine");
        let Some(mut world) = builder.start().await else { continue };
        open_pull(&mut world).await;
        let asked = ("review_requested", PERSON);
        // Three reviewers in one click: another team, another person, and us.
        tell(&world, "pull_request", asked, team("humans")).await;
        tell(&world, "pull_request", asked, person("rita")).await;
        assert_eq!(decided(&world).await, "not_for_us");
        let payload = tell(&world, "pull_request", asked, team("robots")).await;
        deliver(&world, "pull_request", &payload).await;
        world.until("there is a review", async |world| world.github.reviews().await.pop()).await;
        world.settled().await;
        assert_eq!(world.tasks().await.len(), 1, "the same click once");
        assert_eq!(world.github.ended_requests().await, [(world.issue, "robots".to_owned())]);
        // Asked again without a push, there is nothing to say; the request is answered all the same.
        tell(&world, "pull_request", asked, person("the-machine")).await;
        world
            .until("it is answered", async |world| (world.github.ended_requests().await.len() == 2).then_some(()))
            .await;
        world.settled().await;
        assert_eq!((world.github.reviews().await.len(), world.tasks().await.len()), (1, 2));
        // CODEOWNERS asks in the name of whoever opened the pull request.
        tell(&world, "pull_request", ("review_requested", "eve"), team("robots")).await;
        assert_eq!(decided(&world).await, "no_permission");
        tell(&world, "pull_request", ("review_requested", "dependabot[bot]"), team("robots")).await;
        world.settled().await;
        assert_eq!(world.tasks().await.len(), 2);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_taken_back_stops_its_task() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).agent("ours", WAITS);
        let builder = builder.setting("DEFAULT_AGENT", "ours").setting("REVIEW_ALIASES", "robots");
        let Some(mut world) = builder.start().await else { continue };
        open_pull(&mut world).await;
        tell(&world, "pull_request", ("review_requested", PERSON), team("robots")).await;
        world.until("it is at work", async |world| world.answers().await.pop()).await;
        let is_pending = async |world: &World| world.github.checks().await.pop().filter(|one| one.conclusion.is_none());
        world.until("its check is pending", is_pending).await;
        tell(&world, "pull_request", ("review_requested", PERSON), team("robots")).await;
        assert_eq!(world.tasks().await.len(), 1, "one at a time");
        tell(&world, "pull_request", ("review_request_removed", PERSON), team("humans")).await;
        tell(&world, "pull_request", ("review_request_removed", PERSON), team("robots")).await;
        world.settled().await;
        let task = world.last_task().await;
        assert_eq!(task.state.name(), "cancelled", "{}", world.account().await);
        let checks = world.github.checks().await;
        let ends: Vec<Option<&str>> = checks.iter().map(|check| check.conclusion.as_deref()).collect();
        assert_eq!(ends, [Some("cancelled")], "{checks:?}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_waits_until_it_is_ready() {
    let builder = Builder::new(Engine::Sqlite).agent("ours", NOTHING_FOUND);
    let builder = builder.setting("DEFAULT_AGENT", "ours").setting("REVIEW_ALIASES", "robots");
    let mut world = builder.start().await.unwrap();
    open_pull(&mut world).await;
    world.github.set_draft(REPO, world.issue, true).await;
    tell(&world, "pull_request", ("review_requested", PERSON), team("robots")).await;
    assert_eq!(decided(&world).await, "policy_forbids");
    assert!(world.tasks().await.is_empty());
    world.github.set_draft(REPO, world.issue, false).await;
    let waiting = json!({ "requested_teams": [{ "slug": "humans" }, { "slug": "robots" }] });
    tell(&world, "pull_request", ("ready_for_review", PERSON), waiting).await;
    world.until("there is a review", async |world| world.github.reviews().await.pop()).await;
    world.settled().await;
    assert_eq!(world.github.ended_requests().await, [(world.issue, "robots".to_owned())]);
    world.finish().await;
}

/// What the repository's own file says of reviews.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_names_aliases_and_moments() {
    let text = "review: {aliases: [Guild], on: [ready], drafts: true, agent: ours}\n";
    let builder = Builder::new(Engine::Sqlite).agent("ours", NOTHING_FOUND).file(".github/hireling.yml", text);
    let mut world = builder.start().await.unwrap();
    open_pull(&mut world).await;
    tell(&world, "pull_request", ("opened", PERSON), json!({})).await;
    assert_eq!(decided(&world).await, "event_not_used");
    world.github.set_draft(REPO, world.issue, true).await;
    tell(&world, "pull_request", ("review_requested", PERSON), team("guild")).await;
    world.until("a draft is reviewed", async |world| world.github.reviews().await.pop()).await;
    world.settled().await;
    // Asked again after a push, by name.
    world.github.push_file(REPO, "feature", "src/app.txt", "two\n").await.unwrap();
    tell(&world, "pull_request", ("review_requested", PERSON), person("guild")).await;
    world.until("it is reviewed again", async |world| world.github.reviews().await.get(1).cloned()).await;
    world.settled().await;
    world.github.push_file(REPO, "feature", "src/app.txt", "three\n").await.unwrap();
    world.github.set_draft(REPO, world.issue, false).await;
    tell(&world, "pull_request", ("ready_for_review", PERSON), json!({})).await;
    world.until("it is reviewed when ready", async |world| world.github.reviews().await.get(2).cloned()).await;
    world.settled().await;
    assert_eq!(world.github.ended_requests().await.len(), 2);
    world.finish().await;
}

/// Nobody asked in so many words: nobody is told when nothing comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_nobody_asked_for_refuses_in_silence() {
    let text = "review: {on: [open], agent: claude}\n";
    let builder = Builder::new(Engine::Sqlite).file(".github/hireling.yml", text).setting("ANTHROPIC_API_KEY", "");
    let mut world = builder.start().await.unwrap();
    open_pull(&mut world).await;
    tell(&world, "pull_request", ("opened", PERSON), json!({})).await;
    assert_eq!(decided(&world).await, "no_key");
    assert_eq!((world.answers().await.len(), world.tasks().await.len()), (0, 0));
    world.finish().await;
}

/// That it was closed came first.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_nobody_asked_for_is_not_begun_on_what_is_closed() {
    let text = "review: {on: [open], agent: ours}\n";
    let builder = Builder::new(Engine::Sqlite).agent("ours", NOTHING_FOUND).file(".github/hireling.yml", text);
    let mut world = builder.start().await.unwrap();
    open_pull(&mut world).await;
    world.github.close_pull(REPO, world.issue).await;
    tell(&world, "pull_request", ("opened", PERSON), json!({})).await;
    assert_eq!(decided(&world).await, "duplicate");
    assert_eq!((world.answers().await.len(), world.tasks().await.len()), (0, 0));
    world.finish().await;
}

/// What waits is not begun any more; what runs is finished.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_what_waits() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("ours", WAITS).start().await else { continue };
        open_pull(&mut world).await;
        let first = world.comment(PERSON, "/agent ours review").await;
        world.until("it is at work", async |world| world.answers().await.pop()).await;
        world.comment(PERSON, "/agent ours review --full").await;
        world.until("both are there", async |world| (world.tasks().await.len() == 2).then_some(())).await;
        tell(&world, "pull_request", ("closed", "rita"), json!({})).await;
        world.until("the second is over", async |world| world.tasks().await[0].state.is_finished().then_some(())).await;
        let (scratch, _) = world.scratch_file("here").await;
        std::fs::write(scratch.join("go"), "").unwrap();
        assert_eq!(world.ended(first).await, "rocket", "{}", world.account().await);
        let states: Vec<&str> = world.tasks().await.iter().map(|task| task.state.name()).collect();
        assert_eq!(states, ["cancelled", "succeeded"]);
        world.finish().await;
    }
}
