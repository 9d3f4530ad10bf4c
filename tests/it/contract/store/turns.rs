//! Whose turn it is.

use super::*;

impl Bench {
    /// From the queue, in the same moment as whatever was before.
    async fn next(&self, store: &Store) -> Option<Claimed> {
        store.claim_queued("w", LEASE, self.clock.now()).await.unwrap()
    }

    /// Has an installation run a task, and that is over.
    async fn run_one(&self, installation: i64, issue: i64) {
        self.queue(installation, issue).await;
        let claimed = self.claim("w").await.unwrap();
        self.settle(&claimed).await;
    }
}

fn installation(claimed: Option<Claimed>) -> Option<i64> {
    claimed.map(|claimed| claimed.task.thread.installation.0)
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

/// Who is next is asked for all of them at once, and holds for a second, by whichever clock.
#[tokio::test]
async fn a_newcomer_waits_a_second_at_most() {
    for (passes, order) in [(0, [1, 2, 3]), (2_000, [1, 3, 2]), (-2_000, [1, 3, 2])] {
        for bench in both().await {
            for (issue, old) in [1, 2].into_iter().enumerate() {
                bench.run_one(old, 10 + issue as i64).await;
                bench.queue(old, 20 + issue as i64).await;
            }
            let process = Store::open(&bench.location, Access::Visitor).await.unwrap();
            let now = bench.clock.now();
            let first = process.claim_queued("w", LEASE, now).await.unwrap();
            bench.queue(3, 30).await;
            let later = Millis(now.0 + passes);
            let second = process.claim_queued("w", LEASE, later).await.unwrap();
            let third = process.claim_queued("w", LEASE, later).await.unwrap();
            assert_eq!([first, second, third].map(installation), order.map(Some), "{passes}: 3 never ran, 1 ran first");
        }
    }
}

/// A round has so many turns at most.
#[tokio::test]
async fn accounts_that_want_quiet_hide_no_other() {
    for bench in both().await {
        let now = bench.clock.now();
        for quiet in 1..=64 {
            bench.queue(quiet, quiet).await;
            bench.store.block_installation(InstallationId(quiet), now.after(LEASE), now).await.unwrap();
        }
        bench.queue(65, 65).await;
        assert_eq!(installation(bench.next(&bench.store).await), Some(65));
        assert_eq!(installation(bench.next(&bench.store).await), None);
    }
}

#[tokio::test]
async fn a_round_is_of_those_who_run_least() {
    for bench in both().await {
        for (who, issue) in [(2, 1), (2, 2), (1, 3)] {
            bench.queue(who, issue).await;
        }
        bench.execute("UPDATE tasks SET state = 'running', lease_until = 9999999999999 WHERE issue_number = 1").await;
        let claimed = bench.next(&bench.store).await.unwrap();
        bench.settle(&claimed).await;
        bench.queue(1, 4).await;
        assert_eq!(installation(bench.next(&bench.store).await), Some(1), "still runs less than the other");
        assert_eq!(installation(bench.next(&bench.store).await), Some(2));
    }
}

#[tokio::test]
async fn a_turn_that_another_process_took_goes_to_the_next() {
    for bench in both().await {
        let other = Store::open(&bench.location, Access::Visitor).await.unwrap();
        bench.queue(2, 1).await;
        assert_eq!(installation(bench.next(&bench.store).await), Some(2));
        bench.queue(1, 2).await;
        bench.queue(3, 3).await;
        bench.queue(2, 4).await;
        let first = installation(bench.next(&bench.store).await);
        let second = installation(bench.next(&other).await);
        assert_eq!(HashSet::from([first, second]), HashSet::from([Some(1), Some(3)]), "they run least");
        // Its round still has who is over there now.
        assert_eq!(installation(bench.next(&bench.store).await), Some(2));
        assert_eq!(installation(bench.next(&bench.store).await), None);
    }
}

/// Somebody's transaction has the only task of who would be next.
#[tokio::test]
async fn a_turn_that_is_locked_holds_up_nobody_who_runs_more() {
    for bench in both().await {
        let Location::Postgres { direct_url, .. } = &bench.location else { continue };
        bench.queue(2, 1).await;
        assert_eq!(installation(bench.next(&bench.store).await), Some(2));
        bench.queue(1, 2).await;
        bench.queue(2, 3).await;
        let mut other = sqlx::PgConnection::connect(direct_url.expose()).await.unwrap();
        let mut held = other.begin().await.unwrap();
        sqlx::query("SELECT seq FROM tasks WHERE issue_number = 2 FOR UPDATE").execute(&mut *held).await.unwrap();
        let next = tokio::time::timeout(Duration::from_secs(20), bench.next(&bench.store)).await;
        assert_eq!(installation(next.unwrap()), Some(2));
        held.rollback().await.unwrap();
        assert_eq!(installation(bench.next(&bench.store).await), Some(1));
    }
}

/// Found out as the round begins, and looked at again at each of its turns.
#[tokio::test]
async fn a_turn_is_no_leave_to_disturb_an_account_that_wants_quiet() {
    for bench in both().await {
        for (who, issue) in [(1, 1), (2, 2)] {
            bench.queue(who, issue).await;
        }
        let first = bench.next(&bench.store).await.unwrap().task.thread.installation;
        let (second, now) = (InstallationId(3 - first.0), bench.clock.now());
        bench.store.block_installation(second, now.after(LEASE), now).await.unwrap();
        assert_eq!(installation(bench.next(&bench.store).await), None);
        bench.clock.advance(2 * LEASE);
        assert_eq!(installation(bench.next(&bench.store).await), Some(second.0));
    }
}
