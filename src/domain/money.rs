//! Sums of money: millionths of a US dollar, whole, so that they add up.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(pub i64);

impl Usd {
    pub fn from_cents(cents: u64) -> Self {
        Self(i64::try_from(cents.saturating_mul(10_000)).unwrap_or(i64::MAX))
    }

    /// Rounded up: a limit must not be passed by rounding.
    pub fn from_micros_up(micros: f64) -> Self {
        // Without the small step back, 0.1 × 10 would be one millionth too much.
        let up = (micros - 1e-6).ceil().max(0.0);
        #[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
        Self(up as i64)
    }
}

/// `$1.25`; what is less than a cent is not shown as nothing.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1..=9_999 => f.write_str("less than $0.01"),
            micros => {
                let cents = (micros + 5_000) / 10_000;
                write!(f, "${}.{:02}", cents / 100, cents % 100)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_like_money() {
        for (micros, text) in
            [(0, "$0.00"), (1, "less than $0.01"), (10_000, "$0.01"), (1_254_999, "$1.25"), (3_000_000, "$3.00")]
        {
            assert_eq!(Usd(micros).to_string(), text);
        }
    }

    #[test]
    fn parts_of_a_millionth_are_rounded_up() {
        assert_eq!(Usd::from_micros_up(0.3 * 10.0), Usd(3));
        assert_eq!(Usd::from_micros_up(0.1), Usd(1));
    }
}
