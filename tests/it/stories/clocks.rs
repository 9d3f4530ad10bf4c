//! Clocks that are wrong: this machine's, GitHub's, and what was written before it was sent (faults F41, F42).

use hireling::domain::ids::Millis;
use hireling::ports::clock::Clock as _;
use serde_json::{Value, json};

use super::missed_deliveries::{all_decided, each_ran_once, sent_in_vain};
use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const HOUR: i64 = 3_600;

/// A library that sets the clock of a program so many seconds off. `None`: it is said that there is none.
pub fn wrong_clock(dir: &std::path::Path, seconds: i64) -> Option<String> {
    let text = format!(
        "#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int clock_gettime(clockid_t id, struct timespec *at) {{ int done = syscall(SYS_clock_gettime, id, at);\n\
         if (id == CLOCK_REALTIME) at->tv_sec += {seconds}; return done; }}\n"
    );
    let made = crate::support::compiled(dir, &format!("clock{seconds}"), &text);
    if made.is_none() {
        crate::support::skipped("wrong clocks, because there is no C compiler here");
    }
    Some(made?.display().to_string())
}

/// A minute ago, as GitHub writes it.
fn a_minute_ago() -> Value {
    json!(Millis(hireling::adapters::system::SystemClock.now().0 - 60_000).rfc3339())
}

/// Somebody stops what runs on the thread, and nothing does.
async fn cancel(world: &World) {
    world.comment(PERSON, "/agent cancel").await;
    world.settled().await;
}

/// GitHub judges the age of the App's tokens by its own clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_an_hour_off_works_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for seconds in [-HOUR, HOUR] {
        let Some(library) = wrong_clock(dir.path(), seconds) else { return };
        let world = Builder::new(Engine::Sqlite).setting("LD_PRELOAD", &library).start().await.unwrap();
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        assert!(world.log().contains("GitHub's clock is not this machine's"), "{}", world.log());
        world.settled().await;
        assert_eq!(world.pulls().await.len(), 1, "{}", world.account().await);
        world.finish().await;
    }
}

/// What is read of GitHub's list of deliveries is dated by GitHub's clock.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missed_by_a_machine_whose_clock_is_ahead_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = wrong_clock(dir.path(), HOUR) else { return };
    let builder = Builder::new(Engine::Sqlite).behind_a_balancer().setting("LD_PRELOAD", &library);
    let mut world = builder.start().await.unwrap();
    world
        .until("the list of deliveries was read once", async |world| {
            let store = world.store().await;
            let read = store.deliveries_read_through().await.unwrap();
            store.close().await;
            read
        })
        .await;
    world.stop().await;
    let (guids, issues) = sent_in_vain(&mut world, 1, 1).await;
    world.restart().await;
    all_decided(&world, &guids).await;
    each_ran_once(&mut world, &issues).await;
    world.finish().await;
}

/// The button has our time, the cancel has GitHub's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_on_the_page_after_a_cancel_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = wrong_clock(dir.path(), -HOUR) else { return };
    let world = Builder::new(Engine::Sqlite).setting("LD_PRELOAD", &library).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    cancel(&world).await;
    let mut visitor = Visitor::sign_in(&world, PERSON).await;
    let path = format!("/tasks/{}", world.last_task().await.id);
    let page = visitor.get(&path).await;
    visitor.submit(&page, &format!("{path}/retry"), "", &[]).await;
    world.settled().await;
    let states: Vec<&str> = world.tasks().await.iter().map(|task| task.state.name()).collect();
    assert_eq!(states, ["succeeded", "succeeded"], "{}", world.account().await);
    world.finish().await;
}

async fn with_pull(builder: Builder) -> World {
    let mut world = builder.start().await.unwrap();
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.github.push_file(REPO, "feature", "src/app.txt", "one\ntwo\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
    world
}

/// A comment of a review is as old as its draft, and asks for something when the review is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_comment_that_was_drafted_before_a_cancel_is_minded() {
    let world = with_pull(Builder::new(Engine::Sqlite)).await;
    cancel(&world).await;
    let id = world.github.say_of_line(super::on_pulls::of_line(&world, PERSON, 2, "/agent ours make it three")).await;
    let mut payload = world.github.review_comment_payload(id).await;
    payload["comment"]["created_at"] = a_minute_ago();
    let body = payload.to_string();
    world.github.deliver(&world.url, "drafted", "pull_request_review_comment", body.as_bytes()).await.unwrap();
    world.settled().await;
    assert_eq!(world.last_task().await.state.name(), "succeeded", "{}", world.account().await);
    world.finish().await;
}

/// After a push it is waited for more, and then looked whether the review is still wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_before_a_cancel_is_reviewed() {
    let policy = "review: {on: [push], debounce: 1s, agent: ours}\n";
    let agent = "cat > /dev/null; echo '{\"findings\": []}'";
    let builder = Builder::new(Engine::Sqlite).agent("ours", agent).file(".github/hireling.yml", policy);
    let world = with_pull(builder).await;
    cancel(&world).await;
    let mut payload = world.github.payload_about(REPO, world.issue, ("synchronize", PERSON), &json!({})).await;
    payload["pull_request"]["updated_at"] = a_minute_ago();
    let body = payload.to_string();
    world.github.deliver(&world.url, "pushed", "pull_request", body.as_bytes()).await.unwrap();
    world.until("it is reviewed", async |world| world.github.reviews().await.pop()).await;
    world.settled().await;
    assert_eq!(world.last_task().await.state.name(), "succeeded", "{}", world.account().await);
    world.finish().await;
}
