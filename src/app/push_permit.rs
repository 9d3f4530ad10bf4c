//! Tokens of people who let the service push to forks in their name: asked for on the page, kept sealed, renewed
//! when they end, used for nothing else, ended when the person wants it.

use std::time::Duration;

use super::App;
use super::people::{Departure, SignInFault};
use crate::adapters::signin::{SignInError, UserToken};
use crate::adapters::store::StoreError;
use crate::domain::ids::{Millis, UserId};
use crate::domain::person::{Person, SignInWith};
use crate::domain::secret::Secret;

/// A token that ends sooner is renewed first.
const RENEW_BEFORE: Duration = Duration::from_secs(600);

/// Why a token cannot be had now.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// GitHub cannot be asked; later it may.
    #[error("{0}")]
    Unavailable(String),
}

fn bound_to(user: UserId) -> String {
    format!("push_permits/{user}")
}

/// As it lies in the vault.
fn written(token: &UserToken) -> Secret {
    let ends_at = token.ends_at.map(|at| at.0);
    let refresh = token.refresh.as_ref().map(Secret::expose);
    Secret::new(serde_json::json!([token.access.expose(), ends_at, refresh]).to_string())
}

fn read(text: &Secret) -> Option<UserToken> {
    let (access, ends_at, refresh): (String, Option<i64>, Option<String>) = serde_json::from_str(text.expose()).ok()?;
    Some(UserToken { access: Secret::new(access), ends_at: ends_at.map(Millis), refresh: refresh.map(Secret::new) })
}

impl App {
    /// To GitHub, for a token of the person who is signed in.
    pub fn begin_push_permit(&self, person: &Person) -> Result<Departure, SignInFault> {
        self.begin_attempt(SignInWith::GitHub, "/settings", Some(person.id), true)
    }

    pub(super) async fn keep_push_permit(&self, user: UserId, token: &UserToken) -> Result<(), SignInFault> {
        self.withdraw_push_permit(user).await?;
        let sealed = self.vault.seal(&bound_to(user), &written(token), self.clock.new_secret())?;
        self.store.store_push_permit(user, &sealed, self.clock.now()).await?;
        self.audit(user, "allowed", "pushing to forks").await;
        Ok(())
    }

    pub async fn has_push_permit(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.store.push_permit(user).await?.is_some())
    }

    /// Ends the permit here and its token at GitHub.
    pub async fn withdraw_push_permit(&self, user: UserId) -> Result<(), StoreError> {
        let Some(sealed) = self.store.push_permit(user).await? else { return Ok(()) };
        if let Some(token) = self.vault.open(&bound_to(user), &sealed).ok().as_ref().and_then(read) {
            self.signins.end_user_token(&token.access).await;
        }
        self.store.end_push_permit(user, None).await
    }

    /// A token that is good for some time. `None`: the person has not allowed it, or GitHub ended it.
    pub(super) async fn push_token(&self, user: UserId) -> Result<Option<Secret>, PermitError> {
        let now = self.clock.now();
        let Some(sealed) = self.store.push_permit(user).await? else { return Ok(None) };
        let Some(token) = self.vault.open(&bound_to(user), &sealed).ok().as_ref().and_then(read) else {
            return Ok(None);
        };
        if token.ends_at.is_none_or(|at| at > now.after(RENEW_BEFORE)) {
            return Ok(Some(token.access));
        }
        let Some(refresh) = &token.refresh else { return Ok(None) };
        match self.signins.renew(refresh, now).await {
            Ok(renewed) => {
                let new = self.vault.seal(&bound_to(user), &written(&renewed), self.clock.new_secret());
                let new = new.map_err(|error| PermitError::Unavailable(error.to_string()))?;
                if self.store.renew_push_permit(user, &sealed, &new).await? {
                    return Ok(Some(renewed.access));
                }
                // Withdrawn in this moment.
                self.signins.end_user_token(&renewed.access).await;
                Ok(None)
            }
            Err(SignInError::Refused(_)) => {
                // Used by another worker in this moment, or ended by the person at GitHub.
                let is_other = self.store.push_permit(user).await?.is_some_and(|now| now != sealed);
                if is_other {
                    return Err(PermitError::Unavailable("a permit was renewed elsewhere".to_owned()));
                }
                self.store.end_push_permit(user, Some(&sealed)).await?;
                Ok(None)
            }
            Err(error) => Err(PermitError::Unavailable(error.to_string())),
        }
    }

    /// Seals every permit with the first key of the ring.
    pub(super) async fn rotate_push_permits(&self, rotated: &mut super::keys::Rotated) -> Result<(), StoreError> {
        let mut after = UserId(i64::MIN);
        loop {
            let page = self.store.push_permits_after(after, 100).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = *last;
            for user in page {
                let Some(sealed) = self.store.push_permit(user).await? else { continue };
                match self.vault.reseal(&bound_to(user), &sealed, self.clock.new_secret()) {
                    Ok(Some(new)) => {
                        rotated.resealed += u64::from(self.store.renew_push_permit(user, &sealed, &new).await?);
                    }
                    other => rotated.note(&bound_to(user), &other),
                }
            }
        }
    }
}
