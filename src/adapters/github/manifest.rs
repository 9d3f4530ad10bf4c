//! GitHub's manifest flow: a code from the browser becomes the App's secrets, once.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::registration::Registration;
use crate::domain::secret::Secret;

const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_CODE: usize = 100;

/// A registered App.
#[derive(Debug)]
pub struct Registered {
    pub registration: Registration,
    /// Its name in addresses.
    pub slug: String,
}

#[derive(Deserialize)]
struct Conversion {
    id: i64,
    slug: String,
    pem: String,
    webhook_secret: String,
    client_id: String,
    client_secret: String,
}

/// Takes the App's secrets. GitHub gives them out for an hour, and only once.
pub async fn convert(api_url: &str, code: &str) -> std::result::Result<Registered, String> {
    let is_code = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_code {
        return Err("GitHub came back without a code".to_owned());
    }
    let unreachable = |error: reqwest::Error| format!("GitHub cannot be reached: {}", error.without_url());
    let http = reqwest::Client::builder()
        .user_agent(concat!("hireling/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(unreachable)?;
    let answer = http
        .post(format!("{api_url}/app-manifests/{code}/conversions"))
        .header("accept", "application/vnd.github+json")
        .send()
        .await
        .map_err(unreachable)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("GitHub did not take the code ({}); it is good for an hour, and once", status.as_u16()));
    }
    let made: Conversion = answer.json().await.map_err(|_| "GitHub's answer cannot be read".to_owned())?;
    Ok(Registered {
        slug: made.slug,
        registration: Registration {
            app_id: made.id,
            private_keys: vec![Secret::new(made.pem)],
            webhook_secrets: vec![Secret::new(made.webhook_secret)],
            client: Some((made.client_id, Secret::new(made.client_secret))),
        },
    })
}
