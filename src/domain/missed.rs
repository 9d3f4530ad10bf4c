//! Deliveries that GitHub sent and nobody took: found in GitHub's own list of attempts.

use std::collections::BTreeMap;
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
}

/// The newest attempt of each delivery that none of these attempts brought, in the order they were first sent.
pub fn missed(attempts: &[Attempt]) -> Vec<Attempt> {
    let mut by_delivery: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        by_delivery.entry(&attempt.delivery.0).or_default().push(attempt);
    }
    let mut missed: Vec<(Millis, Attempt)> = by_delivery
        .into_values()
        .filter(|attempts| attempts.iter().all(|attempt| !(200..300).contains(&attempt.status)))
        .filter_map(|attempts| {
            let first = attempts.iter().min_by_key(|attempt| (attempt.sent_at, attempt.number))?;
            let newest = attempts.iter().max_by_key(|attempt| (attempt.sent_at, attempt.number))?;
            Some((first.sent_at, (*newest).clone()))
        })
        .collect();
    missed.sort_by_key(|(first, attempt)| (*first, attempt.number));
    missed.into_iter().map(|(_, attempt)| attempt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: i64, delivery: &str, status: u16, sent_at: i64) -> Attempt {
        let event = "issue_comment".to_owned();
        Attempt { number, delivery: DeliveryId(delivery.into()), event, status, sent_at: Millis(sent_at) }
    }

    #[test]
    fn a_delivery_is_missed_when_no_attempt_brought_it() {
        let large = (1 << 60) + 1;
        let list = [
            attempt(large + 9, "taken-later", 202, 90),
            attempt(large + 5, "lost", 502, 50),
            attempt(large + 4, "refused", 503, 40),
            attempt(large + 3, "taken", 202, 30),
            attempt(large + 2, "taken-later", 502, 20),
            attempt(large + 1, "lost", 0, 10),
        ];
        let found: Vec<(i64, String)> = missed(&list).into_iter().map(|one| (one.number, one.delivery.0)).collect();
        assert_eq!(found, [(large + 5, "lost".to_owned()), (large + 4, "refused".to_owned())]);
    }
}
