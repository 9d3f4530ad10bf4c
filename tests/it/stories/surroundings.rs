//! What an agent is told of what stands around a pull request: linked issues, failed checks, attached files.

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Publishes what it was told, and what lies beside the checkout.
const TELLS: &str = "cat > told.txt; for one in ../scratch/attachment-*; do cp $one ${one##*/}; done; sha256sum attachment-* > sums.txt; echo ok";

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot much of a picture";

async fn pull_with(world: &mut World, body: &str) -> String {
    world.github.branch_off(REPO, "feature").await.unwrap();
    let head = world.github.push_file(REPO, "feature", "a.txt", "a\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "A", "feature").await;
    world.github.describe(REPO, world.issue, body).await;
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_issues_and_failed_checks_are_told() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("ours", TELLS).start().await else { continue };
        let other = world.github.open_issue(REPO, "eve", "Sums are wrong", "2 and 2 is <!-- not --> five.").await;
        let head = pull_with(&mut world, &format!("Closes #{other}.")).await;
        let log: String = (0..10_000).map(|n| format!("2026-01-02T03:04:05.1234567Z line {n}\n")).collect();
        let log = format!("{log}2026-01-02T03:04:05.1234567Z ##[error]sum: expected 4\nafter the end\n");
        // More than GitHub shows on a page stand before it.
        for number in 0..120 {
            world.github.end_job(REPO, &head, (&format!("lint {number}"), "success"), "fine").await;
        }
        world.github.end_job(REPO, &head, ("unit tests", "failure"), &log).await;
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let told = world.github.file(REPO, "feature", "told.txt").await.unwrap();
        let issue =
            format!("issue #{other} that this closes, by eve (an outsider):\n```\nSums are wrong\n\n2 and 2 is  five.");
        assert!(told.contains(&issue), "{told}");
        assert!(told.contains("This check failed on the head: `unit tests`:\n```\nline 99"), "{told}");
        assert!(told.contains("line 9999\n##[error]sum: expected 4\nafter the end\n```"), "{told}");
        assert!(!told.contains("line 100\n"), "the end of the log");
        assert_eq!(told.matches("This check failed").count(), 1, "nor what went well");
        world.finish().await;
    }
}

/// Also in a private repository, where files open only with the signature that GitHub puts into the page.
#[tokio::test(flavor = "multi_thread")]
async fn attached_files_are_handed_over() {
    for is_private in [false, true] {
        let mut world = Builder::new(Engine::Sqlite).agent("ours", TELLS).start().await.unwrap();
        world.github.set_private(REPO, is_private).await;
        let picture = world.github.attach(PNG).await;
        let log = world.github.attach("all is \u{200b}well\n".as_bytes()).await;
        let archive = world.github.attach(b"PK\x03\x04\0\0").await;
        let large = world.github.attach(&vec![b'x'; 6 * 1024 * 1024]).await;
        pull_with(&mut world, &format!("See ![this]({picture}) and {log}, {archive}, {large}")).await;
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let told = world.github.file(REPO, "feature", "told.txt").await.unwrap();
        assert!(told.contains(&format!("- ../scratch/attachment-1.png was {picture}\n")), "{told}");
        assert!(told.contains(&format!("- ../scratch/attachment-2.txt was {log}\n")), "{told}");
        assert!(!told.contains("jwt="), "no signature is handed over: {told}");
        assert_eq!(world.github.file(REPO, "feature", "attachment-2.txt").await.unwrap(), "all is well\n");
        let sums = world.github.file(REPO, "feature", "sums.txt").await.unwrap();
        use sha2::Digest as _;
        assert!(sums.contains(&hex::encode(sha2::Sha256::digest(PNG))), "{sums}");
        assert!(world.only_answer().await.contains("2 attached files could not be handed to the agent."));
        world.github.set_private(REPO, false).await;
        world.finish().await;
    }
}
