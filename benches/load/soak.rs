//! A short soak: deliveries and whole tasks for a while, in tenths that are compared. What leaks shows.
//!
//! Both come at an even pace that the machine bears with room to spare, and a delivery's time counts from when it was
//! due: at full load, the slowest answers tell how two cores are shared with Git and the agents, not how the service ages.
//! What the machine does meanwhile shows by turns at a process that was started for the tenth and gets the same deliveries,
//! but no tasks. Its files are in memory where they can be, unless `TMPDIR` names a folder: on a disk, it tells how the file
//! system ages under the sandboxes of this machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hireling::adapters::store::{Access, Location, Store};
use tokio::net::TcpStream;
use tokio::time::{interval, interval_at};

use super::database::Database;
use super::receiver::{Server, Sort, stat};
use super::{ms, percentile};

/// Of a soak of length 1.
const DELIVERIES: u64 = 100_000;
const TASKS: u64 = 1_000;
const TENTHS: u64 = 10;
const CONNECTIONS: u32 = 16;
/// A delivery: 200 a second, the connections by turns.
const EVERY: Duration = Duration::from_millis(5);
/// A task: 2 a second. At twice the pace of both, two cores have nothing to spare at times, and all that runs on them waits.
const TASK_EVERY: Duration = Duration::from_millis(500);
/// At most 50 tasks wait in one.
const REPOSITORIES: [&str; 4] = ["acme/shop", "acme/store", "acme/stall", "acme/kiosk"];
/// One of so many deliveries has to be stored before the answer.
const DURABLE: u64 = 10;

/// Linux has it, and its files need no disk.
const IN_MEMORY: &str = "/dev/shm";

/// `length`: 1 takes eight minutes; 10 is a million deliveries.
pub async fn measure(length: u64) {
    if std::env::var_os("TMPDIR").is_none() && Path::new(IN_MEMORY).is_dir() {
        tempfile::env::override_temp_dir(Path::new(IN_MEMORY)).unwrap();
    }
    let database = Database::sqlite();
    let server = Arc::new(Server::start(&database).await);
    for repository in REPOSITORIES {
        server.github.add_repository(repository, &[("README.md", "# Shop\n")]).await.unwrap();
        server.github.set_permission(repository, "maria", "write").await;
    }
    println!(
        "\n## Soak: {} deliveries and {} tasks in tenths, SQLite, files in {}",
        DELIVERIES * length,
        TASKS * length,
        tempfile::env::temp_dir().display()
    );
    println!(
        "| tenth | took s | deliveries p50 ms | p99 ms | p99 of a new process | ratio | CPU s | RSS MB | open files | threads |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let next = Arc::new(AtomicU64::new(50_000_000));
    for tenth in 1..=TENTHS {
        let young = Arc::new(Server::start(&Database::sqlite()).await);
        let (begin, (cpu_before, _)) = (Instant::now(), stat(&server.child));
        let tasks = tokio::spawn(tasks(Arc::clone(&server), TASKS / TENTHS * length));
        let [times, of_young] =
            [(&server, begin), (&young, begin + EVERY / 2)].map(|(to, first)| at_pace(to, &next, first, length));
        let (times, of_young) = (times.await, of_young.await);
        tasks.await.unwrap();
        idle(&database).await;
        let [p99, p99_of_young] = [&times, &of_young].map(|times| percentile(times, 0.99));
        let ((cpu, rss), (files, threads)) = (stat(&server.child), handles(&server));
        println!(
            "| {tenth} | {:.0} | {} | {} | {} | {:.2} | {:.1} | {rss} | {files} | {threads} |",
            begin.elapsed().as_secs_f64(),
            ms(percentile(&times, 0.5)),
            ms(p99),
            ms(p99_of_young),
            p99.as_secs_f64() / p99_of_young.as_secs_f64(),
            (cpu - cpu_before).as_secs_f64()
        );
    }
    let mut done = 0;
    for repository in REPOSITORIES {
        done += server.github.pulls(repository).await.len();
    }
    println!(
        "pull requests: {done} of {}; refused by the stand-in: {}",
        TASKS * length,
        server.github.violations().await.len()
    );
    assert_eq!(done as u64, TASKS * length);
}

/// A tenth's deliveries, the connections by turns. How long each took, sorted.
fn at_pace(
    to: &Arc<Server>,
    next: &Arc<AtomicU64>,
    first: Instant,
    length: u64,
) -> impl Future<Output = Vec<Duration>> + use<> {
    let count = DELIVERIES / TENTHS / u64::from(CONNECTIONS) * length;
    let clients = (0..CONNECTIONS).map(|connection| {
        tokio::spawn(deliveries(Arc::clone(to), Arc::clone(next), first + EVERY * connection, count))
    });
    let clients: Vec<_> = clients.collect();
    async move {
        let mut times: Vec<Duration> = Vec::new();
        for client in clients {
            times.extend(client.await.unwrap());
        }
        times.sort_unstable();
        times
    }
}

/// Commands on issues of their own, in installations of their own: the budget of writes is per installation.
async fn tasks(server: Arc<Server>, count: u64) {
    let mut due = interval(TASK_EVERY);
    for number in 0..count {
        due.tick().await;
        server.github.install_anew().await;
        let repository = REPOSITORIES[usize::try_from(number).unwrap() % REPOSITORIES.len()];
        let issue = server.github.open_issue(repository, "maria", &format!("Number {number}"), "Text.").await;
        server.github.say(&format!("http://{}", server.address), repository, issue, "maria", "/agent ours").await;
    }
}

async fn deliveries(server: Arc<Server>, next: Arc<AtomicU64>, first: Instant, count: u64) -> Vec<Duration> {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut due = interval_at(first.into(), EVERY * CONNECTIONS);
    for _ in 0..count {
        let sent = due.tick().await;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let sort = if number.is_multiple_of(DURABLE) { Sort::Durable } else { Sort::Ignored };
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
