//! The GitHub App as `app-manifest.yml` describes it, for GitHub's manifest flow.

use serde_json::{Value, json};

use super::person::SignInWith;

const MANIFEST: &str = include_str!("../../app-manifest.yml");

/// The form that GitHub takes, for an instance at this address. `Err`: the file in the source is broken.
pub fn manifest(public_url: &str) -> Result<Value, String> {
    let mut manifest: Value = serde_saphyr::from_str(MANIFEST).map_err(|error| error.to_string())?;
    manifest["url"] = json!(public_url);
    manifest["hook_attributes"]["url"] = json!(format!("{public_url}/webhooks/github"));
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
