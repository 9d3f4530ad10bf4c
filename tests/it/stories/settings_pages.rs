//! The pages on which people link keys and connectors and say what they want of every task.

use hireling::domain::ids::{InstallationId, UserId};
use hireling::domain::person::SeenInstallation;

use crate::support::vendor::{Reply, Vendor};
use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_linked_on_the_page_and_pays() {
    for engine in Engine::both() {
        let vendor = Vendor::start(|asked| match asked.header("x-api-key") {
            "sk-ant-of-maria-herself" => Reply::json(200, "{}"),
            _ => Reply::json(401, "{}"),
        })
        .await;
        let builder = Builder::new(engine).setting("ANTHROPIC_BASE_URL", &vendor.url);
        let builder =
            builder.setting("ANTHROPIC_API_KEY", "").gateway_agent("paid", "\"anthropic\"", "echo a > a; echo ok");
        let Some(mut world) = builder.start().await else { continue };
        world.comment(PERSON, "/agent paid fix it").await;
        let answer = world.answer(0).await;
        let link = format!("{}/settings/keys", world.url);
        assert!(answer.contains(&link), "{answer}");
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = maria.get("/settings/keys").await;
        assert!(page.text().contains("No key yet."));
        let save = |key: &'static str| [("provider", "anthropic"), ("key", key)];
        let refused = maria.submit(&page, "/settings/keys", "", &save("sk-ant-a-wrong-one")).await;
        assert_eq!(refused.status, 422);
        assert!(refused.text().contains("Anthropic refuses this key. Nothing was saved."), "{}", refused.body);
        assert!(!refused.body.contains("sk-ant"), "what was typed is not shown again");
        let saved = maria.submit(&page, "/settings/keys", "", &save("sk-ant-of-maria-herself")).await;
        assert!(saved.text().contains("Saved.") && saved.text().contains("Anthropic</strong>"), "{}", saved.body);
        assert!(!saved.body.contains("sk-ant") && saved.text().contains("used never"), "{}", saved.body);
        let tested = maria.submit(&saved, "/settings/keys/test", "anthropic", &[]).await;
        assert!(tested.text().contains("The vendor accepts this key."), "{}", tested.body);
        world.next_issue().await;
        let comment = world.comment(PERSON, "/agent paid fix it").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        assert!(world.only_answer().await.contains("maria's own key"));
        assert!(!maria.get("/settings/keys").await.text().contains("used never"));
        let page = maria.get("/settings").await;
        assert!(page.text().contains("saved a key: anthropic "), "{}", page.body);
        let page = maria.get("/settings/keys").await;
        let gone = maria.submit(&page, "/settings/keys/delete", "anthropic", &[]).await;
        assert!(gone.text().contains("Deleted.") && gone.text().contains("No key yet."));
        world.finish().await;
    }
}

/// Administrators of an organization see to its keys; members and others do not.
#[tokio::test(flavor = "multi_thread")]
async fn an_organizations_keys_are_for_its_administrators() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    let installation = world.last_task().await.thread.installation;
    world.github.set_membership("acme", "anna", "admin").await;
    world.github.set_membership("acme", PERSON, "member").await;
    let mut anna = Visitor::sign_in(&world, "anna").await;
    let page = anna.get("/settings/keys").await;
    assert!(page.text().contains("<h2>acme</h2>"), "{}", page.body);
    let fields = [("provider", "cursor"), ("key", "key_of_the_organization")];
    let mark = format!("value=\"{installation}\"");
    let saved = anna.submit(&page, "/settings/keys", &mark, &fields).await;
    assert!(saved.text().contains("Saved."), "{}", saved.body);
    // What was done with them is for its administrators, too.
    let told = "Keys and connectors of acme";
    let page = anna.get("/settings").await.text();
    assert!(page.contains(told) && page.contains("anna saved a key: cursor"), "{page}");
    let mut maria = Visitor::sign_in(&world, PERSON).await;
    let page = maria.get("/settings").await.text();
    assert!(!page.contains(told), "{page}");
    let page = maria.get("/settings/keys").await;
    assert!(!page.text().contains("acme") && !page.text().contains("Cursor</strong>"), "{}", page.body);
    // She names the organization all the same, as owner of a key, and of one that is not there.
    for owner in [installation.to_string(), "999999".to_owned(), String::new()] {
        for (action, field) in [("/settings/keys", "key"), ("/settings/keys/test", "x"), ("/settings/keys/delete", "x")]
        {
            let token = match action {
                "/settings/keys" => page.hidden_fields(action, "")[0].1.clone(),
                _ => {
                    // Her own forms for these appear with a key of her own.
                    let mine = [("provider", "gemini"), ("key", "key_of_maria_herself")];
                    let with_key = maria.submit(&page, "/settings/keys", "", &mine).await;
                    with_key.hidden_fields(action, "")[0].1.clone()
                }
            };
            let fields =
                [("token", token.as_str()), ("owner", &owner), ("provider", "cursor"), (field, "key_of_an_attacker")];
            let fields: Vec<(String, String)> =
                fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let origin = world.url.clone();
            let answer = maria.send(reqwest::Method::POST, action, &fields, &origin).await;
            assert_eq!(answer.status, 404, "{action} for {owner}");
        }
    }
    let app = world.app(&[]).await;
    let kept = app.store.keys_of(UserId(-1), InstallationId(installation.0)).await.unwrap();
    assert_eq!(kept.len(), 1);
    app.store.close().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_added_edited_switched_and_deleted() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = maria.get("/settings/connectors").await;
        assert_eq!(page.body.matches("?preset=").count(), 9);
        let page = maria.get("/settings/connectors?preset=linear").await;
        assert!(page.text().contains("LINEAR_API_KEY=") && page.text().contains("https://mcp.linear.app/sse"));
        let form = |secrets: &'static str, url: &'static str| {
            [
                ("owner", "me"),
                ("name", "linear"),
                ("kind", "remote"),
                ("url", url),
                ("protocol", "sse"),
                ("headers", "Authorization: Bearer ${LINEAR_API_KEY}"),
                ("secrets", secrets),
            ]
        };
        let url = "https://mcp.linear.app/sse";
        let missing = maria.submit(&page, "/settings/connectors", "name=\"name\"", &form("LINEAR_API_KEY=", url)).await;
        assert_eq!(missing.status, 422);
        assert!(missing.text().contains("the secret LINEAR_API_KEY is mentioned but not given"), "{}", missing.body);
        let given = form("LINEAR_API_KEY=lin_api_secret", url);
        let saved = maria.submit(&page, "/settings/connectors", "name=\"name\"", &given).await;
        assert!(saved.text().contains("Saved.") && saved.text().contains(url), "{}", saved.body);
        assert!(!saved.body.contains("lin_api_secret"));
        let tested = maria.submit(&saved, "/settings/connectors/test", "linear", &[]).await;
        assert!(tested.text().contains("It can be opened"), "{}", tested.body);
        let off = maria.submit(&saved, "/settings/connectors/switch", "linear", &[]).await;
        assert!(off.text().contains("Turn on"), "{}", off.body);
        // An edit that says nothing of the secrets keeps them, unless it leads elsewhere.
        let edit = maria.get("/settings/connectors?owner=me&edit=linear").await;
        assert!(!edit.body.contains("lin_api_secret") && edit.text().contains("Edit linear"));
        let fields = form("", "https://mcp.linear.app/mcp");
        let saved = maria.submit(&edit, "/settings/connectors", "name=\"edit\"", &fields[2..]).await;
        assert!(
            saved.text().contains("Saved.") && saved.text().contains("https://mcp.linear.app/mcp"),
            "{}",
            saved.body
        );
        let fields = form("", "https://evil.example.com/mcp");
        let refused = maria.submit(&edit, "/settings/connectors", "name=\"edit\"", &fields[2..]).await;
        assert!(refused.text().contains("LINEAR_API_KEY is mentioned but not given"), "{}", refused.body);
        for bad in ["http://mcp.linear.app/", "https://10.0.0.1/", "https://localhost/"] {
            let fields = form("LINEAR_API_KEY=x", bad);
            let refused = maria.submit(&edit, "/settings/connectors", "name=\"edit\"", &fields[2..]).await;
            assert_eq!(refused.status, 422, "{bad}");
        }
        let page = maria.get("/settings/connectors").await;
        let gone = maria.submit(&page, "/settings/connectors/delete", "linear", &[]).await;
        assert!(gone.text().contains("Deleted.") && gone.text().contains("No connector yet."));
        assert_eq!(maria.get("/settings/connectors?owner=me&edit=linear").await.status, 404);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_prefers_holds_for_the_next_command() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("theirs", "echo b > b; echo mine").start().await else {
            continue;
        };
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = maria.get("/settings").await;
        let wrong = [("agent", "nobody"), ("max_messages_per_day", "3")];
        let refused = maria.submit(&page, "/settings/preferences", "", &wrong).await;
        assert_eq!(refused.status, 422);
        assert!(refused.text().contains("There is no agent of this name here."), "{}", refused.body);
        for (field, value, says) in [
            ("max_messages_per_day", "51", "a number up to 50"),
            ("max_sandbox_duration", "5h", "up to 45 min"),
            ("model-opencode", "gpt-5", "opencode: "),
        ] {
            let refused = maria.submit(&page, "/settings/preferences", "", &[(field, value)]).await;
            assert!(refused.status == 422 && refused.text().contains(says), "{}", refused.body);
        }
        let wanted = [
            ("agent", "theirs"),
            ("model-claude", "opus"),
            ("max_messages_per_day", "2"),
            ("max_sandbox_duration", "10m"),
            ("draft", "on"),
        ];
        let saved = maria.submit(&page, "/settings/preferences", "", &wanted).await;
        assert!(saved.text().contains("Saved.") && saved.body.contains("value=\"opus\""), "{}", saved.body);
        let comment = world.comment(PERSON, "/agent fix it").await;
        assert_eq!(world.ended(comment).await, "rocket");
        assert!(world.only_pull().await.draft);
        let task = world.last_task().await;
        assert_eq!(
            (task.agent.as_str(), task.options.timeout_s, task.options.draft),
            ("theirs", Some(600), Some(true))
        );
        world.next_issue().await;
        let comment = world.comment(PERSON, "/agent ours --ready --timeout 30m fix it").await;
        assert_eq!(world.ended(comment).await, "rocket");
        let task = world.last_task().await;
        assert_eq!((task.agent.as_str(), task.options.timeout_s, task.options.draft), ("ours", Some(600), Some(false)));
        world.comment(PERSON, "/agent ours once more").await;
        let answer = world.answer(1).await;
        assert!(answer.contains("2 commands"), "{answer}");
        let page = maria.get("/settings").await;
        assert!(page.text().contains("2 of 2 commands used today (UTC)."), "{}", page.body);
        // Others are asked for nothing.
        world.github.set_permission(REPO, "paul", "write").await;
        world.next_issue().await;
        let comment = world.comment("paul", "/agent ours fix it").await;
        assert_eq!(world.ended(comment).await, "rocket");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_take_their_data_with_them_and_have_it_deleted() {
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        world.ended(comment).await;
        let task = world.last_task().await;
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let page = maria.get("/settings/keys").await;
        let fields = [("provider", "cursor"), ("key", "key_of_maria_herself")];
        maria.submit(&page, "/settings/keys", "", &fields).await;
        let seen = SeenInstallation { id: InstallationId(5001), account: "acme".into(), is_organization: true };
        let store = world.store().await;
        store.store_installations(task.requester.id, &[seen]).await.unwrap();
        store.close().await;
        let export = maria.get("/settings/export").await;
        let data: serde_json::Value = serde_json::from_str(&export.body).unwrap();
        assert_eq!(data["login"], PERSON);
        assert_eq!(data["tasks"][0], task.id.0);
        assert_eq!(data["keys"][0]["provider"], "cursor");
        assert_eq!(data["accounts"][0]["email"], "maria@example.com");
        assert!(data["installations"][0] == "acme" && data["usage_this_month"]["tasks"] == 1, "{data}");
        assert!(!export.body.contains("key_of_maria"));
        let page = maria.get("/settings").await;
        let kept = maria.submit(&page, "/settings/delete", "", &[("login", "somebody")]).await;
        assert_eq!(kept.status, 422);
        let gone = maria.submit(&page, "/settings/delete", "", &[("login", PERSON)]).await;
        assert_eq!(gone.status, 200);
        assert!(maria.get("/settings").await.url.contains("/signin"));
        let mut again = Visitor::sign_in(&world, PERSON).await;
        assert!(again.get("/settings/keys").await.text().contains("No key yet."));
        world.finish().await;
    }
}
