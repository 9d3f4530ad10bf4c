//! A deploy every five seconds, under load: nobody notices but for a few seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hireling::demo::standin::Standin;
use hireling::domain::ids::DeliveryId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

const LONG: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_secs(5);
const TASKS: usize = 50;
const PER_SECOND: u32 = 20;
const TICKS: usize = 125;
/// Works for as long as there are deploys, and says each second which one it is.
const TICKING: &str = "echo 'I begin'; n=0; while [ $n -lt 125 ]; do n=$((n+1)); echo \"tick $n.\"; sleep 1; done; \
                       echo fixed > fixed.txt; echo 'Fixed the button.'";

/// Deliveries that come at their pace, whoever answers, until told to stop. Half of them have to be stored before the
/// answer. Gives their ids.
async fn deliveries(github: Arc<Standin>, url: String, stop: CancellationToken) -> Vec<DeliveryId> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let (mut sent, mut under_way) = (Vec::new(), JoinSet::new());
    while !stop.is_cancelled() {
        ticks.tick().await;
        let guid = format!("load-{}", sent.len());
        let text = if sent.len() % 2 == 0 { "nice" } else { "as in `/agent claude`, I think" };
        let comment = github.comment(REPO, 1, PERSON, text).await;
        let body = github.comment_payload(comment).await.to_string();
        sent.push(DeliveryId(guid.clone()));
        let (github, url) = (Arc::clone(&github), url.clone());
        under_way.spawn(async move { github.deliver(&url, &guid, "issue_comment", body.as_bytes()).await });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
    sent
}

/// The tasks are running, each on an issue and in an installation of its own.
async fn running(engine: Engine) -> Option<(World, Vec<i64>)> {
    let builder = Builder::new(engine).behind_a_balancer().agent("ours", TICKING);
    let builder = builder.setting("MAX_CONCURRENT_TASKS", "60").setting("MAX_MESSAGES_PER_DAY", "1000");
    let mut world = builder.start().await?;
    let mut issues = Vec::new();
    for _ in 0..TASKS {
        issues.push(world.next_issue().await);
        world.comment(PERSON, "/agent ours").await;
    }
    world
        .until("all agents work", async |world| {
            let tasks = world.tasks().await;
            for task in &tasks {
                if !world.log_of(&task.id).await.contains("tick 1.") {
                    return None;
                }
            }
            (tasks.len() == TASKS).then_some(())
        })
        .await;
    Some((world, issues))
}

/// What everybody sees at the end.
async fn nobody_noticed(mut world: World, issues: &[i64], mut sent: Vec<DeliveryId>) {
    assert!(sent.len() > 2_000, "{} deliveries", sent.len());
    let store = world.store().await;
    world
        // However many were missed on a busy machine: they are asked for at the pace that GitHub allows.
        .until_within(Duration::from_secs(900), "no delivery is lost", async |_| {
            while let Some(last) = sent.last() {
                store.decision_of(last).await.unwrap()?;
                sent.pop();
            }
            Some(())
        })
        .await;
    store.close().await;
    world.settled().await;
    let unclean = |line: &&str| line.contains("was not handed back") || line.contains("not everything ended in time");
    let logs = world.logs();
    // A disk may stall for longer than GitHub waits: then a delivery is fetched, as above.
    let is_error =
        |line: &&str| line.contains("\"level\":\"ERROR\"") && !line.contains("a delivery could not be stored");
    assert_eq!(logs.lines().filter(is_error).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(logs.lines().filter(unclean).collect::<Vec<_>>(), Vec::<&str>::new());
    for task in world.tasks().await {
        assert_eq!(task.state.name(), "succeeded", "{task:?}");
        let log = world.log_of(&task.id).await;
        for line in std::iter::once("I begin".to_owned()).chain((1..=TICKS).map(|tick| format!("tick {tick}."))) {
            assert_eq!(log.matches(&line).count(), 1, "{line}: {log}");
        }
    }
    for issue in issues {
        world.issue = *issue;
        world.only_answer().await;
        assert_eq!((world.pulls().await.len(), world.branches().await.len()), (1, 1));
    }
    world.finish_after_trouble().await;
}

/// The load goes on while `deploy` is done every few seconds.
async fn under_load(engine: Engine, deploy: impl AsyncFn(&mut World)) {
    let Some((mut world, issues)) = running(engine).await else { return };
    let stop = CancellationToken::new();
    let load = tokio::spawn(deliveries(Arc::clone(&world.github), world.url.clone(), stop.clone()));
    let (mut deploys, mut turns) = (0, tokio::time::interval(EVERY));
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        turns.tick().await;
        deploy(&mut world).await;
        deploys += 1;
    }
    stop.cancel();
    let sent = load.await.unwrap();
    assert!(deploys >= 15, "{deploys} deploys");
    // What came in the moment of the last change is fetched by the next process.
    deploy(&mut world).await;
    nobody_noticed(world, &issues, sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_postgres_are_replaced_one_by_one() {
    under_load(Engine::Postgres, async |world| {
        // The new one is there before the old one goes.
        world.add_replica(&[]).await;
        if world.replicas.len() > 1 {
            world.stop_oldest().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_on_a_sqlite_file_is_replaced() {
    under_load(Engine::Sqlite, async |world| {
        world.stop().await;
        world.restart().await;
    })
    .await;
}

/// While versions are exchanged, the tables are those of the new one already: the old one goes on, and one that
/// starts is refused before it touches anything.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_version_goes_on_beside_the_new_ones_tables() {
    for engine in Engine::both() {
        let Some(mut world) = World::start(engine).await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        assert_eq!(world.ended(comment).await, "rocket");
        for sql in [
            "CREATE TABLE of_the_future (id BIGINT NOT NULL PRIMARY KEY)",
            "ALTER TABLE tasks ADD COLUMN of_the_future TEXT",
            "ALTER TABLE runs ADD COLUMN of_the_future BIGINT NOT NULL DEFAULT 7",
            "ALTER TABLE deliveries ADD COLUMN of_the_future TEXT",
            "ALTER TABLE outbox ADD COLUMN of_the_future TEXT",
            "ALTER TABLE keys ADD COLUMN of_the_future TEXT",
            "ALTER TABLE sessions ADD COLUMN of_the_future TEXT",
            "ALTER TABLE connectors ADD COLUMN of_the_future TEXT",
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (999, 'of the future', true, '', 0)",
        ] {
            world.tamper(sql).await;
        }
        for _ in 0..3 {
            world.next_issue().await;
            let comment = world.comment(PERSON, "/agent ours").await;
            assert_eq!(world.ended(comment).await, "rocket", "{engine:?}");
        }
        assert_eq!(world.github.pulls(REPO).await.len(), 4);
        let figure = |log: &str| log.matches("cannot be used now").count();
        assert_eq!(figure(&world.log()), 0, "{}", world.log());
        world.stop().await;
        let (is_good, said) = world.spawn(&[]).over().await;
        assert!(
            !is_good && said.contains("newer version (migration 999) than this program; it was not touched"),
            "{said}"
        );
    }
}
