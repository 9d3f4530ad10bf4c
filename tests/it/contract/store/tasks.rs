//! Claims, leases, and the log that goes with them.

use super::*;

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
        bench.store.hand_back(&old.lease, Duration::ZERO).await.unwrap();
        let new = bench.claim("new").await.unwrap();
        assert_eq!((new.task.id.clone(), new.task.deaths), (id.clone(), 0), "handing back is no death");

        let lost = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
        let ending = Ending { outcome: Outcome::Failed, reason: "late".into(), detail: String::new() };
        let line = [Line::new(Kind::Info, "late")];
        lost(bench.store.renew(&old.lease, LEASE).await.map(|_| ()));
        lost(bench.store.record(&old.lease, &run, &line, bench.clock.now()).await.map(|_| ()));
        lost(bench.store.settle(&old.lease, &ending, &[], bench.clock.now()).await);
        lost(bench.store.begin_run(&old.lease, RunId("r2".into()), 2, bench.clock.now()).await.map(|_| ()));
        lost(bench.store.hand_back(&old.lease, Duration::ZERO).await);
        // How far the output was read moves with its lines, or not at all.
        let read_to = LogPosition { stdout: 9, stderr: 0 };
        let late = Append::new((&old.lease, &run.id), (run.log_at, read_to), &line, bench.clock.now());
        assert_eq!(bench.store.append(&[late]).await.unwrap(), [None]);
        assert_eq!(bench.store.latest_run(&id).await.unwrap().unwrap().log_at, run.log_at);

        assert_eq!(bench.store.renew(&new.lease, LEASE).await.unwrap(), None);
        bench.settle(&new).await;
        lost(bench.store.settle(&new.lease, &ending, &[], bench.clock.now()).await);
        assert_eq!(bench.store.task(&id).await.unwrap().unwrap().state.name(), "succeeded");
        assert_eq!(bench.store.log_after(&id, 0, 10).await.unwrap(), []);
    }
}

/// The acknowledgement of the first was lost, and it is sent again while the first may still be under way.
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_sent_twice_are_there_once() {
    for bench in both().await {
        let id = bench.queue(1, 1).await;
        let held = bench.claim("w").await.unwrap();
        let run = bench.store.begin_run(&held.lease, RunId("r1".into()), 1, bench.clock.now()).await.unwrap();
        let mut read_from = run.log_at;
        for round in 0..50 {
            let read_to = LogPosition { stdout: read_from.stdout + 9, stderr: 0 };
            let lines = ["one", "two"].map(|text| Line::new(Kind::Info, text));
            let one = [Append::new((&held.lease, &run.id), (read_from, read_to), &lines, bench.clock.now())];
            let (first, again) = tokio::join!(bench.store.append(&one), bench.store.append(&one));
            let number = Some(1 + 2 * round);
            assert_eq!((first.unwrap(), again.unwrap()), (vec![number], vec![number]), "{}", bench.store.engine());
            read_from = read_to;
        }
        let numbers: Vec<i64> = bench.store.log_after(&id, 0, 200).await.unwrap().iter().map(|line| line.seq).collect();
        assert_eq!(numbers, (1..=100).collect::<Vec<i64>>(), "without a hole or a double");
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
async fn what_is_handed_back_can_be_left_alone_for_a_moment() {
    for bench in both().await {
        bench.queue(1, 1).await;
        let held = bench.claim("w").await.unwrap();
        bench.store.hand_back(&held.lease, LEASE).await.unwrap();
        assert!(bench.claim("x").await.is_none(), "{}", bench.store.engine());
    }
}

/// The clock was set back since, and only this process is there (fault F42).
#[tokio::test]
async fn what_was_handed_back_by_a_wrong_clock_is_taken_at_the_start() {
    let bench = both().await.remove(0);
    if bench.store.engine() != "sqlite" {
        return;
    }
    for issue in [1, 2] {
        bench.queue(1, issue).await;
    }
    let held = [bench.claim("w").await.unwrap(), bench.claim("w").await.unwrap()];
    bench.store.hand_back(&held[0].lease, 120 * LEASE).await.unwrap();
    bench.store.hand_back(&held[1].lease, LEASE).await.unwrap();
    bench.store.expire_all_leases(SystemClock.now(), LEASE, LEASE).await.unwrap();
    assert_eq!(bench.claim("w").await.map(|held| held.task.deaths), Some(0));
    assert!(bench.claim("w").await.is_none(), "this one has its moment still");
}

/// What a worker was making at GitHub when it died does not show at once.
#[tokio::test]
async fn after_a_crash_on_sqlite_what_may_be_under_way_is_left_alone_for_a_moment() {
    let bench = both().await.remove(0);
    if bench.store.engine() != "sqlite" {
        return;
    }
    let mut ids = Vec::new();
    for (issue, comment, step) in [(1, None, Step::Announce), (2, Some(7), Step::Agent), (3, Some(8), Step::Publish)] {
        ids.push(bench.queue(1, issue).await);
        let held = bench.claim("w").await.unwrap();
        let mut run =
            bench.store.begin_run(&held.lease, RunId(format!("r{issue}")), 1, bench.clock.now()).await.unwrap();
        run.step = step;
        bench.store.record(&held.lease, &run, &[], bench.clock.now()).await.unwrap();
        bench.store.store_comment(&held.task.id, comment.map(CommentId)).await.unwrap();
    }
    bench.store.expire_all_leases(SystemClock.now(), LEASE, LEASE).await.unwrap();
    let taken = bench.claim("x").await.unwrap();
    assert_eq!((&taken.task.id, taken.task.deaths), (&ids[1], 1));
    assert!(bench.claim("x").await.is_none());
}

/// A program that is older than its database would claim it for ever.
#[tokio::test]
async fn a_task_that_nobody_can_read_is_over_at_last() {
    for bench in both().await {
        bench.queue(1, 1).await;
        bench.execute("UPDATE tasks SET subject = 'of a later version'").await;
        let claim = async || bench.store.claim("w", Duration::ZERO, bench.clock.now()).await.unwrap();
        let running = async || bench.store.running(None).await.unwrap();
        for _ in 0..3 {
            assert!(claim().await.is_none());
            assert_eq!(running().await, 1, "it is left to a newer one");
        }
        bench.clock.advance(2 * LEFT_TO_NEWER + Duration::from_secs(1));
        while running().await == 1 {
            assert!(claim().await.is_none());
        }
        assert_eq!(bench.store.queued().await.unwrap(), 0);
    }
}

/// Two programs of the old version pass it to each other until one of the new version has it.
#[tokio::test]
async fn what_a_program_cannot_read_has_not_died_of_it() {
    for bench in both().await {
        bench.queue(1, 1).await;
        bench.execute("UPDATE tasks SET reason = subject, subject = 'of a later version'").await;
        for owner in ["v", "w", "v", "w", "v"] {
            assert!(bench.store.claim(owner, Duration::ZERO, bench.clock.now()).await.unwrap().is_none());
        }
        bench.execute("UPDATE tasks SET subject = reason, reason = ''").await;
        assert_eq!(bench.claim("x").await.unwrap().task.deaths, 0);
    }
}

/// Waiting does not make it better.
#[tokio::test]
async fn a_value_that_postgresql_does_not_take_is_no_outage() {
    for bench in both().await {
        let thread = thread(1, 1);
        let stored = bench.store.note_stop(&thread, "mar\0ia", bench.clock.now()).await;
        match bench.store.engine() {
            "sqlite" => assert!(stored.is_ok()),
            _ => assert!(matches!(stored, Err(StoreError::Unstorable(_))), "{stored:?}"),
        }
    }
}

/// The list of a whole team does not go for one row of a later version.
#[tokio::test]
async fn a_list_passes_over_a_task_that_it_cannot_read() {
    for bench in both().await {
        bench.queue(1, 1).await;
        bench.execute("UPDATE tasks SET subject = 'of a later version'").await;
        let readable = bench.queue(1, 2).await;
        let page = bench.store.find_tasks(&TaskFilter::default(), None, 10).await.unwrap();
        assert_eq!(page.items.iter().map(|(_, task)| &task.id).collect::<Vec<_>>(), [&readable]);
        let open = bench.store.open_tasks_of(InstallationId(1)).await.unwrap();
        assert_eq!(open.iter().map(|task| &task.id).collect::<Vec<_>>(), [&readable]);
    }
}

/// Whichever comes first (fault F41).
#[tokio::test(flavor = "multi_thread")]
async fn a_command_and_the_word_that_stops_it_meet() {
    for bench in both().await {
        for round in 0..60 {
            let stopped = thread(1, round);
            let task = bench.task(&format!("meaning {round}"), stopped.clone());
            let later = task.triggered_at.after(LEASE);
            let tasks = [task];
            let admitted = bench.admit_stoppable(&tasks);
            let found = async {
                bench.store.note_stop(&stopped, "maria", later).await.unwrap();
                bench.store.open_tasks(stopped.repository, stopped.issue).await.unwrap().len()
            };
            let (admitted, found) = tokio::join!(admitted, found);
            let Admission::Accepted { stopped } = admitted else { panic!("{admitted:?}") };
            let state = bench.store.task(&tasks[0].id).await.unwrap().unwrap().state.name();
            let ways = (found, stopped.len(), state);
            assert!([(1, 0, "queued"), (0, 1, "cancelled")].contains(&ways), "{ways:?} on {}", bench.store.engine());
        }
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
async fn cancelling_ends_what_waits_and_asks_what_runs() {
    for bench in both().await {
        let (running, waiting) = (bench.queue(1, 1).await, bench.queue(1, 1).await);
        let claimed = bench.claim("w").await.unwrap();
        let asked = Asked { by: "maria", written_at: bench.clock.now(), now: bench.clock.now() };
        let mut stopped = Vec::new();
        for task in bench.store.open_tasks(RepositoryId(10), IssueNumber(1)).await.unwrap() {
            stopped.push(bench.store.cancel_one(&task, &asked, &[]).await.unwrap());
        }
        assert_eq!(stopped, [Some(Stopped::AtWork), Some(Stopped::InQueue)]);
        assert_eq!(bench.store.task(&waiting).await.unwrap().unwrap().state.name(), "cancelled");
        assert_eq!(bench.store.task(&running).await.unwrap().unwrap().state.name(), "running");
        assert_eq!(bench.store.renew(&claimed.lease, LEASE).await.unwrap().as_deref(), Some("maria"));
    }
}
