//! How long things are kept.

use std::time::Duration;

const DAY: u64 = 86_400;

/// `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Logs, frozen texts and conversations of tasks, from the end of the task.
    pub logs: Option<Duration>,
    /// Rows of the ledger.
    pub deliveries: Option<Duration>,
    /// Bodies of deliveries.
    pub payloads: Option<Duration>,
    /// What an account left, from when it took the App away.
    pub after_uninstall: Option<Duration>,
}

/// GitHub sends again what it sent in the last days: what is forgotten sooner would be taken for new.
pub const SHORTEST_FOR_DELIVERIES: Duration = Duration::from_secs(4 * DAY);

impl Default for Retention {
    fn default() -> Self {
        let days = |days| Some(Duration::from_secs(days * DAY));
        Self { logs: days(90), deliveries: days(90), payloads: days(30), after_uninstall: days(30) }
    }
}

/// `30d`, `12h`, or `forever`.
pub fn parse(text: &str) -> Option<Option<Duration>> {
    if text == "forever" {
        return Some(None);
    }
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        'd' => DAY,
        'h' => 3_600,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Some(Duration::from_secs(number.checked_mul(seconds).filter(|time| *time <= 36_500 * DAY)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse("30d"), Some(Some(Duration::from_secs(30 * DAY))));
        assert_eq!(parse("12h"), Some(Some(Duration::from_secs(43_200))));
        assert_eq!(parse("0d"), Some(Some(Duration::ZERO)));
        assert_eq!(parse("forever"), Some(None));
        for bad in ["", "d", "30", "-1d", "1w", "1.5d", "99999999999999999999d", "40000d", "3é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
