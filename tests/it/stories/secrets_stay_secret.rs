//! An agent that obeys an attacker finds nothing worth stealing, reaches nothing of the host, and
//! what it prints does nothing to those who read it.

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Everything an agent can think of to get at secrets and at the host.
const THIEF: &str = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
    git config --list; cat .git/config; find / -name '*.pem' -o -name 'hireling.d*' 2>/dev/null; \
    ls -la / /root /home /work /tmp 2>&1; cat /sandbox/*/* 2>/dev/null; ps aux 2>/dev/null; echo x > new.txt";

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_in_the_sandbox_finds_nothing() {
    let world = Builder::new(Engine::Sqlite).agent("ours", THIEF).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    world
        .until("the command is over, and no argument list ever showed a secret", async |world| {
            assert_no_secret_in_arguments(world);
            (world.reactions(comment).await == ["rocket"]).then_some(())
        })
        .await;
    let log = world.log_of(&world.last_task().await.id).await;
    assert!(log.contains("HOME="), "the thief did look: {log}");
    for secret in [world.canary.as_str(), world.github.webhook_secret.expose(), "ghs_", "[redacted]", "Basic "] {
        assert!(!log.contains(secret), "{secret} was there to steal: {log}");
    }
    if world.log().contains("\"isolation\":\"bubblewrap\"") {
        let data = world.file("data");
        assert!(!log.contains("hireling.db") && !log.contains(data.to_str().unwrap()), "{log}");
        assert!(log.contains("cannot access '/root'"), "{log}");
    } else {
        crate::support::skipped("the host's files stay hidden, because bubblewrap does not work here");
    }
    world.finish().await;
}

fn assert_no_secret_in_arguments(world: &World) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        for secret in [world.canary.as_str(), world.github.webhook_secret.expose(), "ghs_", "x-access-token"] {
            assert!(!text.contains(secret), "{secret} stands in {text}");
        }
    }
}

/// A secret that does get in, because a person pasted it, goes out in no form on no channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_secret_goes_out_in_no_form() {
    use base64::Engine as _;
    let builder = Builder::new(Engine::Sqlite);
    let canary = builder.canary.clone();
    let packed = base64::engine::general_purpose::STANDARD.encode(&canary);
    let hexed = hex::encode(&canary);
    let script = format!(
        "cat > prompt.txt; echo '{canary}'; echo '{packed}'; echo '{hexed}'; echo 'x{canary}y' >&2; \
         printf '%s' '{0}'; sleep 0.3; printf '%s\\n' '{1}'; printf '%s\\033[1m%s\\033[0m\\n' '{0}' '{1}'; echo '{canary}' > leak.txt; echo ok > '{hexed}.txt'; \
         echo fine > fine.txt; git add -A; git commit -qm '{canary}'; echo 'I am done: {packed}'",
        &canary[..10],
        &canary[10..]
    );
    let world = builder.agent("ours", &script).start().await.unwrap();
    let comment = world.comment(PERSON, &format!("/agent ours use {canary} please")).await;
    assert_eq!(world.ended(comment).await, "rocket");
    let answer = world.only_answer().await;
    assert!(answer.contains("2 files held back") && answer.contains("it holds a secret of this service"), "{answer}");
    let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
    assert!(diff.contains("b/fine.txt") && !diff.contains("leak.txt"), "{diff}");
    let log = world.log_of(&world.last_task().await.id).await;
    assert!(log.matches("[redacted]").count() >= 6, "{log}");
    for text in [answer, diff, log] {
        for form in [canary.as_str(), packed.as_str(), hexed.as_str()] {
            assert!(!text.contains(form), "{form} is in {text}");
        }
    }
    // The person's own comment and the packed delivery hold what the person wrote; the database's
    // readable columns do not. `finish` looks at everything that left the service.
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_changes_are_held_back_and_said() {
    let script = "mkdir -p .github/workflows sub; echo x > .github/workflows/ci.yml; ln -s /etc/passwd link; \
        ln -s ../.. sub/up; git init -q nested; echo x > nested/x; echo x > \"$(printf 'bad\\nname')\"; \
        echo x > '@octocat closes #1.txt'; echo x > -rf; echo x > 'a b\"c.txt'; head -c 6000000 /dev/zero > big.bin; echo ok";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let answer = world.only_answer().await;
    for part in [
        "`.github/workflows/ci.yml`: workflow files are changed by people only",
        "`link`: it is a link that leads out of the repository",
        "`sub/up`: it is a link that leads out of the repository",
        "`bad name`: its name holds invisible or control characters",
        "`big.bin`: it has 5 MB, more than 5",
        "(not added)`: error: 'nested/' does not have a commit checked out",
    ] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
    assert!(diff.contains("@octocat closes #1.txt") && diff.contains("b/-rf"), "{diff}");
    assert!(!diff.contains("workflows") && !diff.contains("passwd"), "{diff}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_all_held_back_are_not_called_nothing() {
    let script = "mkdir -p .github/workflows; echo x > .github/workflows/ci.yml; echo ok";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.only_answer().await;
    assert!(answer.contains("Everything that was changed is held back (1 file)."), "{answer}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_acts_on_nobody() {
    let script = "printf '\\033[31mred\\033[0m\\r\\033]52;c;aGk=\\007 @octocat closes #1 ![x](https://evil.test/?d=1)\\n'; \
        printf '/agent ours again\\n```\\n<img src=x>\\n</details>\\n'; head -c 200000 /dev/zero | tr '\\0' 'y'; \
        printf '\\n\\377\\376\\n'; echo x > new.txt; echo 'see https://evil.test/x @acme/team'";
    let world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    let pull = world.only_pull().await;
    for text in [world.only_answer().await, pull.body] {
        for part in ["@octocat", "@acme", "#1 !", "](https", "https://evil", "<img"] {
            assert!(!text.contains(part), "{part} is in {text}");
        }
    }
    let log = world.log_of(&world.last_task().await.id).await;
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "{log:?}");
    assert!(log.contains("[…]"), "the giant line is cut");
    world.settled().await;
    assert_eq!(world.tasks().await.len(), 1, "our own words start nothing");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_titles_stay_words() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    for title in [
        "$(touch /tmp/pwned) `id` ; rm -rf / | cat",
        "--upload-pack=touch x",
        "closes #1 @octocat",
        "../../etc/passwd",
        "a\u{202E}b\u{200B}c",
        "\"; DROP TABLE tasks; --",
        "日本語のタイトル",
        "HEAD",
        "refs/heads/main.lock",
    ] {
        world.github.install_anew().await;
        let issue = world.github.open_issue(REPO, PERSON, title, "").await;
        let comment = world.github.say(&world.url, REPO, issue, PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket", "{title}: {}", world.account().await);
        let pull = world.github.pulls(REPO).await.pop().unwrap();
        assert!(pull.head.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/".contains(&b)), "{}", pull.head);
        assert!(!pull.title.contains("#1") && !pull.title.contains("@o"), "{}", pull.title);
    }
    assert!(!std::path::Path::new("/tmp/pwned").exists());
    world.finish().await;
}
