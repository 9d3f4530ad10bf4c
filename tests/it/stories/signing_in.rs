//! Signing in and out: with GitHub and with Vercel, from this browser only, once; two people who are
//! one become one.

use hireling::adapters::system::SystemClock;
use hireling::domain::agent::Provider;
use hireling::domain::ids::UserId;
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;
use hireling::ports::clock::Clock as _;
use reqwest::Method;

use crate::support::vercel_signin::{CLIENT_ID, CLIENT_SECRET, VercelSignIn};
use crate::support::visitor::{Answer, Visitor};
use crate::support::world::{Builder, Engine, PERSON, World};

async fn world_with_both(engine: Engine) -> Option<(World, VercelSignIn)> {
    let vercel = VercelSignIn::start().await;
    let builder = Builder::new(engine)
        .setting("VERCEL_OAUTH_URL", &vercel.url)
        .setting("VERCEL_CLIENT_ID", CLIENT_ID)
        .setting("VERCEL_CLIENT_SECRET", CLIENT_SECRET);
    Some((builder.start().await?, vercel))
}

/// Links an account from the settings page. GitHub asks who one is.
async fn link(visitor: &mut Visitor, with: &str) -> Answer {
    let page = visitor.get("/settings").await;
    let fields = page.hidden_fields("/settings/accounts/link", &format!("value=\"{with}\""));
    let origin = visitor.base.clone();
    let away = visitor.send(Method::POST, "/settings/accounts/link", &fields, &origin).await;
    let login = if with == "github" { format!("&login={PERSON}") } else { String::new() };
    visitor.get(&format!("{}{login}", away.location())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_github_and_out_again() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let mut maria = Visitor::new(&world);
        let asked = maria.get("/settings").await;
        assert!(asked.url.ends_with("/signin?next=%2Fsettings"), "{}", asked.url);
        let there = maria.arrive(PERSON, "/settings").await;
        assert_eq!((there.status, there.url.clone()), (200, format!("{}/settings", world.url)));
        assert!(there.body.contains("maria@example.com") && there.body.contains("Visitor/1.0"), "{}", there.body);
        assert_eq!(world.github.user_tokens().await, 0, "the token was ended");
        let cookie = maria.cookies.get("__Host-session").unwrap().clone();
        let out = maria.submit(&there, "/auth/signout", "", &[]).await;
        assert_eq!(out.status, 200);
        assert!(!maria.cookies.contains_key("__Host-session"));
        // Whoever kept the cookie has nothing.
        maria.cookies.insert("__Host-session".into(), cookie);
        assert!(maria.get("/settings").await.url.contains("/signin"));
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_safe_and_the_session_new_each_time() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let mut maria = Visitor::sign_in(&world, PERSON).await;
    let first = maria.cookies["__Host-session"].clone();
    let away = maria.send(Method::GET, "/auth/github", &[], "").await;
    let cookie = away.headers["set-cookie"].to_str().unwrap();
    for part in ["__Host-signin=v1.", "; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=600", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    maria.arrive(PERSON, "/tasks").await;
    assert_ne!(maria.cookies["__Host-session"], first);
    // Both are sessions until one is ended; then it is over at once.
    let mut other = Visitor::new(&world);
    other.cookies.insert("__Host-session".into(), first);
    assert!(other.get("/settings").await.url.ends_with("/settings"));
    let page = maria.get("/settings").await;
    assert_eq!(page.body.matches("name=\"session\"").count(), 2, "the other one, and all");
    let after = maria.submit(&page, "/settings/sessions/revoke", "End the session", &[]).await;
    assert!(after.text().contains("That session is over."), "{}", after.body);
    assert!(other.get("/settings").await.url.contains("/signin"));
    let out = maria.submit(&after, "/settings/sessions/revoke", "value=\"all\"", &[]).await;
    assert!(out.text().contains("You are signed out everywhere."), "{}", out.body);
    assert!(maria.get("/settings").await.url.contains("/signin"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_from_elsewhere_or_used_counts_for_nothing() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let callback = "/api/auth/github/callback";
    let mut maria = Visitor::new(&world);
    let away = maria.send(Method::GET, "/auth/github", &[], "").await;
    let back = maria.send(Method::GET, &format!("{}&login={PERSON}", away.location()), &[], "").await;
    let good = back.location().to_owned();
    let state = url::Url::parse(&good).unwrap().query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let nobody = |answer: &Answer| {
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text().contains("was not begun in this browser"), "{}", answer.body);
    };
    // Another browser, no state, another state, a state of another sign-in.
    nobody(&Visitor::new(&world).get(&good).await);
    for query in ["", "?code=x", "?code=x&state=", "?state=x&code=x"] {
        let mut copy = Visitor::new(&world);
        copy.cookies = maria.cookies.clone();
        nobody(&copy.get(&format!("{callback}{query}")).await);
    }
    let mut other = Visitor::new(&world);
    other.send(Method::GET, "/auth/github", &[], "").await;
    nobody(&other.get(&good).await);
    // A wrong code with the right state uses the state up.
    let mut copy = Visitor::new(&world);
    copy.cookies = maria.cookies.clone();
    nobody(&copy.get(&format!("{callback}?code=wrong&state={state}")).await);
    let mut kept = Visitor::new(&world);
    kept.cookies = maria.cookies.clone();
    nobody(&maria.get(&good).await);
    nobody(&kept.get(&good).await);
    // The way back of one provider is not that of the other.
    let mut crossed = Visitor::new(&world);
    let away = crossed.send(Method::GET, "/auth/github", &[], "").await;
    let back = crossed.send(Method::GET, &format!("{}&login={PERSON}", away.location()), &[], "").await;
    nobody(&crossed.get(&back.location().replace("github/callback", "callback/vercel")).await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_sign_in_and_an_old_session_are_over() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let mut maria = Visitor::sign_in(&world, PERSON).await;
    world.tamper("UPDATE sessions SET used_at = used_at - 43300000").await;
    assert!(maria.get("/settings").await.url.contains("/signin"), "idle for twelve hours");
    maria.arrive(PERSON, "/tasks").await;
    world.tamper("UPDATE sessions SET created_at = created_at - 604900000").await;
    assert!(maria.get("/settings").await.url.contains("/signin"), "seven days old");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_another_host() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let mut maria = Visitor::new(&world);
    for next in [
        "//evil.test",
        "/%5Cevil.test",
        "https://evil.test",
        "%2F%2Fevil.test",
        "/%09/evil.test",
        "javascript:alert(1)",
    ] {
        for path in ["/signin", "/auth/github"] {
            let answer = maria.send(Method::GET, &format!("{path}?next={next}"), &[], "").await;
            assert_eq!(answer.status, 400, "{path} {next}");
            assert!(!answer.body.contains("evil"), "{}", answer.body);
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_too_often_has_to_wait() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let mut eve = Visitor::new(&world);
    let minute = || SystemClock.now().0.div_euclid(60_000);
    loop {
        let begun = minute();
        let mut codes = Vec::new();
        for _ in 0..31 {
            codes.push(eve.send(Method::GET, "/api/auth/github/callback?code=x&state=y", &[], "").await.status);
        }
        let other = eve.send(Method::GET, "/auth/github", &[], "").await.status;
        // Tries are counted anew each minute.
        if minute() == begun {
            assert_eq!((codes[30], other), (429, 429));
            break;
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_is_linked_and_signs_the_same_person_in() {
    for engine in Engine::both() {
        let Some((world, vercel)) = world_with_both(engine).await else { continue };
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = link(&mut maria, "vercel").await;
        assert!(page.text().contains("Linked.") && page.text().contains("maria-v"), "{}", page.body);
        assert_eq!(vercel.tokens(), 0);
        let mut other = Visitor::new(&world);
        let page = other.get("/auth/vercel?next=/settings").await;
        assert!(page.text().contains("maria@example.com"), "{}", page.body);
        // Unlinked, Vercel signs in somebody new.
        let page = maria.get("/settings").await;
        maria.submit(&page, "/settings/accounts/unlink", "", &[]).await;
        let mut third = Visitor::new(&world);
        let page = third.get("/auth/vercel?next=/settings").await;
        assert!(!page.text().contains("maria@example.com"), "{}", page.body);
        world.finish().await;
    }
}

/// One came by Vercel first and left a key. Linking asks, and then moves it over.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_become_one_after_they_were_asked() {
    for engine in Engine::both() {
        for begins_on in ["github", "vercel"] {
            let Some((world, _vercel)) = world_with_both(engine).await else { continue };
            let mut by_vercel = Visitor::new(&world);
            by_vercel.get("/auth/vercel").await;
            let page = by_vercel.get("/settings/keys").await;
            let fields = [("provider", "cursor"), ("key", "key_of_the_vercel_person")];
            let page = by_vercel.submit(&page, "/settings/keys", "value=\"me\"", &fields).await;
            assert!(page.text().contains("Saved."), "{}", page.body);
            let mut by_github = Visitor::sign_in(&world, PERSON).await;
            let (mut here, with) = if begins_on == "github" { (by_github, "vercel") } else { (by_vercel, "github") };
            let question = link(&mut here, with).await;
            assert!(question.text().contains("already belongs to another person"), "{}", question.body);
            let maria = UserId(world.github.user_id(PERSON).await);
            let app = world.app(&[]).await;
            assert!(app.store.keys_owned_by(KeyOwner::Person(maria)).await.unwrap().is_empty(), "not yet");
            // The proof is for this session alone.
            let proof = question.hidden_fields("/settings/accounts/merge", "");
            let mut eve = Visitor::sign_in(&world, "eve").await;
            let page = eve.get("/settings").await;
            let stolen = page.hidden_fields("/settings/accounts/link", "");
            let fields = [stolen[0].clone(), proof[1].clone()];
            let origin = world.url.clone();
            assert_eq!(eve.send(Method::POST, "/settings/accounts/merge", &fields, &origin).await.status, 403);
            let page = here.submit(&question, "/settings/accounts/merge", "", &[]).await;
            assert!(page.text().contains("You are one person here now."), "{}", page.body);
            assert!(page.text().contains("maria-v") && page.text().contains("maria@example.com"), "{}", page.body);
            let keys = app.store.keys_owned_by(KeyOwner::Person(maria)).await.unwrap();
            assert_eq!(keys.iter().map(|key| key.provider).collect::<Vec<_>>(), [Provider::Cursor]);
            assert_eq!(app.rotate_keys().await.unwrap().closed, 0, "what was moved opens");
            app.store.close().await;
            by_github = Visitor::new(&world);
            let page = by_github.get("/auth/vercel?next=/settings/keys").await;
            assert!(page.text().contains("Cursor"), "{}", page.body);
            world.finish().await;
        }
    }
}

/// Somebody on Vercel only, who links a GitHub account that nobody has, is that person from then on.
#[tokio::test(flavor = "multi_thread")]
async fn who_came_by_vercel_becomes_the_person_on_github() {
    let (world, _vercel) = world_with_both(Engine::Sqlite).await.unwrap();
    let mut visitor = Visitor::new(&world);
    visitor.get("/auth/vercel").await;
    let maria = UserId(world.github.user_id(PERSON).await);
    let app = world.app(&[]).await;
    let page = link(&mut visitor, "github").await;
    assert!(page.text().contains("maria-v") && page.text().contains("maria@example.com"), "{}", page.body);
    let key = Secret::new("key_of_maria_herself");
    app.save_key(KeyOwner::Person(maria), Provider::Cursor, &key, maria).await.unwrap();
    assert!(visitor.get("/settings/keys").await.text().contains("Cursor</strong>"));
    app.store.close().await;
    // Another Vercel account cannot be hers, too.
    _vercel.is("user_2", "other-v");
    let mut other = Visitor::sign_in(&world, PERSON).await;
    assert!(!other.get("/settings").await.body.contains("Link Vercel"));
    world.finish().await;
}
