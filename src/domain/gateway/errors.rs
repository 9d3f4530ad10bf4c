//! A refusal of the gateway in the shape that the vendor's own client understands, so that it stops
//! with a sentence instead of trying for minutes.

use serde_json::{Value, json};

use super::Wire;
use crate::domain::agent::Provider;
use crate::domain::money::Usd;

/// Which limit is reached. It is stored, so that the end of the run can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitOf {
    Task,
    Person,
    Repository,
    Instance,
}

/// A limit that is reached, with what was spent towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reached {
    pub limit_of: LimitOf,
    pub limit: Usd,
    pub spent: Usd,
}

impl Reached {
    /// The sentence for the person who asked.
    pub fn sentence(&self) -> String {
        let Self { limit, spent, .. } = self;
        match self.limit_of {
            LimitOf::Task => format!("{spent} of the {limit} allowed for this task are spent."),
            LimitOf::Person => {
                format!("{spent} of the {limit} that one person may spend in a month are spent.")
            }
            LimitOf::Repository => {
                format!("{spent} of the {limit} that one repository may spend in a month are spent.")
            }
            LimitOf::Instance => format!("{spent} of the {limit} that this instance may spend in a month are spent."),
        }
    }
}

/// Why a call does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No grant, an unknown one, or that of a run that is over.
    NoGrant,
    /// The grant is for another vendor.
    WrongProvider,
    NoSuchPath,
    NotJson,
    /// OpenAI's background mode answers later and elsewhere: nobody could count it.
    Background,
    /// A tier or a speed that the price table does not know.
    OtherPrice,
    /// The vendor itself would call hosts: past the sandbox's network.
    CallsOut,
    TooLarge,
    /// The grant has as many calls under way as it may, or the gateway has no room.
    Busy,
    OverLimit(Reached),
    /// The vendor refused the real key; its own words could show parts of it.
    KeyRefused,
    /// The key was deleted or cannot be opened.
    KeyGone,
    /// The vendor cannot be reached.
    Unreachable,
    /// Our own database cannot be used now.
    Unavailable,
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self {
            Self::NoGrant | Self::KeyRefused | Self::KeyGone => 401,
            Self::WrongProvider => 403,
            Self::NoSuchPath => 404,
            // Every client takes this as final; others are tried again.
            Self::OverLimit(_) | Self::NotJson | Self::Background | Self::OtherPrice | Self::CallsOut => 400,
            Self::TooLarge => 413,
            Self::Busy => 429,
            Self::Unreachable => 502,
            Self::Unavailable => 503,
        }
    }

    pub fn sentence(&self) -> String {
        match self {
            Self::NoGrant => "The grant of this run is unknown or over.".to_owned(),
            Self::WrongProvider => "The grant of this run is for another provider.".to_owned(),
            Self::NoSuchPath => "The model gateway does not offer this path.".to_owned(),
            Self::NotJson => "The request is not JSON.".to_owned(),
            Self::Background => "The model gateway does not offer background mode.".to_owned(),
            Self::OtherPrice => "The model gateway offers the standard tier and speed only.".to_owned(),
            Self::CallsOut => "The model gateway does not have vendors call other hosts.".to_owned(),
            Self::TooLarge => "The request is too large.".to_owned(),
            Self::Busy => "Too many calls of this run are under way.".to_owned(),
            Self::OverLimit(reached) => format!("Stopped by a limit: {}", reached.sentence()),
            Self::KeyRefused => "The vendor refused the key.".to_owned(),
            Self::KeyGone => "The key of this run was deleted.".to_owned(),
            Self::Unreachable => "The vendor cannot be reached.".to_owned(),
            Self::Unavailable => "The model gateway cannot be used now.".to_owned(),
        }
    }

    /// The body, as JSON.
    pub fn body(&self, provider: Provider, wire: Option<Wire>) -> Value {
        let (status, message) = (self.status(), self.sentence());
        match (provider, wire) {
            (Provider::Anthropic, _) | (_, Some(Wire::Messages)) => json!({
                "type": "error", "error": { "type": self.anthropic_type(), "message": message }
            }),
            (Provider::Gemini, _) => json!({
                "error": { "code": status, "message": message, "status": self.google_status() }
            }),
            _ => json!({
                "error": { "message": message, "type": self.openai_type(), "param": null, "code": self.openai_code() }
            }),
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn google_status(&self) -> &'static str {
        match self.status() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            400 | 413 => "INVALID_ARGUMENT",
            429 => "RESOURCE_EXHAUSTED",
            _ => "UNAVAILABLE",
        }
    }

    fn openai_type(&self) -> &'static str {
        match self {
            Self::OverLimit(_) => "insufficient_quota",
            _ if self.status() >= 500 => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_code(&self) -> Option<&'static str> {
        match self {
            Self::OverLimit(_) => Some("insufficient_quota"),
            Self::NoGrant | Self::KeyRefused | Self::KeyGone => Some("invalid_api_key"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vendors_client_reads_its_own_shape() {
        let spent = Reached { limit_of: LimitOf::Task, limit: Usd::from_cents(300), spent: Usd::from_cents(312) };
        let refusal = Refusal::OverLimit(spent);
        let sentence = "Stopped by a limit: $3.12 of the $3.00 allowed for this task are spent.";
        let anthropic = refusal.body(Provider::Anthropic, None);
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["message"], sentence);
        assert_eq!(refusal.body(Provider::Openai, None)["error"]["code"], "insufficient_quota");
        assert_eq!(refusal.body(Provider::Gemini, None)["error"]["status"], "INVALID_ARGUMENT");
        assert_eq!(refusal.body(Provider::Aigateway, Some(Wire::Messages))["type"], "error");
        assert_eq!(Refusal::NoGrant.body(Provider::Openai, None)["error"]["code"], "invalid_api_key");
    }
}
