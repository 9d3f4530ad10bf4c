//! Wake-ups between the processes on one PostgreSQL database, and the time that they share.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;
use super::signals::Topic;
use crate::adapters::store::{Store, StoreError};
use crate::adapters::system::SharedClock;
use crate::domain::ids::TaskId;

/// What comes within this time is told together.
const GATHER: Duration = Duration::from_millis(2);
/// Where wake-ups come from all processes, the tables are looked at this often, else …
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// … this often.
const LOOK_EVERY_ALONE: Duration = Duration::from_secs(1);
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// The clock is set this often; an answer that is late would set it wrong.
const SET_EVERY: Duration = Duration::from_secs(10);
const SET_WITHIN: Duration = Duration::from_secs(1);
const TRIES_AT_START: usize = 5;
/// A clock that is off by more is told.
const WRONG_BY_MS: u64 = 30_000;

impl Topic {
    /// Its word between processes.
    fn word(&self) -> String {
        match self {
            Self::Deliveries => "deliveries".to_owned(),
            Self::Tasks => "tasks".to_owned(),
            Self::Outbox => "outbox".to_owned(),
            Self::Cancels => "cancels".to_owned(),
            Self::Sweep => "sweep".to_owned(),
            Self::Log(task) => format!("log {task}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let of_all = Self::ALL.into_iter().find(|topic| topic.word() == word);
        of_all.or_else(|| Some(Self::Log(TaskId(word.strip_prefix("log ")?.to_owned()))))
    }
}

impl App {
    /// How often a loop looks by itself for what nobody woke it for.
    pub(super) fn look_every(&self) -> Duration {
        let is_told = !self.store.is_shared() || self.signals.hears.load(Ordering::Relaxed);
        if is_told { LOOK_EVERY } else { LOOK_EVERY_ALONE }
    }

    /// Tells at once. At its end a loop tells what it gives back: the loop below may be over by then.
    pub(super) async fn tell_others(&self, topics: impl IntoIterator<Item = Topic>) {
        if !self.store.is_shared() {
            return;
        }
        let words: Vec<String> = topics.into_iter().map(|topic| format!("{} {}", self.process, topic.word())).collect();
        if let Err(error) = self.in_time(self.store.tell(&words)).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "other processes were not told");
        }
    }
}

/// Tells other processes what is announced here, until told to stop.
pub(super) async fn tell_all(app: Arc<App>, stop: CancellationToken) {
    let mut out = app.signals.tell_out.lock().await;
    loop {
        let first = tokio::select! {
            first = out.recv() => first,
            () = stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        tokio::time::sleep(GATHER).await;
        let mut topics = HashSet::from([first]);
        while let Ok(more) = out.try_recv() {
            topics.insert(more);
        }
        app.tell_others(topics).await;
    }
}

/// Hears what other processes announce, until told to stop.
pub(super) async fn hear_all(app: Arc<App>, stop: CancellationToken) {
    if !app.store.is_shared() {
        return;
    }
    while !stop.is_cancelled() {
        tokio::select! {
            heard = app.hear() => match heard {
                Ok(Heard::Connection) => {}
                Ok(Heard::Nothing) => {
                    tracing::warn!(
                        "there is a transaction pooler before the database, through which processes cannot call each \
                         other: set DATABASE_DIRECT_URL. Until then this process asks every second"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "other processes are not heard now");
                }
            },
            () = stop.cancelled() => return,
        };
        app.signals.hears.store(false, Ordering::Relaxed);
        // What was told meanwhile was lost.
        app.signals.wake_all();
        tokio::select! {
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// How listening ended.
enum Heard {
    /// It worked, and the connection was lost.
    Connection,
    /// It can't work.
    Nothing,
}

impl App {
    async fn hear(&self) -> Result<Heard, StoreError> {
        let Some(mut listener) = self.store.listen().await? else { return Ok(Heard::Nothing) };
        self.signals.hears.store(true, Ordering::Relaxed);
        tracing::info!("other processes are heard");
        self.signals.wake_all();
        let own = format!("{} ", self.process);
        while let Some(text) = listener.next().await? {
            if text.starts_with(&own) {
                continue;
            }
            if let Some(topic) = text.split_once(' ').and_then(|(_, word)| Topic::parse(word)) {
                self.signals.wake(&topic);
            }
        }
        Ok(Heard::Connection)
    }
}

/// Sets the clock by that of the database, if there may be other processes. False: the answer was late, and would have set it
/// wrong.
async fn set_clock(clock: &SharedClock, store: &Store) -> Result<bool, StoreError> {
    let asked = clock.ask();
    let Ok(answer) = tokio::time::timeout(SET_WITHIN, store.shared_time()).await else { return Ok(false) };
    let Some(shown) = answer? else { return Ok(true) };
    if !clock.set(shown, &asked, SET_WITHIN) {
        return Ok(false);
    }
    if clock.ahead_ms().unsigned_abs() > WRONG_BY_MS {
        tracing::warn!(
            ahead_ms = clock.ahead_ms(),
            "the database's clock is not this machine's; the database's counts"
        );
    }
    Ok(true)
}

/// Before anything is claimed.
pub async fn set_clock_at_start(clock: &SharedClock, store: &Store) -> Result<(), StoreError> {
    for _ in 0..TRIES_AT_START {
        if set_clock(clock, store).await? {
            return Ok(());
        }
    }
    tracing::warn!(
        "the database takes more than a second to tell its time; until it does, this machine's clock counts"
    );
    Ok(())
}

/// Keeps it set, until told to stop.
pub async fn keep_time(clock: Arc<SharedClock>, store: Store, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(SET_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = set_clock(&clock, &store).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the clock was not set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_understood_by_other_processes() {
        for topic in Topic::ALL.into_iter().chain([Topic::Log(TaskId("t-1".into()))]) {
            assert_eq!(Topic::parse(&topic.word()), Some(topic));
        }
        assert_eq!(Topic::parse("invented"), None);
    }
}
