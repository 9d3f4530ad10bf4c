//! Deliveries that were missed: GitHub sends each once, and nobody was there or could store it. Its own
//! list of attempts is read back, and what nobody took is asked for again (faults F01, F14).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::App;
use crate::adapters::github::{Cursor, GitHubError};
use crate::adapters::store::{Purpose, StoreError, Verdict};
use crate::domain::ids::{InstallationId, Millis};
use crate::domain::missed::{KEPT, Missing};

/// GitHub's list is read this often.
const EVERY: Duration = Duration::from_secs(180);
/// While something is awaited, the ledger is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Read once more: attempts are listed when they are over, clocks differ.
const OVERLAP: Duration = Duration::from_secs(600);
/// How far the list was read is stored at least this often; what is not stored is read again.
const NOTE_EVERY: Duration = Duration::from_secs(3600);
/// More pages than three days of the busiest App have.
const MAX_PAGES: usize = 20_000;
const AFTER_TROUBLE: Duration = Duration::from_secs(2);
/// The App itself, in the budget of calls.
const APP: InstallationId = InstallationId(0);

/// Why the list was not read to its end.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("as many deliveries were asked for as GitHub allows in a while")]
    BudgetSpent { until: Millis },
    #[error("GitHub's list of deliveries leads in a circle")]
    Circle,
    #[error("GitHub's list of deliveries has no end")]
    TooLong,
}

impl Hindrance {
    /// How long to leave GitHub alone.
    fn wait(&self, troubles: u32, now: Millis) -> Duration {
        match self {
            Self::GitHub(GitHubError::Limited { until }) | Self::BudgetSpent { until } => until.since(now),
            _ => (AFTER_TROUBLE * 2u32.saturating_pow(troubles.min(5))).min(EVERY),
        }
    }

    /// The list can go on where it was. A page that does not come at all may never come: then it is read anew.
    fn leaves_the_cursor(&self, has_got_further: bool) -> bool {
        match self {
            Self::GitHub(GitHubError::Limited { .. }) => true,
            Self::GitHub(error) => has_got_further && error.is_passing(),
            _ => false,
        }
    }
}

/// Reads the list and asks for what is missing, until told to stop.
pub(super) async fn recover_all(app: Arc<App>, stop: CancellationToken) {
    let now = app.clock.now();
    let mut turn = Turn { reading: None, read_through: None, read_at: now, not_before: now, troubles: 0 };
    while !stop.is_cancelled() {
        let next = tokio::select! {
            next = app.recover(&mut turn) => next,
            () = stop.cancelled() => return,
        };
        tokio::select! {
            () = tokio::time::sleep(next.max(Duration::from_millis(100))) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// What one round leaves to the next.
struct Turn {
    /// One that GitHub broke off: it goes on where it was.
    reading: Option<Reading>,
    read_through: Option<Millis>,
    /// When the list is read next.
    read_at: Millis,
    /// Until then GitHub is left alone.
    not_before: Millis,
    /// Rounds in a row that GitHub or the database broke off.
    troubles: u32,
}

/// GitHub's list, on the way from its newest attempt back.
struct Reading {
    begun: Instant,
    /// To here, by GitHub's clock.
    since: Millis,
    /// How far it was read before, as stored.
    stored: Option<Millis>,
    missing: Missing,
    /// The page that comes next; `None`: the first.
    cursor: Option<Cursor>,
    /// Each page once: GitHub's links are not believed blindly.
    seen: HashSet<Cursor>,
}

impl App {
    /// One round. Gives how long to wait for the next.
    async fn recover(&self, turn: &mut Turn) -> Duration {
        let now = self.clock.now();
        let done =
            if now < turn.not_before { self.note_arrived().await.map_err(Into::into) } else { self.round(turn).await };
        match done {
            Ok(()) if now >= turn.not_before => turn.troubles = 0,
            Ok(()) => {}
            Err(hindrance) => {
                tracing::warn!(error = &hindrance as &dyn std::error::Error, "missed deliveries cannot be fetched now");
                turn.not_before = now.after(hindrance.wait(turn.troubles, now));
                turn.troubles += 1;
            }
        }
        let due = self.store.next_missed_at().await.ok().flatten();
        let next = due.map_or(turn.read_at, |at| at.min(turn.read_at)).max(turn.not_before).since(self.clock.now());
        // While something is awaited, the ledger is looked at.
        if due.is_some() { next.min(LOOK_EVERY) } else { next }
    }

    async fn round(&self, turn: &mut Turn) -> Result<(), Hindrance> {
        let now = self.clock.now();
        if now >= turn.read_at {
            self.read_back(turn).await?;
            turn.troubles = 0;
            // Several processes don't read at once.
            turn.read_at = now.after(EVERY.mul_f64(0.75 + self.clock.jitter() / 2.0));
        }
        self.ask_for_missed().await
    }

    /// Finds what was missed since GitHub's list was read last.
    async fn read_back(&self, turn: &mut Turn) -> Result<(), Hindrance> {
        let mut reading = match turn.reading.take() {
            Some(reading) => reading,
            None => self.begin_reading(turn.read_through).await?,
        };
        let pages_before = reading.seen.len();
        let whole = self.read_pages(&mut reading).await;
        // At the start its clock may not have been known before.
        let through = self.github.now().before(reading.begun.elapsed());
        self.note_found(&reading, whole.is_ok().then_some(through)).await?;
        match &whole {
            Ok(()) => turn.read_through = Some(through),
            Err(hindrance) if hindrance.leaves_the_cursor(reading.seen.len() > pages_before) => {
                turn.reading = Some(reading);
            }
            Err(_) => {}
        }
        whole
    }

    /// Stores what a reading shows, and to when it reached if it is at its end: of one that is not, what was found counts,
    /// and the rest is still to be read.
    async fn note_found(&self, reading: &Reading, through: Option<Millis>) -> Result<(), StoreError> {
        let found = reading.missing.list();
        let is_due = through.is_some_and(|now| reading.stored.is_none_or(|at| now.since(at) >= NOTE_EVERY));
        if found.is_empty() && !is_due {
            return Ok(());
        }
        let through = through.or(reading.stored).unwrap_or(reading.since);
        let new = self.store.note_missed(&found, through, self.clock.now()).await?;
        if new > 0 {
            metrics::counter!("hireling_deliveries_missed_total").increment(new);
            tracing::warn!(count = new, "deliveries were missed; GitHub is asked to send them again");
        }
        Ok(())
    }

    async fn begin_reading(&self, read_through: Option<Millis>) -> Result<Reading, StoreError> {
        // All of this is by GitHub's clock.
        let (now, begun) = (self.github.now(), Instant::now());
        // A time to come was noted by a clock that was wrong.
        let stored = self.store.deliveries_read_through().await?.map(|at| at.min(now));
        let begin = now.before(KEPT);
        let since = read_through.max(stored).map_or(begin, |at| at.min(now).before(OVERLAP).max(begin));
        let (missing, seen) = (Missing::default(), HashSet::new());
        Ok(Reading { begun, since, stored, missing, cursor: None, seen })
    }

    /// Reads on to the end of what is asked for.
    async fn read_pages(&self, reading: &mut Reading) -> Result<(), Hindrance> {
        while reading.seen.len() < MAX_PAGES {
            let (page, next) = self.github.attempts(reading.cursor.as_ref()).await?;
            let is_past = page.iter().any(|attempt| attempt.sent_at < reading.since);
            for attempt in page.into_iter().filter(|attempt| attempt.sent_at >= reading.since) {
                reading.missing.add(attempt);
            }
            let Some(next) = next.filter(|_| !is_past) else { return Ok(()) };
            if !reading.seen.insert(next.clone()) {
                return Err(Hindrance::Circle);
            }
            reading.cursor = Some(next);
        }
        Err(Hindrance::TooLong)
    }

    async fn note_arrived(&self) -> Result<(), StoreError> {
        let arrived = self.store.note_arrived().await?;
        if arrived > 0 {
            metrics::counter!("hireling_deliveries_recovered_total").increment(arrived);
            tracing::info!(count = arrived, "deliveries that were missed have come");
        }
        Ok(())
    }

    /// Asks for what is due, as fast as GitHub allows.
    async fn ask_for_missed(&self) -> Result<(), Hindrance> {
        loop {
            self.note_arrived().await?;
            let now = self.clock.now();
            if self.store.next_missed_at().await?.is_none_or(|at| at > now) {
                return Ok(());
            }
            if let Verdict::WaitUntil(until) = self.store.take_write(APP, Purpose::Redelivery, now).await? {
                return Err(Hindrance::BudgetSpent { until });
            }
            // Another process was quicker.
            let Some((id, attempt)) = self.store.claim_missed(now).await? else { return Ok(()) };
            match self.github.send_again(attempt).await {
                Ok(()) => tracing::info!(delivery.id = %id, "GitHub was asked to send a delivery again"),
                Err(GitHubError::Limited { until }) => {
                    // It was not asked for.
                    self.store.put_back_missed(&id, until).await?;
                    return Err(GitHubError::Limited { until }.into());
                }
                Err(error) if error.is_passing() => return Err(error.into()),
                // It counts as asked for, and waits for its next turn: others are not held up by it.
                Err(error) => tracing::warn!(
                    delivery.id = %id,
                    error = &error as &dyn std::error::Error,
                    "GitHub does not send a missed delivery again now"
                ),
            }
        }
    }
}
