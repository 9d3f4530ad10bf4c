//! GitHub on github.com and on an Enterprise Server: its API at the root of a host or below `/api`, GraphQL
//! beside it or apart from it, and every link leads to where people are. All other stories are told on an
//! Enterprise Server; the main ones here on both.

use serde_json::json;

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// The same story in each shape, and that the API was called where it is.
async fn in_both_shapes(builder: impl Fn() -> Builder, story: impl AsyncFn(&mut World)) {
    for is_enterprise in [true, false] {
        let builder = if is_enterprise { builder() } else { builder().with_api_at_the_root() };
        let Some(mut world) = builder.start().await else { continue };
        story(&mut world).await;
        let targets = world.github.targets().await;
        let is_below_api = |target: &String| target.starts_with("/api/v3/") || target == "/api/graphql";
        assert!(!targets.is_empty());
        assert!(targets.iter().all(|target| is_below_api(target) == is_enterprise), "{targets:?}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_becomes_a_pull_request() {
    in_both_shapes(
        || Builder::new(Engine::Sqlite),
        async |world| {
            let comment = world.comment(PERSON, "/agent ours").await;
            assert_eq!(world.ended(comment).await, "rocket");
            let pull = world.only_pull().await;
            let answer = world.only_answer().await;
            assert!(answer.contains(&format!("opened #{}", pull.number)), "{answer}");
            assert!(pull.body.contains(&format!("{}/tasks/", world.url)), "{}", pull.body);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_is_worked_on_and_reviewed() {
    let found = json!({ "summary": "Nearly.", "fixed": [], "findings": [{ "path": "app.rs", "line": 1,
        "severity": "high", "rule": "r", "title": "It subtracts", "reason": "It has to add." }] });
    let review = format!("cat <<'EOF'\n```json\n{found}\n```\nEOF\n");
    in_both_shapes(
        || Builder::new(Engine::Sqlite).agent("reviewer", &review),
        async |world| {
            world.github.branch_off(REPO, "feature").await.unwrap();
            world.github.push_file(REPO, "feature", "app.rs", "a - b\n").await.unwrap();
            world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
            let comment = world.comment(PERSON, "/agent reviewer review").await;
            assert_eq!(world.ended(comment).await, "rocket");
            assert_eq!(world.github.reviews().await.len(), 1);
            let comment = world.comment(PERSON, "/agent ours mend it").await;
            assert_eq!(world.ended(comment).await, "rocket");
            assert_eq!(world.github.file(REPO, "feature", "fixed.txt").await.unwrap(), "fixed\n");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_and_missed_deliveries_are_fetched() {
    in_both_shapes(
        || Builder::new(Engine::Sqlite).behind_a_balancer(),
        async |world| {
            let mut maria = Visitor::sign_in(world, PERSON).await;
            assert_eq!(maria.get("/settings").await.status, 200);
            world.stop().await;
            let comment = world.github.say(&world.url, REPO, world.issue, PERSON, "/agent ours").await;
            world.restart().await;
            assert_eq!(world.ended(comment).await, "rocket");
        },
    )
    .await;
}
