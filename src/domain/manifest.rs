//! The GitHub App as `app-manifest.yml` describes it, for GitHub's manifest flow.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::WEBHOOK_PATH;
use super::person::SignInWith;

const MANIFEST: &str = include_str!("../../app-manifest.yml");

/// What the App asks for.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// Level by name.
    #[serde(rename = "default_permissions")]
    pub permissions: BTreeMap<String, String>,
    #[serde(rename = "default_events")]
    pub events: Vec<String>,
}

/// `Err`: the file in the source is broken.
pub fn wanted() -> Result<Wanted, String> {
    serde_saphyr::from_str(MANIFEST).map_err(|error| error.to_string())
}

/// The form that GitHub takes, for an instance at this address. `Err`: the file in the source is broken.
pub fn manifest(public_url: &str) -> Result<Value, String> {
    let mut manifest: Value = serde_saphyr::from_str(MANIFEST).map_err(|error| error.to_string())?;
    manifest["url"] = json!(public_url);
    manifest["hook_attributes"]["url"] = json!(format!("{public_url}{WEBHOOK_PATH}"));
    manifest["redirect_url"] = json!(format!("{public_url}/setup/callback"));
    manifest["callback_urls"] = json!([format!("{public_url}{}", SignInWith::GitHub.callback())]);
    manifest["setup_url"] = json!(format!("{public_url}/setup/next"));
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_this_instance() {
        let manifest = manifest("https://h.test").unwrap();
        assert_eq!(manifest["hook_attributes"]["url"], "https://h.test/webhooks/github");
        assert_eq!(manifest["default_permissions"]["contents"], "write");
        assert!(!manifest.to_string().contains("hireling.example"), "{manifest}");
    }
}
