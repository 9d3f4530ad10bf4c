//! What people do with the pages, in Chromium: with the keyboard and screen readers in mind, in light and
//! dark, on a phone, and without script where nothing is live.

use crate::support::chromium::Chromium;
use crate::support::vercel_signin::{CLIENT_ID, CLIENT_SECRET, VercelSignIn};
use crate::support::world::{Builder, Engine, OPERATOR, PERSON, World};

/// Says who one is on the stand-in's page.
async fn sign_in(browser: &Chromium, world: &World, login: &str) {
    world.github.user_id(login).await;
    browser.go(&format!("{}/signin", world.url)).await;
    browser.click("main a.button").await;
    browser.click(&format!("#as-{login}")).await;
    browser.until("return location.pathname === '/tasks'").await;
}

/// Whoever goes on before the answer is here is taken back by it.
async fn sign_out(browser: &Chromium) {
    browser.click(".signout button").await;
    browser.until("return document.querySelector('a.signin') !== null").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_evening_from_the_link_to_a_key() {
    let Some(browser) = Chromium::start().await else { return };
    let mut builder = Builder::new(Engine::Sqlite).without_an_app();
    for name in
        ["GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY", "GITHUB_WEBHOOK_SECRET", "GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"]
    {
        builder = builder.setting(name, "");
    }
    let mut world = builder.start().await.unwrap();
    let link = world.setup_link().await;
    browser.go(&format!("{}{link}", world.url)).await;
    browser.screenshot("set-up").await;
    assert_eq!(browser.axe().await.unwrap_or_default(), Vec::<String>::new());
    browser.click("main form[method=post] button").await;
    browser.until_text("hireling is made").await;
    world
        .until("GitHub's ping is here", async |world| {
            let store = world.store().await;
            let at = store.last_delivery_at().await.unwrap();
            store.close().await;
            at
        })
        .await;
    browser.click("main ol a[href='/setup/next']").await;
    browser.until_text("GitHub reached us at").await;
    browser.screenshot("set-up-next").await;
    assert_eq!(browser.axe().await.unwrap_or_default(), Vec::<String>::new());
    browser.click("main a[href^='/signin']").await;
    browser.click("main a.button").await;
    browser.click(&format!("#as-{PERSON}")).await;
    browser.until_text("No key yet.").await;
    browser.write("input[name=key]", "key_of_maria_herself").await;
    browser.run("document.querySelector('select[name=provider]').value = 'cursor'").await;
    browser.click("form[action='/settings/keys'] button").await;
    browser.until_text("Saved.").await;
    assert!(!browser.run("return document.documentElement.outerHTML").await.to_string().contains("key_of_maria"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    world.finish().await;
}

const TALKS: &str = "echo x > ../scratch/here; for i in $(seq 1 900); do echo \"line $i of many\"; done; \
    while [ ! -e ../scratch/go ]; do sleep 0.05; done; echo a late word; sleep 600";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_watched_as_it_goes_and_cancelled() {
    let Some(browser) = Chromium::start().await else { return };
    let world = Builder::new(Engine::Sqlite).agent("ours", TALKS).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours paint the button").await;
    let (scratch, _) = world.scratch_file("here").await;
    sign_in(&browser, &world, PERSON).await;
    browser.click("main .list a").await;
    browser.until_text("line 900 of many").await;
    browser.until("const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 5")
        .await;
    browser.screenshot("task-running").await;
    assert_eq!(browser.axe().await.unwrap_or_default(), Vec::<String>::new());
    // Scrolled up it loads what came before, and what comes does not move it.
    browser.run("const log = document.getElementById('log'); log.scrollTop = 0").await;
    browser.until("return document.querySelector('#log li').textContent.includes('Read the issue')").await;
    browser.until("return document.getElementById('follow').getAttribute('aria-pressed') === 'false'").await;
    std::fs::write(scratch.join("go"), "").unwrap();
    browser
        .until("return [...document.querySelectorAll('#log li')].some((line) => line.textContent === 'a late word')")
        .await;
    let from_end =
        "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight";
    assert!(browser.run(from_end).await.as_f64().unwrap() > 5_000.0, "what comes does not move what is read");
    browser.click("#follow").await;
    browser.until("const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 5")
        .await;
    browser.write("input[name=q]", "line 77").await;
    browser.click(".bar form button").await;
    browser.until("return document.querySelectorAll('#log .number').length === 11").await;
    browser.go(&format!("{}/tasks/{}", world.url, world.last_task().await.id)).await;
    browser.click("form[action$='/cancel'] button").await;
    browser.until_text("cancelled").await;
    assert_eq!(world.ended(comment).await, "confused");
    browser.until_text("Run again").await;
    browser.screenshot("task-cancelled").await;
    sign_out(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_become_one_person() {
    let Some(browser) = Chromium::start().await else { return };
    let vercel = VercelSignIn::start().await;
    let world = Builder::new(Engine::Sqlite)
        .setting("VERCEL_OAUTH_URL", &vercel.url)
        .setting("VERCEL_CLIENT_ID", CLIENT_ID)
        .setting("VERCEL_CLIENT_SECRET", CLIENT_SECRET)
        .start()
        .await
        .unwrap();
    browser.go(&format!("{}/signin", world.url)).await;
    browser.click("main a[href^='/auth/vercel']").await;
    browser.until("return location.pathname === '/tasks'").await;
    sign_out(&browser).await;
    sign_in(&browser, &world, PERSON).await;
    browser.go(&format!("{}/settings", world.url)).await;
    browser.click("form[action='/settings/accounts/link'] button").await;
    browser.until_text("Is this you, too?").await;
    browser.screenshot("merge").await;
    assert_eq!(browser.axe().await.unwrap_or_default(), Vec::<String>::new());
    browser.click("main form button").await;
    browser.until_text("You are one person here now.").await;
    assert!(browser.text().await.contains("maria-v"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_for_everybody() {
    let Some(browser) = Chromium::start().await else { return };
    let says = "printf 'All is well.\\n'; echo b > b; echo oops >&2";
    let world = Builder::new(Engine::Sqlite).agent("ours", says).start().await.unwrap();
    let hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
    let comment = world.comment(PERSON, &format!("/agent ours {hostile}{}", "a-very-long-word".repeat(40))).await;
    world.ended(comment).await;
    let task = world.last_task().await;
    sign_in(&browser, &world, OPERATOR).await;
    for path in ["/settings/keys", "/settings/connectors?preset=linear"] {
        browser.go(&format!("{}{path}", world.url)).await;
        if path.contains("keys") {
            browser.write("input[name=key]", "key_of_the_operator").await;
            browser.run("document.querySelector('select[name=provider]').value = 'cursor'").await;
        } else {
            browser.write("textarea[name=secrets]", "LINEAR_API_KEY=lin_secret").await;
        }
        browser.click("form.fields button.primary").await;
        browser.until_text("Saved.").await;
    }
    let pages = [
        ("home", "/".to_owned()),
        ("sign-in", "/signin".to_owned()),
        ("tasks", "/tasks".to_owned()),
        ("no-tasks", "/tasks?q=nothing".to_owned()),
        ("task", format!("/tasks/{}", task.id)),
        ("task-search", format!("/tasks/{}?q=well", task.id)),
        ("settings", "/settings".to_owned()),
        ("keys", "/settings/keys".to_owned()),
        ("connectors", "/settings/connectors".to_owned()),
        ("connector", "/settings/connectors?owner=me&edit=linear".to_owned()),
        ("deliveries", "/deliveries".to_owned()),
        ("delivery", format!("/deliveries/{}", task.delivery)),
        ("why", format!("/why?url={}/acme/shop/issues/1", world.github.url)),
        ("nothing", "/nowhere".to_owned()),
    ];
    let pages = pages
        .into_iter()
        .chain([("installations", "/installations".to_owned()), ("set-up-next", "/setup/next".to_owned())]);
    let pages: Vec<(&str, String)> = pages.collect();
    for (dark, width) in [(false, 1200), (true, 1200), (false, 360), (true, 360)] {
        browser.set_dark(dark).await;
        browser.set_width(width).await;
        for (name, path) in &pages {
            browser.go(&format!("{}{path}", world.url)).await;
            let light = if dark { "dark" } else { "light" };
            browser.screenshot(&format!("{name}-{light}-{width}")).await;
            assert_eq!(browser.axe().await.unwrap_or_default(), Vec::<String>::new(), "{name} {light} {width}");
            let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
            assert!(overflow.as_f64().unwrap() <= 0.0, "{name} is {overflow} px too wide at {width}");
            assert_ne!(browser.run("return document.title").await, "owned", "{name}");
        }
    }
    // The 404 above is the only thing that went wrong.
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("/nowhere")), "{complaints:?}");
    browser.close().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_script_everything_but_the_living_works() {
    let Some(browser) = Chromium::start().await else { return };
    let world = Builder::new(Engine::Sqlite)
        .agent("ours", "for i in $(seq 1 900); do echo \"line $i of many\"; done; echo b > b; echo ok")
        .start()
        .await
        .unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    browser.set_script(false).await;
    browser.go(&format!("{}/signin", world.url)).await;
    browser.click("main a.button").await;
    browser.click(&format!("#as-{PERSON}")).await;
    browser.click("main .list a").await;
    browser.click("#earlier").await;
    browser.click("#later").await;
    browser.click("header a[href='/settings']").await;
    browser.click("input[name=draft]").await;
    browser.click("form[action='/settings/preferences'] button").await;
    browser.click("main p.notice").await;
    browser.click(".signout button").await;
    browser.click("main a[href='/signin']").await;
    browser.set_script(true).await;
    browser.close().await;
    world.finish().await;
}

/// Far longer than the window: read from the end to the beginning and back, no line is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_read_from_end_to_end() {
    let Some(browser) = Chromium::start().await else { return };
    let says = "seq 1 9000 | sed 's/$/ of many/'; echo b > b";
    let world = Builder::new(Engine::Sqlite).agent("ours", says).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours count").await;
    world.ended(comment).await;
    browser.go(&format!("{}/tasks/{}", world.url, world.last_task().await.id)).await;
    // Scrolls page by page, and notes every line that was to be seen.
    let read = |by: &str, end: &str| {
        format!(
            "const log = document.getElementById('log'), seen = new Set(); let most = 0; \
             const frame = () => new Promise((next) => requestAnimationFrame(next)); \
             (async () => {{ for (let still = 0; still < 30;) {{ \
                 const box = log.getBoundingClientRect(); most = Math.max(most, log.childElementCount); \
                 for (const line of log.children) {{ const at = line.getBoundingClientRect(); \
                     if (at.bottom > box.top && at.top < box.bottom && line.textContent.endsWith(' of many')) \
                         seen.add(Number(line.textContent.split(' ')[0])); }} \
                 const is_over = {end}; still = is_over ? still + 1 : 0; \
                 if (!is_over) log.scrollTop += {by} * log.clientHeight * 0.9; \
                 await frame(); }} done([seen.size, most]); }})()"
        )
    };
    let up = read("-1", "log.scrollTop === 0 && log.firstElementChild.textContent.includes('Read the issue')");
    let down = read(
        "1",
        "log.scrollHeight - log.scrollTop - log.clientHeight < 2 && log.lastElementChild.textContent.includes('Publish')",
    );
    for way in [up, down] {
        let read: (usize, usize) = serde_json::from_value(browser.run_until_done(&way).await).unwrap();
        assert_eq!(read.0, 9000, "no line is left out: {way}");
        assert!(read.1 <= 3_000, "{} lines were held at once", read.1);
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
    world.finish().await;
}
