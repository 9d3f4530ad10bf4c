//! However often GitHub, or somebody else, sends the same thing: one task.

use futures::future::join_all;

use crate::support::world::{Engine, PERSON, REPO, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_delivery_fifty_times_at_once_is_one_task() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let comment = world.github.comment(REPO, world.issue, PERSON, "/agent ours fix it").await;
        let body = world.github.comment_payload(comment).await.to_string();
        let sent = (0..50).map(|_| world.github.deliver(&world.url, "the-same-guid", "issue_comment", body.as_bytes()));
        for status in join_all(sent).await {
            assert_eq!(status.unwrap(), 202);
        }
        assert_eq!(world.ended(comment).await, "rocket");
        assert_eq!(world.tasks().await.len(), 1);
        world.only_pull().await;
        world.finish().await;
    }
}

/// The delivery's id is not covered by the signature: whoever captured a body can send it again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_body_under_fifty_ids_is_one_task() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let comment = world.github.comment(REPO, world.issue, PERSON, "/agent ours fix it").await;
        let body = world.github.comment_payload(comment).await.to_string();
        let ids: Vec<String> = (0..50).map(|n| format!("guid-{n}")).collect();
        let sent = ids.iter().map(|id| world.github.deliver(&world.url, id, "issue_comment", body.as_bytes()));
        for status in join_all(sent).await {
            assert_eq!(status.unwrap(), 202);
        }
        assert_eq!(world.ended(comment).await, "rocket");
        assert_eq!(world.tasks().await.len(), 1);
        world.only_answer().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_replayed_by_the_operator_starts_nothing_twice() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.github.comment(REPO, world.issue, PERSON, "/agent ours fix it").await;
    let body = world.github.comment_payload(comment).await.to_string();
    world.github.deliver(&world.url, "guid-r", "issue_comment", body.as_bytes()).await.unwrap();
    assert_eq!(world.ended(comment).await, "rocket");
    assert!(world.run(&["replay", "guid-r"]).await.0);
    assert!(!world.run(&["replay", "no-such-guid"]).await.0);
    world.settled().await;
    assert_eq!(world.tasks().await.len(), 1);
    world.only_pull().await;
    world.finish().await;
}
