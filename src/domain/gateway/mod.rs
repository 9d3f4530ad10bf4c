//! The rules of the model gateway: which calls pass, which headers go along, how a refusal reads to
//! the vendor's own client. Pure; `app::gateway` does the calling.

pub mod errors;
pub mod metering;
pub mod price;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::agent::Provider;
use errors::{LimitOf, Reached, Refusal};
use metering::Wire;

use super::money::Usd;

/// Anthropic takes 32 MB, the others less.
pub const MAX_REQUEST: usize = 32 * 1024 * 1024;

/// Prefix of every grant, by which one is known wherever it is printed.
pub const GRANT_PREFIX: &str = "hlg_";

/// Ceilings of money. `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostLimits {
    pub per_task: Option<Usd>,
    /// In a UTC month, as the two below.
    pub per_person: Option<Usd>,
    pub per_repository: Option<Usd>,
    pub per_instance: Option<Usd>,
}

impl CostLimits {
    /// The first limit that is reached. `max` and `spent` are of the task; `monthly` is what the
    /// person, the repository and the instance have spent.
    pub fn reached(&self, max: Option<Usd>, spent: Usd, monthly: [Usd; 3]) -> Option<Reached> {
        let [person, repository, instance] = monthly;
        [
            (LimitOf::Task, max, spent),
            (LimitOf::Person, self.per_person, person),
            (LimitOf::Repository, self.per_repository, repository),
            (LimitOf::Instance, self.per_instance, instance),
        ]
        .into_iter()
        .find_map(|(limit_of, limit, spent)| {
            let limit = limit.filter(|limit| spent >= *limit)?;
            Some(Reached { limit_of, limit, spent })
        })
    }
}

/// A call that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Path at the vendor, from its first slash.
    pub path: String,
    /// `None`: the call costs nothing.
    pub wire: Option<Wire>,
    /// Where the path names the model.
    pub model: Option<String>,
}

/// Headers of a request that the vendor gets. The key, lengths and encodings are ours.
pub const REQUEST_HEADERS: [&str; 14] = [
    "accept",
    "content-type",
    "user-agent",
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "x-goog-api-client",
    "http-referer",
    "x-title",
    "ai-gateway-protocol-version",
    "ai-language-model-id",
    "ai-language-model-specification-version",
    "ai-language-model-streaming",
    "ai-model-id",
];

/// Headers of an answer that the agent gets.
pub fn passes_back(header: &str) -> bool {
    const NAMES: [&str; 10] = [
        "content-type",
        "content-encoding",
        "cache-control",
        "retry-after",
        "retry-after-ms",
        "request-id",
        "x-request-id",
        "x-should-retry",
        "openai-processing-ms",
        "openai-version",
    ];
    NAMES.contains(&header) || header.starts_with("anthropic-ratelimit-") || header.starts_with("x-ratelimit-")
}

/// Parameters of a query that go along. Gemini's `key` is none of them.
pub fn query_that_passes(query: &str) -> String {
    let passes = |pair: &&str| ["beta=true", "alt=sse", "alt=json"].contains(pair);
    query.split('&').filter(passes).collect::<Vec<_>>().join("&")
}

/// The paths that models are called by, and nothing else of a vendor's API. `path`: behind
/// `/gateway/<provider>`, as it came.
pub fn passage(provider: Provider, method: &str, path: &str) -> Option<Passage> {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._:-".contains(&b)) && !path.contains("..");
    if !plain {
        return None;
    }
    let free = |path: &str| Passage { path: path.to_owned(), wire: None, model: None };
    let paid = |wire| Passage { path: path.to_owned(), wire: Some(wire), model: None };
    match (provider, method, path) {
        (Provider::Anthropic, "POST", "/v1/messages") => Some(paid(Wire::Messages)),
        (Provider::Anthropic, "POST", "/v1/messages/count_tokens") => Some(free(path)),
        (Provider::Openai, "POST", "/v1/responses" | "/v1/responses/compact") => Some(paid(Wire::Responses)),
        (Provider::Openai, "POST", "/v1/chat/completions") => Some(paid(Wire::ChatCompletions)),
        (Provider::Anthropic | Provider::Openai | Provider::Aigateway, "GET", "/v1/models") => Some(free(path)),
        (Provider::Gemini, method, path) => gemini(method, path),
        (Provider::Aigateway, "POST", "/v1/messages") => Some(paid(Wire::Messages)),
        (Provider::Aigateway, "POST", "/v1/messages/count_tokens") => Some(free(path)),
        (Provider::Aigateway, "POST", "/v1/responses") => Some(paid(Wire::Responses)),
        (Provider::Aigateway, "POST", "/v1/chat/completions") => Some(paid(Wire::ChatCompletions)),
        (Provider::Aigateway, "POST", "/v1/ai/language-model") => Some(paid(Wire::LanguageModel)),
        (Provider::Aigateway, "GET", "/v1/ai/config") => Some(free(path)),
        _ => None,
    }
}

/// `/v1beta/models/MODEL:verb`
fn gemini(method: &str, path: &str) -> Option<Passage> {
    let rest = path.strip_prefix("/v1beta/models")?;
    let of = |wire, model: Option<&str>| Passage { path: path.to_owned(), wire, model: model.map(ToOwned::to_owned) };
    if method == "GET" && rest.is_empty() {
        return Some(of(None, None));
    }
    let (model, verb) = rest.strip_prefix('/')?.split_once(':')?;
    if method != "POST" || model.is_empty() || model.contains('/') {
        return None;
    }
    match verb {
        "generateContent" | "streamGenerateContent" => Some(of(Some(Wire::GenerateContent), Some(model))),
        "countTokens" => Some(of(None, Some(model))),
        _ => None,
    }
}

/// What of a request's body matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub model: Option<String>,
    /// Tokens that the answer may have at most, where the request says so.
    pub max_output: Option<u64>,
    /// The body in another form, where the vendor would not tell its usage otherwise.
    pub body: Option<Vec<u8>>,
}

/// The few fields that are looked at. The rest, most of it, is skipped and not kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    background: Option<Box<RawValue>>,
    service_tier: Option<String>,
    speed: Option<String>,
    mcp_servers: Option<Box<RawValue>>,
    tools: Option<Vec<Tool>>,
    max_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Gemini's way to have the vendor fetch addresses, in its two spellings.
    #[serde(alias = "urlContext")]
    url_context: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Body {
    /// What nobody could count, what has another price, what lets the vendor call hosts that the sandbox
    /// may not.
    fn refusal(&self) -> Option<Refusal> {
        let raw = |value: &Option<Box<RawValue>>| value.as_ref().map_or("null", |raw| raw.get()).to_owned();
        if !matches!(raw(&self.background).as_str(), "null" | "false") {
            return Some(Refusal::Background);
        }
        let usual = |value: &Option<String>, known: &[&str]| value.as_deref().is_none_or(|one| known.contains(&one));
        if !usual(&self.service_tier, &["auto", "default", "flex", "standard_only"])
            || !usual(&self.speed, &["standard"])
        {
            return Some(Refusal::OtherPrice);
        }
        let calls_out = |tool: &Tool| {
            let kind = tool.kind.as_deref().unwrap_or("");
            kind == "mcp" || kind.starts_with("web_fetch") || tool.url_context.is_some()
        };
        let has_calls_out = self.tools.iter().flatten().any(calls_out);
        (has_calls_out || !matches!(raw(&self.mcp_servers).as_str(), "null" | "[]")).then_some(Refusal::CallsOut)
    }

    fn max_output(&self) -> Option<u64> {
        self.max_tokens.or(self.max_output_tokens).or(self.max_completion_tokens)
    }
}

/// Looks into a body that costs money.
pub fn check_body(wire: Wire, body: &[u8]) -> Result<Checked, Refusal> {
    let seen: Body = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
    if let Some(refusal) = seen.refusal() {
        return Err(refusal);
    }
    let max_output = seen.max_output();
    let tells = seen.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true);
    let body = match wire == Wire::ChatCompletions && seen.stream == Some(true) && !tells {
        true => Some(with_usage(body)?),
        false => None,
    };
    Ok(Checked { model: seen.model, max_output, body })
}

/// The same body, with the usage asked for. What is inside of its fields stays as it is.
fn with_usage(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
    let mut options: serde_json::Map<String, Value> =
        fields.get("stream_options").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    options.insert("include_usage".to_owned(), Value::Bool(true));
    let options = RawValue::from_string(Value::Object(options).to_string()).map_err(|_| Refusal::NotJson)?;
    fields.insert("stream_options".to_owned(), options);
    serde_json::to_vec(&fields).map_err(|_| Refusal::NotJson)
}

/// The header that carries a key, and the words before it.
pub fn key_header(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::Anthropic => ("x-api-key", ""),
        Provider::Gemini => ("x-goog-api-key", ""),
        _ => ("authorization", "Bearer "),
    }
}

/// The grant of a request, in whichever header the vendor's client puts its key.
pub fn grant_in<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    [bearer, header("x-api-key"), header("x-goog-api-key")]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|value| value.starts_with(GRANT_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_paths_of_models_pass() {
        for (provider, method, path, paid) in [
            (Provider::Anthropic, "POST", "/v1/messages", true),
            (Provider::Anthropic, "POST", "/v1/messages/count_tokens", false),
            (Provider::Openai, "POST", "/v1/responses", true),
            (Provider::Gemini, "POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent", true),
            (Provider::Aigateway, "POST", "/v1/ai/language-model", true),
        ] {
            assert_eq!(passage(provider, method, path).unwrap().wire.is_some(), paid, "{path}");
        }
        for (provider, method, path) in [
            (Provider::Anthropic, "GET", "/v1/messages"),
            (Provider::Anthropic, "POST", "/v1/messages/batches"),
            (Provider::Anthropic, "POST", "/v1/../v1/messages"),
            (Provider::Anthropic, "GET", "/v1/organizations/api_keys"),
            (Provider::Openai, "POST", "/v1/files"),
            (Provider::Openai, "GET", "/v1/responses/resp_1"),
            (Provider::Gemini, "POST", "/v1beta/models/a/b:generateContent"),
            (Provider::Gemini, "POST", "/v1beta/cachedContents"),
            (Provider::Cursor, "POST", "/v1/messages"),
        ] {
            assert_eq!(passage(provider, method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn a_key_in_the_query_does_not_pass() {
        assert_eq!(query_that_passes("alt=sse&key=AIza&x=1"), "alt=sse");
        assert_eq!(query_that_passes("beta=true"), "beta=true");
    }

    #[test]
    fn a_streamed_chat_has_to_tell_its_usage() {
        let checked = check_body(Wire::ChatCompletions, br#"{"model":"m","stream":true}"#).unwrap();
        let body: Value = serde_json::from_slice(&checked.body.unwrap()).unwrap();
        assert_eq!(body.pointer("/stream_options/include_usage"), Some(&Value::Bool(true)));
        let told = br#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(check_body(Wire::ChatCompletions, told).unwrap().body, None);
        for background in ["true", "\"true\"", "1"] {
            let body = format!("{{\"background\":{background}}}");
            assert_eq!(check_body(Wire::Responses, body.as_bytes()), Err(Refusal::Background), "{body}");
        }
        assert_eq!(check_body(Wire::Messages, b"{"), Err(Refusal::NotJson));
    }

    #[test]
    fn what_has_another_price_or_calls_out_is_refused() {
        let refusal = |body: &str| check_body(Wire::Messages, body.as_bytes()).err();
        assert_eq!(refusal(r#"{"service_tier":"priority"}"#), Some(Refusal::OtherPrice));
        assert_eq!(refusal(r#"{"speed":"fast"}"#), Some(Refusal::OtherPrice));
        assert_eq!(refusal(r#"{"mcp_servers":[{"url":"https://evil.test"}]}"#), Some(Refusal::CallsOut));
        assert_eq!(refusal(r#"{"tools":[{"type":"mcp","server_url":"https://evil.test"}]}"#), Some(Refusal::CallsOut));
        assert_eq!(refusal(r#"{"tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]}"#), Some(Refusal::CallsOut));
        assert_eq!(refusal(r#"{"tools":[{"functionDeclarations":[]},{"urlContext":{}}]}"#), Some(Refusal::CallsOut));
        assert_eq!(refusal(r#"{"tools":[{"url_context":{}}]}"#), Some(Refusal::CallsOut));
        assert_eq!(refusal(r#"{"tools":[{"name":"Bash"}],"mcp_servers":[],"service_tier":"auto"}"#), None);
        let checked = check_body(Wire::Messages, br#"{"model":"m","max_tokens":32000,"messages":[{"":0}]}"#).unwrap();
        assert_eq!((checked.model.as_deref(), checked.max_output), (Some("m"), Some(32_000)));
    }

    #[test]
    fn the_grant_is_found_where_the_vendors_clients_put_keys() {
        let with = |name: &'static str, value: &'static str| {
            grant_in(move |header: &str| (header == name).then_some(value)).map(ToOwned::to_owned)
        };
        assert_eq!(with("authorization", "Bearer hlg_1").as_deref(), Some("hlg_1"));
        assert_eq!(with("x-api-key", "hlg_2").as_deref(), Some("hlg_2"));
        assert_eq!(with("x-goog-api-key", "hlg_3").as_deref(), Some("hlg_3"));
        assert_eq!(with("x-api-key", "sk-ant-1"), None);
    }
}
