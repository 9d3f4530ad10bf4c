//! Any single call to GitHub can fail, in any way: the work is done all the same, or the comment
//! says plainly why not. Never twice.

use std::time::Duration;

use hireling::demo::standin::{Fault, FaultOf, Kind, When};
use hireling::domain::task::{Outcome, TaskState};

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Kind {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Kind::Answer { status, headers, body: body.to_owned() }
}

/// Fails each call of a run in turn. `may_fail`: a task may end with a plain sentence instead.
async fn each_call_fails(when: When, kind: Kind, may_fail: bool) {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    for call in 0.. {
        world.next_issue().await;
        world.github.set_faults(vec![Fault { call, times: 1, when, kind: kind.clone() }]);
        let tasks_before = world.tasks().await.len();
        world.comment(PERSON, "/agent ours fix it").await;
        world.settled().await;
        let what = format!("call {call} fails {when:?} by {kind:?}\n");
        let account = || async { format!("{what}{}", world.account().await) };
        assert_eq!(world.tasks().await.len(), tasks_before + 1, "{}", account().await);
        let task = world.last_task().await;
        let answers = world.answers().await;
        assert_eq!(answers.len(), 1, "{}", account().await);
        assert!(world.branches().await.len() <= 1, "{}", account().await);
        match task.state {
            TaskState::Finished(Outcome::Succeeded) => {
                assert_eq!(world.pulls().await.len(), 1, "{}", account().await);
                // Losing the very last edit to a refusal is the one thing that cannot be told.
                let told = answers[0].body.contains("**Done.**") || may_fail;
                assert!(told, "{}", account().await);
            }
            TaskState::Finished(Outcome::Failed | Outcome::Refused) if may_fail => {
                assert!(!task.reason.is_empty(), "{}", account().await);
                assert!(answers[0].body.contains(&task.reason.replace('_', "\\_")), "{}", account().await);
            }
            _ => panic!("{}", account().await),
        }
        if world.github.calls_since_faults() <= call {
            assert!(call > 15, "a run makes more calls than {call}");
            break;
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_error_of_the_server() {
    each_call_fails(When::Before, answer(500, &[], "{\"message\":\"Server Error\"}"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_page_of_the_proxy() {
    each_call_fails(When::Before, answer(502, &[("content-type", "text/html")], "<html>Bad Gateway</html>"), false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_page_that_says_it_is_fine() {
    each_call_fails(When::After, answer(200, &[("content-type", "text/html")], "<html>Unicorn!</html>"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_too_many_requests() {
    each_call_fails(When::Before, answer(429, &[("retry-after", "1")], "{}"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_secondary_limit() {
    let body = "{\"message\":\"You have exceeded a secondary rate limit.\"}";
    each_call_fails(When::Before, answer(403, &[("retry-after", "1")], body), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_refused_token() {
    each_call_fails(When::Before, answer(401, &[], "{\"message\":\"Bad credentials\"}"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_not_being_found() {
    each_call_fails(When::Before, answer(404, &[], "{\"message\":\"Not Found\"}"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_refusal() {
    each_call_fails(When::Before, answer(422, &[], "{\"message\":\"Validation Failed\"}"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_reset_before_the_effect() {
    each_call_fails(When::Before, Kind::Reset, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_reset_after_the_effect() {
    each_call_fails(When::After, Kind::Reset, false).await;
}

/// GitHub says that it failed, and does it a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn what_github_does_after_it_failed_is_not_made_twice() {
    let said =
        "{\"findings\": [{\"path\": \"README.md\", \"line\": 1, \"severity\": \"low\", \"title\": \"Say more\"}]}";
    let mut world = Builder::new(Engine::Sqlite).agent("finds", &format!("echo '{said}'")).start().await.unwrap();
    let later = |path_end| FaultOf { method: "POST", path_end, kind: Kind::Behind(Duration::from_secs(5)) };
    for text in ["/agent ours", "/agent help"] {
        world.next_issue().await;
        world.github.set_fault_of(later("/comments"));
        world.comment(PERSON, text).await;
        world.answer(0).await;
        world.github.caught_up().await;
        world.settled().await;
        world.only_answer().await;
    }
    world.github.branch_off(REPO, "feature").await.unwrap();
    world.github.push_file(REPO, "feature", "README.md", "# It\n").await.unwrap();
    world.issue = world.github.open_pull(REPO, PERSON, "Change the title", "feature").await;
    world.github.set_fault_of(later("/reviews"));
    let comment = world.comment(PERSON, "/agent finds review").await;
    assert_eq!(world.ended(comment).await, "rocket", "{}", world.account().await);
    world.github.caught_up().await;
    world.settled().await;
    assert_eq!(world.github.reviews().await.len(), 1, "{}", world.account().await);
    world.finish().await;
}
