//! `cargo bench`: what the service bears on this machine. Prints one table per question; the figures
//! in the README are taken from it. PostgreSQL is measured when `TEST_DATABASE_URL` names a server.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "a report for a person, which may stop loudly"
)]

mod database;
#[path = "../../tests/double/mod.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod double;
mod gateway;
mod pages;
mod receiver;
mod reviews;
mod running;
mod seed;
mod soak;

use std::time::Duration;

/// How long each cell of a table is measured.
const CELL: Duration = Duration::from_secs(3);

fn main() {
    // `cargo bench -- running` measures that part alone, `cargo bench -- soak 10` a soak ten times as long.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let (only, length) = (args.next(), args.next().map_or(1, |length| length.parse().unwrap()));
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("load average before: {}", load.trim());
        let mut databases = vec![database::Database::sqlite()];
        databases.extend(database::Database::postgres().await);
        for database in databases.iter().filter(|_| wanted("receiver")) {
            receiver::measure(database).await;
        }
        for database in databases.iter().filter(|_| wanted("claims")) {
            database::claims_and_logs(database).await;
        }
        for database in databases.iter().filter(|_| wanted("reads")) {
            database::reads(database).await;
        }
        for database in databases.iter().filter(|_| wanted("pages")) {
            pages::list(database).await;
        }
        if wanted("pages") {
            pages::logs().await;
            pages::viewers().await;
        }
        if wanted("gateway") {
            gateway::measure().await;
        }
        if wanted("reviews") {
            reviews::measure().await;
        }
        if wanted("running") {
            running::measure().await;
        }
        if wanted("soak") {
            soak::measure(length).await;
        }
    });
}

/// The value below which this share of the sorted times lies.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = ((sorted.len() as f64) * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}
