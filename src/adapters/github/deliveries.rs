//! What GitHub sent to the App, and having it sent again.

use http::Method;
use serde::Deserialize;

use super::{GitHub, GitHubError, Result, next_link};
use crate::domain::ids::{DeliveryId, Millis};
use crate::domain::missed::Attempt;

const FIRST_PAGE: &str = "/app/hook/deliveries?per_page=100";

#[derive(Deserialize)]
struct Listed {
    id: i64,
    guid: String,
    delivered_at: String,
    #[serde(default)]
    status_code: u16,
    event: String,
    #[serde(default)]
    redelivery: bool,
}

/// Where the next page of a list is, as GitHub says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl GitHub {
    /// A page of attempts, newest first, and where the next one is.
    pub async fn attempts(&self, cursor: Option<&Cursor>) -> Result<(Vec<Attempt>, Option<Cursor>)> {
        let path = cursor.map_or(FIRST_PAGE, |cursor| cursor.0.as_str());
        let answer = self.answer_as_app::<()>(Method::GET, path, None).await?;
        let listed: Vec<Listed> = answer.json()?;
        let attempt = |one: Listed| Attempt {
            number: one.id,
            delivery: DeliveryId(one.guid),
            status: one.status_code,
            // An attempt without a time is not passed over: it counts as of now.
            sent_at: Millis::parse_rfc3339(&one.delivered_at).unwrap_or_else(|| self.clock.now()),
            event: one.event,
            is_again: one.redelivery,
        };
        let next = match answer.link.as_deref().and_then(next_link) {
            None => None,
            // A list that cannot be followed is not read to its end.
            Some(link) => Some(Cursor(self.own_path(&link).ok_or_else(|| {
                GitHubError::Unavailable("the list of deliveries goes on at another address".to_owned())
            })?)),
        };
        Ok((listed.into_iter().map(attempt).collect(), next))
    }

    /// Has GitHub bring a delivery again, under the same id. It doesn't wait for what comes of it.
    pub async fn send_again(&self, attempt: i64) -> Result<()> {
        let path = format!("/app/hook/deliveries/{attempt}/attempts");
        self.answer_as_app::<()>(Method::POST, &path, None).await.map(|_| ())
    }
}
