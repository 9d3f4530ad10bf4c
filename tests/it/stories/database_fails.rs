//! The database stops, is slow, locked, full, or broken: nothing is promised that is not on the disk, and what runs
//! goes on (faults F14 to F20).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hireling::domain::ids::DeliveryId;
use sqlx::Connection as _;

use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// Works until the story says so; says something all the while.
const PATIENT: &str = "echo 'I begin'; echo here > ../scratch/begun; n=0; \
    while [ ! -s ../scratch/go ]; do n=$((n+1)); echo \"tick $n.\"; sleep 0.2; done; echo fixed > fixed.txt; echo 'Fixed the button.'";

/// Posts a comment that may hold a command. Gives the status of the answer, and how long it took.
async fn post(world: &World, guid: &str) -> (Option<u16>, Duration) {
    let comment = world.github.comment(REPO, world.issue, PERSON, "as in `/agent claude`, I think").await;
    let body = world.github.comment_payload(comment).await.to_string();
    let since = Instant::now();
    let status = world.github.deliver(&world.url, guid, "issue_comment", body.as_bytes()).await;
    (status, since.elapsed())
}

async fn status(world: &World, path: &str) -> u16 {
    crate::support::http().get(format!("{}{path}", world.url)).send().await.unwrap().status().as_u16()
}

/// An agent works. Gives the folder through which it is told to end.
async fn at_work(world: &World) -> PathBuf {
    world.comment(PERSON, "/agent ours").await;
    world.scratch_file("begun").await.0
}

async fn at_work_on_a_cuttable_database() -> Option<(World, PathBuf)> {
    let builder = Builder::new(Engine::Postgres).behind_a_balancer().agent("ours", PATIENT);
    let world = builder.with_a_cuttable_database().start().await?;
    let scratch = at_work(&world).await;
    Some((world, scratch))
}

/// The task ends well, its agent was started once, and no line of its log is there twice.
async fn goes_on(world: &World, scratch: &Path) {
    std::fs::write(scratch.join("go"), "on").unwrap();
    world.settled().await;
    let task = world.last_task().await;
    assert_eq!(task.state.name(), "succeeded", "{task:?}");
    let log = world.log_of(&task.id).await;
    assert_eq!(log.matches("I begin").count(), 1, "{log}");
    let ticks = log.matches("tick ").count();
    for tick in 1..=ticks {
        assert_eq!(log.matches(&format!("tick {tick}.")).count(), 1, "tick {tick} of {ticks}: {log}");
    }
    world.only_pull().await;
}

async fn ready_again(world: &World) {
    world.until("it is ready again", async |world| (status(world, "/readyz").await == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_loses_nothing() {
    let Some((world, scratch)) = at_work_on_a_cuttable_database().await else { return };
    let way = world.database_way.as_ref().unwrap();
    way.cut();
    let (answer, took) = post(&world, "in-vain").await;
    assert_eq!(answer, Some(503));
    assert!(took < Duration::from_secs(9), "GitHub had to wait {took:?}");
    assert_eq!((status(&world, "/readyz").await, status(&world, "/healthz").await), (503, 200));
    way.mend(&world.database);
    ready_again(&world).await;
    assert_eq!(post(&world, "afterwards").await.0, Some(202));
    goes_on(&world, &scratch).await;
    // What was refused is fetched later: by the next process at its start at the latest.
    let mut world = world;
    world.stop().await;
    world.restart().await;
    decided(&world, "in-vain").await;
    world.finish_after_trouble().await;
}

/// A lease is renewed in time though more than half of it passes in vain.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_half_a_minute_ends_no_run() {
    let Some((world, scratch)) = at_work_on_a_cuttable_database().await else { return };
    let way = world.database_way.as_ref().unwrap();
    way.cut();
    world.until("the lease is soon over", async |world| (world.lease_left().await < 25_000).then_some(())).await;
    way.mend(&world.database);
    ready_again(&world).await;
    goes_on(&world, &scratch).await;
    assert!(world.log().contains("a lease could not be renewed"), "{}", world.log());
    assert!(!world.log().contains("the lease was lost"), "{}", world.log());
    world.finish_after_trouble().await;
}

/// A renewal that failed is soon tried again, also where no other process is there to be heard again: after two that failed,
/// one in the usual time would come too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_locked_for_half_a_lease_ends_no_run() {
    let world = Builder::new(Engine::Sqlite).agent("ours", PATIENT).start().await.unwrap();
    let scratch = at_work(&world).await;
    let mut other = sqlx::SqliteConnection::connect(&world.database).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let tries = |world: &World| world.log().matches("a lease could not be renewed").count();
    world.until("two tries failed", async |world| (tries(world) >= 2).then_some(())).await;
    let before = lease_until(&mut other).await;
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    world.until("the lease is renewed", async |_| (lease_until(&mut other).await > before).then_some(())).await;
    ready_again(&world).await;
    goes_on(&world, &scratch).await;
    assert!(!world.log().contains("the lease was lost"), "{}", world.log());
    world.finish_after_trouble().await;
}

async fn lease_until(connection: &mut sqlx::SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT lease_until FROM tasks WHERE state = 'running'").fetch_one(connection).await.unwrap()
}

async fn decided(world: &World, guid: &str) {
    let store = world.store().await;
    let id = DeliveryId(guid.to_owned());
    world.until("the delivery came", async |_| store.decision_of(&id).await.unwrap()).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_is_waited_for_but_not_for_ever() {
    let world = World::start(Engine::Sqlite).await.unwrap();
    let path = world.database.clone();
    let mut other = sqlx::SqliteConnection::connect(&path).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    // Somebody else writes for a second: nobody notices.
    let soon = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sqlx::query("COMMIT").execute(&mut other).await.unwrap();
        other
    };
    let ((answer, took), mut other) = tokio::join!(post(&world, "waited"), soon);
    assert_eq!(answer, Some(202), "after {took:?}");
    // … and for longer than GitHub would wait.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (answer, took) = post(&world, "in-vain").await;
    assert_eq!(answer, Some(503));
    assert!(took < Duration::from_secs(9), "GitHub had to wait {took:?}");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    ready_again(&world).await;
    assert_eq!(post(&world, "afterwards").await.0, Some(202));
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish_after_trouble().await;
}

/// A small disk of its own, taken away at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn make(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let done =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&at).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Nothing more fits on it.
    fn fill(&self) {
        let bytes = vec![0u8; 4 * 1024 * 1024];
        // It ends when the disk is full.
        let _ = std::fs::write(self.0.join("filling"), bytes);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::make(dir.path().join("disk")) else {
        crate::support::skipped("a full disk, because a small one cannot be mounted here (it takes root)");
        return;
    };
    let builder = Builder::new(Engine::Sqlite).agent("ours", PATIENT).data_in(disk.0.clone());
    let world = builder.start().await.unwrap();
    world.comment(PERSON, "/agent ours").await;
    let scratch = world
        .until("the agent works", async |_| {
            let mut sandboxes = std::fs::read_dir(disk.0.join("sandboxes")).ok()?.flatten();
            sandboxes.find_map(|entry| {
                let scratch = entry.path().join("scratch");
                scratch.join("begun").exists().then_some(scratch)
            })
        })
        .await;
    disk.fill();
    world
        .until("it is said", async |world| {
            let (answer, _) = post(world, &format!("in-vain-{}", rand::random::<u64>())).await;
            (answer == Some(503)).then_some(())
        })
        .await;
    assert_eq!((status(&world, "/readyz").await, status(&world, "/healthz").await), (503, 200));
    // Transactions are cut off, too, and the agent has more to say meanwhile.
    world
        .until("lines of the log have to wait", async |world| {
            world.log().contains("log lines could not be stored").then_some(())
        })
        .await;
    disk.free();
    ready_again(&world).await;
    assert_eq!(post(&world, "afterwards").await.0, Some(202));
    std::fs::write(scratch.join("go"), "on").unwrap();
    world.settled().await;
    assert_eq!(world.last_task().await.state.name(), "succeeded");
    world.only_pull().await;
    world.finish_after_trouble().await;
}

/// Makes every fsync take a second.
const SLOW_DISK: &str = "#include <unistd.h>\n#include <sys/syscall.h>\n\
    int fdatasync(int fd) { usleep(1000000); return syscall(SYS_fdatasync, fd); }\n\
    int fsync(int fd) { usleep(1000000); return syscall(SYS_fsync, fd); }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_a_second_for_a_commit_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = crate::support::compiled(dir.path(), "slow", SLOW_DISK) else {
        crate::support::skipped("a slow disk, because there is no C compiler here");
        return;
    };
    let builder = Builder::new(Engine::Sqlite).setting("LD_PRELOAD", &library.display().to_string());
    let world = builder.start().await.unwrap();
    let guids: Vec<String> = (0..40).map(|number| format!("slow-{number}")).collect();
    let all = futures::future::join_all(guids.iter().map(|guid| post(&world, guid))).await;
    for (answer, took) in &all {
        assert_eq!(*answer, Some(202));
        assert!(*took < Duration::from_secs(10), "GitHub had to wait {took:?}");
    }
    // One by one they would have taken 40 seconds; this disk is really slow.
    assert!(all.iter().any(|(_, took)| *took > Duration::from_millis(500)), "{all:?}");
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_stops_the_start_with_one_sentence() {
    let mut world = World::start(Engine::Sqlite).await.unwrap();
    world.stop().await;
    let path = world.file("data/hireling.db");
    let whole = std::fs::read(&path).unwrap();
    let mut broken = whole.clone();
    broken[..4096].fill(0x5a);
    std::fs::write(&path, broken).unwrap();
    let (is_good, said) = world.spawn(&[]).over().await;
    assert!(!is_good && said.trim().lines().count() == 1, "{said}");
    assert!(said.contains("the database") && said.contains("hireling.db"), "{said}");
    // What was there before it is not touched, and works again when it is put back.
    std::fs::write(&path, whole).unwrap();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(world.file(&format!("data/hireling.db{end}")));
    }
    world.restart().await;
    let comment = world.comment(PERSON, "/agent ours").await;
    assert_eq!(world.ended(comment).await, "rocket");
    world.finish().await;
}
