//! Deliveries that GitHub sent and nobody took: found in GitHub's own list of attempts.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::ids::{DeliveryId, Millis};

/// GitHub keeps what it sent this long on github.com (longer on Enterprise Server). Until then it is asked for.
pub const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);

/// One attempt to bring a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// GitHub's number; not the delivery's id, and too large for a double.
    pub number: i64,
    pub delivery: DeliveryId,
    pub event: String,
    /// Of the answer; GitHub's own where there was none.
    pub status: u16,
    pub sent_at: Millis,
    /// Not the first of its delivery.
    pub is_again: bool,
}

/// What a list of attempts, read newest first, shows of deliveries that nobody took. Of those that came, only what an
/// older attempt could make look missed is remembered: a busy App has hundreds of thousands.
#[derive(Debug, Default)]
pub struct Missing {
    missed: BTreeMap<DeliveryId, Missed>,
    /// Came when they were sent again: their first attempts follow.
    came: HashSet<DeliveryId>,
}

#[derive(Debug)]
struct Missed {
    newest: Attempt,
    first_sent_at: Millis,
}

impl Missing {
    /// The next older attempt.
    pub fn add(&mut self, attempt: Attempt) {
        if (200..300).contains(&attempt.status) {
            self.missed.remove(&attempt.delivery);
            if attempt.is_again {
                self.came.insert(attempt.delivery);
            }
        } else if !self.came.contains(&attempt.delivery) {
            let sent_at = attempt.sent_at;
            let missed = self.missed.entry(attempt.delivery.clone());
            let missed = missed.or_insert(Missed { newest: attempt, first_sent_at: sent_at });
            missed.first_sent_at = missed.first_sent_at.min(sent_at);
        }
    }

    /// The newest attempt of each missed delivery, in the order they were first sent.
    pub fn list(&self) -> Vec<Attempt> {
        let mut missed: Vec<&Missed> = self.missed.values().collect();
        missed.sort_by_key(|one| (one.first_sent_at, one.newest.number));
        missed.into_iter().map(|one| one.newest.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: i64, delivery: &str, status: u16, sent_at: i64) -> Attempt {
        let (delivery, event) = (DeliveryId(delivery.into()), "issue_comment".to_owned());
        Attempt { number, delivery, event, status, sent_at: Millis(sent_at), is_again: false }
    }

    fn again(attempt: Attempt) -> Attempt {
        Attempt { is_again: true, ..attempt }
    }

    #[test]
    fn a_delivery_is_missed_when_no_attempt_brought_it() {
        let large = (1 << 60) + 1;
        let mut missing = Missing::default();
        for attempt in [
            again(attempt(large + 9, "taken-later", 202, 90)),
            again(attempt(large + 8, "taken-before", 500, 80)),
            again(attempt(large + 5, "lost", 502, 50)),
            attempt(large + 4, "refused", 503, 40),
            attempt(large + 3, "taken-before", 202, 30),
            attempt(large + 2, "taken-later", 502, 20),
            attempt(large + 1, "lost", 0, 10),
        ] {
            missing.add(attempt);
        }
        let found: Vec<(i64, String)> = missing.list().into_iter().map(|one| (one.number, one.delivery.0)).collect();
        assert_eq!(found, [(large + 5, "lost".to_owned()), (large + 4, "refused".to_owned())]);
        assert_eq!(missing.came.len(), 1, "what came at once is not kept in mind");
    }
}
