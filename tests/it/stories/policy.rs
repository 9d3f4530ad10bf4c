//! The policy file of a repository: it narrows what the instance allows, and a broken one changes nothing.

use serde_json::json;

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const FILE: &str = ".github/hireling.yml";

fn with_policy(engine: Engine, text: &str) -> Builder {
    Builder::new(engine).file(FILE, text)
}

/// What was looked up is remembered for a minute; a story does not wait for that.
async fn look_again(world: &World) {
    world.tamper("UPDATE policies SET looked_at = 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_says_is_done() {
    let text = "agent: ours\nagents: [ours]\nsetup: [[sh, -c, echo ready > ../scratch/ready], ['false']]\ndraft: true\n\
                labels: [by-agent]\nbase: develop\nlimits: {duration: 5h, per_day: 3}\n";
    for engine in Engine::both() {
        let builder = with_policy(engine, text).agent("ours", "cat ../scratch/ready > seen.txt; echo done");
        let Some(world) = builder.agent("other", "echo x > x").start().await else { continue };
        world.github.branch_off(REPO, "develop").await.unwrap();
        let comment = world.comment(PERSON, "/agent fix this").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let pull = world.only_pull().await;
        assert_eq!((pull.draft, pull.base.as_str()), (true, "develop"));
        assert!(world.github.diff(REPO, "main", &pull.head).await.unwrap().contains("+ready"));
        assert_eq!(world.github.labels().await, [format!("{REPO}#{} by-agent", pull.number)]);
        let answer = world.only_answer().await;
        assert!(answer.contains("A set-up command of the policy failed (false)."), "{answer}");
        world.comment(PERSON, "/agent other fix this").await;
        assert!(world.answer(1).await.contains("does not allow `other`; it allows `ours`."));
        world.comment(PERSON, "/agent config").await;
        let config = world.answer(2).await;
        for line in [
            "`.github/hireling.yml` on the default branch holds.",
            "| agent | ours | policy |",
            // Not more than the instance allows.
            "| time for a task | 45 min | instance |",
            "| commands a day | 3 | policy |",
            "| who may command | write and above | instance |",
        ] {
            assert!(config.contains(line), "{line}: {config}");
        }
        for _ in 0..2 {
            let comment = world.comment(PERSON, "/agent fix this").await;
            world.ended(comment).await;
        }
        let comment = world.comment(PERSON, "/agent fix this").await;
        assert_eq!(world.ended(comment).await, "confused");
        let is_told = |body: &str| body.contains("more than 3 commands for today");
        world
            .until("the limit is told", async |world| {
                world.answers().await.iter().any(|one| is_told(&one.body)).then_some(())
            })
            .await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_command_is_raised_and_lowered() {
    let world = with_policy(Engine::Sqlite, "who: maintain\n").start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix this").await;
    assert_eq!(world.ended(comment).await, "confused");
    assert!(world.answer(0).await.contains("maria, commands need maintain access"));
    world.github.set_permission(REPO, "tom", "triage").await;
    world.github.push_file(REPO, "main", FILE, "who: triage\n").await.unwrap();
    look_again(&world).await;
    let comment = world.comment("tom", "/agent ours fix this").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_the_last_good_one_in_force() {
    for engine in Engine::both() {
        let Some(world) = with_policy(engine, "draft: true\n").start().await else { continue };
        world.comment(PERSON, "/agent config").await;
        assert!(world.answer(0).await.contains("| drafts | yes | policy |"));
        world.github.push_file(REPO, "main", FILE, "draft: true\nagnet: ours\n").await.unwrap();
        look_again(&world).await;
        let comment = world.comment(PERSON, "/agent ours fix this").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        assert!(world.only_pull().await.draft, "the last good one holds");
        let answer = world.answer(1).await;
        assert!(answer.contains("cannot be read") && answer.contains("agnet"), "{answer}");
        world.comment(PERSON, "/agent config").await;
        let config = world.answer(2).await;
        assert!(config.contains("so the last good one holds") && config.contains("agnet"), "{config}");
        world.finish().await;
    }
}

/// A pull request that changes the file is told whether the file can be read, before it counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_that_changes_it_gets_a_verdict() {
    let mut world = with_policy(Engine::Sqlite, "draft: true\n").start().await.unwrap();
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Policy", "feature").await;
    let mut seen = 0;
    for (text, conclusion, told) in [
        ("draft: true\n", None, ""),
        ("draft: maybe\n", Some("failure"), "draft"),
        ("draft: false\n", Some("success"), "It holds once it is on the default branch."),
    ] {
        world.github.push_file(REPO, "feature", FILE, text).await.unwrap();
        tell(&world, "synchronize", PERSON).await;
        world.settled().await;
        let checks = world.github.checks().await;
        seen += usize::from(conclusion.is_some());
        assert_eq!(checks.len(), seen, "{checks:?}");
        let Some(check) = checks.last() else { continue };
        assert_eq!((check.conclusion.as_deref(), check.name.as_str()), (conclusion, FILE));
        assert!(check.summary.contains(told), "{check:?}");
    }
    // What it says there does not count.
    world.comment(PERSON, "/agent config").await;
    assert!(world.answer(0).await.contains("| drafts | yes | policy |"));
    let schema: serde_json::Value =
        reqwest::get(format!("{}/policy.schema.json", world.url)).await.unwrap().json().await.unwrap();
    assert!(schema["properties"]["agents"].is_object(), "{schema}");
    world.finish().await;
}

/// Of the pull request that is the world's issue.
async fn tell(world: &World, action: &str, login: &str) {
    let payload = world.github.payload_about(REPO, world.issue, (action, login), &json!({})).await.to_string();
    let guid = format!("{:032x}", rand::random::<u128>());
    world.github.deliver(&world.url, &guid, "pull_request", payload.as_bytes()).await.unwrap();
}

/// A push waits for further ones before it is reviewed; people's commands don't wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_holds_up_no_command() {
    let text = "review: {on: [push], debounce: 1h, agent: ours}\n";
    for engine in Engine::both() {
        let Some(mut world) = with_policy(engine, text).agent("ours", "echo x > x.txt").start().await else { continue };
        world.github.branch_off(REPO, "feature").await.unwrap();
        world.github.push_file(REPO, "feature", "a.txt", "a\n").await.unwrap();
        world.issue = world.github.open_pull(REPO, PERSON, "A", "feature").await;
        tell(&world, "synchronize", PERSON).await;
        let comment = world.comment(PERSON, "/agent ours fix this").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_by_themselves() {
    let text = "review: {on: [open, push], debounce: 5s, agent: ours}\n";
    let builder = with_policy(Engine::Sqlite, text).agent("ours", "echo '{\"findings\": []}'");
    let mut world = builder.start().await.unwrap();
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.github.push_file(REPO, "feature", "a.txt", "a\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "A", "feature").await;
    tell(&world, "opened", PERSON).await;
    world.until("it is reviewed", async |world| world.github.reviews().await.pop()).await;
    // Of two pushes right after each other, the second is reviewed.
    for number in 0..2 {
        world.github.push_file(REPO, "feature", "a.txt", &format!("{number}\n")).await.unwrap();
        tell(&world, "synchronize", PERSON).await;
    }
    world.until("it is reviewed again", async |world| world.github.reviews().await.get(1).cloned()).await;
    world.settled().await;
    assert_eq!(world.github.reviews().await.len(), 2);
    // Somebody from outside costs nothing, and is not talked to.
    let said = world.answers().await.len();
    tell(&world, "reopened", "eve").await;
    world.settled().await;
    assert_eq!((world.tasks().await.len(), world.answers().await.len()), (2, said));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_to_approve_go_to_a_draft() {
    let text = "approval: ['infra/**']\n";
    let script = "mkdir -p infra; echo x >> infra/main.tf; echo done";
    let mut world = with_policy(Engine::Sqlite, text).agent("ours", script).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix this").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert!(world.only_pull().await.draft);
    let told = "need somebody's approval, so the work is on a branch of its own, with a draft: infra/main.tf.";
    assert!(world.only_answer().await.contains(told), "{}", world.only_answer().await);
    // On a pull request it does not go to that branch, either.
    world.github.branch_off(REPO, "feature").await.unwrap();
    let head = world.github.push_file(REPO, "feature", "a.txt", "a\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "A", "feature").await;
    let comment = world.comment(PERSON, "/agent ours fix this").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let now = world.github.branches(REPO).await.unwrap().into_iter().find(|(name, _)| name == "feature").unwrap().1;
    assert_eq!(now, head);
    let pull = world.github.pulls(REPO).await.pop().unwrap();
    assert!(pull.draft && pull.base == "feature" && pull.body.contains(&format!("For #{}", world.issue)), "{pull:?}");
    world.finish().await;
}

/// Neither a second opinion nor earlier work is a way around what people have to approve.
#[tokio::test(flavor = "multi_thread")]
async fn paths_to_approve_stay_in_drafts() {
    let text = "approval: ['infra/**']\nagents: [ours, plain]\n";
    let builder = with_policy(Engine::Sqlite, text).agent("plain", "echo x >> plain.txt; echo done");
    let builder = builder.agent("ours", "mkdir -p infra; echo x >> infra/main.tf; echo done");
    let world = builder.agent("theirs", "echo fine").start().await.unwrap();
    world.comment(PERSON, "/agent ours --review-by theirs fix this").await;
    assert!(world.answer(0).await.contains("does not allow `theirs`"), "{}", world.answer(0).await);
    let comment = world.comment(PERSON, "/agent ours --review-by plain fix this").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    assert!(world.only_pull().await.draft, "reviewed, but not approved");
    world.finish().await;

    let script = "if [ -e ours.txt ]; then mkdir -p infra; echo x > infra/main.tf; fi; echo x >> ours.txt; echo done";
    let builder = with_policy(Engine::Sqlite, text).agent("ours", script).agent("plain", "true");
    let world = builder.start().await.unwrap();
    for request in ["/agent ours one", "/agent ours two"] {
        let comment = world.comment(PERSON, request).await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    }
    let pulls = world.github.pulls(REPO).await;
    let drafts: Vec<bool> = pulls.iter().map(|pull| pull.draft).collect();
    assert_eq!(drafts, [false, true], "the second is not added to what is ready: {}", world.account().await);
    world.finish().await;
}

/// A base that the policy names begins the first work; the next goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_under_a_policy_with_a_base() {
    let builder = with_policy(Engine::Sqlite, "base: develop\n").agent("ours", "echo x >> ours.txt; echo done");
    let world = builder.start().await.unwrap();
    world.github.branch_off(REPO, "develop").await.unwrap();
    for request in ["/agent ours one", "/agent ours two"] {
        let comment = world.comment(PERSON, request).await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    }
    let pull = world.only_pull().await;
    assert_eq!(pull.base, "develop");
    assert_eq!(world.github.file(REPO, &pull.head, "ours.txt").await.unwrap(), "x\nx\n");
    world.finish().await;
}
