//! What is kept of deliveries, who decides on them and when, and those that were missed.

use super::*;

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

/// Several rows are one statement: through a transaction pooler, those of other connections come in between.
#[tokio::test]
async fn deliveries_that_come_side_by_side_are_all_kept() {
    for bench in both().await {
        let Bench { store, clock, .. } = &bench;
        let ids = |source: usize, batch: usize| (0..=batch % 5).map(move |n| format!("{source}-{batch}-{n}"));
        futures::future::join_all((0..16).map(async |source| {
            for batch in 0..20 {
                let deliveries: Vec<KeptDelivery> = ids(source, batch).map(|id| kept(clock, &id, &id)).collect();
                let stored = store.keep_deliveries(&deliveries).await.unwrap();
                assert!(stored.iter().all(|one| *one == Stored::Fresh), "{stored:?}");
                for one in &deliveries {
                    let (_, body) = store.delivery(&one.row.id).await.unwrap().unwrap();
                    assert_eq!(KeptDelivery::pack(&body), one.packed_body);
                }
                let decision = Some(DecisionCode::NoCommand);
                let noted = |id| LedgerRow { decision, ..row(clock, &format!("noted-{id}")) };
                let rows: Vec<LedgerRow> = ids(source, batch).map(noted).collect();
                store.note_deliveries(&rows).await.unwrap();
                for one in &rows {
                    assert_eq!(store.decision_of(&one.id).await.unwrap(), decision);
                }
            }
        }))
        .await;
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

/// A cancel must not overtake the command that it cancels.
#[tokio::test]
async fn a_delivery_waits_for_an_earlier_one_of_its_thread() {
    for bench in both().await {
        let Bench { store, clock, .. } = &bench;
        let ids = |pending: Vec<PendingDelivery>| pending.into_iter().map(|one| one.id.0).collect::<Vec<_>>();
        let until = clock.now().after(LEASE);
        store.keep_deliveries(&[kept(clock, "first", "first")]).await.unwrap();
        let first = store.claim_pending(clock.now(), until).await.unwrap().remove(0);
        let elsewhere = KeptDelivery {
            row: LedgerRow { issue: Some(2), ..row(clock, "elsewhere") },
            ..kept(clock, "elsewhere", "elsewhere")
        };
        store.keep_deliveries(&[kept(clock, "second", "second"), elsewhere]).await.unwrap();
        assert_eq!(ids(store.claim_pending(clock.now(), until).await.unwrap()), ["elsewhere"]);
        // Given back, both are there in their order; what was decided meanwhile is not.
        store.give_back_deliveries(&[(first.seq, until)], clock.now()).await.unwrap();
        assert_eq!(ids(store.claim_pending(clock.now(), until).await.unwrap()), ["first", "second"]);
        let code = DecisionCode::NoCommand;
        store
            .decide(&Decision { seq: first.seq, code, facts: String::new(), at: clock.now(), effects: &[] })
            .await
            .unwrap();
        store.give_back_deliveries(&[(first.seq, until)], clock.now()).await.unwrap();
        assert_eq!(store.claim_pending(clock.now(), until).await.unwrap().len(), 0);
    }
}

/// It is not to be had, and not yet marked as taken either.
#[tokio::test]
async fn a_delivery_that_another_process_is_taking_holds_up_its_thread() {
    for bench in both().await {
        let Location::Postgres { direct_url, .. } = &bench.location else { continue };
        let clock = &bench.clock;
        let elsewhere = LedgerRow { issue: Some(2), ..row(clock, "elsewhere") };
        let elsewhere = KeptDelivery { row: elsewhere, ..kept(clock, "elsewhere", "elsewhere") };
        let all = [kept(clock, "first", "first"), kept(clock, "second", "second"), elsewhere];
        bench.store.keep_deliveries(&all).await.unwrap();
        let mut other = sqlx::PgConnection::connect(direct_url.expose()).await.unwrap();
        let mut taking = other.begin().await.unwrap();
        sqlx::query("SELECT seq FROM deliveries WHERE guid = 'first' FOR UPDATE").execute(&mut *taking).await.unwrap();
        let claim = async || {
            let claimed = bench.store.claim_pending(clock.now(), clock.now().after(LEASE));
            let claimed = tokio::time::timeout(Duration::from_secs(20), claimed).await.unwrap().unwrap();
            claimed.into_iter().map(|one| one.id.0).collect::<Vec<_>>()
        };
        assert_eq!(claim().await, ["elsewhere"]);
        taking.rollback().await.unwrap();
        assert_eq!(claim().await, ["first", "second"]);
    }
}

#[tokio::test]
async fn what_was_missed_is_asked_for_as_long_as_github_has_it() {
    for bench in both().await {
        let Bench { store, clock, .. } = &bench;
        let sent_at = clock.now();
        let attempt = |number: i64, id: &str| Attempt {
            number,
            delivery: DeliveryId(id.into()),
            event: "issues".into(),
            status: 502,
            sent_at,
            is_again: false,
        };
        store.note_missed(&[attempt(1, "one"), attempt(2, "two")], sent_at, sent_at).await.unwrap();
        let mut asked = Vec::new();
        while let Some(at) = store.next_missed_at().await.unwrap() {
            clock.advance(at.since(clock.now()));
            let (id, _) = store.claim_missed(clock.now()).await.unwrap().unwrap();
            asked.push((id.0, clock.now().since(sent_at)));
        }
        // In turns, at most about an hour apart, until GitHub has it no more.
        assert!(asked.chunks(2).all(|pair| pair[0].0 == "one" && pair[1].0 == "two"), "{asked:?}");
        let of_one: Vec<Duration> = asked.iter().filter(|(id, _)| id == "one").map(|(_, after)| *after).collect();
        assert!(of_one.windows(2).all(|two| two[1] - two[0] <= Duration::from_secs(3840)), "{of_one:?}");
        assert!(
            *of_one.last().unwrap() > KEPT && *of_one.last().unwrap() < KEPT + Duration::from_secs(3900),
            "{of_one:?}"
        );
    }
}

/// A clock that was an hour ahead does not hide what comes in that hour (fault F42).
#[tokio::test]
async fn a_time_to_come_is_not_kept() {
    for bench in both().await {
        let now = bench.clock.now();
        let ahead = now.after(Duration::from_secs(3600));
        bench.store.note_missed(&[], ahead, ahead).await.unwrap();
        bench.store.note_missed(&[], now, now).await.unwrap();
        assert_eq!(bench.store.deliveries_read_through().await.unwrap(), Some(now));
        bench.store.note_missed(&[], now.before(LEASE), now).await.unwrap();
        assert_eq!(bench.store.deliveries_read_through().await.unwrap(), Some(now));
    }
}

/// The frozen text is made of it.
#[tokio::test]
async fn the_payload_of_a_task_that_is_not_over_is_kept() {
    for bench in both().await {
        let pending = bench.pending("guid-of-the-task").await;
        let task = NewTask { delivery: pending.id.clone(), ..bench.task("meaning", thread(1, 1)) };
        let (facts, at) = ("{}".to_owned(), bench.clock.now());
        let decision = Decision { seq: pending.seq, code: DecisionCode::Accepted, facts, at, effects: &[] };
        bench.store.admit(&Admit { decision, tasks: &[task], limits: LIMITS, tells_stop: None }).await.unwrap();
        let later = bench.clock.now().after(LEASE);
        bench.store.forget_old(Old::Payloads, 0, later).await.unwrap();
        assert!(bench.store.delivery(&pending.id).await.unwrap().is_some());
        let claimed = bench.claim("w").await.unwrap();
        bench.settle(&claimed).await;
        bench.store.forget_old(Old::Payloads, 0, later).await.unwrap();
        assert!(bench.store.delivery(&pending.id).await.unwrap().is_none());
    }
}
