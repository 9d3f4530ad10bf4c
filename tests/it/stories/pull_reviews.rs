//! Reviews of pull requests: what an agent finds becomes remarks on the lines it is about, once.

use hireling::demo::standin::{ReviewView, When};
use serde_json::{Value, json};

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const APP: &str = "fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\nfn main() {}\n";

/// A pull request that adds `src/app.rs`, and an agent that answers with what `answer` says.
async fn world_with_review(engine: Engine, answer: &str) -> Option<World> {
    let script = format!("cat > told.txt; cp told.txt ../scratch/told; cat <<'EOF'\n{answer}\nEOF\n");
    let mut world = Builder::new(engine).agent("ours", &script).start().await?;
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.github.push_file(REPO, "feature", "src/app.rs", APP).await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
    Some(world)
}

fn minus() -> Value {
    json!({ "path": "src/app.rs", "line": 2, "severity": "high", "rule": "wrong-operator", "title": "It subtracts",
        "reason": "`add` has to add.", "suggestion": "    a + b" })
}

fn answer(findings: &[Value], fixed: &[String]) -> String {
    let found = json!({ "summary": "Nearly.", "findings": findings, "fixed": fixed });
    format!("I looked at it.\n```json\n{found}\n```")
}

async fn only_review(world: &World) -> ReviewView {
    let reviews = world.github.reviews().await;
    assert_eq!(reviews.len(), 1, "{reviews:?}\n{}", world.account().await);
    reviews.into_iter().next().unwrap()
}

/// The branch with a suggestion in the place of its lines, and what Git thinks of that as a patch.
async fn applied(world: &World, line: usize, body: &str) -> String {
    let suggestion = body.split("```suggestion\n").nth(1).unwrap().split("```").next().unwrap();
    let text = world.github.file(REPO, "feature", "src/app.rs").await.unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let removed = std::mem::replace(&mut lines[line - 1], suggestion.trim_end_matches('\n'));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::write(dir.path().join("src/app.rs"), &text).unwrap();
    let patch =
        format!("--- a/src/app.rs\n+++ b/src/app.rs\n@@ -{line},1 +{line},1 @@\n-{removed}\n+{}\n", lines[line - 1]);
    std::fs::write(dir.path().join("p.patch"), patch).unwrap();
    let mut git = std::process::Command::new("git");
    let done = git.current_dir(dir.path()).args(["apply", "--unidiff-zero", "p.patch"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read_to_string(dir.path().join("src/app.rs")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_said_on_its_lines() {
    let beside =
        json!({ "path": "README.md", "line": 1, "severity": "low", "rule": "docs", "title": "Say what it is" });
    let long = json!({ "path": "src/app.rs", "line": 4, "end_line": 99, "severity": "medium", "title": "Too far" });
    for engine in Engine::both() {
        let said = answer(&[beside.clone(), long.clone(), minus()], &[]);
        let Some(world) = world_with_review(engine, &said).await else { continue };
        let comment = world.comment(PERSON, "/agent ours review the arithmetic").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let review = only_review(&world).await;
        assert!(review.body.contains(" -->\n`ours` has 3 remarks.\n\n> Nearly."), "{}", review.body);
        for (path, title) in [("README.md:1", "Say what it is"), ("src/app.rs:4", "Too far")] {
            assert!(review.body.contains(path) && review.body.contains(title), "{}", review.body);
        }
        let [on_line] = review.comments.as_slice() else { panic!("{review:?}") };
        assert_eq!((on_line.path.as_str(), on_line.start_line, on_line.line), ("src/app.rs", None, 2));
        assert!(on_line.body.starts_with("🔴 **High**: It subtracts\n\n> `add` has to add."), "{}", on_line.body);
        let mended = applied(&world, 2, &on_line.body).await;
        assert!(mended.contains("    a + b\n}"), "{mended}");
        let answer = world.only_answer().await;
        assert!(answer.contains(&format!("🚀 **Done.** `ours` reviewed #{}: 3 remarks.", world.issue)), "{answer}");
        assert!(!answer.contains("severity"), "the form is not for people: {answer}");
        // The files it wrote are nobody's business.
        assert_eq!(world.branches().await, Vec::<String>::new());
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_found_is_one_line() {
    let world = world_with_review(Engine::Sqlite, &answer(&[], &[])).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours review").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let review = only_review(&world).await;
    assert_eq!(review.body.lines().nth(1), Some("`ours` found nothing to say."), "after the marker");
    assert!(review.comments.is_empty() && !review.body.contains("Nearly"), "{review:?}");
    assert!(world.only_answer().await.contains(": nothing to say."));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_review_is_a_failure() {
    for nonsense in ["All is well!", "{\"findings\": \"none\"}", "{\"findings\":[{\"line\":\"two\"}]}"] {
        let world = world_with_review(Engine::Sqlite, nonsense).await.unwrap();
        let comment = world.comment(PERSON, "/agent ours review").await;
        assert_eq!(world.ended(comment).await, "confused");
        let answer = world.only_answer().await;
        assert!(answer.contains("ours ended without a review in the form that it was asked for."), "{answer}");
        assert!(answer.contains(nonsense), "what it said is shown: {answer}");
        assert_eq!(world.github.reviews().await.len(), 0);
        world.finish().await;
    }
}

/// The second look is at what came since; nothing is said twice, and what is mended is settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_review_goes_on_from_the_first() {
    for engine in Engine::both() {
        let naming =
            json!({ "path": "src/app.rs", "line": 5, "severity": "low", "rule": "dead", "title": "Empty main" });
        // It repeats itself, and says that all it was told of is mended.
        let script = format!(
            "cat > ../scratch/told; echo told; fixed=$(grep -o '^- [0-9a-f]\\{{16\\}}' ../scratch/told | \
             sed 's/- \\(.*\\)/\"\\1\"/' | paste -sd, -); printf '{{\"findings\": [%s], \"fixed\": [%s]}}\\n' \
             '{},{}' \"$fixed\"",
            minus(),
            naming
        );
        let Some(mut world) = Builder::new(engine).agent("ours", &script).start().await else { continue };
        world.github.branch_off(REPO, "feature").await.unwrap();
        world.github.push_file(REPO, "feature", "src/app.rs", APP).await.unwrap();
        world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
        let comment = world.comment(PERSON, "/agent ours review").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        assert_eq!(only_review(&world).await.comments.len(), 2);
        let said = world.github.said_of_lines(REPO, world.issue).await;

        // Nothing was pushed: nothing is done.
        let comment = world.comment(PERSON, "/agent ours review").await;
        assert_eq!(world.ended(comment).await, "+1", "{}", world.account().await);
        assert!(world.answer(1).await.contains("and nothing was pushed since. With --full, all of it"));
        // Even looked at again, it is not said again; and nothing is mended where nothing changed.
        let comment = world.comment(PERSON, "/agent ours review --full").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let reviews = world.github.reviews().await;
        assert_eq!((reviews.len(), reviews[1].comments.len()), (2, 0), "{reviews:?}");
        assert!(world.github.said_of_lines(REPO, world.issue).await.iter().all(|one| !one.is_resolved));

        // One is declined, the other mended.
        world.github.react(&format!("review:{}", said[1].id), PERSON, "-1").await;
        let mended = APP.replace("a - b", "a + b");
        let head = world.github.push_file(REPO, "feature", "src/app.rs", &mended).await.unwrap();
        let comment = world.comment(PERSON, "/agent ours review").await;
        assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
        let last = world.github.reviews().await.pop().unwrap();
        assert_eq!(last.commit, head);
        assert!(
            last.body.contains("on what came since") && last.body.contains("1 remark of earlier reviews is settled")
        );
        let said = world.github.said_of_lines(REPO, world.issue).await;
        // The line has other code now: what the agent says of it is new.
        let resolved: Vec<bool> = said.iter().map(|one| one.is_resolved).collect();
        assert_eq!(resolved, [true, false, false], "{said:?}");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_made_once_whatever_dies() {
    for engine in Engine::both() {
        let Some(mut world) = world_with_review(engine, &answer(&[minus()], &[])).await else { continue };
        for call in 0.. {
            world.github.install_anew().await;
            world.issue = world.github.open_pull(REPO, PERSON, "Add the app", "feature").await;
            let Some(comment) = world.dies_at(call, When::After, "/agent ours review").await else {
                assert!(call > 12, "a review makes more calls than {call}");
                break;
            };
            assert_eq!(world.ended(comment).await, "rocket", "{call}: {}", world.account().await);
            world.settled().await;
            let reviews = world.github.reviews().await.into_iter().filter(|one| one.pull == world.issue);
            assert_eq!(reviews.map(|one| one.comments.len()).collect::<Vec<_>>(), [1], "{engine:?}, call {call}");
        }
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_review_does_not_take_is_said() {
    let mut world = world_with_review(Engine::Sqlite, &answer(&[], &[])).await.unwrap();
    world.comment(PERSON, "/agent ours review --branch x").await;
    assert!(world.answer(0).await.contains("A review changes nothing, so it takes only `--full`"));
    world.next_issue().await;
    world.comment(PERSON, "/agent ours review").await;
    assert!(world.answer(0).await.contains("A review is of a pull request: ask for it there."));
    world.settled().await;
    assert!(world.tasks().await.is_empty());
    world.finish().await;
}

/// What has no room in the prompt is named there, and in the review.
#[tokio::test(flavor = "multi_thread")]
async fn a_great_change_is_handed_over_by_files() {
    let script = "cat > ../scratch/told; wc -c < ../scratch/told; \
        grep -c '^diff --git' ../scratch/told; printf '{\"findings\": []}'";
    let mut world = Builder::new(Engine::Sqlite).agent("ours", script).start().await.unwrap();
    world.github.branch_off(REPO, "feature").await.unwrap();
    let small = "a line of a small file\n".repeat(10);
    let files: Vec<(String, String)> = (0..400).map(|n| (format!("src/{n:03}.txt"), small.clone())).collect();
    let great: String = (0..26_000).map(|n| format!("line {n} of a great file\n")).collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .chain([("great.txt", great.as_str())])
        .collect();
    world.github.push_files(REPO, "feature", &files).await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Much", "feature").await;
    let comment = world.comment(PERSON, "/agent ours review").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    let log = world.log_of(&world.last_task().await.id).await;
    let numbers: Vec<usize> = log.lines().filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
    assert!(numbers.contains(&401), "every file is there: {log}");
    assert!(numbers.iter().any(|size| (200_000..300_000).contains(size)), "{log}");
    let body = only_review(&world).await.body;
    assert!(body.contains("Too long to be handed over whole") && body.contains("`great.txt`."), "{body}");
    world.finish().await;
}
