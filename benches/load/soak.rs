//! A short soak: deliveries and whole tasks for a while, in tenths that are compared. What leaks shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hireling::adapters::store::{Access, Location, Store};
use tokio::net::TcpStream;

use super::database::Database;
use super::receiver::{Server, Sort, stat};
use super::{ms, percentile};

const DELIVERIES: u64 = 100_000;
const TASKS: u64 = 1_000;
const TENTHS: u64 = 10;
const CONNECTIONS: u64 = 16;
/// At most 50 tasks wait in one.
const REPOSITORIES: [&str; 4] = ["acme/shop", "acme/store", "acme/stall", "acme/kiosk"];
/// One of so many deliveries has to be stored before the answer.
const DURABLE: u64 = 10;

pub async fn measure(database: &Database) {
    let server = Arc::new(Server::start(database).await);
    for repository in REPOSITORIES {
        server.github.add_repository(repository, &[("README.md", "# Shop\n")]).await.unwrap();
        server.github.set_permission(repository, "maria", "write").await;
    }
    println!("\n## Soak: {DELIVERIES} deliveries and {TASKS} tasks in tenths, {}", database.name());
    println!(
        "| tenth | took s | deliveries p50 ms | p99 ms | RSS MB | open files | threads |\n|---|---|---|---|---|---|---|"
    );
    let next = Arc::new(AtomicU64::new(50_000_000));
    for tenth in 1..=TENTHS {
        let begin = Instant::now();
        let tasks = tokio::spawn(tasks(Arc::clone(&server), TASKS / TENTHS));
        let clients = (0..CONNECTIONS).map(|_| {
            tokio::spawn(deliveries(Arc::clone(&server), Arc::clone(&next), DELIVERIES / TENTHS / CONNECTIONS))
        });
        let clients: Vec<_> = clients.collect();
        let mut times: Vec<Duration> = Vec::new();
        for client in clients {
            times.extend(client.await.unwrap());
        }
        tasks.await.unwrap();
        idle(database).await;
        times.sort_unstable();
        let (files, threads) = handles(&server);
        println!(
            "| {tenth} | {:.0} | {} | {} | {} | {files} | {threads} |",
            begin.elapsed().as_secs_f64(),
            ms(percentile(&times, 0.5)),
            ms(percentile(&times, 0.99)),
            stat(&server.child).1
        );
    }
    let mut done = 0;
    for repository in REPOSITORIES {
        done += server.github.pulls(repository).await.len();
    }
    println!("pull requests: {done} of {TASKS}; refused by the stand-in: {}", server.github.violations().await.len());
    assert_eq!(done as u64, TASKS);
}

/// Commands on issues of their own, in installations of their own: the budget of writes is per installation.
async fn tasks(server: Arc<Server>, count: u64) {
    for number in 0..count {
        server.github.install_anew().await;
        let repository = REPOSITORIES[usize::try_from(number).unwrap() % REPOSITORIES.len()];
        let issue = server.github.open_issue(repository, "maria", &format!("Number {number}"), "Text.").await;
        server.github.say(&format!("http://{}", server.address), repository, issue, "maria", "/agent ours").await;
    }
}

async fn deliveries(server: Arc<Server>, next: Arc<AtomicU64>, count: u64) -> Vec<Duration> {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    for _ in 0..count {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let sort = if number.is_multiple_of(DURABLE) { Sort::Durable } else { Sort::Ignored };
        let sent = Instant::now();
        assert!(server.one(&mut stream, sort, number).await, "a delivery was refused");
        times.push(sent.elapsed());
    }
    times
}

/// Waits until nothing is left to do.
async fn idle(database: &Database) {
    let location = Location::Sqlite(database.url().trim_start_matches("sqlite://").into());
    let store = Store::open(&location, Access::Visitor).await.unwrap();
    while store.has_open_tasks().await.unwrap() || store.has_open_promises().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
}

/// Open files and threads of the service.
fn handles(server: &Server) -> (usize, usize) {
    let pid = server.child.id().unwrap();
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    (count("fd"), count("task"))
}
