//! One suite for both databases: claims, fencing, uniqueness, limits, pages, deletion.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hireling::adapters::store::{
    Access, Admission, Admit, Asked, Claimed, Decision, KeptDelivery, LISTS, LedgerRow, Limits, Location,
    PendingDelivery, Purpose, Store, StoreError, Stored, TaskPage, Verdict,
};
use hireling::domain::command::Options;
use hireling::domain::decision::DecisionCode;
use hireling::domain::effect::{Effect, Reaction};
use hireling::domain::ids::*;
use hireling::domain::log_entry::{Kind, Line};
use hireling::domain::run::{Ending, Step};
use hireling::domain::secret::Secret;
use hireling::domain::task::{NewTask, Outcome, Requester, Subject, Thread};
use hireling::ports::clock::Clock as _;
use sqlx::Row as _;

use crate::support::clock::TestClock;
use crate::support::postgres;

const LEASE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits { per_day: 1_000, waiting: 1_000 };

/// A store of each engine that is there, with what a test needs beside it.
struct Bench {
    store: Store,
    location: Location,
    clock: TestClock,
    _dir: tempfile::TempDir,
}

async fn both() -> Vec<Bench> {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(dir.path().join("test.db"));
    let store = Store::open(&location, Access::Service).await.unwrap();
    let mut all = vec![Bench { store, location, clock: TestClock::new(), _dir: dir }];
    if let Some(url) = postgres::fresh_database().await {
        let location = Location::Postgres { url: Secret::new(&*url), direct_url: Secret::new(&*url) };
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
        let pending = self.pending(&format!("guid-{}", self.clock.new_id())).await;
        let decision = Decision {
            seq: pending.seq,
            code: DecisionCode::Accepted,
            facts: "{}".into(),
            at: self.clock.now(),
            effects: &[],
        };
        self.store.admit(&Admit { decision, tasks, limits }).await.unwrap()
    }

    /// Puts a task into the queue.
    async fn queue(&self, installation: i64, issue: i64) -> TaskId {
        let meaning = self.clock.new_id();
        let task = self.task(&meaning, thread(installation, issue));
        assert_eq!(self.admit(std::slice::from_ref(&task), LIMITS).await, Admission::Accepted);
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
async fn a_delivery_is_unique_by_id_and_by_meaning() {
    for bench in both().await {
        let batch = [
            kept(&bench.clock, "a", "m1"),
            kept(&bench.clock, "a", "m1"),
            kept(&bench.clock, "b", "m1"),
            kept(&bench.clock, "c", "m2"),
        ];
        let stored = bench.store.keep_deliveries(&batch).await.unwrap();
        assert_eq!(stored, [Stored::Fresh, Stored::SameId, Stored::SameMeaning, Stored::Fresh]);
        bench.store.note_deliveries(&[row(&bench.clock, "a"), row(&bench.clock, "z")]).await.unwrap();
        let now = bench.clock.now();
        let pending = bench.store.claim_pending(now, now.after(LEASE)).await.unwrap();
        let bodies: Vec<_> = pending.iter().map(|found| String::from_utf8_lossy(&found.body).into_owned()).collect();
        assert_eq!(bodies, ["{\"n\":\"a\"}", "{\"n\":\"c\"}"]);
        assert!(bench.store.claim_pending(now, now.after(LEASE)).await.unwrap().is_empty(), "claimed by one only");
        let later = now.after(LEASE);
        assert_eq!(
            bench.store.claim_pending(later, later.after(LEASE)).await.unwrap().len(),
            2,
            "and again when it died"
        );
    }
}

#[tokio::test]
async fn a_decision_is_made_once() {
    for bench in both().await {
        let pending = bench.pending("a").await;
        let decision = Decision {
            seq: pending.seq,
            code: DecisionCode::NoCommand,
            facts: String::new(),
            at: bench.clock.now(),
            effects: &[],
        };
        assert!(bench.store.decide(&decision).await.unwrap());
        assert!(!bench.store.decide(&decision).await.unwrap());
        assert_eq!(bench.store.decision_of(&pending.id).await.unwrap(), Some(DecisionCode::NoCommand));
        let ledger = bench.store.ledger(RepositoryId(10), IssueNumber(1), 10).await.unwrap();
        assert_eq!((ledger.len(), ledger[0].sender.as_str()), (1, "maria"));
    }
}

#[tokio::test]
async fn the_same_command_makes_one_task() {
    for bench in both().await {
        let task = bench.task("meaning", thread(1, 1));
        assert_eq!(bench.admit(std::slice::from_ref(&task), LIMITS).await, Admission::Accepted);
        let again = NewTask { id: TaskId("other".into()), ..task };
        assert_eq!(bench.admit(&[again], LIMITS).await, Admission::Duplicate);
        assert_eq!(bench.store.tasks(TaskPage { limit: 10, ..TaskPage::default() }).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn limits_are_counted_with_the_tasks_they_admit() {
    for bench in both().await {
        let few = Limits { per_day: 2, waiting: 1_000 };
        for (n, expected) in [Admission::Accepted, Admission::Accepted, Admission::DailyLimit].into_iter().enumerate() {
            let task = bench.task(&format!("d{n}"), thread(1, 1));
            assert_eq!(bench.admit(&[task], few).await, expected);
        }
        bench.clock.advance(Duration::from_secs(86_400));
        assert_eq!(bench.admit(&[bench.task("next-day", thread(1, 1))], few).await, Admission::Accepted);
        let full = Limits { per_day: 1_000, waiting: 3 };
        assert_eq!(bench.admit(&[bench.task("q", thread(1, 1))], full).await, Admission::QueueFull { waiting: 3 });
        assert_eq!(bench.admit(&[bench.task("elsewhere", thread(2, 1))], full).await, Admission::Accepted);
    }
}

#[tokio::test]
async fn tasks_of_one_thread_run_one_at_a_time_in_order() {
    for bench in both().await {
        let (first, second) = (bench.queue(1, 1).await, bench.queue(1, 1).await);
        let other = bench.queue(1, 2).await;
        let one = bench.claim("w").await.unwrap();
        assert_eq!(one.task.id, first);
        let two = bench.claim("w").await.unwrap();
        assert_eq!(two.task.id, other, "the second task of the thread waits");
        assert!(bench.claim("w").await.is_none());
        bench.settle(&one).await;
        assert_eq!(bench.claim("w").await.unwrap().task.id, second);
    }
}

#[tokio::test]
async fn installations_take_turns() {
    for bench in both().await {
        for issue in 0..4 {
            bench.queue(1, issue).await;
        }
        bench.queue(2, 100).await;
        bench.queue(3, 200).await;
        let mut order = Vec::new();
        while let Some(claimed) = bench.claim("w").await {
            order.push(claimed.task.thread.installation.0);
        }
        assert_eq!(order, [1, 2, 3, 1, 1, 1], "who runs least comes first");

        // With one place only, nobody is starved either.
        for issue in 10..13 {
            bench.queue(4, issue).await;
        }
        bench.queue(5, 300).await;
        let mut order = Vec::new();
        while let Some(claimed) = bench.claim("w").await {
            order.push(claimed.task.thread.installation.0);
            bench.settle(&claimed).await;
        }
        assert_eq!(order, [4, 5, 4, 4]);
    }
}

#[tokio::test]
async fn sixteen_workers_claim_each_task_once() {
    for bench in both().await {
        let bench = Arc::new(bench);
        for issue in 0..60 {
            bench.queue(1 + issue % 3, issue).await;
        }
        let workers = (0..16).map(|worker| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                let mut misses = 0;
                // A miss can be another worker's lock: ask again before believing it.
                while misses < 20 {
                    match bench.store.claim(&format!("w{worker}"), LEASE, bench.clock.now()).await.unwrap() {
                        Some(claimed) => mine.push(claimed.task.id),
                        None => misses += 1,
                    }
                }
                mine
            })
        });
        let claimed: Vec<TaskId> =
            futures::future::join_all(workers).await.into_iter().flat_map(|mine| mine.unwrap()).collect();
        let distinct: HashSet<&TaskId> = claimed.iter().collect();
        assert_eq!((claimed.len(), distinct.len()), (60, 60), "{}", bench.store.engine());
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    for bench in both().await {
        let id = bench.queue(1, 1).await;
        let old = bench.claim("old").await.unwrap();
        let run = bench.store.begin_run(&old.lease, RunId("r1".into()), 1, bench.clock.now()).await.unwrap();
        bench.store.hand_back(&old.lease).await.unwrap();
        let new = bench.claim("new").await.unwrap();
        assert_eq!((new.task.id.clone(), new.task.deaths), (id.clone(), 0), "handing back is no death");

        let lost = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
        let ending = Ending { outcome: Outcome::Failed, reason: "late".into(), detail: String::new() };
        let line = [Line::new(Kind::Info, "late")];
        lost(bench.store.renew(&old.lease, LEASE).await.map(|_| ()));
        lost(bench.store.record(&old.lease, &run, &line, bench.clock.now()).await.map(|_| ()));
        lost(bench.store.settle(&old.lease, &ending, &[], bench.clock.now()).await);
        lost(bench.store.begin_run(&old.lease, RunId("r2".into()), 2, bench.clock.now()).await.map(|_| ()));
        lost(bench.store.hand_back(&old.lease).await);

        assert_eq!(bench.store.renew(&new.lease, LEASE).await.unwrap(), None);
        bench.settle(&new).await;
        lost(bench.store.settle(&new.lease, &ending, &[], bench.clock.now()).await);
        assert_eq!(bench.store.task(&id).await.unwrap().unwrap().state.name(), "succeeded");
        assert_eq!(bench.store.log_after(&id, 0, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_counts_as_a_death() {
    for bench in both().await {
        bench.queue(1, 1).await;
        // The database's own clock decides: this lease is over as soon as it is given.
        bench.store.claim("w", Duration::ZERO, bench.clock.now()).await.unwrap().unwrap();
        let taken = loop {
            if let Some(claimed) = bench.store.claim_expired("x", LEASE, bench.clock.now()).await.unwrap() {
                break claimed;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(taken.task.deaths, 1);
        assert!(bench.claim("y").await.is_none(), "it is held now");
    }
}

#[tokio::test]
async fn a_run_and_its_log_are_stored_together() {
    for bench in both().await {
        let id = bench.queue(1, 1).await;
        let claimed = bench.claim("w").await.unwrap();
        let mut run = bench.store.begin_run(&claimed.lease, RunId("r1".into()), 1, bench.clock.now()).await.unwrap();
        let mut seqs = Vec::new();
        for chunk in 0..40 {
            run.step = Step::Agent;
            run.log_at.stdout = chunk;
            let lines: Vec<Line> = (0..7).map(|n| Line::new(Kind::Info, format!("{chunk}.{n} é"))).collect();
            let stored = bench.store.record(&claimed.lease, &run, &lines, bench.clock.now()).await.unwrap();
            seqs.extend(stored.iter().map(|entry| entry.seq));
        }
        assert_eq!(seqs, (1..=280).collect::<Vec<i64>>(), "without a hole or a double");
        assert_eq!(bench.store.latest_run(&id).await.unwrap().unwrap(), run);
        for after in [0, 1, 6, 7, 100, 279, 280, 999] {
            let entries = bench.store.log_after(&id, after, 1_000).await.unwrap();
            let expected = (280 - after).max(0);
            assert_eq!(entries.len() as i64, expected, "after {after}");
            assert!(entries.first().is_none_or(|entry| entry.seq == after + 1));
        }
        assert_eq!(bench.store.log_after(&id, 139, 1).await.unwrap()[0].text, "19.6 é");
    }
}

#[tokio::test]
async fn effects_go_out_once_and_in_order_within_a_thread() {
    for bench in both().await {
        let react = |issue: i64, reaction| Effect::React {
            thread: thread(1, issue),
            subject: Subject::Issue,
            reaction,
            delivery: DeliveryId("d".into()),
        };
        let now = bench.clock.now();
        let promised = [react(1, Reaction::Eyes), react(1, Reaction::Rocket), react(2, Reaction::Eyes)];
        bench.store.promise(&promised, now).await.unwrap();
        bench.store.promise(&promised, now).await.unwrap();
        let due = bench.store.claim_effects(now, now.after(LEASE)).await.unwrap();
        let claimed: Vec<&Effect> = due.iter().map(|due| &due.effect).collect();
        assert_eq!(claimed, [&promised[0], &promised[2]], "the first of each thread");
        assert!(bench.store.claim_effects(now, now.after(LEASE)).await.unwrap().is_empty());
        bench.store.effect_done(due[0].seq, now).await.unwrap();
        let next = bench.store.claim_effects(now, now.after(LEASE)).await.unwrap();
        assert_eq!(next[0].effect, promised[1]);
        bench.store.effect_failed(next[0].seq, now, "no").await.unwrap();
        bench.store.effect_done(due[1].seq, now).await.unwrap();
        assert!(!bench.store.has_open_promises().await.unwrap());
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
    }
}

#[tokio::test]
async fn pages_follow_each_other_by_key() {
    for bench in both().await {
        let mut made = Vec::new();
        for issue in 0..25 {
            made.push(bench.queue(1 + issue % 2, issue).await);
        }
        let mut seen = Vec::new();
        let mut page = TaskPage { limit: 10, ..TaskPage::default() };
        loop {
            let tasks = bench.store.tasks(page).await.unwrap();
            let Some((last, _)) = tasks.last() else { break };
            page.before = Some(*last);
            seen.extend(tasks.into_iter().map(|(_, task)| task.id));
        }
        made.reverse();
        assert_eq!(seen, made);
        let of_one = TaskPage { repository: Some(RepositoryId(10)), limit: 100, ..TaskPage::default() };
        assert_eq!(bench.store.tasks(of_one).await.unwrap().len(), 13);
    }
}

#[tokio::test]
async fn cancelling_ends_what_waits_and_asks_what_runs() {
    for bench in both().await {
        let (running, waiting) = (bench.queue(1, 1).await, bench.queue(1, 1).await);
        let claimed = bench.claim("w").await.unwrap();
        let none = |_: &_| Vec::new();
        let early = Asked { by: "eve", written_at: Millis(0), now: bench.clock.now() };
        let none_yet = bench.store.cancel_thread(RepositoryId(10), IssueNumber(1), &early, none).await.unwrap();
        assert_eq!(none_yet, [], "what was asked for later goes on");
        let asked = Asked { by: "maria", written_at: bench.clock.now(), now: bench.clock.now() };
        let stopped = bench.store.cancel_thread(RepositoryId(10), IssueNumber(1), &asked, none).await.unwrap();
        assert_eq!(stopped.len(), 2);
        assert_eq!(bench.store.task(&waiting).await.unwrap().unwrap().state.name(), "cancelled");
        assert_eq!(bench.store.task(&running).await.unwrap().unwrap().state.name(), "running");
        assert_eq!(bench.store.renew(&claimed.lease, LEASE).await.unwrap().as_deref(), Some("maria"));
    }
}

#[tokio::test]
async fn a_newer_database_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.db");
    let location = Location::Sqlite(path.clone());
    Store::open(&location, Access::Migration).await.unwrap().close().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    for access in [Access::Visitor, Access::Migration, Access::Service] {
        let error = Store::open(&location, access).await.unwrap_err().to_string();
        assert!(error.contains("newer version (migration 9999)"), "{access:?}: {error}");
    }
    let absent = Location::Sqlite(dir.path().join("absent.db"));
    assert!(Store::open(&absent, Access::Visitor).await.is_err());
    assert!(!dir.path().join("absent.db").exists(), "a visitor makes nothing");
}

/// No list reads more than its page, whatever the table holds.
#[tokio::test]
async fn every_list_has_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.db");
    Store::open(&Location::Sqlite(path.clone()), Access::Service).await.unwrap().close().await;
    let lite = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    for (what, sql, [_, index]) in LISTS {
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&lite).await.unwrap();
        let plan: String = rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{what} on sqlite: {plan}");
    }
    let Some(url) = postgres::fresh_database().await else { return };
    let location = Location::Postgres { url: Secret::new(&*url), direct_url: Secret::new(&*url) };
    Store::open(&location, Access::Service).await.unwrap().close().await;
    let mut connection = postgres::connect(&url).await;
    // Which of two indexes serves is decided by what is in the table.
    let seed = "INSERT INTO tasks (id, delivery_guid, meaning, installation_id, repository_id, repository, issue_number, \
         is_pull, subject, triggered_at, requester_id, requester, agent, options, request, state, created_at) \
         SELECT n, 'g', n, 1, n % 100, 'acme/shop' || n % 100, n / 100, FALSE, '', n, 7, 'maria' || n % 100, 'ours' || n % 100, \
         '{}', '', \
         CASE WHEN n % 50 = 0 THEN 'queued' ELSE 'succeeded' END, n FROM generate_series(1, 50000) AS r(n)";
    for sql in [seed, "ANALYZE tasks"] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    // The other tables are empty and would be read whole; the question is whether an index could serve.
    sqlx::query("SET enable_seqscan = off").execute(&mut connection).await.unwrap();
    for (what, sql, [index, _]) in LISTS {
        let text =
            sql.replace("task_id = $1", "task_id = ''").replace("seq < $1 AND seq > $2", "seq < 40000 AND seq > 0");
        let text = text.replace("$1", "1").replace("$2", "450").replace("$3", "50");
        // Of the filters, the one that the list is by; it stands there once more than the others.
        let filter = |text: String, name: &str, value: &str| {
            let is_by = text.matches(name).count() > 2;
            text.replace(name, if is_by { value } else { "NULL" })
        };
        let is_by_name = text.matches("lower(50)").count() > 1;
        let text = text.replace("50 IS NULL", if is_by_name { "'' IS NULL" } else { "NULL IS NULL" });
        let text = text.replace("lower(50)", "lower('acme/shop')");
        let text = text.replace("issue_number = $5", "issue_number = 1").replace("object_id = $6", "object_id = 1");
        let values =
            [("$4", "'acme/shop7'"), ("$5", "'maria7'"), ("$6", "'ours7'"), ("$7", "'failed'"), ("$8", "'%x%'")];
        let text = values.into_iter().fold(text, |text, (name, value)| filter(text, name, value));
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN {text}")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let plan = rows.join("\n");
        assert!(plan.contains(index), "{what} on postgres: {plan}");
    }
}

/// Polls a future this often, and drops it where it then is.
async fn cut_after<F: Future>(polls: usize, future: F) {
    let (mut future, mut left) = (Box::pin(future), polls);
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| ())
    })
    .await;
}

/// Whoever is cut off in the middle of a transaction leaves nothing of it to others: what they write
/// on the same connection stays.
#[tokio::test]
async fn a_transaction_that_is_cut_off_spoils_no_connection() {
    for bench in both().await {
        let (installation, now) = (InstallationId(1), bench.clock.now());
        let other = Store::open(&bench.location, Access::Visitor).await.unwrap();
        let mut until = now;
        for round in 0..24 {
            for _ in 0..5 {
                cut_after(round % 12, bench.store.take_write(installation, Purpose::Result, now)).await;
            }
            for _ in 0..10 {
                until = Millis(until.0 + 1);
                bench.store.block_installation(installation, until).await.unwrap();
                assert_eq!(other.blocked_until(installation).await.unwrap(), until, "round {round}");
            }
        }
        other.close().await;
        bench.store.close().await;
    }
}
