//! What tokens cost, from a table kept as data. Vendors change prices: the table names its source.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::metering::Tokens;
use crate::domain::agent::Provider;
use crate::domain::money::Usd;

/// Dollars per million tokens, which is millionths of a dollar per token.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write: f64,
}

/// A cache that is kept for an hour costs twice the input's price to write, not 1.25 times.
const LONG_CACHE: f64 = 1.6;

static PRICES: LazyLock<HashMap<(&str, &str), Price>> =
    LazyLock::new(|| include_str!("prices.csv").lines().filter_map(read_line).collect());

fn read_line(line: &'static str) -> Option<((&'static str, &'static str), Price)> {
    let mut fields = line.split(',');
    let (vendor, model) = (fields.next()?, fields.next()?);
    let mut number = || fields.next()?.trim().parse().ok();
    let price = Price { input: number()?, output: number()?, cache_read: number()?, cache_write: number()? };
    Some(((vendor, model), price))
}

impl Price {
    fn of(self, tokens: &Tokens) -> Usd {
        #[expect(clippy::cast_precision_loss, reason = "a call has far fewer than 2^52 tokens")]
        let times = |count: u64, price: f64| count as f64 * price;
        Usd::from_micros_up(
            times(tokens.input, self.input)
                + times(tokens.output, self.output)
                + times(tokens.cache_read, self.cache_read)
                + times(tokens.cache_write, self.cache_write)
                + times(tokens.cache_write_long, self.cache_write * LONG_CACHE),
        )
    }
}

/// What a call cost, and whether its model is in the table. One that is not counts as the dearest of
/// its vendor: a limit holds for it, too, but the sum is not told as its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub sum: Usd,
    pub is_known: bool,
}

pub fn cost(provider: Provider, model: &str, tokens: &Tokens) -> Cost {
    let vendor = vendor_of(provider, model);
    match price_of(vendor, model) {
        Some(price) => Cost { sum: price.of(tokens), is_known: true },
        None => {
            let same_vendor = PRICES.iter().filter(|((of, _), _)| vendor.is_none_or(|vendor| vendor == *of));
            let dearest = same_vendor.map(|(_, price)| price.of(tokens)).max();
            Cost { sum: dearest.unwrap_or_default(), is_known: false }
        }
    }
}

/// Vercel's gateway writes the vendor before the model: `anthropic/claude-sonnet-4.5`.
fn vendor_of(provider: Provider, model: &str) -> Option<&'static str> {
    match provider {
        Provider::Anthropic => Some("anthropic"),
        Provider::Openai => Some("openai"),
        Provider::Gemini => Some("gemini"),
        Provider::Aigateway => match model.split_once('/')?.0 {
            "anthropic" => Some("anthropic"),
            "openai" => Some("openai"),
            "google" => Some("gemini"),
            _ => None,
        },
        Provider::Cursor | Provider::Copilot => None,
    }
}

fn price_of(vendor: Option<&'static str>, model: &str) -> Option<Price> {
    let vendor = vendor?;
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = without_date(name);
    // Vercel writes versions with dots where Anthropic has dashes.
    let dashed = name.replace('.', "-");
    PRICES.get(&(vendor, name)).or_else(|| PRICES.get(&(vendor, dashed.as_str()))).copied()
}

/// `claude-sonnet-4-5-20250929` and `gpt-4o-2024-08-06` without their dates.
fn without_date(name: &str) -> &str {
    let is_date = |part: &str| {
        let digits: String = part.chars().filter(|c| *c != '-').collect();
        digits.len() == 8 && digits.starts_with("20") && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let cut = |length: usize| {
        let at = name.len().checked_sub(length)?;
        let (head, tail) = (name.get(..at)?, name.get(at..)?);
        (tail.starts_with('-') && is_date(tail.get(1..)?)).then_some(head)
    };
    cut(9).or_else(|| cut(11)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLION: Tokens =
        Tokens { input: 1_000_000, output: 1_000_000, cache_read: 0, cache_write: 0, cache_write_long: 0 };

    #[test]
    fn the_table_reads_whole() {
        let lines = include_str!("prices.csv").lines().filter(|line| !line.starts_with('#')).count();
        assert!(lines > 50);
        assert_eq!(PRICES.len(), lines, "each line is a price of its own");
    }

    #[test]
    fn a_price_is_found_under_the_names_that_vendors_use() {
        for (provider, model) in [
            (Provider::Anthropic, "claude-sonnet-4-5"),
            (Provider::Anthropic, "claude-sonnet-4-5-20250929"),
            (Provider::Aigateway, "anthropic/claude-sonnet-4.5"),
        ] {
            let cost = cost(provider, model, &MILLION);
            assert_eq!((cost.sum, cost.is_known), (Usd::from_cents(1_800), true), "{model}");
        }
        assert!(cost(Provider::Openai, "gpt-4o-2024-08-06", &MILLION).is_known);
        assert!(cost(Provider::Aigateway, "google/gemini-2.5-pro", &MILLION).is_known);
    }

    #[test]
    fn an_unknown_model_counts_as_the_dearest_of_its_vendor() {
        let cost = cost(Provider::Anthropic, "claude-next", &MILLION);
        assert_eq!((cost.sum, cost.is_known), (Usd::from_cents(6_000), false));
        assert!(!super::cost(Provider::Aigateway, "zai/glm-4.6", &MILLION).is_known);
    }

    #[test]
    fn caches_have_their_own_price() {
        let tokens = Tokens { cache_read: 1_000_000, cache_write_long: 1_000_000, ..Tokens::default() };
        assert_eq!(cost(Provider::Anthropic, "claude-sonnet-4-5", &tokens).sum, Usd::from_cents(630));
    }
}
