//! Deliveries that wait for a decision. Those of one thread keep their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::adapters::github::decode;
use crate::adapters::store::{Decision, PendingDelivery};
use crate::app::App;
use crate::app::claims::{Claim, Claims};
use crate::app::signals::Topic;
use crate::domain::command::parse;
use crate::domain::decision::DecisionCode;

/// While one process decides on a delivery, others leave it alone for this long.
const CLAIM: Duration = Duration::from_secs(60);
/// Threads whose deliveries are decided at once.
const MAX_UNDER_WAY: usize = 64;

/// Decides deliveries as they come, until told to stop. One that has to wait for GitHub holds up no other thread.
pub(in crate::app) async fn decide_all(app: Arc<App>, stop: CancellationToken) {
    let mut claims = Claims::default();
    while !stop.is_cancelled() {
        let now = app.clock.now();
        let until = now.after(CLAIM);
        let pending = match claims.len() < MAX_UNDER_WAY {
            true => app.in_time(app.store.claim_pending(now, until)).await,
            false => Ok(Vec::new()),
        };
        let pending = pending.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "deliveries cannot be read");
            Vec::new()
        });
        let found = !pending.is_empty();
        for deliveries in by_thread(app.without_commands(pending).await) {
            let app = Arc::clone(&app);
            let rows: Vec<Claim> = deliveries.iter().map(|delivery| (delivery.seq, until)).collect();
            claims.begin(rows, CLAIM, async move { app.decide_in_turn(&deliveries).await });
        }
        claims.forget_ended();
        if found && claims.len() < MAX_UNDER_WAY {
            continue;
        }
        // What is due and was not found is behind an earlier one of its thread.
        let after = (!found).then_some(now);
        let next = app.in_time(app.store.next_pending_after(after)).await.ok().flatten();
        // Also when nobody calls: for what was put off, and for `replay`.
        let look_every = app.look_every();
        let soon = next.map_or(look_every, |at| at.since(app.clock.now()));
        tokio::select! {
            () = app.signals.deliveries.notified(), if claims.len() < MAX_UNDER_WAY => {}
            Some(()) = claims.next_end() => {}
            () = tokio::time::sleep(soon.clamp(Duration::from_millis(10), look_every)) => {}
            () = stop.cancelled() => {}
        }
    }
    // A decision that is broken off was not made: the next process makes it.
    let left = claims.break_off(Duration::ZERO).await;
    if let Err(error) = app.store.give_back_deliveries(&left, app.clock.now()).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "deliveries stay claimed for a minute");
    }
    app.tell_others([Topic::Deliveries]).await;
}

fn by_thread(pending: Vec<PendingDelivery>) -> Vec<Vec<PendingDelivery>> {
    let mut groups: BTreeMap<(i64, i64, i64), Vec<PendingDelivery>> = BTreeMap::new();
    for delivery in pending {
        groups.entry(delivery.thread).or_default().push(delivery);
    }
    groups.into_values().collect()
}

impl App {
    /// Deliveries of one thread. Behind one that has to wait the others do: a cancel must not overtake what it cancels.
    async fn decide_in_turn(&self, deliveries: &[PendingDelivery]) {
        let mut waits_until = None;
        for delivery in deliveries {
            match waits_until {
                None => waits_until = self.decide_or_postpone(delivery).await,
                Some(until) => self.postpone(delivery, until).await,
            }
        }
    }

    /// Decides those that hold no command after all, with one commit; gives back the others.
    async fn without_commands(&self, pending: Vec<PendingDelivery>) -> Vec<PendingDelivery> {
        let identity = self.identity_so_far();
        // Without our own name a mention of us cannot be told from others.
        if identity.handle.is_empty() {
            return pending;
        }
        let words = self.vocabulary(&identity.handle);
        let is_idle = |delivery: &PendingDelivery| {
            let notice = decode(&delivery.event, &delivery.body);
            let writing = notice.and_then(|notice| notice.writing);
            writing.is_some_and(|writing| parse(&writing.text, &words).is_empty())
        };
        let (idle, others): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_idle);
        let at = self.clock.now();
        let code = DecisionCode::NoCommand;
        let decisions: Vec<Decision<'_>> = idle
            .iter()
            .map(|delivery| Decision { seq: delivery.seq, code, facts: String::new(), at, effects: &[] })
            .collect();
        if decisions.is_empty() {
            return others;
        }
        match self.in_time(self.store.decide_all(&decisions)).await {
            Ok(()) => metrics::counter!("hireling_deliveries_total", "decision" => code.name())
                .increment(decisions.len() as u64),
            // They stay claimed for a moment and are then looked at again.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "decisions could not be stored"),
        }
        others
    }
}
