//! What is held by each engine in its own way: versions, indexes, transactions.

use super::*;

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

/// A claim reads the queue alone, also where the planner last looked when everything was queued.
#[tokio::test]
async fn a_claim_walks_through_nothing_that_is_over() {
    const SEED: &str = "INSERT INTO tasks (id, delivery_guid, meaning, installation_id, repository_id, repository, issue_number, \
        is_pull, subject, triggered_at, requester_id, requester, agent, options, request, state, created_at) \
        SELECT CAST(n AS TEXT), 'g', CAST(n AS TEXT), n % 50, n % 50, 'acme/shop', n, FALSE, '', n, 7, 'maria', 'ours', '{}', '', \
        'queued', n FROM r";
    let [lite, shared] = CLAIMS.map(|[turns, claim]| [("e", turns, "1"), ("t", claim, "'w', 60000, 1, 7, 'running'")]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.db");
    Store::open(&Location::Sqlite(path.clone()), Access::Service).await.unwrap().close().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5000)";
    for sql in [format!("{numbers} {SEED}"), "ANALYZE".to_owned()] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    for (task, sql, _) in lite {
        let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(sql).fetch_all(&pool).await.unwrap();
        let plan: String = rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
        assert!(plan.contains(&format!("SEARCH {task} USING INDEX tasks_queue")), "sqlite: {plan}");
    }
    let Some(url) = postgres::fresh_database().await else { return };
    let location = Location::Postgres { url: Secret::new(&*url), direct_url: Secret::new(&*url) };
    Store::open(&location, Access::Service).await.unwrap().close().await;
    let mut connection = postgres::connect(&url).await;
    let numbers = "WITH r(n) AS (SELECT generate_series(1, 5000))";
    for sql in [format!("{numbers} {SEED}"), "ANALYZE tasks".to_owned()] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    // As it is after a while, for all values at once.
    sqlx::query("SET plan_cache_mode = force_generic_plan").execute(&mut connection).await.unwrap();
    for (task, sql, values) in shared {
        let prepare = sqlx::AssertSqlSafe(format!("PREPARE claim_{task} AS {sql}"));
        sqlx::raw_sql(prepare).execute(&mut connection).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN EXECUTE claim_{task}({values})"));
        let rows = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
        let plan: String = rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect();
        assert!(plan.contains(&format!("tasks_queue on tasks {task} ")), "postgres: {plan}");
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
                bench.store.block_installation(installation, until, bench.clock.now()).await.unwrap();
                assert_eq!(other.blocked_until(installation).await.unwrap(), until, "round {round}");
            }
        }
        other.close().await;
        bench.store.close().await;
    }
}

/// As an admission holds it: of the two one comes first.
#[tokio::test]
async fn a_word_that_stops_waits_for_who_is_being_let_in() {
    for bench in both().await {
        let Location::Postgres { direct_url, .. } = &bench.location else { continue };
        let mut other = sqlx::PgConnection::connect(direct_url.expose()).await.unwrap();
        let stopped = thread(1, 1);
        sqlx::query("SELECT pg_advisory_lock($1)").bind(stopped.repository.0).execute(&mut other).await.unwrap();
        let noted = bench.store.note_stop(&stopped, "maria", bench.clock.now());
        let is_waiting = async {
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut other).await.unwrap() == 0 {}
            sqlx::query("SELECT pg_advisory_unlock($1)").bind(stopped.repository.0).execute(&mut other).await.unwrap();
        };
        let both = async { tokio::join!(noted, is_waiting) };
        let (noted, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("it waits");
        noted.unwrap();
    }
}

/// PostgreSQL may ask the inner question once for each row of the outer one, and passes over what the claim has just changed:
/// without care it takes more each time.
#[tokio::test]
async fn a_claim_keeps_its_bound_under_any_plan() {
    for bench in both().await {
        let now = bench.clock.now();
        let until = now.after(LEASE);
        let missed = |number: i64| Attempt {
            number,
            delivery: DeliveryId(format!("missed-{number}")),
            event: "issues".into(),
            status: 502,
            sent_at: now,
            is_again: false,
        };
        let effect = |issue: i64| Effect::React {
            thread: thread(1, issue),
            subject: Subject::Issue,
            reaction: Reaction::Eyes,
            delivery: DeliveryId("d".into()),
        };
        let delivery = |number: i64| kept(&bench.clock, &number.to_string(), &number.to_string());
        bench.store.keep_deliveries(&(0..100).map(delivery).collect::<Vec<_>>()).await.unwrap();
        bench.store.promise(&(0..50).map(effect).collect::<Vec<_>>(), now).await.unwrap();
        bench.store.note_missed(&[1, 2, 3].map(missed), now, now).await.unwrap();
        let store = bench.with_nested_plans().await;
        assert_eq!(store.claim_pending(now, until).await.unwrap().len(), 64);
        assert_eq!(store.claim_effects(now, until).await.unwrap().len(), 32);
        assert!(store.claim_missed(now).await.unwrap().is_some());
        let asked = store.missed_deliveries(10).await.unwrap().iter().filter(|line| line.asks > 0).count();
        assert_eq!(asked, 1);
    }
}

impl Bench {
    /// The same database, where PostgreSQL thinks all but nested loops dear.
    async fn with_nested_plans(&self) -> Store {
        let Location::Postgres { direct_url, .. } = &self.location else {
            return Store::open(&self.location, Access::Visitor).await.unwrap();
        };
        let mut url = url::Url::parse(direct_url.expose()).unwrap();
        let others = ["enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_material", "enable_sort"];
        url.query_pairs_mut().extend_pairs(others.map(|name| (format!("options[{name}]"), "off")));
        // Where nothing is done about it, the claim of one really takes more.
        let mut connection = postgres::connect(url.as_str()).await;
        let mut careless = connection.begin().await.unwrap();
        let sql = "UPDATE outbox SET attempts = 0 WHERE seq IN (SELECT x.seq FROM outbox x WHERE x.due_at IS NOT NULL \
            ORDER BY x.due_at LIMIT 1 FOR UPDATE SKIP LOCKED)";
        assert!(sqlx::query(sql).execute(&mut *careless).await.unwrap().rows_affected() > 1);
        careless.rollback().await.unwrap();
        let url = Secret::new(url.to_string());
        Store::open(&Location::Postgres { url: url.clone(), direct_url: url }, Access::Visitor).await.unwrap()
    }
}
