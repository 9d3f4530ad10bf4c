//! Effects that were promised: who delivers them, and when.

use super::*;

fn react(issue: i64, reaction: Reaction) -> Effect {
    Effect::React { thread: thread(1, issue), subject: Subject::Issue, reaction, delivery: DeliveryId("d".into()) }
}

#[tokio::test]
async fn effects_go_out_once_and_in_order_within_a_thread() {
    for bench in both().await {
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
async fn a_task_ends_with_all_that_tells_it_or_goes_on() {
    for bench in both().await {
        bench.queue(1, 1).await;
        let old = bench.claim("old").await.unwrap();
        bench.store.hand_back(&old.lease, Duration::ZERO).await.unwrap();
        let new = bench.claim("new").await.unwrap();
        let ending = Ending { outcome: Outcome::Succeeded, reason: String::new(), detail: String::new() };
        let now = bench.clock.now();
        let settled = bench.store.settle(&old.lease, &ending, &[react(1, Reaction::Confused)], now).await;
        assert!(matches!(settled, Err(StoreError::LeaseLost)), "{settled:?}");
        assert!(!bench.store.has_open_promises().await.unwrap(), "who lost the task tells nothing");

        // A text of anybody's, with all that could end a value too soon.
        let markdown = "it's {\"done\", \\ NULL}, \u{1f680}\n".to_owned();
        let reply = Effect::Reply { thread: thread(1, 1), key: "k".into(), markdown };
        bench.store.promise(&[react(1, Reaction::Eyes)], now).await.unwrap();
        let effects = [react(1, Reaction::Rocket), react(1, Reaction::Eyes), reply];
        for _ in ["it is ended", "the answer to that was lost"] {
            bench.store.settle(&new.lease, &ending, &effects, now).await.unwrap();
        }
        let mut told = Vec::new();
        while bench.store.has_open_promises().await.unwrap() {
            for due in bench.store.claim_effects(now, now.after(LEASE)).await.unwrap() {
                bench.store.effect_done(due.seq, now).await.unwrap();
                told.push((due.seq, due.effect));
            }
        }
        told.sort_by_key(|(seq, _)| *seq);
        let told: Vec<Effect> = told.into_iter().map(|(_, effect)| effect).collect();
        let [rocket, eyes, reply] = effects;
        assert_eq!(told, [eyes, rocket, reply], "in their order, and what was promised before stays where it is");
    }
}

/// GitHub's parts may not agree for a moment. Other trouble before that, however long, takes nothing of it.
#[tokio::test]
async fn what_is_missing_is_counted_in_a_row() {
    for Bench { store, clock, .. } in both().await {
        store.promise(&[react(1, Reaction::Eyes)], clock.now()).await.unwrap();
        let claim = async || {
            clock.advance(LEASE);
            store.claim_effects(clock.now(), clock.now().after(LEASE)).await.unwrap().remove(0)
        };
        let seq = claim().await.seq;
        for times in 1..3 {
            store.effect_missing(seq, clock.now()).await.unwrap();
            assert_eq!(claim().await.times_missing, times);
        }
        store.postpone_effect(seq, clock.now()).await.unwrap();
        let due = claim().await;
        assert_eq!((due.times_missing, due.attempts), (0, 4));
    }
}

/// What is promised takes back what it finds only.
#[tokio::test]
async fn eyes_come_too_late_once_a_result_is_promised() {
    for Bench { store, clock, .. } in both().await {
        let eyes = react(1, Reaction::Eyes);
        assert!(!store.is_reaction_overtaken(&eyes).await.unwrap());
        let (subject, delivery) = (Subject::Issue, DeliveryId("d".into()));
        let result = Effect::SwapReaction { thread: thread(1, 1), subject, reaction: Reaction::Rocket, delivery };
        store.promise(&[result], clock.now()).await.unwrap();
        assert!(store.is_reaction_overtaken(&eyes).await.unwrap());
        assert!(!store.is_reaction_overtaken(&react(2, Reaction::Eyes)).await.unwrap());
    }
}

/// On SQLite a start means that nobody else is there. What has to wait for another reason waits on.
#[tokio::test]
async fn a_start_on_sqlite_takes_over_what_was_claimed_and_no_more() {
    let bench = both().await.remove(0);
    let Bench { store, clock, .. } = &bench;
    let (claim, settling) = (Duration::from_secs(90), Duration::from_secs(15));
    let effects = [1, 2, 3].map(|issue| react(issue, Reaction::Eyes));
    store.promise(&effects, clock.now()).await.unwrap();
    let claimed = store.claim_effects(clock.now(), clock.now().after(claim)).await.unwrap();
    let wait = Duration::from_secs(1800);
    store.postpone_effect(claimed[1].seq, clock.now().after(wait)).await.unwrap();
    store.give_back_effects(&[(claimed[2].seq, clock.now().after(claim))], clock.now().after(settling)).await.unwrap();
    let delivery = bench.pending("delivery").await;
    store.expire_all_leases(clock.now(), settling, claim).await.unwrap();
    let due = async || {
        let due = store.claim_effects(clock.now(), clock.now().after(claim)).await.unwrap();
        due.into_iter().map(|due| due.effect).collect::<Vec<_>>()
    };
    assert_eq!(due().await, [], "GitHub may still be at what was claimed");
    assert_eq!(store.claim_pending(clock.now(), clock.now().after(claim)).await.unwrap()[0].seq, delivery.seq);
    clock.advance(settling);
    assert_eq!(due().await, [effects[0].clone(), effects[2].clone()]);
    // A push may be put off by wish, for an hour.
    store.postpone_delivery(delivery.seq, clock.now().after(wait)).await.unwrap();
    store.expire_all_leases(clock.now(), settling, claim).await.unwrap();
    assert!(store.claim_pending(clock.now(), clock.now().after(claim)).await.unwrap().is_empty());
    clock.advance(wait);
    assert_eq!(due().await.len(), 3);
}
