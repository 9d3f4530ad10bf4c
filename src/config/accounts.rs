//! Settings about GitHub, about signing in, and what browsers are given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::read::{self, Vars};
use super::{ConfigError, MIN_SECRET_BYTES, Result, each};
use crate::domain::registration::Registration;
use crate::domain::secret::Secret;

#[derive(Debug, Clone)]
pub struct GitHubConfig {
    pub web_url: String,
    pub api_url: String,
    /// `None`: the App is made by `/setup`.
    pub registration: Option<Registration>,
}

/// Signing in with Vercel.
#[derive(Debug, Clone)]
pub struct VercelSignIn {
    pub client_id: String,
    pub client_secret: Secret,
    pub url: String,
}

const GITHUB: &str = "https://github.com";

/// The settings that the App is given by. Each needs the others.
const APP: [&str; 3] = ["GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY", "GITHUB_WEBHOOK_SECRET"];

pub(super) fn github(vars: &Vars<'_>) -> Result<GitHubConfig> {
    let is_given = APP.iter().any(|name| !matches!(vars.text(name), Ok(None)));
    each! {
        web_url = vars.url("GITHUB_URL");
        api_url = vars.url("GITHUB_API_URL");
        registration = is_given.then(|| registration(vars)).transpose();
        => {
            let web_url = web_url.unwrap_or_else(|| GITHUB.to_owned());
            // The App's token goes nowhere but to the GitHub that was named.
            let its_api =
                if web_url == GITHUB { "https://api.github.com".to_owned() } else { format!("{web_url}/api/v3") };
            GitHubConfig { web_url, api_url: api_url.unwrap_or(its_api), registration }
        }
    }
}

fn registration(vars: &Vars<'_>) -> Result<Registration> {
    each! {
        Registration {
            app_id = app_id(vars);
            private_keys = vars.required("GITHUB_APP_PRIVATE_KEY").and_then(|text| read::pem_keys(&text));
            webhook_secrets = webhook_secrets(vars);
            client = client(vars, "GITHUB_CLIENT_ID", "NEXT_PUBLIC_GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET");
        }
    }
}

fn app_id(vars: &Vars<'_>) -> Result<i64> {
    let id = vars.required("GITHUB_APP_ID")?;
    let number = id.parse().ok().filter(|id| *id > 0);
    number.ok_or_else(|| ConfigError::new("GITHUB_APP_ID has to be the App's number"))
}

fn webhook_secrets(vars: &Vars<'_>) -> Result<Vec<Secret>> {
    let secrets = vars.secrets("GITHUB_WEBHOOK_SECRET")?;
    if secrets.is_empty() {
        return Err(ConfigError::new("GITHUB_WEBHOOK_SECRET is missing"));
    }
    if secrets.iter().any(|secret| secret.expose().len() < MIN_SECRET_BYTES) {
        return Err(ConfigError::new(format!("GITHUB_WEBHOOK_SECRET has fewer than {MIN_SECRET_BYTES} characters")));
    }
    Ok(secrets)
}

/// Id and secret, both or none.
fn client(vars: &Vars<'_>, id: &str, other_id: &str, secret: &str) -> Result<Option<(String, Secret)>> {
    let given = match vars.text(id)? {
        Some(given) => Some(given),
        None => vars.text(other_id)?,
    };
    match (given, vars.text(secret)?) {
        (Some(id), Some(secret)) => Ok(Some((id, Secret::new(secret)))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::new(format!("{secret} is missing: {id} needs it"))),
        (None, Some(_)) => Err(ConfigError::new(format!("{id} is missing: {secret} needs it"))),
    }
}

pub(super) fn vercel_signin(vars: &Vars<'_>) -> Result<Option<VercelSignIn>> {
    let client = client(vars, "VERCEL_CLIENT_ID", "NEXT_PUBLIC_VERCEL_CLIENT_ID", "VERCEL_CLIENT_SECRET")?;
    let url = vars.url("VERCEL_OAUTH_URL")?.unwrap_or_else(|| "https://vercel.com".to_owned());
    Ok(client.map(|(client_id, client_secret)| VercelSignIn { client_id, client_secret, url }))
}

/// 32 bytes as base64 or hex; given back as hex. `None`: made from the key that seals.
pub(super) fn cookie_key(vars: &Vars<'_>) -> Result<Option<Secret>> {
    let Some(text) = vars.text("JWE_SECRET")? else { return Ok(None) };
    let bytes = match hex::decode(&text) {
        Ok(bytes) => Some(bytes),
        Err(_) => STANDARD.decode(&text).ok(),
    };
    match bytes.filter(|bytes| bytes.len() == 32) {
        Some(bytes) => Ok(Some(Secret::new(hex::encode(bytes)))),
        None => Err(ConfigError::new("JWE_SECRET has to be 32 bytes, as base64 or hex")),
    }
}

/// An address that may stand in a page's policy.
pub(super) fn analytics(vars: &Vars<'_>) -> Result<Option<url::Url>> {
    let Some(text) = vars.text("WEB_ANALYTICS_SCRIPT")? else { return Ok(None) };
    let url = url::Url::parse(&text).ok().filter(|url| url.scheme() == "https" && url.has_host());
    let fault = || ConfigError::new("WEB_ANALYTICS_SCRIPT has to be an https address of a script");
    url.filter(|url| !url.origin().ascii_serialization().contains([';', ' '])).map(Some).ok_or_else(fault)
}
