//! Signing in and out. An attempt travels sealed in the browser that began it, and counts once; who
//! comes back gets a new session. Two people become one only after they were asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::App;
use crate::adapters::signin::{Arrived, SignInError};
use crate::adapters::store::{Resealed, StoreError};
use crate::adapters::vault::{self, VaultError};
use crate::domain::ids::{Millis, UserId};
use crate::domain::key::{KeyOwner, sealed_for};
use crate::domain::listing::Deed;
use crate::domain::person::{Account, Merge, Person, Session, SignInWith, merge};
use crate::domain::secret::Secret;

/// From leaving for the provider to coming back, and from the question to its answer.
const ATTEMPT: Duration = Duration::from_secs(600);
/// A session's last use is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Of what a browser calls itself.
const MAX_CLIENT: usize = 200;
const TRIES_OF_MERGE: usize = 3;

/// Why nobody is signed in or linked now. Each says what the visitor can do.
#[derive(Debug, thiserror::Error)]
pub enum SignInFault {
    #[error(transparent)]
    Provider(#[from] SignInError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Of another browser, used, too old, or made up.
    #[error("this sign-in was not begun here, or is over")]
    Stale,
    /// One sentence for the visitor.
    #[error("{0}")]
    Refused(String),
}

/// Kept by the browser while it is at the provider.
#[derive(Serialize, Deserialize)]
struct Attempt {
    with: SignInWith,
    state: String,
    verifier: String,
    next: String,
    link_for: Option<UserId>,
    /// For a token that is kept: the person wants us to push in their name.
    #[serde(default)]
    is_push_permit: bool,
    ends_at: Millis,
}

/// What has to be confirmed before two people become one.
#[derive(Serialize, Deserialize)]
struct Proof {
    here: UserId,
    there: UserId,
    ends_at: Millis,
}

/// Where a browser is sent, and what it has to bring back.
#[derive(Debug)]
pub struct Departure {
    pub address: String,
    pub cookie: String,
}

/// What came of it.
#[derive(Debug)]
pub enum Landed {
    /// The value of the session's cookie.
    SignedIn {
        cookie: String,
        next: String,
    },
    Linked {
        next: String,
    },
    /// The person lets us push to forks in their name.
    Permitted {
        next: String,
    },
    /// The account signs another person in: `proof` goes into the form that confirms.
    OfAnother {
        proof: String,
        account: Account,
        there: Person,
    },
}

impl App {
    fn redirect_uri(&self, with: SignInWith) -> String {
        format!("{}{}", self.settings.public_url, with.callback())
    }

    /// `next`: a path of this service. `link_for`: who is signed in and adds an account.
    pub fn begin_signin(
        &self,
        with: SignInWith,
        next: &str,
        link_for: Option<UserId>,
    ) -> Result<Departure, SignInFault> {
        self.begin_attempt(with, next, link_for, false)
    }

    pub(super) fn begin_attempt(
        &self,
        with: SignInWith,
        next: &str,
        link_for: Option<UserId>,
        is_push_permit: bool,
    ) -> Result<Departure, SignInFault> {
        let [state, verifier] = [(); 2].map(|()| hex::encode(self.clock.new_secret()));
        let address = self.signins.address(with, &self.redirect_uri(with), &state, &verifier)?;
        let ends_at = self.clock.now().after(ATTEMPT);
        let attempt = Attempt { with, state, verifier, next: next.to_owned(), link_for, is_push_permit, ends_at };
        Ok(Departure { address, cookie: self.seal_json("cookie/signin", &attempt)? })
    }

    fn seal_json(&self, bound_to: &str, value: &impl Serialize) -> Result<String, VaultError> {
        let text = serde_json::to_string(value).map_err(|_| VaultError::Closed)?;
        self.cookies.seal(bound_to, &Secret::new(text), self.clock.new_secret())
    }

    fn open_json<T: serde::de::DeserializeOwned>(&self, bound_to: &str, sealed: &str) -> Option<T> {
        serde_json::from_str(self.cookies.open(bound_to, sealed).ok()?.expose()).ok()
    }

    /// `here`: who is signed in in this browser. `client`: what the browser calls itself.
    pub async fn finish_signin(
        &self,
        with: SignInWith,
        cookie: &str,
        (state, code): (&str, &str),
        here: Option<(&Person, &Session)>,
        client: &str,
    ) -> Result<Landed, SignInFault> {
        let attempt: Attempt = self.open_json("cookie/signin", cookie).ok_or(SignInFault::Stale)?;
        let now = self.clock.now();
        let is_ours = attempt.with == with && attempt.state == state && now < attempt.ends_at;
        let is_same_person = attempt.link_for.is_none_or(|user| here.is_some_and(|(person, _)| person.id == user));
        if !is_ours || !is_same_person || !self.store.finish_signin(&vault::hash(state), attempt.ends_at).await? {
            return Err(SignInFault::Stale);
        }
        let keep_at = attempt.is_push_permit.then_some(now);
        let mut arrived =
            self.signins.arrive(with, &self.redirect_uri(with), (code, &attempt.verifier), keep_at).await?;
        if let Some(token) = arrived.token.take() {
            let Some((person, _)) = here.filter(|(person, _)| person.id.0.to_string() == arrived.account.subject)
            else {
                self.signins.end_user_token(&token.access).await;
                return Err(SignInFault::Refused(
                    "That is not the GitHub account you are signed in with here.".to_owned(),
                ));
            };
            self.keep_push_permit(person.id, &token).await?;
            return Ok(Landed::Permitted { next: attempt.next });
        }
        match here.filter(|_| attempt.link_for.is_some()) {
            Some((person, session)) => self.link(person, session, arrived, attempt.next).await,
            None => {
                let user = self.sign_in(&arrived).await?;
                let cookie = self.begin_session(user, client).await?;
                self.audit(user, "signed in", with.title()).await;
                Ok(Landed::SignedIn { cookie, next: attempt.next })
            }
        }
    }

    async fn sign_in(&self, arrived: &Arrived) -> Result<UserId, SignInFault> {
        let account = &arrived.account;
        let known = self.store.owner_of(account.with, &account.subject).await?;
        let user = known.map_or_else(|| self.new_user(account), Ok)?;
        if !self.store.store_account(user, account, self.clock.now()).await? {
            // Somebody linked it in this moment.
            return Err(SignInFault::Stale);
        }
        self.note_installations(user, arrived).await?;
        Ok(user)
    }

    async fn note_installations(&self, user: UserId, arrived: &Arrived) -> Result<(), StoreError> {
        match &arrived.installations {
            Some(seen) => self.store.store_installations(user, seen).await,
            // What was known stays.
            None => Ok(()),
        }
    }

    fn new_user(&self, account: &Account) -> Result<UserId, SignInFault> {
        match account.with {
            SignInWith::GitHub => {
                let id = account.subject.parse().ok().filter(|id| *id > 0);
                id.map(UserId).ok_or_else(|| SignInFault::Refused("GitHub named no user.".to_owned()))
            }
            SignInWith::Vercel => {
                let random = self.clock.new_secret();
                let number = random.first_chunk::<8>().map_or(1, |bytes| i64::from_le_bytes(*bytes) >> 12);
                Ok(UserId(-number.abs().max(1)))
            }
        }
    }

    async fn link(
        &self,
        person: &Person,
        session: &Session,
        arrived: Arrived,
        next: String,
    ) -> Result<Landed, SignInFault> {
        let account = &arrived.account;
        let mine = self.store.accounts_of(person.id).await?;
        let title = account.with.title();
        if mine.iter().any(|known| known.with == account.with && known.subject != account.subject) {
            return Err(SignInFault::Refused(format!("You are linked with another {title} account already.")));
        }
        match self.store.owner_of(account.with, &account.subject).await? {
            Some(there) if there != person.id => {
                let there = self.store.person(there).await?.ok_or(SignInFault::Stale)?;
                let theirs = self.store.accounts_of(there.id).await?;
                let kinds = |accounts: &[Account]| accounts.iter().map(|known| known.with).collect::<Vec<_>>();
                if merge((person.id, &kinds(&mine)), (there.id, &kinds(&theirs))) == Merge::Refused {
                    return Err(SignInFault::Refused(format!(
                        "This {title} account belongs to another person here, who is linked elsewhere, too."
                    )));
                }
                let ends_at = self.clock.now().after(ATTEMPT);
                let proof = Proof { here: person.id, there: there.id, ends_at };
                let proof = self.seal_json(&format!("merge/{}", session.id), &proof)?;
                return Ok(Landed::OfAnother { proof, account: arrived.account, there });
            }
            // One who came by Vercel only becomes the person of that GitHub account.
            None if account.with == SignInWith::GitHub && !person.is_on_github() => {
                let user = self.sign_in(&arrived).await?;
                self.take_over_person(person.id, user).await?;
                let cookie = self.begin_session(user, &session.client).await?;
                self.audit(user, "linked", title).await;
                return Ok(Landed::SignedIn { cookie, next });
            }
            _ => {}
        }
        if !self.store.store_account(person.id, account, self.clock.now()).await? {
            return Err(SignInFault::Stale);
        }
        self.note_installations(person.id, &arrived).await?;
        self.audit(person.id, "linked", title).await;
        Ok(Landed::Linked { next })
    }

    /// Makes one of two people, as the proof allows. Gives the cookie of a new session.
    pub async fn confirm_merge(&self, here: &Person, session: &Session, proof: &str) -> Result<String, SignInFault> {
        let bound_to = format!("merge/{}", session.id);
        let proof: Proof = self.open_json(&bound_to, proof).ok_or(SignInFault::Stale)?;
        if proof.here != here.id || self.clock.now() >= proof.ends_at {
            return Err(SignInFault::Stale);
        }
        let (mine, theirs) = (self.store.accounts_of(proof.here).await?, self.store.accounts_of(proof.there).await?);
        let kinds = |accounts: &[Account]| accounts.iter().map(|known| known.with).collect::<Vec<_>>();
        let Merge::Into(from, into) = merge((proof.here, &kinds(&mine)), (proof.there, &kinds(&theirs))) else {
            return Err(SignInFault::Stale);
        };
        self.take_over_person(from, into).await?;
        let cookie = self.begin_session(into, &session.client).await?;
        self.audit(into, "merged", "two people into one").await;
        Ok(cookie)
    }

    async fn take_over_person(&self, from: UserId, into: UserId) -> Result<(), SignInFault> {
        let (old, new) = (KeyOwner::Person(from), KeyOwner::Person(into));
        // A rotation may seal something anew in between: then it is read again.
        for _ in 0..TRIES_OF_MERGE {
            let mut keys = Vec::new();
            for key in self.store.keys_owned_by(old).await? {
                let opened = self.vault.open(&sealed_for(&key.id, old, key.provider), &key.sealed)?;
                let bound_to = sealed_for(&key.id, new, key.provider);
                let sealed = self.vault.seal(&bound_to, &opened, self.clock.new_secret())?;
                keys.push(Resealed { id: key.id.0, old: key.sealed, new: sealed });
            }
            let mut connectors = Vec::new();
            for mut connector in self.store.connectors_owned_by(old).await? {
                let opened = self.vault.open(&connector.bound_to(), &connector.sealed)?;
                connector.owner = new;
                let sealed = self.vault.seal(&connector.bound_to(), &opened, self.clock.new_secret())?;
                connectors.push(Resealed { id: connector.id, old: connector.sealed, new: sealed });
            }
            if self.store.merge_people((from, into), &keys, &connectors).await? {
                return Ok(());
            }
        }
        Err(SignInFault::Refused("Your keys are being changed right now. Try again in a moment.".to_owned()))
    }

    async fn begin_session(&self, user: UserId, client: &str) -> Result<String, SignInFault> {
        let secret = Secret::new(hex::encode(self.clock.new_secret()));
        let client: String = client.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect();
        self.store.begin_session(user, &vault::hash(secret.expose()), &client, self.clock.now()).await?;
        Ok(self.cookies.seal("cookie/session", &secret, self.clock.new_secret())?)
    }

    /// Who is signed in with this cookie, and the secret in it. `None`: nobody, any more.
    pub async fn signed_in(&self, cookie: &str) -> Result<Option<(Person, Session, Secret)>, StoreError> {
        let Ok(secret) = self.cookies.open("cookie/session", cookie) else { return Ok(None) };
        let now = self.clock.now();
        let found = self.store.session(&vault::hash(secret.expose())).await?;
        let Some((user, session)) = found.filter(|(_, session)| !session.is_over(now)) else { return Ok(None) };
        if now.since(session.used_at) >= NOTE_EVERY {
            self.store.note_session_use(&session.id, now).await?;
        }
        Ok(self.store.person(user).await?.map(|person| (person, session, secret)))
    }

    /// Whether a session that was good is so still. Where the database does not answer: yes.
    pub async fn is_session(&self, id: &str) -> bool {
        let found = self.store.session(id).await;
        found.map_or(true, |found| found.is_some_and(|(_, session)| !session.is_over(self.clock.now())))
    }

    /// Notes who did what. A log line says it where the database cannot.
    pub async fn audit(&self, user: UserId, action: &'static str, about: &str) {
        self.audit_owned(user, KeyOwner::Person(user), action, about).await;
    }

    /// The same, for what belongs to `owner`: its administrators see it, too.
    pub async fn audit_owned(&self, user: UserId, owner: KeyOwner, action: &'static str, about: &str) {
        let deed = Deed { by: Some(user), account: owner.account(), action, about };
        if let Err(error) = self.store.audit(&deed, self.clock.now()).await {
            tracing::warn!(user = user.0, action, about, error = &error as &dyn std::error::Error, "not audited");
        }
    }
}
