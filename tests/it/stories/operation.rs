//! What an operator watches: figures, traces, and numbers that lead from an error to its line in the log.

use std::sync::{Arc, Mutex};

use crate::support::visitor::Visitor;
use crate::support::world::{Builder, Engine, OPERATOR, PERSON, World};

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_of_everything_that_can_run_short() {
    for engine in Engine::both() {
        let builder = Builder::new(engine).setting("METRICS_ADDR", "127.0.0.1:0");
        let Some(world) = builder.start().await else { continue };
        let comment = world.comment(PERSON, "/agent ours").await;
        world.ended(comment).await;
        world.settled().await;
        let figures = world.figures().await;
        for line in [
            "hireling_deliveries_total{decision=\"accepted\"} 1",
            "hireling_tasks_ended_total{outcome=\"succeeded\",agent=\"ours\"} 1",
            "hireling_tasks_queued 0",
            "hireling_queue_age_seconds 0",
            "hireling_github_calls_total{method=\"POST\",status=\"201\"}",
            "hireling_github_writes_hour 1",
            "hireling_github_remaining{resource=\"core\"}",
            "hireling_log_lag_seconds",
            "hireling_database_connections{state=\"open\"}",
        ] {
            assert!(figures.contains(line), "{line}: {figures}");
        }
        // Each figure says what it is.
        let names = figures.lines().filter(|line| line.starts_with("# TYPE")).count();
        let said = figures.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(names, said, "{figures}");
        world.finish().await;
    }
}

/// A collector of OpenTelemetry that keeps what it gets.
async fn collector() -> (String, Arc<Mutex<Vec<serde_json::Value>>>) {
    let kept: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let into = Arc::clone(&kept);
    let router = axum::Router::new().route(
        "/v1/traces",
        axum::routing::post(move |axum::Json(trace): axum::Json<serde_json::Value>| {
            into.lock().unwrap().push(trace);
            async { axum::Json(serde_json::json!({})) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_one_trace_whichever_processes_it_lived_through() {
    let (url, kept) = collector().await;
    let agent =
        "echo here > ../scratch/begun; while [ ! -s ../scratch/go ]; do sleep 0.05; done; echo x > x.txt; echo Done.";
    let builder = Builder::new(Engine::Sqlite).agent("ours", agent).setting("OTEL_EXPORTER_OTLP_ENDPOINT", &url);
    let mut world = builder.start().await.unwrap();
    let comment = world.comment(PERSON, "/agent ours").await;
    let (scratch, _) = world.scratch_file("begun").await;
    world.crash().await;
    world.restart().await;
    std::fs::write(scratch.join("go"), "on").unwrap();
    assert_eq!(world.ended(comment).await, "rocket");
    let traces = world
        .until("the trace has come", async |_| Some(kept.lock().unwrap().clone()).filter(|all| !all.is_empty()))
        .await;
    assert_eq!(traces.len(), 1);
    let spans = traces[0].pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
    let task = world.last_task().await;
    assert!(spans.iter().all(|span| span["traceId"] == task.id.0.as_str()), "{spans:?}");
    let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    let steps = ["announce", "freeze", "provision", "prepare", "agent", "collect", "publish", "settle"];
    assert_eq!(names, [&["task", "queue"], &steps[..]].concat());
    // Each part begins where the one before ended, and none is outside the task.
    let time = |span: &serde_json::Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    for pair in spans[2..].windows(2) {
        assert_eq!(time(&pair[0], "endTimeUnixNano"), time(&pair[1], "startTimeUnixNano"), "{spans:?}");
    }
    let root = &spans[0];
    assert!(spans.iter().all(|span| {
        time(span, "startTimeUnixNano") >= time(root, "startTimeUnixNano")
            && time(span, "endTimeUnixNano") <= time(root, "endTimeUnixNano")
    }));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_has_a_number_that_finds_its_line() {
    // As SQLite and PostgreSQL tell it.
    let whys = ["no such table: deliveries", "relation \\\"deliveries\\\" does not exist"];
    for engine in Engine::both() {
        let Some(world) = World::start(engine).await else { continue };
        let mut olga = Visitor::sign_in(&world, OPERATOR).await;
        world.tamper("ALTER TABLE deliveries RENAME TO elsewhere").await;
        let page = olga.get("/deliveries").await;
        assert_eq!(page.status, 503);
        let number = page.body.split("Error ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let comment = world.github.comment("acme/shop", 1, PERSON, "/agent ours").await;
        let body = world.github.comment_payload(comment).await.to_string();
        assert_eq!(world.github.deliver(&world.url, "lost", "issue_comment", body.as_bytes()).await, Some(503));
        world
            .until("both are in the log, each once, with what was wrong", async |world| {
                let log = world.log();
                let lines: Vec<&str> = log.lines().filter(|line| line.contains(&number)).collect();
                let [line] = lines.as_slice() else { return None };
                let refused: Vec<&str> = log.lines().filter(|line| line.contains("\"delivery.id\":\"lost\"")).collect();
                let [refused] = refused.as_slice() else { return None };
                let tells = |line: &str| whys.iter().any(|why| line.contains(why)) && line.contains("\"error_id\":");
                (tells(line) && tells(refused)).then_some(())
            })
            .await;
        world.tamper("ALTER TABLE elsewhere RENAME TO deliveries").await;
        world.finish_after_trouble().await;
    }
}
