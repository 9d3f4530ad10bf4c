//! The pages of tasks: for readers of the repository, live, searchable however long the log is, with
//! buttons for those who may press them.

use futures::StreamExt as _;
use hireling::domain::ids::TaskId;

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const HIDDEN: &str = "other/secret";

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repositorys_tasks_are_for_its_readers() {
    for engine in Engine::both() {
        let Some(mut world) = World::start(engine).await else { continue };
        world.github.set_private(REPO, true).await;
        world.github.add_repository(HIDDEN, &[("a", "b")]).await.unwrap();
        world.github.set_private(HIDDEN, true).await;
        world.github.set_permission(HIDDEN, "eve", "write").await;
        let comment = world.comment(PERSON, "/agent ours fix the secret thing").await;
        world.ended(comment).await;
        let mine = world.last_task().await.id;
        let issue = world.github.open_issue(HIDDEN, "eve", "Hers", "…").await;
        world.github.say(&world.url, HIDDEN, issue, "eve", "/agent ours do eves thing").await;
        world.settled().await;
        let hers = world.last_task().await.id;
        assert_ne!(mine, hers);
        let mut maria = Visitor::sign_in(&world, PERSON).await;
        let mut eve = Visitor::sign_in(&world, "eve").await;
        let mut nobody = Visitor::new(&world);
        let unknown = TaskId("01a2051592000000000000000000dead".into());
        for end in ["", "/log", "/lines", "/events"] {
            let at = |task: &TaskId| format!("/tasks/{task}{end}");
            assert_eq!(maria.get(&at(&mine)).await.status, 200, "{end}");
            assert_eq!(eve.get(&at(&hers)).await.status, 200, "{end}");
            let not_there = shape(&eve.get(&at(&unknown)).await);
            for (who, task) in [(&mut eve, &mine), (&mut maria, &hers), (&mut nobody, &mine)] {
                assert_eq!(shape(&who.get(&at(task)).await), not_there, "{end}");
            }
        }
        for (who, sees, not) in [(&mut maria, &mine, &hers), (&mut eve, &hers, &mine)] {
            let list = who.get("/tasks").await.body;
            assert!(list.contains(&sees.0) && !list.contains(&not.0), "{list}");
            let list = who.get("/tasks?q=thing").await.body;
            assert!(list.contains(&sees.0) && !list.contains(&not.0), "{list}");
        }
        assert!(!nobody.get("/tasks").await.body.contains("/tasks/0"));
        // Who loses the right loses the sight; a new process has no answer of the last minute.
        world.github.set_permission(REPO, PERSON, "none").await;
        world.stop().await;
        world.restart().await;
        maria.base.clone_from(&world.url);
        assert_eq!(maria.get(&format!("/tasks/{mine}")).await.status, 404);
        world.github.set_private(REPO, false).await;
        world.github.set_private(HIDDEN, false).await;
        world.stop().await;
        world.restart().await;
        world.finish().await;
    }
}

/// What tells one refusal from another.
fn shape(answer: &crate::support::visitor::Answer) -> (u16, String) {
    let body = answer.body.split("Error ").next().unwrap().to_owned();
    (answer.status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_paged() {
    for engine in Engine::both() {
        let Some(mut world) = Builder::new(engine).agent("theirs", "exit 3").start().await else { continue };
        for text in ["/agent ours paint it blue", "/agent theirs paint it red", "/agent ours 100% done_or_not"] {
            let comment = world.comment(PERSON, text).await;
            world.ended(comment).await;
            world.next_issue().await;
        }
        let mut visitor = Visitor::new(&world);
        let shown = |body: String| ["blue", "red", "100%"].map(|word| body.contains(word));
        for (query, expected) in [
            ("", [true, true, true]),
            ("?q=PAINT", [true, true, false]),
            ("?q=100%25", [false, false, true]),
            ("?q=done%5For", [false, false, true]),
            ("?q=doneXor", [false, false, false]),
            ("?agent=theirs", [false, true, false]),
            ("?state=failed", [false, true, false]),
            ("?state=succeeded&q=blue", [true, false, false]),
            ("?repository=Acme/Shop", [true, true, true]),
            ("?repository=acme/none", [false, false, false]),
            ("?person=Maria&agent=ours", [true, false, true]),
            ("?person=eve", [false, false, false]),
            ("?state=nonsense&before=x", [true, true, true]),
        ] {
            let page = visitor.get(&format!("/tasks{query}")).await;
            let rows = page.text().split("<ul class=\"list\">").nth(1).unwrap_or("").to_owned();
            assert_eq!((page.status, shown(rows)), (200, expected), "{query}");
        }
        // Sixty more: two pages, none twice.
        world.tamper(
            "INSERT INTO tasks (id, delivery_guid, meaning, installation_id, repository_id, repository, issue_number, is_pull, \
             subject, triggered_at, requester_id, requester, agent, options, request, state, created_at) \
             SELECT 'copy' || d.seq || 'x' || e.n, 'g', 'copy' || d.seq || 'x' || e.n, d.installation_id, d.repository_id, d.repository, 99, d.is_pull, d.subject, \
             d.triggered_at, d.requester_id, d.requester, d.agent, d.options, d.request, 'failed', d.created_at FROM tasks d \
             CROSS JOIN (SELECT seq AS n FROM tasks UNION ALL SELECT seq + 10 FROM tasks UNION ALL SELECT seq + 20 FROM tasks \
             UNION ALL SELECT seq + 30 FROM tasks UNION ALL SELECT seq + 40 FROM tasks UNION ALL SELECT seq + 50 FROM tasks \
             UNION ALL SELECT seq + 60 FROM tasks) e",
        )
        .await;
        let mut seen = std::collections::BTreeSet::new();
        let mut page = visitor.get("/tasks").await;
        let mut pages = 1;
        loop {
            let ids = page.body.split("href=\"/tasks/").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            for id in ids.filter(|id| !id.starts_with('?')) {
                assert!(seen.insert(id.clone()), "{id} is shown twice");
            }
            let Some(next) =
                page.text().split("href=\"/tasks?").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned())
            else {
                break;
            };
            page = visitor.get(&format!("/tasks?{next}")).await;
            pages += 1;
        }
        assert_eq!((seen.len(), pages), (66, 2));
        world.finish().await;
    }
}

/// Says 1,200 lines, waits, says two more.
const TALKS: &str = "echo x > ../scratch/here; for i in $(seq 1 1200); do echo \"line $i of many\"; done; echo b > b; \
    while [ ! -e ../scratch/go ]; do sleep 0.05; done; echo the last but one; echo the last";

async fn talking(engine: Engine) -> Option<World> {
    let world = Builder::new(engine).agent("ours", TALKS).start().await?;
    world.comment(PERSON, "/agent ours talk").await;
    world
        .until("it has talked", async |world| {
            let task = world.tasks().await.pop()?;
            world.log_of(&task.id).await.contains("line 1200 of many").then_some(())
        })
        .await;
    Some(world)
}

async fn let_go(world: &World) {
    let (scratch, _) = world.scratch_file("here").await;
    std::fs::write(scratch.join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_shown_in_windows_and_searched() {
    for engine in Engine::both() {
        let Some(world) = talking(engine).await else { continue };
        let task = world.last_task().await.id;
        let mut visitor = Visitor::new(&world);
        let page = visitor.get(&format!("/tasks/{task}")).await.text();
        assert_eq!(page.matches("of many</li>").count(), 500);
        assert!(page.contains("line 1200 of many") && !page.contains("line 600 of many"), "the end is shown");
        let earlier = page.split("id=\"earlier\" href=\"").nth(1).unwrap().split('#').next().unwrap().to_owned();
        let page = visitor.get(&earlier).await.text();
        assert!(page.contains("line 600 of many") && !page.contains("line 1200 of many"));
        assert!(page.contains("Later lines"), "{page}");
        let lines: Vec<(i64, String, String)> =
            serde_json::from_str(&visitor.get(&format!("/tasks/{task}/lines?after=10")).await.body).unwrap();
        assert_eq!((lines.len(), lines[0].0), (500, 11));
        let before: Vec<(i64, String, String)> =
            serde_json::from_str(&visitor.get(&format!("/tasks/{task}/lines?before=511")).await.body).unwrap();
        assert_eq!(before, lines, "the same lines from either side");
        let found = visitor.get(&format!("/tasks/{task}?q=LINE+77")).await.text();
        let hits: Vec<&str> = found.split("class=\"number\"").skip(1).collect();
        // 77 and 770 to 779
        assert_eq!(hits.len(), 11, "{found}");
        assert!(visitor.get(&format!("/tasks/{task}?q=nothing+of+it")).await.text().contains("No line of"));
        let found = visitor.get(&format!("/tasks/{task}?q=of+many")).await.text();
        assert!(found.contains("More results"), "{found}");
        let raw = visitor.get(&format!("/tasks/{task}/log")).await;
        assert_eq!(raw.body.lines().filter(|line| line.ends_with("of many")).count(), 1200);
        assert!(raw.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
        for odd in [
            "after=-9223372036854775808",
            "after=9223372036854775807",
            "before=-1",
            "after=x",
            "q=x&after=-9223372036854775808",
        ] {
            for end in ["", "/lines"] {
                assert_eq!(visitor.get(&format!("/tasks/{task}{end}?{odd}")).await.status, 200, "{end}?{odd}");
            }
        }
        let_go(&world).await;
        world.settled().await;
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_follow_one_log_and_miss_no_line() {
    for engine in Engine::both() {
        let Some(world) = talking(engine).await else { continue };
        let task = world.last_task().await.id;
        let url = format!("{}/tasks/{task}/events", world.url);
        let joined_at = world.log_of(&task).await.lines().count();
        let http = reqwest::Client::new();
        let (joined, mut all_joined) = tokio::sync::mpsc::channel::<()>(1);
        let follow = |after: Option<i64>| {
            let joined = joined.clone();
            let request = http.get(&url);
            let request = match after {
                Some(after) => request.header("last-event-id", after.to_string()),
                None => request,
            };
            async move {
                let mut text = String::new();
                // With the head of the answer its place in the log is fixed.
                let mut stream = request.send().await.unwrap().bytes_stream();
                drop(joined);
                while let Some(piece) = stream.next().await {
                    text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
                }
                text
            }
        };
        // The first one comes from far beyond the end; nobody else misses anything for that.
        let followers: Vec<_> =
            [Some(i64::MAX), None, Some(700), Some(-5)].map(|after| tokio::spawn(follow(after))).into();
        drop(joined);
        assert_eq!(all_joined.recv().await, None);
        let_go(&world).await;
        world.settled().await;
        let length = world.log_of(&task).await.lines().count();
        for (follower, after) in followers.into_iter().zip([joined_at, 0, 700, 0]) {
            let text = follower.await.unwrap();
            let ids: Vec<usize> =
                text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
            let expected: Vec<usize> = (after + 1..=length).collect();
            assert_eq!(ids, expected, "from {after}");
            assert!(text.ends_with("event: end\ndata: the task is over\n\n"), "{after}");
        }
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cancelled_and_done_again_by_buttons() {
    for engine in Engine::both() {
        let Some(world) = Builder::new(engine).agent("ours", "echo begun; sleep 600").start().await else { continue };
        world.github.set_permission(REPO, "paul", "write").await;
        world.github.set_permission(REPO, "rita", "read").await;
        let comment = world.comment(PERSON, "/agent ours fix it").await;
        world
            .until("the agent works", async |world| {
                let task = world.tasks().await.pop()?;
                world.log_of(&task.id).await.contains("begun").then_some(())
            })
            .await;
        let task = world.last_task().await.id;
        let path = format!("/tasks/{task}");
        for login in ["rita", "eve"] {
            let page = Visitor::sign_in(&world, login).await.get(&path).await;
            assert!(page.status == 200 && !page.body.contains("/cancel"), "{login}");
        }
        // Who could write when the page was made, and cannot when the button is pressed.
        world.github.set_permission(REPO, "zoe", "write").await;
        let mut zoe = Visitor::sign_in(&world, "zoe").await;
        let page = zoe.get(&path).await;
        world.github.set_permission(REPO, "zoe", "read").await;
        let refused = zoe.submit(&page, &format!("{path}/cancel"), "", &[]).await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        let mut paul = Visitor::sign_in(&world, "paul").await;
        let page = paul.get(&path).await;
        let after = paul.submit(&page, &format!("{path}/cancel"), "", &[]).await;
        assert!(after.text().contains("It is being stopped."), "{}", after.body);
        assert_eq!(world.ended(comment).await, "confused");
        assert!(world.only_answer().await.contains("Stopped by paul"), "{}", world.only_answer().await);
        // Pressed on a page that is older than the end.
        let late = paul.submit(&page, &format!("{path}/cancel"), "", &[]).await;
        assert!(late.text().contains("It is over already."), "{}", late.body);
        world.github.set_permission(REPO, "paul", "read").await;
        let page = paul.get(&path).await;
        let refused = paul.submit(&page, &format!("{path}/retry"), "", &[]).await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        world.github.set_permission(REPO, "paul", "write").await;
        let again = paul.submit(&page, &format!("{path}/retry"), "", &[]).await;
        assert!(again.url != after.url && again.url.contains("/tasks/"), "{}", again.url);
        let new = world.last_task().await;
        assert!(again.url.ends_with(&new.id.0), "{}", again.url);
        assert_eq!((new.requester.login.as_str(), new.options.is_retry), ("paul", true));
        // Pressed twice, it is meant once, and leads to the same task.
        let twice = paul.submit(&page, &format!("{path}/retry"), "", &[]).await;
        assert!(twice.url.ends_with(&new.id.0), "{}", twice.url);
        assert_eq!(world.tasks().await.len(), 2);
        paul.submit(&again, &format!("/tasks/{}/cancel", new.id), "", &[]).await;
        world.settled().await;
        assert_eq!(world.last_task().await.state.name(), "cancelled", "{}", world.account().await);
        world.finish().await;
    }
}

/// A name can pass to somebody else's repository: what was private under it stays so.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_passed_to_a_public_repository_shows_nothing() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    world.github.set_private(REPO, true).await;
    let comment = world.comment(PERSON, "/agent ours fix the secret thing").await;
    world.ended(comment).await;
    let task = world.last_task().await.id;
    world.github.replace_repository(REPO).await;
    world.github.set_permission(REPO, "eve", "admin").await;
    for mut visitor in [Visitor::new(&world), Visitor::sign_in(&world, "eve").await] {
        assert_eq!(visitor.get(&format!("/tasks/{task}")).await.status, 404);
        assert!(!visitor.get("/tasks").await.body.contains("secret thing"));
    }
    world.stop().await;
}

/// That GitHub does not answer is neither yes nor no.
#[tokio::test(flavor = "multi_thread")]
async fn while_github_is_away_a_page_says_to_try_again() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    let comment = world.comment(PERSON, "/agent ours fix it").await;
    world.ended(comment).await;
    let task = world.last_task().await.id;
    world.set("GITHUB_API_URL", "http://127.0.0.1:1");
    world.stop().await;
    world.restart().await;
    let mut visitor = Visitor::new(&world);
    for path in [format!("/tasks/{task}"), "/tasks".to_owned(), format!("/tasks/{task}/log")] {
        assert_eq!(visitor.get(&path).await.status, 503, "{path}");
    }
    world.stop().await;
}
