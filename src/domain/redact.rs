//! The one redactor. It knows the exact secrets of a task, in every form they are likely to be
//! printed in, and the shapes of vendors' tokens. Every text that leaves the service passes it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use regex::Regex;

use super::secret::Secret;

/// What stands where a secret was.
pub const MARK: &str = "[redacted]";
/// Shorter values would be found in innocent text.
pub const SHORTEST_SECRET: usize = 8;

/// Shapes of tokens that are secrets whoever they belong to.
static VENDOR_SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    let shapes = [
        r"\bgh[pousr]_[A-Za-z0-9_.\-]{16,}",
        r"\bgithub_pat_[A-Za-z0-9_]{16,}",
        r"\bsk-[A-Za-z0-9_\-]{16,}",
        r"\bAIza[A-Za-z0-9_\-]{30,}",
        r"\bAKIA[A-Z0-9]{16}",
        r"\bxox[abprs]-[A-Za-z0-9\-]{10,}",
        r"\bglpat-[A-Za-z0-9_\-]{16,}",
        r"\bnpm_[A-Za-z0-9]{30,}",
        // A grant of the model gateway, whichever run it is of.
        r"\bhlg_[a-f0-9]{16,}",
        r"\bkey_[a-f0-9]{40,}",
        r"\beyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    ];
    Regex::new(&shapes.join("|")).unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
});

/// Finds secrets in text. Cheap to share, costs one automaton whatever their number.
#[derive(Debug, Clone)]
pub struct Redactor {
    exact: Option<AhoCorasick>,
}

impl Redactor {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles: Vec<String> = Vec::new();
        for secret in secrets {
            // A key of several lines is printed line by line.
            let lines = secret.expose().lines().map(str::trim);
            let whole = std::iter::once(secret.expose());
            for value in whole.chain(lines).filter(|value| value.len() >= SHORTEST_SECRET) {
                if !value.starts_with("-----") {
                    needles.extend(forms(value));
                }
            }
        }
        needles.sort();
        needles.dedup();
        let exact = (!needles.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&needles).ok())
            .flatten();
        Self { exact }
    }

    /// The text with every secret replaced wholly, and without NUL: PostgreSQL takes none, and one amid a secret would hide it.
    pub fn redact(&self, text: &str) -> String {
        if text.contains('\0') {
            return self.redact(&text.replace('\0', ""));
        }
        let exact = match &self.exact {
            Some(automaton) => automaton.replace_all_with_mark(text),
            None => text.to_owned(),
        };
        match VENDOR_SHAPES.replace_all(&exact, MARK) {
            std::borrow::Cow::Borrowed(_) => exact,
            std::borrow::Cow::Owned(changed) => changed,
        }
    }

    /// Whether bytes hold one of the exact secrets: unlike a shape, that is never by chance.
    pub fn finds_exact_secret_in(&self, bytes: &[u8]) -> bool {
        self.exact.as_ref().is_some_and(|automaton| automaton.is_match(bytes))
    }
}

trait ReplaceAllWithMark {
    fn replace_all_with_mark(&self, text: &str) -> String;
}

impl ReplaceAllWithMark for AhoCorasick {
    fn replace_all_with_mark(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.replace_all_with(text, &mut out, |_, _, out| {
            out.push_str(MARK);
            true
        });
        out
    }
}

/// The ways a value is printed: as it is, JSON, URL, hex, reversed, base64 at each alignment.
fn forms(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let reversed: String = value.chars().rev().collect();
    let hex = hex::encode(bytes);
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut all = vec![
        value.to_owned(),
        json.trim_matches('"').to_owned(),
        json.trim_matches('"').replace('\\', "\\\\"),
        url_encoded(value, false),
        url_encoded(value, true),
        hex.to_uppercase(),
        hex::encode(reversed.as_bytes()),
        hex.chars().rev().collect(),
        hex,
        reversed,
        STANDARD.encode(bytes),
        STANDARD_NO_PAD.encode(bytes),
        URL_SAFE.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
    ];
    // In the middle of a longer encoded text a value may start at any of three places; the
    // characters that depend on its neighbours are left out.
    for lead in 0..3usize {
        let shifted: Vec<u8> = std::iter::repeat_n(0u8, lead).chain(bytes.iter().copied()).collect();
        let skip = [0, 2, 3][lead];
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&shifted);
            let end = encoded.len() - usize::from(!shifted.len().is_multiple_of(3));
            all.extend(encoded.get(skip..end).map(ToOwned::to_owned));
        }
    }
    all.retain(|form| form.len() >= SHORTEST_SECRET);
    all
}

fn url_encoded(value: &str, lower: bool) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else if lower {
            let _ = write!(out, "%{byte:02x}");
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "c4n4ry/Value+with\"odd~chars";

    fn redactor() -> Redactor {
        Redactor::new([&Secret::new(CANARY), &Secret::new("tiny")])
    }

    #[test]
    fn every_form_of_a_secret_is_replaced_wholly() {
        for form in forms(CANARY) {
            let seen = redactor().redact(&format!("before {form} after"));
            assert!(seen.contains(MARK) && seen.starts_with("before ") && seen.ends_with(" after"), "{form}: {seen}");
            assert!(!seen.contains(&form), "{form}");
        }
    }

    #[test]
    fn a_nul_hides_no_secret_and_does_not_stay() {
        let (first, last) = CANARY.split_at(7);
        assert_eq!(redactor().redact(&format!("a\0b {first}\0{last} c")), format!("ab {MARK} c"));
    }

    #[test]
    fn a_secret_inside_a_longer_encoded_text_is_found_at_each_alignment() {
        for lead in ["", "a", "ab", "abc", "user:"] {
            for engine in [&STANDARD, &URL_SAFE] {
                let text = engine.encode(format!("{lead}{CANARY} and more"));
                assert!(redactor().redact(&text).contains(MARK), "{lead:?}");
            }
        }
    }

    #[test]
    fn tokens_of_vendors_are_known_by_their_shape() {
        for token in [
            format!("ghs_{}", "a".repeat(36)),
            format!("ghs_12345_eyJhbGciOi.eyJpc3MiOi.{}", "x".repeat(30)),
            format!("github_pat_{}", "b".repeat(40)),
            format!("sk-ant-api03-{}", "c".repeat(40)),
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----".to_owned(),
        ] {
            assert_eq!(redactor().redact(&format!("x {token} y")), format!("x {MARK} y"));
        }
    }

    #[test]
    fn each_line_of_a_key_is_a_secret() {
        let pem = Secret::new("-----BEGIN X-----\nMIIEabcdefghijkl\nsecondlineofit==\n-----END X-----\n");
        assert_eq!(Redactor::new([&pem]).redact("> secondlineofit=="), format!("> {MARK}"));
    }

    #[test]
    fn innocent_text_stays() {
        let text =
            "tiny words, sk-8 and eyJ, ghp_short, risk-assessment-dashboard, task-list-scrolling-is-slow, monkey_0";
        assert_eq!(redactor().redact(text), text);
        assert!(!redactor().finds_exact_secret_in(text.as_bytes()));
    }
}
