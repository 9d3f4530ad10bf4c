//! The first evening: no App, a link on the operator's screen, a button, and GitHub reaches us.

use crate::support::visitor::{Answer, Visitor};
use crate::support::world::{Builder, Engine, PERSON, World};

async fn without_an_app(engine: Engine) -> Option<World> {
    let mut builder = Builder::new(engine);
    for name in
        ["GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY", "GITHUB_WEBHOOK_SECRET", "GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"]
    {
        builder = builder.setting(name, "");
    }
    builder.without_an_app().start().await
}

/// The button of the set-up page.
async fn press(operator: &mut Visitor, page: &Answer) -> Answer {
    let action = page.body.split("method=\"post\" action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    operator.submit(page, &action, "", &[]).await
}

async fn reached(world: &mut World) {
    world
        .until("GitHub reached us", async |world| {
            let page = Visitor::new(world).get("/setup/next").await;
            page.text().contains("GitHub reached us at").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_makes_the_app_and_the_service_goes_on() {
    for engine in Engine::both() {
        let Some(mut world) = without_an_app(engine).await else { continue };
        let link = world.setup_link().await;
        let (good, said) = world.run(&["check"]).await;
        assert!(!good && said.contains("there is no GitHub App yet"), "{said}");
        let mut operator = Visitor::new(&world);
        assert_eq!(operator.get("/setup").await.status, 404);
        assert_eq!(operator.get("/setup?code=0000").await.status, 404);
        assert_eq!(operator.get("/tasks").await.status, 404);
        assert_eq!(operator.get("/setup/next").await.status, 404);
        assert_eq!(operator.get("/setup/callback?code=x&state=y").await.status, 400);
        let page = operator.get(&link).await;
        assert!(
            page.text().contains("\"hook_attributes\"") && page.text().contains("/webhooks/github\""),
            "{}",
            page.body
        );
        let wrong = operator.get(&format!("{link}&organization=a%20b")).await;
        assert_eq!(wrong.status, 422);
        let of_organization = operator.get(&format!("{link}&organization=acme")).await;
        assert!(
            of_organization.body.contains("/organizations/acme/settings/apps/new?state="),
            "{}",
            of_organization.body
        );
        let next = press(&mut operator, &page).await;
        assert!(next.url.ends_with("/setup/next"), "{} {}", next.url, next.body);
        assert!(
            next.text().contains("hireling is made") && next.text().contains("/github-apps/hireling/installations/new")
        );
        reached(&mut world).await;
        // The link is worth nothing any more, and the App works.
        assert_eq!(operator.get(&link).await.status, 404);
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        assert_eq!(Visitor::sign_in(&world, PERSON).await.get("/settings").await.status, 200);
        let (good, said) = world.run(&["check"]).await;
        assert!(good, "{said}");
        // The next start needs no link, also after the key that sealed the App was replaced.
        world.stop().await;
        let (old, new) = ("5e".repeat(32), "a7".repeat(32));
        world.set("ENCRYPTION_KEY", &format!("{new},{old}"));
        let (good, said) = world.run(&["rotate-keys"]).await;
        assert!(good && said.contains("1 sealed anew"), "{said}");
        world.set("ENCRYPTION_KEY", &new);
        world.restart().await;
        let comment = world.comment(PERSON, "/agent ours --new once more").await;
        assert_eq!(world.ended(comment).await, "rocket");
        world.finish().await;
    }
}

/// Nothing reads the stored one any more, so nothing has to open it.
#[tokio::test(flavor = "multi_thread")]
async fn settings_take_the_place_of_the_stored_app() {
    for engine in Engine::both() {
        let Some(mut world) = without_an_app(engine).await else { continue };
        let link = world.setup_link().await;
        let mut operator = Visitor::new(&world);
        let page = operator.get(&link).await;
        let next = press(&mut operator, &page).await;
        assert!(next.url.ends_with("/setup/next"), "{} {}", next.url, next.body);
        reached(&mut world).await;
        world.stop().await;
        world.set("ENCRYPTION_KEY", &"a7".repeat(32));
        let (good, said) = world.run(&["check"]).await;
        assert!(
            !good && said.contains("FAIL  encryption key: the stored GitHub App was sealed with another"),
            "{said}"
        );
        let app = [
            ("GITHUB_APP_ID", world.github.app_id.to_string()),
            ("GITHUB_APP_PRIVATE_KEY", world.github.private_key.expose().to_owned()),
            ("GITHUB_WEBHOOK_SECRET", world.github.webhook_secret.expose().to_owned()),
        ];
        for (name, value) in &app {
            world.set(name, value);
        }
        let (good, said) = world.run(&["check"]).await;
        assert!(good, "{said}");
        world.restart().await;
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        assert_eq!(world.ended(comment).await, "rocket");
        world.finish().await;
    }
}
