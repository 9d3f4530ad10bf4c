//! Downloads that GitHub answers with the address of its storage. A token goes to GitHub and never further; what
//! cannot be had is left out, for nothing depends on it.

use http::header;
use serde::Deserialize;
use url::Url;

use super::{GitHub, Place, Result, Scope, figures};
use crate::domain::attachment::{MAX_ATTACHMENT_BYTES, asset_name};
use crate::domain::ids::IssueNumber;
use crate::domain::secret::Secret;

const MAX_HOPS: usize = 4;
/// Kept of a log, and read of it.
const END_BYTES: usize = 128 * 1024;
const MAX_LOG_BYTES: usize = 64 * 1024 * 1024;
/// Pages of comments that are looked at for signed addresses.
const MAX_PAGES: u32 = 5;

#[derive(Deserialize)]
struct Rendered {
    #[serde(default)]
    body_html: Option<String>,
}

impl GitHub {
    /// The last bytes of what the API answers with, which may be large.
    pub(super) async fn end_of_download(&self, path: &str, token: &Secret) -> Option<Vec<u8>> {
        let address = Url::parse(&format!("{}{path}", self.api_url.as_str().trim_end_matches('/'))).ok()?;
        let mut response = self.follow(address, Some(token)).await?;
        let (mut end, mut read) = (Vec::new(), 0);
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            end.extend_from_slice(&chunk);
            if end.len() > 2 * END_BYTES {
                end.drain(..end.len() - END_BYTES);
            }
            if read > MAX_LOG_BYTES {
                return None;
            }
        }
        end.drain(..end.len().saturating_sub(END_BYTES));
        Some(end)
    }

    /// A file that was attached to a comment. `None`: it is gone, too large, or not for us.
    pub async fn attachment(&self, address: &str) -> Option<Vec<u8>> {
        let address = Url::parse(address).ok().filter(|url| self.is_storage(url))?;
        let mut response = self.follow(address, None).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if bytes.len() + chunk.len() > MAX_ATTACHMENT_BYTES {
                return None;
            }
            bytes.extend_from_slice(&chunk);
        }
        Some(bytes)
    }

    /// For files attached in a private repository: addresses that open without signing in, for some minutes, as
    /// GitHub puts them into the thread as people see it. Those that have none stay as they are.
    pub async fn signed(&self, place: &Place<'_>, issue: IssueNumber, addresses: &[String]) -> Result<Vec<String>> {
        let thread = format!("/repos/{}/issues/{issue}", place.name);
        let mut pages = vec![self.rendered::<Rendered>(place, &thread).await?.body_html.unwrap_or_default()];
        for page in 1..=MAX_PAGES {
            let comments = format!("{thread}/comments?per_page=100&page={page}");
            let found: Vec<Rendered> = self.rendered(place, &comments).await?;
            let is_last = found.len() < 100;
            pages.extend(found.into_iter().filter_map(|comment| comment.body_html));
            if is_last {
                break;
            }
        }
        let signed = |address: &String| {
            let found = pages.iter().find_map(|html| signed_in(html, asset_name(address)))?;
            Url::parse(&found).is_ok_and(|url| self.is_signer(&url)).then_some(found)
        };
        Ok(addresses.iter().map(|address| signed(address).unwrap_or_else(|| address.clone())).collect())
    }

    fn is_signer(&self, url: &Url) -> bool {
        url.host_str() == Some("private-user-images.githubusercontent.com") || self.is_web(url)
    }

    fn is_web(&self, url: &Url) -> bool {
        Url::parse(&self.web_url).is_ok_and(|web| web.origin() == url.origin())
    }

    async fn rendered<T: serde::de::DeserializeOwned>(&self, place: &Place<'_>, path: &str) -> Result<T> {
        let accept = "application/vnd.github.full+json";
        let token = self.token(place, Scope::Talk).await?;
        self.send_accepting::<()>(&token, http::Method::GET, path, None, accept).await?.json()
    }

    async fn follow(&self, mut address: Url, mut token: Option<&Secret>) -> Option<reqwest::Response> {
        for _ in 0..MAX_HOPS {
            let mut request = self.http.get(address.clone());
            if let Some(token) = token.take() {
                request = request.bearer_auth(token.expose());
            }
            let response = request.send().await;
            let answer = response.as_ref().ok().map(|response| (response.status(), response.headers()));
            figures::count(&http::Method::GET, answer, self.clock.now());
            let response = response.ok()?;
            if response.status().is_success() {
                return Some(response);
            }
            let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
            address = address.join(location).ok().filter(|url| self.is_storage(url))?;
        }
        None
    }

    /// Where GitHub keeps what people attach and what jobs print:
    /// <https://docs.github.com/actions/reference/runners/self-hosted-runners>, `api.github.com/meta`.
    fn is_storage(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let is_amazon = host.starts_with("github-") && host.ends_with(".amazonaws.com");
        let is_known =
            [".githubusercontent.com", ".blob.core.windows.net"].iter().any(|end| host.ends_with(end)) || is_amazon;
        self.is_web(url) || (url.scheme() == "https" && is_known && url.port().is_none() && url.username().is_empty())
    }
}

/// The address in a rendered text that holds this name and a signature.
fn signed_in(html: &str, name: &str) -> Option<String> {
    let mut addresses = html.split('"').filter(|part| part.starts_with("http") && part.contains("jwt="));
    let found = addresses.find(|address| !name.is_empty() && asset_name(address).contains(name))?;
    Some(found.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_address_is_found_by_the_files_name() {
        let html = "<a href=\"https://private-user-images.githubusercontent.com/1/7-0a-1.png?jwt=x&amp;y=z\"><img></a>";
        let found = signed_in(html, "0a-1").unwrap();
        assert_eq!(found, "https://private-user-images.githubusercontent.com/1/7-0a-1.png?jwt=x&y=z");
        assert_eq!((signed_in(html, "other"), signed_in(html, "")), (None, None));
    }
}
