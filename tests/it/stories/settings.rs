//! The command line: a fault stops the start with one sentence, and the small commands do what
//! they say.

use crate::support::world::{Builder, Engine, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_stops_the_start_with_one_sentence() {
    for (name, value) in [
        ("GITHUB_APP_ID", "none"),
        ("GITHUB_APP_PRIVATE_KEY", "bm90IGEga2V5"),
        ("GITHUB_WEBHOOK_SECRET", ""),
        ("SANDBOX_PROVIDER", ""),
        ("SANDBOX_PROVIDER", "vercel"),
        ("DATABASE_URL", "mysql://x"),
        ("RUST_LOG", "a=b=c"),
        ("DEFAULT_AGENT", "nobody"),
        ("PUBLIC_URL", "here"),
        ("LISTEN_ADDR", "256.0.0.1:1"),
    ] {
        let mut world = World::start(Engine::Sqlite).await.unwrap();
        world.stop().await;
        world.set(name, value);
        let (good, said) = world.run(&["serve"]).await;
        assert!(!good && said.contains(name), "{name}={value}: {said}");
        assert_eq!(said.trim().lines().filter(|line| !line.starts_with('{')).count(), 1, "{said}");
        assert!(!said.contains(&world.canary) && !said.contains("bm90"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_each_thing_in_one_line() {
    for engine in Engine::both() {
        let Some(mut world) = World::start(engine).await else { continue };
        let (good, said) = world.run(&["check"]).await;
        assert!(good, "{said}");
        assert!(said.contains("ok    GitHub: we are hireling[bot]"), "{said}");
        let lines: Vec<&str> = said.lines().filter_map(|line| line.split(": ").next()).collect();
        let expected = [
            "settings",
            "database",
            "encryption key",
            "GitHub",
            "permissions",
            "webhook",
            "deliveries",
            "sign-in",
            "sandbox",
            "model gateway",
            "keys",
        ];
        assert_eq!(lines, expected.map(|what| format!("ok    {what}")), "{said}");
        // Each thing that is missing, with the mend.
        world.github.withhold("checks").await;
        let (good, said) = world.run(&["check"]).await;
        assert!(!good && said.contains("FAIL  permissions: checks: write missing"), "{said}");
        world.github.deliver(&world.url, "taken", "ping", b"{}").await;
        world.set("GITHUB_WEBHOOK_SECRET", "another-one-than-on-the-page");
        world.stop().await;
        world.restart().await;
        world.github.deliver(&world.url, "refused", "ping", b"{}").await;
        let (good, said) = world.run(&["check"]).await;
        assert!(
            !good && said.contains("1 were taken, the newest was answered 401: GITHUB_WEBHOOK_SECRET is not"),
            "{said}"
        );
        world.set("PUBLIC_URL", "http://elsewhere.test");
        let (good, said) = world.run(&["check"]).await;
        assert!(!good && said.contains("set the App's webhook URL to http://elsewhere.test/webhooks/github"), "{said}");
        world.set("GITHUB_API_URL", "http://127.0.0.1:1");
        let (good, said) = world.run(&["check"]).await;
        assert!(!good && said.contains("FAIL  GitHub:"), "{said}");
        assert!(world.run(&["migrate"]).await.0);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_in_a_pull_request() {
    let world = Builder::new(Engine::Sqlite).start().await.unwrap();
    let (good, said) = world.run(&["demo", "--once"]).await;
    assert!(good, "{said}");
    for part in ["maria: /agent demo", "opened #2 with 2 changed files", "+echo \"Hello, world\"", "── pull request #2"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let (good, said) = world.run(&["demo", "--once", "status"]).await;
    assert!(!good && said.contains("There are no tasks on this thread."), "{said}");
    let (good, said) = world.run(&["demo", "--once", "--agent", "nobody"]).await;
    assert!(!good && said.contains("there is no agent named nobody here"), "{said}");
    world.finish().await;
}
