//! The pages: the list at a million tasks, a log of a million lines, many who follow one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hireling::adapters::system::SystemClock;
use hireling::domain::ids::Millis;
use hireling::ports::clock::Clock as _;

use super::database::Database;
use super::receiver::{Server, stat};
use super::running::{self, Load, REPO};
use super::{ms, percentile, seed};

const TIMES: usize = 100;
const VIEWERS: usize = 500;
const WATCHED: Duration = Duration::from_secs(15);

/// Times to the first byte of the answer, and whole.
async fn timed(http: &reqwest::Client, url: &str, times: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let begin = Instant::now();
        let mut answer = http.get(url).send().await.unwrap().error_for_status().unwrap();
        let _ = answer.chunk().await.unwrap();
        first.push(begin.elapsed());
        while answer.chunk().await.unwrap().is_some() {}
        whole.push(begin.elapsed());
    }
    first.sort_unstable();
    whole.sort_unstable();
    (first, whole)
}

pub async fn list(database: &Database) {
    println!("\n## The list of tasks, {}", database.name());
    println!("| tasks | page | p50 ms | p99 ms |\n|---|---|---|---|");
    let http = reqwest::Client::new();
    for count in [1_000, 1_000_000] {
        let server = Server::start(database).await;
        database.empty().await;
        let repository = server.github.add_repository(REPO, &[("a", "b")]).await;
        repository.unwrap();
        let id = server.github.repository_id(REPO).await;
        seed::tasks(database.url(), "succeeded", count).await;
        seed::own(database.url(), id).await;
        for (what, query) in [
            ("newest", String::new()),
            ("in the middle", format!("?before={}", count / 2)),
            ("by state", "?state=succeeded".to_owned()),
            ("by a state that none is in", "?state=failed".to_owned()),
            ("by agent and person", "?agent=ours&person=maria".to_owned()),
            ("by repository", format!("?repository={REPO}")),
            ("words that all have", "?q=fix".to_owned()),
            ("words that none has", "?q=nowhere".to_owned()),
        ] {
            let (_, whole) = timed(&http, &format!("http://{}/tasks{query}", server.address), TIMES).await;
            println!("| {count} | {what} | {} | {} |", ms(percentile(&whole, 0.5)), ms(percentile(&whole, 0.99)));
        }
        server.end().await;
    }
    database.empty().await;
}

pub async fn logs() {
    println!(
        "\n## A task's page, SQLite\n| lines of the log | what | first byte p50 ms | p99 ms | RSS MB |\n|---|---|---|---|---|"
    );
    for pieces in [10, 10_000] {
        let load = Load { tasks: 1, pieces, lines: 100, per_second: 0 };
        let length = i64::try_from(load.pieces * load.lines).unwrap();
        let running = running::start(load, "http://127.0.0.1:1").await;
        while running.lines().await < length {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let task = &running.tasks().await[0];
        let (http, base) = (reqwest::Client::new(), format!("http://{}/tasks/{task}", running.address));
        for (what, rest, times) in [
            ("the page", String::new(), TIMES),
            ("from the middle", format!("?before={}", length / 2), TIMES),
            ("a piece for the window", format!("/lines?after={}", length / 3), TIMES),
            ("words that no line has", "?q=nowhere".to_owned(), 5),
            ("raw", "/log".to_owned(), 3),
        ] {
            let (first, _) = timed(&http, &format!("{base}{rest}"), times).await;
            let (p50, p99) = (ms(percentile(&first, 0.5)), ms(percentile(&first, 0.99)));
            println!("| {length} | {what} | {p50} | {p99} | {} |", stat(&running.service).1);
        }
        running.end().await;
    }
}

/// How long a line takes from the agent to the browser, and what those who wait for it cost.
pub async fn viewers() {
    println!("\n## {VIEWERS} open streams of one task, 10 lines a second, SQLite");
    println!(
        "| viewers | lines/s delivered | agent → browser p50 ms | p99 ms | CPU of a core | RSS MB |\n|---|---|---|---|---|---|"
    );
    for viewers in [1, VIEWERS] {
        let load = Load { tasks: 1, pieces: 100_000, lines: 1, per_second: 10 };
        let running = running::start(load, "http://127.0.0.1:1").await;
        while running.lines().await < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let task = running.tasks().await.remove(0);
        let url = format!("http://{}/tasks/{task}/events?after={}", running.address, running.lines().await);
        let (http, seen) = (reqwest::Client::new(), Arc::new(AtomicU64::new(0)));
        let followers: Vec<_> = (0..viewers)
            .map(|_| {
                let (http, url, seen) = (http.clone(), url.clone(), Arc::clone(&seen));
                tokio::spawn(async move { follow(http, url, seen).await })
            })
            .collect();
        while seen.load(Ordering::Relaxed) < viewers as u64 * 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (before, (cpu_before, _), begin) = (seen.load(Ordering::Relaxed), stat(&running.service), Instant::now());
        tokio::time::sleep(WATCHED).await;
        let ((cpu, rss), took) = (stat(&running.service), begin.elapsed().as_secs_f64());
        let lines = (seen.load(Ordering::Relaxed) - before) as f64 / took;
        let used = (cpu - cpu_before).as_secs_f64() / took * 100.0;
        running.end().await;
        let mut lags = Vec::new();
        for follower in followers {
            lags.extend(follower.await.unwrap());
        }
        lags.sort_unstable();
        let (p50, p99) = (ms(percentile(&lags, 0.5)), ms(percentile(&lags, 0.99)));
        println!("| {viewers} | {lines:.0} | {p50} | {p99} | {used:.0} % | {rss} |");
    }
}

/// Reads to the end. Gives how old each line was: it begins with when it was written.
async fn follow(http: reqwest::Client, url: String, seen: Arc<AtomicU64>) -> Vec<Duration> {
    let mut stream = http.get(url).send().await.unwrap().error_for_status().unwrap().bytes_stream();
    let mut lags = Vec::new();
    while let Some(Ok(piece)) = stream.next().await {
        let now = SystemClock.now();
        let text = String::from_utf8_lossy(&piece).into_owned();
        for line in text.lines().filter_map(|line| line.split_once("\"text\":\"")) {
            let written = line.1.split(' ').next().and_then(|text| text.parse().ok());
            lags.extend(written.map(|written| now.since(Millis(written))));
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
    lags
}
