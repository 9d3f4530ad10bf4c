//! GitHub sends each event once. What it sent while nobody was there, or could store it, is fetched.

use std::time::Duration;

use hireling::demo::standin::{Fault, Kind, When};
use hireling::domain::ids::DeliveryId;

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, OPERATOR, PERSON, REPO, World};

/// Comments while the service is down. Every `every`th is a command on an issue of its own. Gives the
/// GUIDs and the issues with a command.
pub async fn sent_in_vain(world: &mut World, count: usize, every: usize) -> (Vec<String>, Vec<i64>) {
    let (mut guids, mut issues) = (Vec::new(), Vec::new());
    for number in 0..count {
        let is_command = number % every == 0;
        if is_command {
            issues.push(world.next_issue().await);
        }
        let text = if is_command { "/agent ours" } else { "/agents are nice, and @hirelings, too" };
        let comment = world.github.comment(REPO, world.issue, PERSON, text).await;
        let body = world.github.comment_payload(comment).await.to_string();
        let guid = format!("in-vain-{number}");
        let answer = world.github.deliver(&world.url, &guid, "issue_comment", body.as_bytes()).await;
        assert_eq!(answer, None, "somebody took it");
        guids.push(guid);
    }
    (guids, issues)
}

/// Waits until all these deliveries are in the ledger, decided.
pub async fn all_decided(world: &World, guids: &[String]) {
    let store = world.store().await;
    let mut left: Vec<DeliveryId> = guids.iter().cloned().map(DeliveryId).collect();
    world
        // They are asked for at the pace that GitHub allows, and once more after a minute.
        .until_within(Duration::from_secs(600), "every delivery has come and is decided", async |_| {
            while let Some(last) = left.last() {
                store.decision_of(last).await.unwrap()?;
                left.pop();
            }
            Some(())
        })
        .await;
    store.close().await;
}

pub async fn each_ran_once(world: &mut World, issues: &[i64]) {
    world.settled().await;
    assert_eq!(world.tasks().await.len(), issues.len());
    for issue in issues {
        world.issue = *issue;
        assert_eq!(world.answers().await.len(), 1);
        assert_eq!(world.pulls().await.len(), 1);
    }
}

async fn three_pages_are_fetched(engine: Engine) {
    let builder = Builder::new(engine).behind_a_balancer().setting("METRICS_ADDR", "127.0.0.1:0");
    let Some(mut world) = builder.start().await else { return };
    world.stop().await;
    let (guids, issues) = sent_in_vain(&mut world, 250, 10).await;
    world.restart().await;
    all_decided(&world, &guids).await;
    each_ran_once(&mut world, &issues).await;
    // Each was asked for once, and came at once.
    let attempts = world.github.attempts().await;
    assert_eq!(attempts.len(), 2 * guids.len());
    assert!(attempts.iter().filter(|attempt| attempt.is_again).all(|attempt| attempt.status == 202));
    let store = world.store().await;
    let missed = store.missed_deliveries(500).await.unwrap();
    store.close().await;
    assert_eq!(missed.len(), 250);
    assert!(missed.iter().all(|line| line.asks == 1), "{missed:?}");
    let figures = world
        .until("the figures tell of all", async |world| {
            let text = world.figures().await;
            text.contains("hireling_deliveries_recovered_total 250").then_some(text)
        })
        .await;
    assert!(figures.contains("hireling_deliveries_missed_total 250"), "{figures}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_pages_are_fetched_on_sqlite() {
    three_pages_are_fetched(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_pages_are_fetched_on_postgres() {
    three_pages_are_fetched(Engine::Postgres).await;
}

async fn whatever_github_answers_meanwhile(engine: Engine) {
    let builder = Builder::new(engine).behind_a_balancer();
    let Some(mut world) = builder.start().await else { return };
    world.stop().await;
    let (guids, issues) = sent_in_vain(&mut world, 110, 110).await;
    let page = |cursor: &str| format!("<{}/app/hook/deliveries?cursor={cursor}>; rel=\"next\"", world.github.api_url());
    let answer = |status, headers: &[(&'static str, &str)], body: &str| Kind::Answer {
        status,
        headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        body: body.to_owned(),
    };
    let limited = answer(403, &[("retry-after", "1")], "{\"message\":\"You have exceeded a secondary rate limit\"}");
    let circle = page("v1_1");
    let faults = [
        answer(500, &[], ""),
        limited.clone(),
        Kind::Reset,
        answer(200, &[], "<html>not yet</html>"),
        // A list that leads back to itself.
        answer(200, &[("link", &circle)], "[]"),
        answer(200, &[("link", &circle)], "[]"),
    ];
    let before = |(call, kind)| Fault { call, times: 1, when: When::Before, kind };
    let mut faults: Vec<Fault> = faults.into_iter().enumerate().map(before).collect();
    // Then two pages, and the first wishes are refused; the last is done, and its answer is lost.
    faults.extend([before((8, limited)), before((9, answer(502, &[], "")))]);
    faults.push(Fault { call: 10, times: 1, when: When::After, kind: Kind::Reset });
    world.github.set_delivery_faults(faults);
    world.restart().await;
    all_decided(&world, &guids).await;
    each_ran_once(&mut world, &issues).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_github_answers_meanwhile_on_sqlite() {
    whatever_github_answers_meanwhile(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_github_answers_meanwhile_on_postgres() {
    whatever_github_answers_meanwhile(Engine::Postgres).await;
}

/// A busy App has more attempts in its list than GitHub lets one read in a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_github_breaks_off_is_read_on_from_there() {
    let mut world = Builder::new(Engine::Sqlite).behind_a_balancer().start().await.unwrap();
    world.stop().await;
    let (guids, issues) = sent_in_vain(&mut world, 250, 250).await;
    let reads = async |world: &World| {
        let calls = world.github.calls().await.into_iter();
        let of_list = calls.filter(|call| call.path.starts_with("/app/hook/deliveries"));
        of_list.take_while(|call| call.method == "GET").count()
    };
    let before = reads(&world).await;
    let headers = vec![("retry-after", "1".to_owned())];
    let body = "{\"message\":\"You have exceeded a secondary rate limit\"}".to_owned();
    let kind = Kind::Answer { status: 403, headers, body };
    world.github.set_delivery_faults(vec![Fault { call: 1, times: 2, when: When::Before, kind }]);
    world.restart().await;
    all_decided(&world, &guids).await;
    assert_eq!(reads(&world).await - before, 3, "a page was read twice");
    each_ran_once(&mut world, &issues).await;
    world.finish().await;
}

/// What stops a command comes before it, for the command was missed (fault F41).
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_after_its_cancel_is_stopped() {
    for engine in Engine::both() {
        let Some(mut world) = World::start(engine).await else { continue };
        let late = world.github.comment(REPO, world.issue, PERSON, "/agent ours").await;
        world.github.backdate(late).await;
        let body = world.github.comment_payload(late).await.to_string();
        world.comment(PERSON, "/agent cancel").await;
        assert!(world.answer(0).await.contains("Nothing is running"), "{}", world.account().await);
        world.github.deliver(&world.url, "late", "issue_comment", body.as_bytes()).await.unwrap();
        assert_eq!(world.ended(late).await, "confused");
        assert_eq!(world.last_task().await.state.name(), "cancelled");
        // What is asked for afterwards is done.
        world.next_issue().await;
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket");
        world.settled().await;
        assert_eq!(world.github.pulls(REPO).await.len(), 1);
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_told_on_the_page_and_asked_for_once() {
    let builder = Builder::new(Engine::Sqlite).behind_a_balancer();
    let mut world = builder.start().await.unwrap();
    world.stop().await;
    let (guids, _) = sent_in_vain(&mut world, 2, 1).await;
    world.restart().await;
    all_decided(&world, &guids).await;
    world.settled().await;
    let page = Visitor::sign_in(&world, OPERATOR).await.get("/deliveries").await.text();
    assert!(page.contains("Missed deliveries") && page.contains("in-vain-0") && page.contains("came at"), "{page}");
    // Nothing more is asked for at the next start.
    let attempts = world.github.attempts().await.len();
    world.stop().await;
    world.restart().await;
    let comment = world.comment(PERSON, "/agent ours").await;
    world.ended(comment).await;
    assert_eq!(world.github.attempts().await.len(), attempts + 1);
    world.finish().await;
}
