//! The operator's pages: what GitHub sent, what became of it and why, and deciding it again.

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, OPERATOR, PERSON, REPO, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_what_became_of_each_delivery() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        world.github.set_permission(REPO, "eve", "read").await;
        let refused = world.comment("eve", "/agent ours fix it").await;
        world.answer(0).await;
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        world.ended(comment).await;
        let task = world.last_task().await;
        let mut olga = Visitor::sign_in(&world, OPERATOR).await;
        let page = olga.get("/deliveries").await.text();
        for part in
            ["no_permission", "accepted", "issue_comment.created", "acme/shop#1", "GitHub knows us as hireling[bot]"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        let page = olga.get("/deliveries?decision=no_permission&repository=ACME/shop").await.text();
        let rows = page.split("<tbody>").nth(1).unwrap();
        assert!(rows.contains("eve") && !rows.contains("maria"), "{rows}");
        let path = format!("/deliveries/{}", task.delivery);
        let page = olga.get(&path).await;
        assert!(
            page.text().contains("\"permission\": \"write\"") && page.text().contains("/agent ours fix it"),
            "{}",
            page.body
        );
        assert!(page.body.contains(&format!("/tasks/{}", task.id)));
        let replayed = olga.submit(&page, &format!("{path}/replay"), "", &[]).await;
        assert!(replayed.text().contains("The delivery is decided again."), "{}", replayed.body);
        world
            .until("it is a duplicate now", async |world| {
                let store = world.store().await;
                let code = store.decision_of(&task.delivery).await.unwrap();
                store.close().await;
                (code.map(|code| code.name()) == Some("duplicate")).then_some(())
            })
            .await;
        assert_eq!(world.tasks().await.len(), 1);
        let link = |comment: i64| format!("/why?url={}/{REPO}/issues/1%23issuecomment-{comment}", world.github.url);
        let why = olga.get(&link(refused)).await.text();
        assert!(why.contains("<code>no_permission</code>") && !why.contains("<code>duplicate</code>"), "{why}");
        let why = olga.get(&link(comment)).await.text();
        assert!(why.contains("<code>duplicate</code>") && !why.contains("<code>no_permission</code>"), "{why}");
        // What came to nothing at once is told, too.
        let edited = world.comment("eve", "just talk").await;
        world.github.edit_comment(edited, "/agent ours fix it").await;
        let mut payload = world.github.comment_payload(edited).await;
        payload["action"] = "edited".into();
        world.github.deliver(&world.url, "edited-one", "issue_comment", payload.to_string().as_bytes()).await.unwrap();
        world
            .until("the ledger holds it", async |_| {
                let page = olga.get(&link(edited)).await.text();
                page.contains("<code>edited</code>").then_some(())
            })
            .await;
        let installations = olga.get("/installations").await.text();
        assert!(
            installations.contains("<strong>acme</strong>")
                && installations.contains(">acme/shop</a> <span class=\"soft\">no policy</span>"),
            "{installations}"
        );
        assert!(olga.get(&link(424_242)).await.text().contains("Nothing of it has reached us"));
        assert!(olga.get("/why?url=https://evil.test/a/b/issues/1").await.text().contains("no link to an issue"));
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_the_administrators_of_the_accounts_it_works_for() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    for login in [PERSON, "eve"] {
        let mut visitor = Visitor::sign_in(&world, login).await;
        for path in ["/deliveries", "/deliveries/x", "/installations", "/why?url=x"] {
            assert_eq!(visitor.get(path).await.status, 404, "{login} {path}");
        }
        assert!(!visitor.get("/tasks").await.body.contains("Operation"));
    }
    assert!(Visitor::new(&world).get("/deliveries").await.url.contains("/signin"));
    world.finish().await;
    // With accounts named, it is their administrators; the owner of the App is one no more.
    let world = Builder::new(Engine::Sqlite).setting("ALLOWED_ACCOUNTS", "acme,Paul").start().await.unwrap();
    world.github.set_membership("acme", "anna", "admin").await;
    world.github.set_membership("acme", PERSON, "member").await;
    for (login, status) in [("anna", 200), ("paul", 200), (PERSON, 404), (OPERATOR, 404)] {
        assert_eq!(Visitor::sign_in(&world, login).await.get("/deliveries").await.status, status, "{login}");
    }
    world.finish().await;
}
