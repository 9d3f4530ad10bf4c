//! One suite for both databases: claims, fencing, uniqueness, limits, pages, deletion.

mod deliveries;
mod engines;
mod promises;
mod tasks;
mod turns;

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hireling::adapters::store::{
    Access, Admission, Admit, Append, Asked, CLAIMS, Claimed, Decision, KeptDelivery, LEFT_TO_NEWER, LISTS, LedgerRow,
    Limits, Location, Old, PendingDelivery, Purpose, Stopped, Store, StoreError, Stored, TaskPage, Verdict,
};
use hireling::adapters::system::SystemClock;
use hireling::domain::command::Options;
use hireling::domain::decision::DecisionCode;
use hireling::domain::effect::{Effect, Reaction};
use hireling::domain::ids::*;
use hireling::domain::listing::TaskFilter;
use hireling::domain::log_entry::{Kind, Line};
use hireling::domain::missed::{Attempt, KEPT};
use hireling::domain::run::{Ending, LogPosition, Step};
use hireling::domain::secret::Secret;
use hireling::domain::task::{NewTask, Outcome, Requester, Subject, Task, Thread};
use hireling::ports::clock::Clock as _;
use sqlx::{Connection as _, Row as _};

use crate::support::clock::TestClock;
use crate::support::postgres;

const LEASE: Duration = Duration::from_secs(60);
const ACCEPTED: Admission = Admission::Accepted { stopped: Vec::new() };
const LIMITS: Limits = Limits { per_day: 1_000, waiting: 1_000 };

type TellsStop = fn(&Task, &str) -> Vec<Effect>;

/// A store of each engine that is there, with what a test needs beside it.
struct Bench {
    store: Store,
    location: Location,
    clock: TestClock,
    _dir: tempfile::TempDir,
}

async fn both() -> Vec<Bench> {
    let mut all = Vec::new();
    if !postgres::is_through_pooler() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("test.db"));
        let store = Store::open(&location, Access::Service).await.unwrap();
        all.push(Bench { store, location, clock: TestClock::new(), _dir: dir });
    }
    if let Some(url) = postgres::fresh_database().await {
        let pooled = postgres::pooled(&url).unwrap_or_else(|| url.clone());
        let location = Location::Postgres { url: Secret::new(pooled), direct_url: Secret::new(url) };
        let store = Store::open(&location, Access::Service).await.unwrap();
        all.push(Bench { store, location, clock: TestClock::new(), _dir: tempfile::tempdir().unwrap() });
    }
    all
}

fn thread(installation: i64, issue: i64) -> Thread {
    Thread {
        installation: InstallationId(installation),
        repository: RepositoryId(installation * 10),
        name: RepoName { owner: "acme".into(), name: "shop".into() },
        issue: IssueNumber(issue),
        is_pull: false,
    }
}

fn row(clock: &TestClock, id: &str) -> LedgerRow {
    LedgerRow {
        id: DeliveryId(id.into()),
        event: "issue_comment".into(),
        action: "created".into(),
        installation: Some(1),
        repository_id: Some(10),
        repository: "acme/shop".into(),
        issue: Some(1),
        object: None,
        sender: "maria".into(),
        received_at: clock.now(),
        decision: None,
        facts: String::new(),
    }
}

fn kept(clock: &TestClock, id: &str, meaning: &str) -> KeptDelivery {
    let packed_body = KeptDelivery::pack(format!("{{\"n\":\"{id}\"}}").as_bytes());
    KeptDelivery { row: row(clock, id), meaning: Some(meaning.into()), packed_body }
}

impl Bench {
    /// Past the store.
    async fn execute(&self, sql: &'static str) {
        match &self.location {
            Location::Sqlite(path) => {
                let url = format!("sqlite://{}", path.display());
                let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::query(sql).execute(&mut other).await.unwrap();
            }
            Location::Postgres { direct_url, .. } => {
                let mut other = sqlx::PgConnection::connect(direct_url.expose()).await.unwrap();
                sqlx::query(sql).execute(&mut other).await.unwrap();
            }
        }
    }

    async fn pending(&self, id: &str) -> PendingDelivery {
        self.store.keep_deliveries(&[kept(&self.clock, id, id)]).await.unwrap();
        let now = self.clock.now();
        self.store.claim_pending(now, now.after(LEASE)).await.unwrap().remove(0)
    }

    fn task(&self, meaning: &str, thread: Thread) -> NewTask {
        NewTask {
            id: TaskId(self.clock.new_id()),
            delivery: DeliveryId(meaning.into()),
            meaning: meaning.into(),
            thread,
            subject: Subject::IssueComment(CommentId(9)),
            triggered_at: self.clock.now(),
            requester: Requester { id: UserId(7), login: "maria".into() },
            agent: "ours".into(),
            options: Options::default(),
            request: "fix it".into(),
            inputs_of: None,
        }
    }

    async fn admit(&self, tasks: &[NewTask], limits: Limits) -> Admission {
        self.admit_with(tasks, limits, None).await
    }

    async fn admit_stoppable(&self, tasks: &[NewTask]) -> Admission {
        self.admit_with(tasks, LIMITS, Some(|_, _| Vec::new())).await
    }

    async fn admit_with(&self, tasks: &[NewTask], limits: Limits, tells_stop: Option<TellsStop>) -> Admission {
        let pending = self.pending(&format!("guid-{}", self.clock.new_id())).await;
        let decision = Decision {
            seq: pending.seq,
            code: DecisionCode::Accepted,
            facts: "{}".into(),
            at: self.clock.now(),
            effects: &[],
        };
        let admission = self.store.admit(&Admit { decision, tasks, limits, tells_stop }).await.unwrap();
        // What was turned away is over, too: the next delivery of the thread waits for it.
        let (code, at) = (DecisionCode::QueueFull, self.clock.now());
        let refused = Decision { seq: pending.seq, code, facts: String::new(), at, effects: &[] };
        self.store.decide(&refused).await.unwrap();
        admission
    }

    /// Puts a task into the queue.
    async fn queue(&self, installation: i64, issue: i64) -> TaskId {
        let meaning = self.clock.new_id();
        let task = self.task(&meaning, thread(installation, issue));
        assert_eq!(self.admit(std::slice::from_ref(&task), LIMITS).await, ACCEPTED);
        task.id
    }

    async fn claim(&self, owner: &str) -> Option<Claimed> {
        self.clock.advance(Duration::from_secs(1));
        self.store.claim(owner, LEASE, self.clock.now()).await.unwrap()
    }

    async fn settle(&self, claimed: &Claimed) {
        let ending = Ending { outcome: Outcome::Succeeded, reason: String::new(), detail: String::new() };
        self.store.settle(&claimed.lease, &ending, &[], self.clock.now()).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_command_makes_one_task() {
    for bench in both().await {
        let task = bench.task("meaning", thread(1, 1));
        assert_eq!(bench.admit(std::slice::from_ref(&task), LIMITS).await, ACCEPTED);
        let again = NewTask { id: TaskId("other".into()), ..task };
        assert_eq!(bench.admit(&[again], LIMITS).await, Admission::Duplicate);
        assert_eq!(bench.store.tasks(TaskPage { limit: 10, ..TaskPage::default() }).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn limits_are_counted_with_the_tasks_they_admit() {
    for bench in both().await {
        let few = Limits { per_day: 2, waiting: 1_000 };
        for (n, expected) in [ACCEPTED, ACCEPTED, Admission::DailyLimit].into_iter().enumerate() {
            let task = bench.task(&format!("d{n}"), thread(1, 1));
            assert_eq!(bench.admit(&[task], few).await, expected);
        }
        bench.clock.advance(Duration::from_secs(86_400));
        assert_eq!(bench.admit(&[bench.task("next-day", thread(1, 1))], few).await, ACCEPTED);
        let full = Limits { per_day: 1_000, waiting: 3 };
        assert_eq!(bench.admit(&[bench.task("q", thread(1, 1))], full).await, Admission::QueueFull { waiting: 3 });
        assert_eq!(bench.admit(&[bench.task("elsewhere", thread(2, 1))], full).await, ACCEPTED);
    }
}

#[tokio::test]
async fn the_write_budget_leaves_a_reserve_for_results() {
    for bench in both().await {
        let (store, clock) = (&bench.store, &bench.clock);
        let here = InstallationId(1);
        let spend = async |purpose| {
            let mut taken = 0;
            while store.take_write(here, purpose, clock.now()).await.unwrap() == Verdict::Allowed {
                taken += 1;
            }
            taken
        };
        assert_eq!(spend(Purpose::Progress).await, 40);
        assert_eq!(spend(Purpose::Courtesy).await, 20);
        assert_eq!(spend(Purpose::Result).await, 20, "80 a minute in all");
        assert_eq!(
            store.take_write(InstallationId(2), Purpose::Progress, clock.now()).await.unwrap(),
            Verdict::Allowed
        );
        let mut hour = 80;
        for _ in 0..30 {
            clock.advance(Duration::from_secs(120));
            hour += spend(Purpose::Result).await;
        }
        assert_eq!(hour, 500, "500 an hour in all");
        let Verdict::WaitUntil(free_at) = store.take_write(here, Purpose::Result, clock.now()).await.unwrap() else {
            panic!("the hour is spent");
        };
        clock.advance(free_at.since(clock.now()));
        assert_eq!(store.take_write(here, Purpose::Result, clock.now()).await.unwrap(), Verdict::Allowed);
    }
}
